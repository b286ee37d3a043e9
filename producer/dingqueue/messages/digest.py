"""A storm of waiting messages as one. Pure: it is given jobs and when they came, and knows no lane and no clock.

What must not get lost when many become one: how many they were, from when to when, which ones (ten machines must not
look like one), which of them are over, and whom they ring.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import assert_never

from dingqueue.contract import (
    AssignJob,
    Card,
    ChangeJob,
    Content,
    Feed,
    Job,
    Link,
    Markdown,
    Mention,
    SendJob,
    ShareJob,
    Terms,
    Text,
)
from dingqueue.messages.markdown import plain_lines, shorten_title, title_of
from dingqueue.messages.model import MAX_MENTIONS
from dingqueue.messages.split import cost_bytes
from dingqueue.messages.words import Words, readable, words_for

#: Of ids that are made of the ids of the members, so that the same members are the same digest.
_NAMESPACE = uuid.UUID("b1d7e0a6-4c0c-4d57-9a55-0a3f4b8f2f8e")
#: What a phone shows without tiring; the rest is counted.
_MOST_LINES = 40
_MOST_DETAILS = 30
_MOST_LINE_BYTES = 1_500
#: 50 people with the longest ids cost 7 kB in ``at`` and in the text, a keyword and the title 1 kB.
_MOST_TEXT_BYTES = 10_000
_MOST_NOT_RUNG_BYTES = 1_000
#: Longer addresses are left out.
_MOST_URL_CHARS = 500
#: A detail is looked for so far into a text.
_DETAIL_CHARS = 4_000

_OVER = r"resolved|recovered|recovery|ok|up|已恢复|恢复|已解决|已解除"
_ON = r"firing|triggered|problem|alert|alarm|critical|warning|warn|error|down|告警|报警|故障|异常|触发"
#: ``[FIRING:1] Disk full``, ``【已恢复】磁盘``, ``RESOLVED: disk full``, ``✅ disk full``.
_STATUS_BEFORE = re.compile(
    rf"\s*(?:[\[【(（]\s*(?:(?P<over>{_OVER})|{_ON})(?:\s*[:：]\s*\d+)?\s*[\]】)）]"
    rf"|(?:(?P<over_bare>{_OVER})|{_ON})\s*(?:[:：|]|[-–—]\s)"
    r"|(?P<over_sign>✅|🟢)|🔥|🔴|❌|🚨|⚠️?)[\s:：|–—-]*",
    re.IGNORECASE,
)
#: ``Disk full: recovered``, ``Disk full (resolved)``, ``磁盘告警 已恢复``.
_OVER_AFTER = re.compile(
    rf"(?:\s*[:：|]\s*|\s+[-–—]\s+|\s*[(（\[【]\s*|\s+(?=[^\x00-\x7f]))(?:{_OVER})\s*[)）\]】]?\s*[.!。！]?\s*$",
    re.IGNORECASE,
)


def digest_of(waiting: Sequence[tuple[Job, datetime]]) -> SendJob:
    """One markdown message that tells of many jobs of one destination.

    It says how many there are, from when to when, and one line for each title, first and last ones first to be kept:
    with its count, its times, what differs under the same title (instances, for example) and whether it is over.
    It rings everybody whom a job rings, up to what one message may ring, is urgent when one of them is, and fits one
    message of any robot. The same jobs give the same digest, its id included.

    Args:
        waiting: The jobs in order, each with the (aware) instant it was submitted; people read that instant's offset.

    Raises:
        ValueError: No jobs, or jobs of several destinations.
    """
    destinations = {job.destination for job, _ in waiting}
    if len(destinations) != 1:
        raise ValueError(f"a digest tells of jobs of one destination, not of {len(destinations)}")
    entries = _entries(waiting)
    words = words_for("".join(entry.title for entry in entries))
    jobs = [job for job, _ in waiting]
    mention, left_out = _ring(jobs)
    instants = [at for _, at in waiting]
    first, last = readable(min(instants), words), readable(max(instants), words)
    span = first if first == last else words.digest_span.format(first=first, last=last)
    paragraphs = [f"{words.digest_heading.format(count=len(jobs))}\n{span}"]
    not_rung = _not_rung(left_out, words)
    room_bytes = _MOST_TEXT_BYTES - cost_bytes("".join([*paragraphs, not_rung]))
    paragraphs.append("\n".join(_chosen(entries, words, room_bytes)))
    return SendJob(
        job_id=str(uuid.uuid5(_NAMESPACE, " ".join(job.job_id for job in jobs))),
        destination=destinations.pop(),
        content=Markdown(
            text="\n\n".join(filter(None, [*paragraphs, not_rung])),
            title=shorten_title(words.digest_title.format(count=len(jobs), first=entries[0].title)),
        ),
        mention=mention,
        too_long="shorten",
        tables="keep",
        terms=Terms(
            urgent=any(job.terms.urgent for job in jobs),
            # Whoever may not be doubled may not be doubled in company either.
            on_unknown="hold" if any(job.terms.on_unknown == "hold" for job in jobs) else "resend",
        ),
    )


@dataclass(slots=True)
class _Seen:
    """How often something was told, when, and whether the last word about it was that it is over."""

    count: int = 0
    over: bool = False


@dataclass(slots=True)
class _Entry:
    """All messages of one title, in order."""

    title: str
    url: str = ""
    urgent: bool = False
    seen: _Seen = field(default_factory=_Seen)
    details: dict[str, _Seen] = field(default_factory=dict)
    instants: list[datetime] = field(default_factory=list)


def _entries(waiting: Sequence[tuple[Job, datetime]]) -> list[_Entry]:
    """One entry for each title, in the order of their first message."""
    by_title: dict[str, list[tuple[Job, datetime, bool]]] = {}
    for job, at in waiting:
        title, over = _status(_title(job))
        by_title.setdefault(title, []).append((job, at, over))
    return [_entry(title, members) for title, members in by_title.items()]


def _entry(title: str, members: Sequence[tuple[Job, datetime, bool]]) -> _Entry:
    entry = _Entry(title)
    lines = [_lines(job) for job, _, _ in members]
    common = set(lines[0]).intersection(*lines)
    for (job, at, over), own in zip(members, lines, strict=True):
        entry.url = entry.url or _url(job)
        entry.urgent = entry.urgent or job.terms.urgent
        entry.instants.append(at)
        # What tells this message from the others of its title; where nothing does, the title says it all.
        detail = next((line for line in own if line not in common and _status(line)[0] != title), "")
        for seen in [entry.seen, *([entry.details.setdefault(detail, _Seen())] if detail else [])]:
            seen.count += 1
            seen.over = over
    return entry


def _status(title: str) -> tuple[str, bool]:
    """A title without the word for how things stand, and whether that word says that it is over."""
    before = _STATUS_BEFORE.match(title)
    rest = title[before.end() :].strip() if before else title
    over = before is not None and any(before[name] for name in ("over", "over_bare", "over_sign"))
    after = _OVER_AFTER.search(rest)
    if after:
        rest, over = rest[: after.start()].strip(), True
    return (rest, over) if rest else (title, over)


def _title(job: Job) -> str:
    match job:
        case SendJob(content=content):
            return _content_title(content)
        case AssignJob(subject=subject):
            return words_for(subject).task.format(subject=title_of(subject, ""))
        case ShareJob(name=name):
            return title_of(name, "")
        case ChangeJob(subject=subject):
            return title_of(subject, "")
        case other:
            assert_never(other)


def _content_title(content: Content) -> str:
    match content:
        case Text(text=text):
            return title_of("", text)
        case Markdown(title=title, text=text):
            return title_of(title, text)
        case Link(title=title) | Card(title=title):
            return title_of(title, "")
        case Feed(items=items):
            return title_of(items[0].title, "")
        case other:
            assert_never(other)


def _lines(job: Job) -> list[str]:
    """What a job says below its title, line by line without marks."""
    match job:
        case SendJob(content=content):
            text = "\n".join(item.title for item in content.items) if isinstance(content, Feed) else content.text
        case AssignJob(description=description) | ChangeJob(description=description):
            text = description
        case ShareJob(note=note):
            text = note
        case other:
            assert_never(other)
    return list(plain_lines(text[:_DETAIL_CHARS]))


def _url(job: Job) -> str:
    match job:
        case SendJob(content=Link(url=url)) | AssignJob(url=url) | ShareJob(url=url):
            pass
        case SendJob(content=Card(buttons=(button, *_))):
            url = button.url
        case _:
            return ""
    # A bracket would end the markdown link early.
    return url.replace("(", "%28").replace(")", "%29") if len(url) <= _MOST_URL_CHARS else ""


def _line(entry: _Entry, words: Words, *, one_day: bool) -> str:
    """``- Disk full ×10 (09:00-09:04): a01, a02 (recovered) [open](https://…)``."""
    parts = [*([words.digest_urgent] if entry.urgent else []), entry.title]
    if entry.seen.count > 1:
        parts.append(f"×{entry.seen.count:,}")
    if one_day:
        first, last = (f"{instant:%H:%M}" for instant in (min(entry.instants), max(entry.instants)))
        parts.append(f"({first})" if first == last else f"({first}-{last})")
    # One detail alone is no difference.
    details = entry.details if len(entry.details) > 1 else {}
    over = all(seen.over for seen in details.values()) if details else entry.seen.over
    if over:
        parts.append(f"({words.digest_recovered})")
    line = " ".join(parts)
    if details:
        line += ": " + _listed(details, words, _MOST_LINE_BYTES - cost_bytes(line), mark_over=not over)
    return f"- {line}" + (f" [{words.digest_open}]({entry.url})" if entry.url else "")


def _listed(details: dict[str, _Seen], words: Words, room_bytes: int, *, mark_over: bool) -> str:
    shown: list[str] = []
    for detail, seen in details.items():
        text = shorten_title(detail)
        text += f" ×{seen.count:,}" if seen.count > 1 else ""
        text += f" ({words.digest_recovered})" if seen.over and mark_over else ""
        room_bytes -= cost_bytes(text) + len(", ")
        if shown and (len(shown) == _MOST_DETAILS or room_bytes < 0):
            break
        shown.append(text)
    left_out = len(details) - len(shown)
    return ", ".join([*shown, *([words.digest_more.format(count=left_out)] if left_out else [])])


def _chosen(entries: Sequence[_Entry], words: Words, room_bytes: int) -> Iterator[str]:
    """The lines of the first and last entries, as many as there is room for, and a line for those between."""
    one_day = len({instant.date() for entry in entries for instant in entry.instants}) == 1
    head: list[str] = []
    tail: list[str] = []
    between = list(entries)
    # Widest first: the line for the rest must fit too.
    room_bytes -= cost_bytes(words.digest_more_lines.format(count=10**9, messages=10**9)) + len("- \\n")
    while between and len(head) + len(tail) < _MOST_LINES:
        from_head = len(head) <= len(tail)
        line = _line(between[0 if from_head else -1], words, one_day=one_day)
        # Breaks cost two bytes, and two more blanks on each side where they are made to show.
        room_bytes -= cost_bytes(line) + len("  \\n  ")
        if room_bytes < 0:
            break
        (head if from_head else tail).append(line)
        between.pop(0 if from_head else -1)
    yield from head
    if between:
        messages = sum(entry.seen.count for entry in between)
        yield f"- {words.digest_more_lines.format(count=len(between), messages=messages)}"
    yield from reversed(tail)


def _ring(jobs: Iterable[Job]) -> tuple[Mention, list[str]]:
    """Everybody whom the jobs ring, those of urgent ones first; and who is too many for one message."""
    mentions = [
        job.mention if isinstance(job, SendJob) else job.to
        for job in sorted(jobs, key=lambda job: not job.terms.urgent)
        if not isinstance(job, ShareJob)
    ]
    people = dict.fromkeys(
        (kind, who)
        for mention in mentions
        for kind in ("names", "mobiles", "user_ids")
        for who in getattr(mention, kind)
    )
    rung, left_out = list(people)[:MAX_MENTIONS], list(people)[MAX_MENTIONS:]
    mention = Mention(
        names=tuple(who for kind, who in rung if kind == "names"),
        mobiles=tuple(who for kind, who in rung if kind == "mobiles"),
        user_ids=tuple(who for kind, who in rung if kind == "user_ids"),
        everyone=any(mention.everyone for mention in mentions),
    )
    return mention, [who for _, who in left_out]


def _not_rung(people: Sequence[str], words: Words) -> str:
    if not people:
        return ""
    shown = _listed({who: _Seen(count=1) for who in people}, words, _MOST_NOT_RUNG_BYTES, mark_over=False)
    return words.digest_not_rung.format(count=len(people), most=MAX_MENTIONS, people=shown)
