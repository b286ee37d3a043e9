"""The job: frozen data that crosses from the application to the fleet. Standard library only.

Version 1 of the wire format is what ``to_wire`` writes; golden payloads under ``tests/golden`` hold it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias, TypeVar, assert_never

from dingqueue.errors import UnknownContract

CONTRACT_VERSION = 1

Kind: TypeAlias = Literal["send", "assign", "share", "change"]
KINDS: tuple[Kind, ...] = ("send", "assign", "share", "change")
#: What to do with content over a route's limit.
TooLong: TypeAlias = Literal["split", "shorten", "refuse"]
#: What to do with a table in markdown, which phones show as pipes.
Tables: TypeAlias = Literal["lines", "keep"]
#: What to do when an attempt's end was not seen.
OnUnknown: TypeAlias = Literal["resend", "hold"]
#: How much a work matters, as a todo shows it. It says nothing about when the job goes out.
Priority: TypeAlias = Literal["low", "normal", "high", "urgent"]

TOO_LONG: tuple[TooLong, ...] = ("split", "shorten", "refuse")
TABLES: tuple[Tables, ...] = ("lines", "keep")
ON_UNKNOWN: tuple[OnUnknown, ...] = ("resend", "hold")
PRIORITIES: tuple[Priority, ...] = ("low", "normal", "high", "urgent")
#: What can be done about what an earlier job left at DingTalk: take it back, say that the work is done, change the
#: work, see who has read it.
Action: TypeAlias = Literal["recall", "complete", "reassign", "check"]
ACTIONS: tuple[Action, ...] = ("recall", "complete", "reassign", "check")

_OptionT = TypeVar("_OptionT", bound=str)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mention:
    """Whom a message rings.

    Attributes:
        names: Keys of the fleet's ``[people]`` table; resolved by the worker.
        mobiles: ``13800000000`` or ``+852-91234567``.
        user_ids: DingTalk staff user ids.
        union_ids: DingTalk union ids; for work only, since no message rings by them.
        everyone: Ring the whole group.
    """

    names: tuple[str, ...] = ()
    mobiles: tuple[str, ...] = ()
    user_ids: tuple[str, ...] = ()
    union_ids: tuple[str, ...] = ()
    everyone: bool = False

    def __bool__(self) -> bool:
        """True when anybody at all is to be rung."""
        return bool(self.names or self.mobiles or self.user_ids or self.union_ids or self.everyone)


NOBODY = Mention()


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A plain text message."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Markdown:
    """A markdown message. An empty ``title`` is taken from the first line when it is rendered."""

    text: str
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link card. It cannot ring anybody."""

    title: str
    text: str
    url: str
    picture_url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Button:
    """One button of a card."""

    title: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """An action card: markdown ``text`` with one or more buttons."""

    title: str
    text: str
    buttons: Sequence[Button]
    horizontal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedItem:
    """One row of a feed."""

    title: str
    url: str
    picture_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """A feed card: several links with pictures. It cannot ring anybody."""

    items: Sequence[FeedItem]


Content: TypeAlias = Text | Markdown | Link | Card | Feed


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a job wants to be handled, whatever it says.

    Attributes:
        urgent: Goes before all that is not.
        at: Not before this instant (aware); None is now.
        expires_s: Not worth sending this many seconds after ``at`` (or after it was enqueued); None is the destination's own.
        on_unknown: ``resend`` or ``hold`` when nobody saw how an attempt ended.
        trace: Where it was handed over, as a W3C ``traceparent``; None where nobody traces.
    """

    urgent: bool = False
    at: datetime | None = None
    expires_s: float | None = None
    on_unknown: OnUnknown = "resend"
    trace: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SendJob:
    """A message to a destination.

    ``tables`` is for markdown and cards: ``lines`` turns each row into lines of "name: value", ``keep`` sends it as it is.
    """

    job_id: str
    destination: str
    content: Content
    mention: Mention = NOBODY
    too_long: TooLong = "split"
    tables: Tables = "lines"
    terms: Terms = field(default_factory=Terms)

    @property
    def kind(self) -> Kind:
        """``send``."""
        return "send"


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignJob:
    """A piece of work for named people. ``due`` is aware and keeps the offset it was written in."""

    job_id: str
    destination: str
    subject: str
    to: Mention
    due: datetime | None = None
    url: str = ""
    description: str = ""
    priority: Priority = "normal"
    terms: Terms = field(default_factory=Terms)

    @property
    def kind(self) -> Kind:
        """``assign``."""
        return "assign"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file in the fleet's file store, by reference: what is in it never travels with the job.

    Attributes:
        store: The kind of file store that has it: ``redis``, ``folder``, or an ``fsspec`` protocol (``s3``).
        id: Where it is there.
        name: What people see.
        size_bytes: Its exact size.
        sha256: Of its content, in hex.
        type: What DingTalk is told that it is: one of its own extensions, without the dot (``pdf``).
    """

    store: str
    id: str
    name: str
    size_bytes: int
    sha256: str
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareJob:
    """A file for a destination: by its ``url``, or one in the file store.

    Attributes:
        url: Where people can fetch it; empty where there is a ``file``.
        name: What people see.
        note: A line about it.
        file: It stands in the file store; None where it is fetched from ``url``.
        zip: Pack what DingTalk would refuse as it is, once it is fetched.
    """

    job_id: str
    destination: str
    url: str
    name: str
    note: str = ""
    file: StoredFile | None = None
    zip: bool = False
    terms: Terms = field(default_factory=Terms)

    @property
    def kind(self) -> Kind:
        """``share``."""
        return "share"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeJob:
    """A change to what an earlier job left at DingTalk: its messages, its todo.

    Attributes:
        of: The earlier job's id.
        action: What is to be done.
        left: What the earlier job left, as its record has it: JSON that the fleet wrote and only the fleet reads.
        to: Who does the work from now on; nobody leaves it as it is. The next three are the same: empty is no change.
        subject: What is to be done.
        description: More about it.
        due: Until when; aware.
    """

    job_id: str
    destination: str
    of: str
    action: Action
    left: str = "{}"
    to: Mention = NOBODY
    subject: str = ""
    description: str = ""
    due: datetime | None = None
    terms: Terms = field(default_factory=Terms)

    @property
    def kind(self) -> Kind:
        """``change``."""
        return "change"


Job: TypeAlias = SendJob | AssignJob | ShareJob | ChangeJob


def to_wire(job: Job) -> str:
    """The job as JSON, unescaped UTF-8, version 1. ``from_wire(to_wire(job)) == job``."""
    head: dict[str, Any] = {"v": CONTRACT_VERSION, "kind": job.kind, "id": job.job_id, "to": job.destination}
    said = head | _body(job) | {"terms": _terms_to_wire(job.terms)}
    # A message that waits in Redis is half as long without what most messages say.
    unusual = {name: value for name, value in said.items() if name not in _USUAL or value != _USUAL[name]}
    return json.dumps(unusual, ensure_ascii=False, separators=(",", ":"))


def from_wire(wire: str) -> Job:
    """Read what ``to_wire`` of this or an older version wrote.

    Raises:
        UnknownContract: The version is newer than this side, or the JSON is no job at all.
    """
    try:
        data = json.loads(wire)
        version = data["v"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UnknownContract("not a dingqueue job") from error
    if type(version) is not int or version < 1:
        raise UnknownContract("not a dingqueue job")
    if version > CONTRACT_VERSION:
        raise UnknownContract(
            f"job contract {version}, and this side reads {CONTRACT_VERSION}: upgrade dingqueue here, "
            "and next time deploy workers before producers"
        )
    try:
        return _job_from_wire(_USUAL | data)
    except (KeyError, TypeError, ValueError) as error:
        # The text of the error could hold a value; its type and the missing key's name cannot.
        raise UnknownContract(f"malformed job contract {version}: {type(error).__name__}") from error


def _body(job: Job) -> dict[str, Any]:
    match job:
        case SendJob():
            return {
                "content": _content_to_wire(job.content),
                "mention": _mention_to_wire(job.mention),
                "too_long": job.too_long,
                "tables": job.tables,
            }
        case AssignJob():
            work = {
                "subject": job.subject,
                "people": _mention_to_wire(job.to),
                "due": job.due.isoformat() if job.due else None,
                "url": job.url,
                "description": job.description,
            }
            # Written where it says something, so that other works stay what version 1 was from the start.
            return work if job.priority == "normal" else work | {"priority": job.priority}
        case ShareJob():
            shared: dict[str, Any] = {"url": job.url, "name": job.name, "note": job.note}
            # Written where they say something, so that a job by URL stays what version 1 was from the start.
            if job.file:
                shared["file"] = _file_to_wire(job.file)
            if job.zip:
                shared["zip"] = True
            return shared
        case ChangeJob():
            return {
                "of": job.of,
                "action": job.action,
                "left": job.left,
                "people": _mention_to_wire(job.to),
                "subject": job.subject,
                "description": job.description,
                "due": job.due.isoformat() if job.due else None,
            }
        case other:
            assert_never(other)


def _job_from_wire(data: Mapping[str, Any]) -> Job:
    job_id, destination, terms = _text(data, "id"), _text(data, "to"), _terms_from_wire(data["terms"])
    match data["kind"]:
        case "send":
            return SendJob(
                job_id=job_id,
                destination=destination,
                content=_content_from_wire(data["content"]),
                mention=_mention_from_wire(data["mention"]),
                too_long=_option(data, "too_long", TOO_LONG),
                tables=_option(data, "tables", TABLES),
                terms=terms,
            )
        case "assign":
            return AssignJob(
                job_id=job_id,
                destination=destination,
                subject=_text(data, "subject"),
                to=_mention_from_wire(data["people"]),
                due=_instant(data, "due"),
                url=_text(data, "url"),
                description=_text(data, "description"),
                priority=_option(data, "priority", PRIORITIES) if "priority" in data else "normal",
                terms=terms,
            )
        case "share":
            return ShareJob(
                job_id=job_id,
                destination=destination,
                url=_text(data, "url"),
                name=_text(data, "name"),
                note=_text(data, "note"),
                file=_file_from_wire(data["file"]) if "file" in data else None,
                zip=_flag(data, "zip") if "zip" in data else False,
                terms=terms,
            )
        case "change":
            return ChangeJob(
                job_id=job_id,
                destination=destination,
                of=_text(data, "of"),
                action=_option(data, "action", ACTIONS),
                left=_text(data, "left"),
                to=_mention_from_wire(data["people"]),
                subject=_text(data, "subject"),
                description=_text(data, "description"),
                due=_instant(data, "due"),
                terms=terms,
            )
        case _:
            raise ValueError


def _content_to_wire(content: Content) -> dict[str, Any]:
    match content:
        case Text(text=text):
            return {"form": "text", "text": text}
        case Markdown(text=text, title=title):
            return {"form": "markdown", "text": text, "title": title}
        case Link():
            return {
                "form": "link",
                "title": content.title,
                "text": content.text,
                "url": content.url,
                "picture_url": content.picture_url,
            }
        case Card():
            return {
                "form": "card",
                "title": content.title,
                "text": content.text,
                "buttons": [{"title": button.title, "url": button.url} for button in content.buttons],
                "horizontal": content.horizontal,
            }
        case Feed(items=items):
            return {
                "form": "feed",
                "items": [{"title": item.title, "url": item.url, "picture_url": item.picture_url} for item in items],
            }
        case other:
            assert_never(other)


def _content_from_wire(data: Mapping[str, Any]) -> Content:
    match data["form"]:
        case "text":
            return Text(text=_text(data, "text"))
        case "markdown":
            return Markdown(text=_text(data, "text"), title=_text(data, "title"))
        case "link":
            return Link(
                title=_text(data, "title"),
                text=_text(data, "text"),
                url=_text(data, "url"),
                picture_url=_text(data, "picture_url"),
            )
        case "card":
            return Card(
                title=_text(data, "title"),
                text=_text(data, "text"),
                buttons=tuple(Button(title=_text(one, "title"), url=_text(one, "url")) for one in data["buttons"]),
                horizontal=_flag(data, "horizontal"),
            )
        case "feed":
            return Feed(
                items=tuple(
                    FeedItem(title=_text(one, "title"), url=_text(one, "url"), picture_url=_text(one, "picture_url"))
                    for one in data["items"]
                )
            )
        case _:
            raise ValueError


def _file_to_wire(file: StoredFile) -> dict[str, Any]:
    return {
        "store": file.store,
        "id": file.id,
        "name": file.name,
        "size": file.size_bytes,
        "sha256": file.sha256,
        "type": file.type,
    }


def _file_from_wire(data: Mapping[str, Any]) -> StoredFile:
    size_bytes = data["size"]
    if type(size_bytes) is not int:
        raise TypeError
    return StoredFile(
        store=_text(data, "store"),
        id=_text(data, "id"),
        name=_text(data, "name"),
        size_bytes=size_bytes,
        sha256=_text(data, "sha256"),
        type=_text(data, "type"),
    )


def _mention_to_wire(mention: Mention) -> dict[str, Any]:
    people: dict[str, Any] = {
        "names": list(mention.names),
        "mobiles": list(mention.mobiles),
        "user_ids": list(mention.user_ids),
        "everyone": mention.everyone,
    }
    # Written where it says something, as other fields that came later.
    return people | ({"union_ids": list(mention.union_ids)} if mention.union_ids else {})


def _mention_from_wire(data: Mapping[str, Any]) -> Mention:
    return Mention(
        names=_texts(data, "names"),
        mobiles=_texts(data, "mobiles"),
        user_ids=_texts(data, "user_ids"),
        union_ids=_texts(data, "union_ids") if "union_ids" in data else (),
        everyone=_flag(data, "everyone"),
    )


def _terms_to_wire(terms: Terms) -> dict[str, Any]:
    said = {
        "urgent": terms.urgent,
        "at": terms.at.isoformat() if terms.at else None,
        "expires_s": terms.expires_s,
        "on_unknown": terms.on_unknown,
    }
    # Written where it says something: the others are as version 1 was from the start.
    return said if terms.trace is None else said | {"trace": terms.trace}


def _terms_from_wire(data: Mapping[str, Any]) -> Terms:
    return Terms(
        urgent=_flag(data, "urgent"),
        at=_instant(data, "at"),
        expires_s=_seconds(data, "expires_s"),
        on_unknown=_option(data, "on_unknown", ON_UNKNOWN),
        trace=_text(data, "trace") if data.get("trace") is not None else None,
    )


#: What is left out on the wire where a job says just this.
_USUAL: dict[str, Any] = {
    "mention": _mention_to_wire(NOBODY),
    "too_long": "split",
    "tables": "lines",
    "terms": _terms_to_wire(Terms()),
}


def _text(data: Mapping[str, Any], name: str) -> str:
    return _checked_text(data[name])


def _checked_text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    # Half of a surrogate pair can be escaped in JSON, and would fail only when the message is sent.
    value.encode()
    return value


def _texts(data: Mapping[str, Any], name: str) -> tuple[str, ...]:
    values = data[name]
    if not isinstance(values, list):
        raise TypeError
    return tuple(_checked_text(value) for value in values)


def _flag(data: Mapping[str, Any], name: str) -> bool:
    value = data[name]
    if not isinstance(value, bool):
        raise TypeError
    return value


def _seconds(data: Mapping[str, Any], name: str) -> float | None:
    value = data[name]
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    if not 0 < value < math.inf:
        raise ValueError
    return value


def _instant(data: Mapping[str, Any], name: str) -> datetime | None:
    value = data[name]
    if value is None:
        return None
    instant = datetime.fromisoformat(value)
    if instant.utcoffset() is None:
        raise ValueError
    return instant


def _option(data: Mapping[str, Any], name: str, options: tuple[_OptionT, ...]) -> _OptionT:
    return options[options.index(data[name])]
