"""A job as the messages of a custom robot: all five types, mentions that ring, keyword, size. Pure.

Field names and limits: https://open.dingtalk.com/document/development/custom-robots-send-group-messages
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, assert_never

from dingqueue.contract import (
    AssignJob,
    Card,
    ChangeJob,
    Feed,
    Job,
    Link,
    Markdown,
    Mention,
    SendJob,
    ShareJob,
    StoredFile,
    Tables,
    Text,
    TooLong,
)
from dingqueue.errors import InvalidJob
from dingqueue.messages import split
from dingqueue.messages.markdown import (
    close_fence,
    has_table,
    outside_fences,
    tables_as_lines,
    title_of,
    visible_breaks,
)
from dingqueue.messages.mentions import Ring, by_union_id, has_token, resolve
from dingqueue.messages.model import (
    MAX_BODY_BYTES,
    MAX_KEYWORD_BYTES,
    MAX_USER_ID_CHARS,
    Rendered,
    Rung,
    encode,
)
from dingqueue.messages.words import about_file, readable, words_for

#: Two and a half minutes of one robot's 20 a minute; what is longer is a file. Refused at the door.
MAX_PARTS = 50
#: A part is at least half full, and what a robot adds moves the cuts: a text that passed the door never has more.
_MOST_PARTS = 3 * MAX_PARTS
_WIDEST_NUMBER = f"({_MOST_PARTS}/{_MOST_PARTS}) "
#: Of a character that nobody writes (private use, 4 bytes), so that no text holds it already.
_WIDEST_KEYWORD = "\U0010fffd" * (MAX_KEYWORD_BYTES // 4)
#: Beside the empty ``at`` of a card and a mobile, in words for people.
_CARD_EVERYONE = "DingTalk does not document that a card rings everyone; use a text or markdown message to be sure"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fleet:
    """What only the fleet knows about who speaks and who is rung."""

    people: Mapping[str, Rung]
    keywords: tuple[str, ...]
    check_names: bool = True
    most_parts: int = _MOST_PARTS

    def ring(self, mention: Mention, *, field: str, by_user_id: bool = False) -> Ring:
        return resolve(mention, self.people, check_names=self.check_names, field=field, by_user_id=by_user_id)


def render_webhook(
    job: Job, *, people: Mapping[str, Rung] = {}, keywords: Sequence[str] = (), check_names: bool = True
) -> Rendered:
    """A job as the messages of a webhook robot.

    The same job gives the same bodies at every attempt, each with its own ``msgUuid``: the job id, with ``-<part>``
    where there are several.

    Args:
        job: What to say.
        people: The fleet's ``[people]``: how names are rung.
        keywords: The robot's; the first is added where the text holds none of them.
        check_names: False where ``people`` is not at hand: names are then shown, not rung, with a warning.

    Raises:
        InvalidJob: What cannot be rendered, by the argument's name: an unknown name, somebody who cannot be rung, a
            type that rings nobody, content over ``MAX_BODY_BYTES`` that may not be cut.
    """
    return _rendered(job, _Fleet(people=people, keywords=tuple(filter(None, keywords)), check_names=check_names))


def check_webhook(job: Job) -> None:
    """Refuse a job that some fleet's robot could not send, whatever its keyword is and whoever its names are.

    Rendered with the widest keyword and people there can be; whether a name is in ``[people]``, and with a way to be
    rung, is left to the fleet.

    Raises:
        InvalidJob: As ``render_webhook``, or text for more than ``MAX_PARTS`` messages.
    """
    mention = job.mention if isinstance(job, SendJob) else job.to if isinstance(job, AssignJob) else Mention()
    names = (*mention.names, *map(by_union_id, mention.union_ids))
    people = {name: Rung(user_id=f"{number:0>{MAX_USER_ID_CHARS}}") for number, name in enumerate(names)}
    _rendered(job, _Fleet(people=people, keywords=(_WIDEST_KEYWORD,), most_parts=MAX_PARTS))


def _rendered(job: Job, fleet: _Fleet) -> Rendered:
    match job:
        case SendJob():
            return _send(job, fleet)
        case AssignJob():
            return _assign(job, fleet)
        case ShareJob(file=StoredFile()):
            raise InvalidJob(
                "file",
                "a webhook robot cannot carry a file: put it where people can fetch it and share its URL, "
                "or give the destination an app",
            )
        case ShareJob():
            note = job.note or about_file(job.name, job.url)
            link = {"title": job.name, "text": _with_keyword(note, fleet.keywords), "messageUrl": job.url}
            return _single(job.job_id, "link", link, {}, (), field="note")
        case ChangeJob():
            raise InvalidJob("action", "a change to an earlier job is no message")
        case other:
            assert_never(other)


def _send(job: SendJob, fleet: _Fleet) -> Rendered:
    match job.content:
        case Text(text=text):
            ring = fleet.ring(job.mention, field="mention")
            return _Long(job.job_id, "text", "", text, ring, fleet, field="text").render(job.too_long)
        case Markdown(text=text, title=title):
            ring = fleet.ring(job.mention, field="mention")
            shown = _tables(text, job.tables)
            return _markdown(job.job_id, title, shown, ring, fleet, field="markdown").render(job.too_long)
        case Card() as card:
            return _card(job, card, fleet)
        case Link() as link:
            _cannot_ring(job, "a link card")
            body = {"title": link.title, "text": _with_keyword(link.text, fleet.keywords), "messageUrl": link.url}
            if link.picture_url:
                body["picUrl"] = link.picture_url
            return _single(job.job_id, "link", body, {}, (), field="link")
        case Feed() as feed:
            _cannot_ring(job, "a feed card")
            return _feed(job, feed, fleet.keywords)
        case other:
            assert_never(other)


def _cannot_ring(job: SendJob, what: str) -> None:
    """DingTalk ignores mentions there, and the sender would think that people were rung."""
    if job.mention:
        raise InvalidJob("mention", f"{what} rings nobody; send a text or markdown message to the people beside it")


def _card(job: SendJob, card: Card, fleet: _Fleet) -> Rendered:
    if not card.buttons:
        raise InvalidJob("buttons", "a card has at least one")
    if any(mobile.strip() for mobile in job.mention.mobiles):
        raise InvalidJob(
            "mention", "a card rings people by user id only: write user:ID, or a name of [people] with one"
        )
    ring = fleet.ring(job.mention, field="mention", by_user_id=True)
    text = close_fence(visible_breaks(_tables(card.text, job.tables)))
    missing = [token for token in ring.tokens if not has_token(outside_fences(text), token)]
    text = _add_tokens(text, missing, markdown=True)
    inner: dict[str, Any] = {
        "title": card.title,
        "text": _add_head(text, _keyword(text, fleet.keywords), markdown=True),
        "btnOrientation": "1" if card.horizontal else "0",
    }
    if len(card.buttons) == 1:
        inner |= {"singleTitle": card.buttons[0].title, "singleURL": card.buttons[0].url}
    else:
        inner["btns"] = [{"title": button.title, "actionURL": button.url} for button in card.buttons]
    warnings = [*ring.warnings, *_table_warning(text)]
    if ring.mobiles:
        warnings.append(f"{len(ring.mobiles)} of the people have no user_id in [people]; a card may not ring a mobile")
    if ring.everyone:
        warnings.append(_CARD_EVERYONE)
    return _single(job.job_id, "actionCard", inner, ring.at(ring.tokens, everyone=True), warnings, field="card")


def _feed(job: SendJob, feed: Feed, keywords: tuple[str, ...]) -> Rendered:
    if not feed.items:
        raise InvalidJob("items", "a feed has at least one")
    links = [{"title": item.title, "messageURL": item.url, "picURL": item.picture_url} for item in feed.items]
    keyword = _keyword("\n".join(item.title for item in feed.items), keywords)
    links[0]["title"] = _add_head(links[0]["title"], keyword, markdown=False)
    return _single(job.job_id, "feedCard", {"links": links}, {}, (), field="feed")


def _assign(job: AssignJob, fleet: _Fleet) -> Rendered:
    ring = fleet.ring(job.to, field="to")
    words = words_for(job.subject)
    who = [*ring.tokens, *([f"@{words.everyone}"] if ring.everyone else [])]
    if not who:
        raise InvalidJob("to", "nobody to assign to")
    subject = " ".join(job.subject.split())
    title = words.task.format(subject=subject)
    facts = [words.to.format(people=" ".join(who))]
    if job.due:
        facts.append(words.due.format(when=readable(job.due, words)))
    if job.url:
        # A bracket would end the markdown link early.
        facts.append(words.link.format(url=job.url.replace("(", "%28").replace(")", "%29")))
    paragraphs = [f"### {title}", "\n".join(facts), job.description.strip()]
    text = _tables("\n\n".join(filter(None, paragraphs)), "lines")
    return _markdown(job.job_id, title, text, ring, fleet, field="description").render("split")


def _single(
    job_id: str, msgtype: str, inner: dict[str, Any], at: dict[str, Any], warnings: Sequence[str], *, field: str
) -> Rendered:
    body = _body(msgtype, inner, at, job_id)
    if (size_bytes := len(encode(body))) > MAX_BODY_BYTES:
        raise InvalidJob(field, f"{_over(size_bytes)}, and this type cannot be cut")
    return Rendered((body,), tuple(warnings))


def _over(size_bytes: int) -> str:
    return f"{size_bytes:,} bytes as sent, keyword and people included; DingTalk takes {MAX_BODY_BYTES:,}"


def _body(msgtype: str, inner: dict[str, Any], at: dict[str, Any], uuid: str) -> dict[str, Any]:
    return {"msgtype": msgtype, msgtype: inner} | ({"at": at} if at else {}) | {"msgUuid": uuid}


def _markdown(job_id: str, title: str, text: str, ring: Ring, fleet: _Fleet, *, field: str) -> _Long:
    shown = close_fence(visible_breaks(text))
    return _Long(job_id, "markdown", title_of(title, text), shown, ring, fleet, field=field)


def _tables(text: str, tables: Tables) -> str:
    return tables_as_lines(text) if tables == "lines" else text


def _table_warning(text: str) -> list[str]:
    return ["phones may show the table as lines with pipes"] if has_table(text) else []


def _keyword(text: str, keywords: tuple[str, ...]) -> str:
    """What to put before a text that holds none of the robot's keywords, "" when it holds one."""
    return "" if not keywords or any(keyword in text for keyword in keywords) else f"[{keywords[0]}]"


def _with_keyword(text: str, keywords: tuple[str, ...]) -> str:
    return _add_head(text, _keyword(text, keywords), markdown=False)


def _add_head(text: str, head: str, *, markdown: bool) -> str:
    """Put a short head before a text: in markdown a paragraph of its own, for the text may begin with a heading."""
    if not head:
        return text
    return f"{head}\n\n{text}" if markdown else f"{head} {text}"


def _add_tokens(text: str, tokens: Sequence[str], *, markdown: bool) -> str:
    if not tokens:
        return text
    gap = "\n\n" if markdown else "\n" if "\n" in text else " "
    return f"{text.rstrip()}{gap}{' '.join(tokens)}"


@dataclass(frozen=True, slots=True)
class _Long:
    """A text or markdown message that may need several bodies. ``text`` is as shown, fences closed."""

    job_id: str
    msgtype: Literal["text", "markdown"]
    title: str
    text: str
    ring: Ring
    fleet: _Fleet
    field: str

    def render(self, too_long: TooLong) -> Rendered:
        """The bodies, each at most ``MAX_BODY_BYTES``."""
        if not self.text.strip():
            raise InvalidJob(self.field, "is blank")
        warnings = [*self.ring.warnings, *(_table_warning(self.text) if self._is_markdown else ())]
        (body,) = self._bodies([self.text])
        size_bytes = len(encode(body))
        if size_bytes <= MAX_BODY_BYTES:
            return Rendered((body,), tuple(warnings))
        match too_long:
            case "refuse":
                raise InvalidJob(self.field, f"{_over(size_bytes)}: allow 'split' or 'shorten'")
            case "shorten":
                text, left_out = self._shortened()
                if left_out:
                    warnings.append(f"shortened: {left_out:,} characters are left out")
                return Rendered(tuple(self._bodies([text])), tuple(warnings))
            case "split":
                texts = self._split()
                if len(texts) > 1:
                    warnings.append(f"{len(texts)} messages, each of which counts against the robot's limit")
                return Rendered(tuple(self._bodies(texts)), tuple(warnings))
            case other:
                assert_never(other)

    @property
    def _is_markdown(self) -> bool:
        return self.msgtype == "markdown"

    def _split(self) -> list[str]:
        texts: list[str] = []
        for piece in split.pieces(self.text, limit_bytes=self._room_bytes(), markdown=self._is_markdown):
            if len(texts) == self.fleet.most_parts:
                raise InvalidJob(self.field, f"more than {len(texts)} messages of text; share it as a file or a link")
            texts.append(piece.text)
        return texts

    def _shortened(self) -> tuple[str, int]:
        """As much of the beginning as fits, with a note of how much is missing, and that number."""
        words = words_for(self.text)
        gap = "\n\n" if self._is_markdown else "\n"
        widest = gap + words.left_out.format(count=len(self.text))
        room_bytes = self._room_bytes() - split.cost_bytes(widest)
        first = next(split.pieces(self.text, limit_bytes=room_bytes, markdown=self._is_markdown))
        # A run of white space counts once: line breaks were made visible with blanks that nobody wrote.
        left_out = split.graphemes(" ".join(self.text[first.end :].split()))
        if not left_out:  # there was only white space too much
            return first.text, 0
        return first.text + gap + words.left_out.format(count=left_out), left_out

    def _room_bytes(self) -> int:
        """What is left for a part's own text beside the most that a part can carry."""
        heads = max((split.cost_bytes(f"[{keyword}] \n\n") for keyword in self.fleet.keywords[:1]), default=0)
        tokens = split.cost_bytes("\n\n" + " ".join(self.ring.tokens))
        at = self.ring.at(self.ring.tokens, everyone=True)
        empty = self._body("", _WIDEST_NUMBER, at, f"{self.job_id}-{_MOST_PARTS}")
        room_bytes = MAX_BODY_BYTES - len(encode(empty)) - split.cost_bytes(f"{_WIDEST_NUMBER}\n\n") - heads - tokens
        if room_bytes < 2 * split.MIN_PIECE_BYTES:
            raise InvalidJob(self.field, "the people to ring, title and keyword leave no room for the text")
        return room_bytes

    def _bodies(self, texts: list[str]) -> list[dict[str, Any]]:
        """Number the parts, put in keyword and tokens, and let each person be rung by exactly one part.

        A person is rung by the first part whose text names them; whom no text names is named at the end of the first
        part, for "somebody mentioned you" takes the reader to that message, and a long text is read from there.
        """
        prose = [outside_fences(text) if self._is_markdown else text for text in texts]
        rung_by = {
            token: next((number for number, text in enumerate(prose) if has_token(text, token)), None)
            for token in self.ring.tokens
        }
        missing = [token for token, number in rung_by.items() if number is None]
        bodies = []
        for number, part in enumerate(texts):
            first = number == 0
            text = _add_tokens(part, missing, markdown=self._is_markdown) if first else part
            counter = f"({number + 1}/{len(texts)})" if len(texts) > 1 else ""
            head = " ".join(filter(None, [counter, _keyword(text, self.fleet.keywords)]))
            if counter and not self._is_markdown:
                text = f"{head}\n{text}"
            else:
                text = _add_head(text, head, markdown=self._is_markdown)
            here = [token for token, by in rung_by.items() if by == number or (first and by is None)]
            uuid = f"{self.job_id}-{number + 1}" if counter else self.job_id
            bodies.append(self._body(text, f"{counter} " if counter else "", self.ring.at(here, everyone=first), uuid))
        return bodies

    def _body(self, text: str, counter: str, at: dict[str, Any], uuid: str) -> dict[str, Any]:
        inner = {"title": counter + self.title, "text": text} if self._is_markdown else {"content": text}
        return _body(self.msgtype, inner, at, uuid)
