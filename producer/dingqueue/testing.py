"""An outbox in memory, for an application's own tests: what would have been sent, and is it what it should be?

Importing this changes nothing. Inside ``with outbox() as sent:`` (or with the fixture ``ding_outbox``) no job leaves
the process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import assert_never

from dingqueue.arguments import People, mention_of
from dingqueue.contract import (
    NOBODY,
    AssignJob,
    Card,
    ChangeJob,
    Content,
    Feed,
    Job,
    Kind,
    Link,
    Markdown,
    Mention,
    SendJob,
    ShareJob,
    Text,
)
from dingqueue.jobs import job_id_for
from dingqueue.messages import Rendered, Rung, render_webhook
from dingqueue.outbox import Outbox as _Outbox
from dingqueue.outbox import activated

__all__ = ["Outbox", "outbox", "text_of"]

#: How much of a job's text a failed assertion shows.
_EXCERPT_CHARS = 200
#: How many near misses it shows.
_MOST_SHOWN = 5


class Outbox(_Outbox):
    """The jobs that the application enqueued, with assertions about them."""

    def assert_enqueued(
        self,
        *,
        kind: Kind | None = None,
        destination: str | None = None,
        text_contains: str | None = None,
        mention: People = None,
        urgent: bool | None = None,
        key: str | None = None,
        count: int | None = None,
    ) -> Job:
        """At least one job (or exactly ``count``) fits all that is named; what is not named does not matter.

        Args:
            kind: ``send``, ``assign``, ``share`` or ``change``.
            destination: Its destination.
            text_contains: Stands somewhere in what people would read, titles and addresses included.
            mention: People who are rung or given the work, written as in the call; others may be too.
            urgent: Whether it goes first.
            key: The key it was enqueued with; needs ``destination``.
            count: Exactly how many jobs fit; None is one or more.

        Returns:
            The first job that fits.

        Raises:
            AssertionError: With the jobs that came nearest, and what was different.
        """
        __tracebackhide__ = True  # pytest shows the test's own line
        wanted = _Wanted(kind, destination, text_contains, mention_of(mention), urgent, _id(destination, key))
        jobs = self.jobs
        found = [job for job in jobs if not wanted.misses(job)]
        if found and count in (None, len(found)):
            return found[0]
        if found:
            raise AssertionError(f"{len(found)} jobs with {wanted}, expected {count}:\n{_listed(found)}")
        raise AssertionError(f"no job with {wanted}; {_nearest(jobs, wanted)}")

    def refute_enqueued(
        self,
        *,
        kind: Kind | None = None,
        destination: str | None = None,
        text_contains: str | None = None,
        mention: People = None,
        urgent: bool | None = None,
        key: str | None = None,
    ) -> None:
        """No job fits all that is named; with nothing named, no job was enqueued at all.

        Raises:
            AssertionError: With the jobs that fit.
        """
        __tracebackhide__ = True  # pytest shows the test's own line
        wanted = _Wanted(kind, destination, text_contains, mention_of(mention), urgent, _id(destination, key))
        if found := [job for job in self.jobs if not wanted.misses(job)]:
            raise AssertionError(f"expected no job with {wanted}, found {len(found)}:\n{_listed(found)}")

    def render(self, job: Job, *, people: Mapping[str, Rung] | None = None, keywords: Sequence[str] = ()) -> Rendered:
        """What a webhook robot would send for a job; without ``people`` names are shown and ring nobody.

        Raises:
            InvalidJob: It could not be sent so.
        """
        return render_webhook(job, people=people or {}, keywords=keywords, check_names=people is not None)


@contextmanager
def outbox() -> Iterator[Outbox]:
    """Keep every job of this process in memory while the block runs."""
    box = Outbox()
    with activated(box):
        yield box


def text_of(job: Job) -> str:
    """Everything of a job that people would read, one piece a line."""
    match job:
        case SendJob(content=content):
            return "\n".join(filter(None, _content_texts(content)))
        case AssignJob():
            return "\n".join(filter(None, [job.subject, job.description, job.url]))
        case ShareJob():
            return "\n".join(filter(None, [job.name, job.note, job.url]))
        case ChangeJob():
            return "\n".join(filter(None, [job.subject, job.description]))
        case other:
            assert_never(other)


@dataclass(frozen=True, slots=True)
class _Wanted:
    kind: Kind | None
    destination: str | None
    text_contains: str | None
    mention: Mention
    urgent: bool | None
    job_id: str | None

    def __str__(self) -> str:
        named = [f"{name}={value!r}" for name, value in self._named() if name != "mention"]
        if self.mention:
            named.append(f"mention={_people(self.mention)}")
        return ", ".join(named) or "anything in it"

    def misses(self, job: Job) -> list[str]:
        """What is different about a job, one line each."""
        people = _mention(job)
        missed = [
            f"{name}: expected {value!r}, got {getattr(job, name)!r}"
            for name, value in self._named()
            if name in {"kind", "destination", "job_id"} and getattr(job, name) != value
        ]
        if self.urgent is not None and job.terms.urgent != self.urgent:
            missed.append(f"urgent: expected {self.urgent}, got {job.terms.urgent}")
        if self.text_contains is not None and self.text_contains not in text_of(job):
            missed.append(f"text_contains: {self.text_contains!r} is not in {_excerpt(job)}")
        if absent := [who for who in _people(self.mention) if who not in _people(people)]:
            missed.append(f"mention: {absent} not among {_people(people)}")
        return missed

    def _named(self) -> list[tuple[str, object]]:
        values = {
            "kind": self.kind,
            "destination": self.destination,
            "text_contains": self.text_contains,
            "urgent": self.urgent,
            "job_id": self.job_id,
        }
        return [(name, value) for name, value in values.items() if value is not None]


def _id(destination: str | None, key: str | None) -> str | None:
    if key is None:
        return None
    if destination is None:
        raise TypeError("key needs destination: the same key at another destination is another job")
    return job_id_for(destination, key)


def _nearest(jobs: Sequence[Job], wanted: _Wanted) -> str:
    if not jobs:
        return "nothing was enqueued"
    nearest = sorted(jobs, key=lambda job: len(wanted.misses(job)))[:_MOST_SHOWN]
    lines = [f"{len(jobs)} enqueued, nearest first:"]
    for job in nearest:
        lines.append(_line(job))
        lines.extend(f"      {miss}" for miss in wanted.misses(job))
    return "\n".join(lines)


def _listed(jobs: Sequence[Job]) -> str:
    return "\n".join(_line(job) for job in jobs)


def _line(job: Job) -> str:
    return f"  - {job.kind} to {job.destination}: {_excerpt(job)}"


def _excerpt(job: Job) -> str:
    text = text_of(job)
    return repr(text if len(text) <= _EXCERPT_CHARS else text[:_EXCERPT_CHARS] + "…")


def _mention(job: Job) -> Mention:
    match job:
        case SendJob(mention=mention):
            return mention
        case AssignJob(to=to) | ChangeJob(to=to):
            return to
        case _:
            return NOBODY


def _people(mention: Mention) -> list[str]:
    everyone = ["everyone"] if mention.everyone else []
    ids = [*(f"user:{one}" for one in mention.user_ids), *(f"union:{one}" for one in mention.union_ids)]
    return [*mention.names, *mention.mobiles, *ids, *everyone]


def _content_texts(content: Content) -> list[str]:
    match content:
        case Text(text=text):
            return [text]
        case Markdown(title=title, text=text):
            return [title, text]
        case Link():
            return [content.title, content.text, content.url]
        case Card():
            return [content.title, content.text, *(f"{button.title} {button.url}" for button in content.buttons)]
        case Feed(items=items):
            return [f"{item.title} {item.url}" for item in items]
        case other:
            assert_never(other)
