"""What an argument may hold. Each check gives the value as a job has it, or raises ``InvalidJob``. Knows no job.

``field`` is what the error calls the argument. No text and no address is in an error: it may be private.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timezone
from typing import Any, TypeAlias, TypeVar, assert_never, get_args
from urllib.parse import urlsplit

from dingqueue.contract import (
    NOBODY,
    ON_UNKNOWN,
    Button,
    Card,
    Content,
    Feed,
    FeedItem,
    Link,
    Markdown,
    Mention,
    StoredFile,
    Terms,
    Text,
)
from dingqueue.errors import InvalidJob
from dingqueue.files.limits import MAX_FILE_BYTES, checked_name, extension_of
from dingqueue.messages import documented_mobile, looks_like_mobile

#: In ``mention``: ring the whole group.
EVERYONE = "everyone"

#: Content as the contract's object, or a mapping with the same fields.
Fields: TypeAlias = Mapping[str, Any]
#: One person or several: a mobile, ``user:ID``, ``union:ID`` (for work), or a name of the fleet's ``[people]``; or all
#: of them in one object.
People: TypeAlias = str | Iterable[str] | Mention | None

_OptionT = TypeVar("_OptionT", bound=str)
_PartT = TypeVar("_PartT", bound=Text | Markdown | Link | Card | Feed | Button | FeedItem)

_NAME = re.compile(r"[\w.-]{1,64}")
_USER_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.@-]{0,63}")
_UNION_ID = re.compile(r"[0-9A-Za-z_+/=-]{1,128}")
#: What media upload gives; DingTalk takes it where it takes a picture's address.
_MEDIA_ID = re.compile(r"@[0-9A-Za-z_-]{4,256}")
#: DingTalk's limit for the subject of a todo.
#: https://open.dingtalk.com/document/development/add-dingtalk-to-do-task
MAX_SUBJECT_BYTES = 1_024
#: Longer addresses are refused by servers and browsers, and could not stay whole in a message that is cut.
MAX_URL_CHARS = 4_096
#: A thousand years: no wait that anybody means is longer, and Redis's clock in milliseconds still holds it.
_LONGEST_WAIT_S = 1_000 * 365.25 * 86_400
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TYPE = re.compile(r"[0-9a-z]{1,16}")
#: The end of the longest wait after it is still a date.
_LATEST_YEAR = 8_900
WEB_SCHEMES = ("http", "https")
LINK_SCHEMES = ("http", "https", "dingtalk")


# Content

_FORMS: Mapping[str, type[Text | Markdown | Link | Card | Feed]] = {
    "text": Text,
    "markdown": Markdown,
    "link": Link,
    "card": Card,
    "feed": Feed,
}


def one_content(given: Mapping[str, Any], title: str | None) -> Content:
    """The one that is not None of ``text``, ``markdown``, ``link``, ``card`` and ``feed``, as the contract's object."""
    named = [field for field, value in given.items() if value is not None]
    if not named:
        raise InvalidJob("text", "nothing to send: give text, markdown, link, card or feed")
    if len(named) > 1:
        raise InvalidJob(named[1], f"a message is one thing, and {named[0]} was given too")
    field, value = named[0], given[named[0]]
    if field == "markdown" and isinstance(value, str):
        value = Markdown(text=value, title="" if title is None else title)
    elif title is not None:
        raise InvalidJob("title", "goes with markdown='...' only; a text has none, an object brings its own")
    if field == "text" and not isinstance(value, get_args(Content)):
        value = Text(text=value)
    elif field != "text" and isinstance(value, Mapping):
        value = _object(_FORMS[field], value)
    elif field != "text" and not isinstance(value, _FORMS[field]):
        raise InvalidJob(field, f"expected {_FORMS[field].__name__} or a mapping with its fields, got {type_of(value)}")
    return _each_checked(value)


def _each_checked(content: Content) -> Content:
    """The same content with every field checked."""
    match content:
        case Text(text=text):
            return Text(text=text_of(text, "text"))
        case Markdown(text=text, title=title):
            return Markdown(text=text_of(text, "markdown"), title=text_of(title, "title", blank=True))
        case Link():
            return Link(
                title=text_of(content.title, "title"),
                text=text_of(content.text, "text"),
                url=url_of(content.url, "url", LINK_SCHEMES),
                picture_url=_picture(content.picture_url) if content.picture_url != "" else "",
            )
        case Card():
            return Card(
                title=text_of(content.title, "title"),
                text=text_of(content.text, "text"),
                buttons=tuple(
                    Button(
                        title=text_of(button.title, f"buttons[{number}].title"),
                        url=url_of(button.url, f"buttons[{number}].url", LINK_SCHEMES),
                    )
                    for number, button in enumerate(_parts(Button, content.buttons, "buttons"))
                ),
                horizontal=flag_of(content.horizontal, "horizontal"),
            )
        case Feed(items=items):
            return Feed(
                items=tuple(
                    FeedItem(
                        title=text_of(item.title, f"items[{number}].title"),
                        url=url_of(item.url, f"items[{number}].url", LINK_SCHEMES),
                        picture_url=_picture(item.picture_url, f"items[{number}].picture_url"),
                    )
                    for number, item in enumerate(_parts(FeedItem, items, "items"))
                )
            )
        case other:
            assert_never(other)


def _object(form: type[_PartT], fields: Mapping[str, Any], path: str = "") -> _PartT:
    """The contract's object from a mapping; what the fields hold is checked later."""
    known = {field.name: field for field in dataclasses.fields(form)}
    for name in fields:
        if name not in known:
            problem = f"{form.__name__} has no such field{_did_you_mean(name, known)}"
            raise InvalidJob(f"{path}{name}", problem)
    for name, field in known.items():
        if name not in fields and field.default is dataclasses.MISSING:
            raise InvalidJob(f"{path}{name}", f"{form.__name__} needs it")
    return form(**fields)


def _parts(form: type[_PartT], values: object, field: str) -> list[_PartT]:
    if not isinstance(values, list | tuple):
        raise InvalidJob(field, f"expected a list of {form.__name__}, got {type_of(values)}")
    parts: list[_PartT] = []
    for number, value in enumerate(values):
        if isinstance(value, Mapping):
            parts.append(_object(form, value, f"{field}[{number}]."))
        elif isinstance(value, form):
            parts.append(value)
        else:
            raise InvalidJob(f"{field}[{number}]", f"expected {form.__name__} or a mapping, got {type_of(value)}")
    return parts


# People


def mention_of(given: People, *, field: str = "mention") -> Mention:
    """The people whom an application named, sorted by how they are rung; empty strings are nobody.

    Raises:
        InvalidJob: Somebody is named in no way that DingTalk or the fleet could understand.
    """
    if given is None:
        return NOBODY
    if isinstance(given, Mention):
        return _sorted(
            names=_people(given.names, field),
            mobiles=_people(given.mobiles, field),
            user_ids=_people(given.user_ids, field),
            union_ids=_people(given.union_ids, field),
            everyone=flag_of(given.everyone, field),
            field=field,
        )
    names: list[str] = []
    mobiles: list[str] = []
    user_ids: list[str] = []
    union_ids: list[str] = []
    everyone = False
    for who in _people([given] if isinstance(given, str) else given, field):
        if who == EVERYONE:
            everyone = True
        elif who.startswith("user:"):
            user_ids.append(who.removeprefix("user:"))
        elif who.startswith("union:"):
            union_ids.append(who.removeprefix("union:"))
        elif looks_like_mobile(who):
            mobiles.append(who)
        else:
            names.append(who)
    return _sorted(
        names=names, mobiles=mobiles, user_ids=user_ids, union_ids=union_ids, everyone=everyone, field=field
    )  # fmt: skip


def _people(given: object, field: str) -> list[str]:
    """The texts, without white space around them and without the empty ones."""
    if isinstance(given, str | bytes | bytearray | Mapping) or not isinstance(given, Iterable):
        raise InvalidJob(field, f"expected people as text or a list of texts, got {type_of(given)}")
    texts = (text_of(value, field, blank=True).strip() for value in given)
    return [text for text in texts if text]


def _sorted(
    *,
    names: Iterable[str],
    mobiles: Iterable[str],
    user_ids: Iterable[str],
    union_ids: Iterable[str],
    everyone: bool,
    field: str,
) -> Mention:
    """Everybody checked, and once."""
    return Mention(
        names=tuple(dict.fromkeys(_name(who, field) for who in names)),
        mobiles=tuple(dict.fromkeys(_mobile(who, field) for who in mobiles)),
        user_ids=tuple(dict.fromkeys(_user_id(who, field) for who in user_ids)),
        union_ids=tuple(dict.fromkeys(_union_id(who, field) for who in union_ids)),
        everyone=everyone,
    )


def _mobile(who: str, field: str) -> str:
    try:
        return documented_mobile(who)
    except ValueError as error:
        raise InvalidJob(field, str(error)) from error


def _user_id(user_id: str, field: str) -> str:
    if _USER_ID.fullmatch(user_id) is None:
        raise InvalidJob(field, f"{user_id!r} is no user id: 1 to 64 letters, digits and _ . @ -")
    return user_id


def _union_id(union_id: str, field: str) -> str:
    if field == "mention":
        raise InvalidJob(field, "no message rings by union id; write user:ID, a mobile or a name of [people]")
    if _UNION_ID.fullmatch(union_id) is None:
        raise InvalidJob(field, f"{union_id!r} is no union id: 1 to 128 letters, digits and _ + / = -")
    return union_id


def _name(who: str, field: str) -> str:
    if _NAME.fullmatch(who) is None:
        raise InvalidJob(
            field,
            f"{who!r} is neither a mobile, user:ID nor a name of [people] "
            "(letters, digits, dots, dashes, underscores; no @ before it, one name each)",
        )
    return who


# Terms


def terms_of(*, urgent: object, at: object, expires_s: object, on_unknown: object) -> Terms:
    """When and how a job goes."""
    starts_at = instant_of(at, "at")
    if starts_at and starts_at.year > _LATEST_YEAR:
        raise InvalidJob("at", f"after the year {_LATEST_YEAR}: milliseconds taken for seconds?")
    return Terms(
        urgent=flag_of(urgent, "urgent"),
        at=starts_at,
        expires_s=_seconds(expires_s, "expires_s"),
        on_unknown=option_of(on_unknown, "on_unknown", ON_UNKNOWN),
    )


def instant_of(value: object, field: str) -> datetime | None:
    """An aware datetime with its offset fixed, for a zone's rules do not cross the wire."""
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise InvalidJob(field, f"expected an aware datetime, got {type_of(value)}; datetime.fromisoformat reads text")
    offset = value.utcoffset()
    if offset is None:
        raise InvalidJob(
            field,
            "a naive datetime: say which clock is meant, with tzinfo=ZoneInfo('Asia/Shanghai') or tzinfo=UTC, "
            "or value.astimezone() for this machine's own",
        )
    # A plain datetime whatever came in: libraries have subclasses with more digits and other texts.
    plain = datetime(value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond)  # noqa: DTZ001 - its offset follows
    return plain.replace(tzinfo=timezone(offset))


def _seconds(value: object, field: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidJob(field, f"expected a number of seconds, got {type_of(value)}")
    if not 0 < value <= _LONGEST_WAIT_S:
        raise InvalidJob(field, "a number of seconds is over 0, and finite")
    return value


# Values

_HALF_A_PAIR = re.compile("[\ud800-\udfff]")


def text_of(value: object, field: str, *, blank: bool = False) -> str:
    """The text, once it is known to be text that UTF-8 can carry. Never in the error: it may be private."""
    if isinstance(value, bytes | bytearray):
        raise InvalidJob(field, "expected text, got bytes: decode them first")
    if not isinstance(value, str):
        raise InvalidJob(field, f"expected text, got {type_of(value)}")
    if _HALF_A_PAIR.search(value):
        raise InvalidJob(field, "holds half of a surrogate pair, which UTF-8 cannot carry")
    if not blank and not value.strip():
        raise InvalidJob(field, "is blank")
    return value


def url_of(value: object, field: str, schemes: Collection[str]) -> str:
    """An address with one of the schemes. Never in the error: it may carry a secret."""
    url = text_of(value, field)
    if any(character.isspace() or not character.isprintable() for character in url):
        raise InvalidJob(field, "holds white space or control characters: percent-encode them")
    if len(url) > MAX_URL_CHARS:
        raise InvalidJob(field, f"{len(url):,} characters; at most {MAX_URL_CHARS:,}")
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if not parts.hostname or parts.scheme not in schemes:
        raise InvalidJob(field, f"expected an address that begins with {' or '.join(f'{s}://' for s in schemes)}")
    return url


def _picture(value: object, field: str = "picture_url") -> str:
    """A picture's address, or the media id of an uploaded one."""
    if isinstance(value, str) and _MEDIA_ID.fullmatch(value):
        return value
    return url_of(value, field, WEB_SCHEMES)


def destination_of(destination: object) -> str:
    """A name that a destination may have; whether there is one is the fleet's to say."""
    name = text_of(destination, "destination")
    if _NAME.fullmatch(name) is None:
        raise InvalidJob("destination", "a destination's name is 1 to 64 letters, digits, dots, dashes and underscores")
    return name


def subject_of(value: object) -> str:
    """The subject of a work, no longer than a todo's may be."""
    subject = text_of(value, "subject")
    if (size_bytes := len(subject.encode())) > MAX_SUBJECT_BYTES:
        raise InvalidJob(
            "subject", f"{size_bytes:,} bytes; DingTalk takes {MAX_SUBJECT_BYTES:,}: say more in description"
        )
    return subject


def stored_of(file: StoredFile, name: str | None) -> StoredFile:
    """The reference under another name, once it is known to be one."""
    shown = checked_name(text_of(file.name if name is None else name, "name"))
    if extension_of(shown) != extension_of(text_of(file.name, "file.name")):
        raise InvalidJob("name", f"what is kept as {file.name!r} ends like that under every name")
    text_of(file.store, "file.store", blank=True)
    text_of(file.id, "file.id", blank=True)
    if _SHA256.fullmatch(text_of(file.sha256, "file.sha256")) is None:
        raise InvalidJob("file.sha256", "expected 64 hexadecimal digits")
    size_bytes: object = file.size_bytes
    if not isinstance(size_bytes, int) or not 0 < size_bytes <= MAX_FILE_BYTES:
        raise InvalidJob("file.size_bytes", f"expected a number of bytes from 1 to {MAX_FILE_BYTES:,}")
    if _TYPE.fullmatch(text_of(file.type, "file.type")) is None:
        raise InvalidJob("file.type", "expected an extension without its dot, like pdf")
    return dataclasses.replace(file, name=shown)


def flag_of(value: object, field: str) -> bool:
    """True or False, and nothing that only counts as one of them."""
    if not isinstance(value, bool):
        raise InvalidJob(field, f"expected True or False, got {type_of(value)}")
    return value


def option_of(value: object, field: str, options: tuple[_OptionT, ...]) -> _OptionT:
    """One of a few words."""
    for option in options:
        if option == value:
            return option
    near = _did_you_mean(value, options)
    raise InvalidJob(field, f"expected one of {', '.join(options)}{near}")


def _did_you_mean(given: object, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(given), known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def type_of(value: object) -> str:
    """How an error names what was given instead, for its value may be private."""
    return type(value).__name__
