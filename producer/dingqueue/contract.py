"""The job: frozen data that crosses from the application to the fleet. Standard library only.

Version 1 of the wire format is what ``to_wire`` writes; golden payloads under ``tests/golden`` hold it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias, assert_never

from dingqueue.errors import UnknownContract

CONTRACT_VERSION = 1

Kind: TypeAlias = Literal["send", "assign", "share"]
KINDS: tuple[Kind, ...] = ("send", "assign", "share")
#: What to do with content over a route's limit.
TooLong: TypeAlias = Literal["split", "shorten", "refuse"]
#: What to do when an attempt's end was not seen.
OnUnknown: TypeAlias = Literal["resend", "hold"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mention:
    """Whom a message rings.

    Attributes:
        names: Keys of the fleet's ``[people]`` table; resolved by the worker.
        mobiles: ``13800000000`` or ``+852-91234567``.
        user_ids: DingTalk staff user ids.
        everyone: Ring the whole group.
    """

    names: tuple[str, ...] = ()
    mobiles: tuple[str, ...] = ()
    user_ids: tuple[str, ...] = ()
    everyone: bool = False

    def __bool__(self) -> bool:
        """True when anybody at all is to be rung."""
        return bool(self.names or self.mobiles or self.user_ids or self.everyone)


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
    buttons: tuple[Button, ...]
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

    items: tuple[FeedItem, ...]


Content: TypeAlias = Text | Markdown | Link | Card | Feed


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a job wants to be handled, whatever it says.

    Attributes:
        urgent: Goes before all that is not.
        at: Not before this instant (aware); None is now.
        expires_s: Not worth sending this many seconds after ``at`` (or after it was enqueued); None is the destination's own.
        on_unknown: ``resend`` or ``hold`` when nobody saw how an attempt ended; None is ``resend``.
    """

    urgent: bool = False
    at: datetime | None = None
    expires_s: float | None = None
    on_unknown: OnUnknown = "resend"


@dataclass(frozen=True, slots=True, kw_only=True)
class SendJob:
    """A message to a destination."""

    job_id: str
    destination: str
    content: Content
    mention: Mention = NOBODY
    too_long: TooLong = "split"
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
    terms: Terms = field(default_factory=Terms)

    @property
    def kind(self) -> Kind:
        """``assign``."""
        return "assign"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareJob:
    """A file, by its URL, for a destination."""

    job_id: str
    destination: str
    url: str
    name: str
    note: str = ""
    terms: Terms = field(default_factory=Terms)

    @property
    def kind(self) -> Kind:
        """``share``."""
        return "share"


Job: TypeAlias = SendJob | AssignJob | ShareJob


def to_wire(job: Job) -> str:
    """The job as JSON, unescaped UTF-8, version 1. ``from_wire(to_wire(job)) == job``."""
    head: dict[str, Any] = {"v": CONTRACT_VERSION, "kind": job.kind, "id": job.job_id, "to": job.destination}
    return json.dumps(
        head | _body(job) | {"terms": _terms_to_wire(job.terms)}, ensure_ascii=False, separators=(",", ":")
    )


def from_wire(wire: str) -> Job:
    """Read what ``to_wire`` of this or an older version wrote.

    Raises:
        UnknownContract: The version is newer than this side, or the JSON is no job at all.
    """
    try:
        data = json.loads(wire)
        version = data["v"]
    except (ValueError, TypeError, KeyError) as error:
        raise UnknownContract("not a dingqueue job") from error
    if version != CONTRACT_VERSION:
        raise UnknownContract(
            f"job contract {version!r}, this side reads {CONTRACT_VERSION}: deploy workers before producers"
        )
    try:
        return _job_from_wire(data)
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
            }
        case AssignJob():
            return {
                "subject": job.subject,
                "people": _mention_to_wire(job.to),
                "due": job.due.isoformat() if job.due else None,
                "url": job.url,
                "description": job.description,
            }
        case ShareJob():
            return {"url": job.url, "name": job.name, "note": job.note}
        case other:
            assert_never(other)


def _job_from_wire(data: Mapping[str, Any]) -> Job:
    terms = _terms_from_wire(data["terms"])
    match data["kind"]:
        case "send":
            return SendJob(
                job_id=data["id"],
                destination=data["to"],
                content=_content_from_wire(data["content"]),
                mention=_mention_from_wire(data["mention"]),
                too_long=data["too_long"],
                terms=terms,
            )
        case "assign":
            return AssignJob(
                job_id=data["id"],
                destination=data["to"],
                subject=data["subject"],
                to=_mention_from_wire(data["people"]),
                due=datetime.fromisoformat(data["due"]) if data["due"] else None,
                url=data["url"],
                description=data["description"],
                terms=terms,
            )
        case "share":
            return ShareJob(
                job_id=data["id"],
                destination=data["to"],
                url=data["url"],
                name=data["name"],
                note=data["note"],
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
            return Text(text=data["text"])
        case "markdown":
            return Markdown(text=data["text"], title=data["title"])
        case "link":
            return Link(title=data["title"], text=data["text"], url=data["url"], picture_url=data["picture_url"])
        case "card":
            buttons = tuple(Button(title=button["title"], url=button["url"]) for button in data["buttons"])
            return Card(title=data["title"], text=data["text"], buttons=buttons, horizontal=data["horizontal"])
        case "feed":
            return Feed(
                items=tuple(
                    FeedItem(title=item["title"], url=item["url"], picture_url=item["picture_url"])
                    for item in data["items"]
                )
            )
        case _:
            raise ValueError


def _mention_to_wire(mention: Mention) -> dict[str, Any]:
    return {
        "names": list(mention.names),
        "mobiles": list(mention.mobiles),
        "user_ids": list(mention.user_ids),
        "everyone": mention.everyone,
    }


def _mention_from_wire(data: Mapping[str, Any]) -> Mention:
    return Mention(
        names=tuple(data["names"]),
        mobiles=tuple(data["mobiles"]),
        user_ids=tuple(data["user_ids"]),
        everyone=data["everyone"],
    )


def _terms_to_wire(terms: Terms) -> dict[str, Any]:
    return {
        "urgent": terms.urgent,
        "at": terms.at.isoformat() if terms.at else None,
        "expires_s": terms.expires_s,
        "on_unknown": terms.on_unknown,
    }


def _terms_from_wire(data: Mapping[str, Any]) -> Terms:
    return Terms(
        urgent=data["urgent"],
        at=datetime.fromisoformat(data["at"]) if data["at"] else None,
        expires_s=data["expires_s"],
        on_unknown=data["on_unknown"],
    )
