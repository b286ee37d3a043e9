"""Turns an application's call into a job, or says which argument is wrong. Knows no Redis, no Celery.

After this room no job is malformed: whatever can be known at the call is refused here with ``InvalidJob``.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import uuid
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timezone
from os import PathLike
from typing import Any, TypeAlias, TypeVar, assert_never, get_args
from urllib.parse import unquote, urlsplit

from dingqueue.contract import (
    NOBODY,
    ON_UNKNOWN,
    PRIORITIES,
    TABLES,
    TOO_LONG,
    AssignJob,
    Button,
    Card,
    ChangeJob,
    Content,
    Feed,
    FeedItem,
    Job,
    Link,
    Markdown,
    Mention,
    OnUnknown,
    Priority,
    SendJob,
    ShareJob,
    StoredFile,
    Tables,
    Terms,
    Text,
    TooLong,
)
from dingqueue.errors import InvalidJob
from dingqueue.files.limits import MAX_FILE_BYTES, checked_name, extension_of
from dingqueue.messages import check_webhook, documented_mobile, looks_like_mobile

#: In ``mention``: ring the whole group.
EVERYONE = "everyone"
#: The name space of job ids made from a key: fixed for ever, or the same key would be another job after an upgrade.
JOB_ID_NAMESPACE = uuid.UUID("5f0f6f2c-8d55-4a0e-9f3b-7c1de2a6b0d4")
MAX_KEY_CHARS = 512

#: Content as the contract's object, or a mapping with the same fields.
Fields: TypeAlias = Mapping[str, Any]
#: One person or several: a mobile, ``user:ID``, ``union:ID`` (for work), or a name of the fleet's ``[people]``; or all
#: of them in one object.
People: TypeAlias = str | Iterable[str] | Mention | None

_JobT = TypeVar("_JobT", SendJob, AssignJob, ShareJob)
_OptionT = TypeVar("_OptionT", bound=str)
_PartT = TypeVar("_PartT", bound=Text | Markdown | Link | Card | Feed | Button | FeedItem)

_NAME = re.compile(r"[\w.-]{1,64}")
#: DingTalk is given it as ``msgUuid``; what that may hold is not documented, so no more than a UUID needs.
_JOB_ID = re.compile(r"[0-9A-Za-z_.-]{1,64}")
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
_WEB_SCHEMES = ("http", "https")
_LINK_SCHEMES = ("http", "https", "dingtalk")


def send_job(
    destination: str,
    text: str | Content | None = None,
    *,
    markdown: str | Markdown | Fields | None = None,
    title: str | None = None,
    link: Link | Fields | None = None,
    card: Card | Fields | None = None,
    feed: Feed | Fields | None = None,
    mention: People = (),
    too_long: TooLong = "split",
    tables: Tables = "lines",
    urgent: bool = False,
    at: datetime | None = None,
    expires_s: float | None = None,
    key: str | None = None,
    on_unknown: OnUnknown = "resend",
) -> SendJob:
    """A message: exactly one of ``text``, ``markdown``, ``link``, ``card``, ``feed``.

    Args:
        destination: A name of the fleet's ``[destinations]``.
        text: Plain text, or any of the contract's content objects.
        markdown: Markdown; its title is ``title``, or is taken from its first line.
        title: The markdown's title.
        link: A link card: ``title``, ``text``, ``url``, ``picture_url``.
        card: An action card: ``title``, ``text``, ``buttons`` (each ``title``, ``url``), ``horizontal``.
        feed: A feed card: ``items`` (each ``title``, ``url``, ``picture_url``).
        mention: Whom to ring: mobiles, ``"user:ID"``, names of the fleet's ``[people]``, or ``EVERYONE``.
        too_long: What to do with text over DingTalk's 20,000 bytes: ``split``, ``shorten`` or ``refuse``.
        tables: In markdown and cards: ``lines`` turns a table, which phones show as pipes, into lines of
            "name: value"; ``keep`` sends it as it is.
        urgent: Goes before all that is not.
        at: Not before this instant; aware.
        expires_s: Not worth sending so many seconds later; None is the destination's own.
        key: Makes the job idempotent: the same destination and key is the same job.
        on_unknown: ``resend`` or ``hold`` when nobody saw how an attempt ended.

    Raises:
        InvalidJob: The call cannot become a job; ``field`` names the argument.
    """
    content = _one_content({"text": text, "markdown": markdown, "link": link, "card": card, "feed": feed}, title)
    if _option("too_long", too_long, TOO_LONG) == "shorten" and not isinstance(content, Text | Markdown):
        raise InvalidJob("too_long", "only text and markdown can be shortened")
    job = SendJob(
        job_id=_job_id(destination, key),
        destination=destination,
        content=content,
        mention=mention_of(mention),
        too_long=too_long,
        tables=_option("tables", tables, TABLES),
        terms=_terms(urgent=urgent, at=at, expires_s=expires_s, on_unknown=on_unknown),
    )
    return _sayable(job)


def assign_job(
    destination: str,
    subject: str,
    *,
    to: People,
    due: datetime | None = None,
    url: str = "",
    description: str = "",
    priority: Priority = "normal",
    urgent: bool = False,
    at: datetime | None = None,
    expires_s: float | None = None,
    key: str | None = None,
    on_unknown: OnUnknown = "resend",
) -> AssignJob:
    """A piece of work for named people.

    Args:
        destination: A name of the fleet's ``[destinations]``.
        subject: What is to be done, in one line.
        to: Who does it: mobiles, ``"user:ID"``, ``"union:ID"`` or names of the fleet's ``[people]``; at least one.
        due: Until when; aware. People read it in the offset in which it is given.
        url: Where the work is.
        description: More about it, as markdown.
        priority: How much it matters, as a todo shows it: ``low``, ``normal``, ``high`` or ``urgent``.
        urgent: Goes before all that is not.
        at: Not before this instant; aware.
        expires_s: Not worth sending so many seconds later; None is the destination's own.
        key: Makes the job idempotent: the same destination and key is the same job.
        on_unknown: ``resend`` or ``hold`` when nobody saw how an attempt ended.

    Raises:
        InvalidJob: The call cannot become a job; ``field`` names the argument.
    """
    people = mention_of(to, field="to")
    if people.everyone:
        raise InvalidJob("to", "work is for named people; everyone can be rung with send(mention=EVERYONE)")
    if not people:
        raise InvalidJob("to", f"nobody to assign to in {to!r}: name a mobile, user:ID or somebody of [people]")
    job = AssignJob(
        job_id=_job_id(destination, key),
        destination=destination,
        subject=_subject(subject),
        to=people,
        due=_instant(due, "due"),
        url=_url(url, "url", _LINK_SCHEMES) if url != "" else "",
        description=_text(description, "description", blank=True),
        priority=_option("priority", priority, PRIORITIES),
        terms=_terms(urgent=urgent, at=at, expires_s=expires_s, on_unknown=on_unknown),
    )
    return _sayable(job)


def share_job(
    destination: str,
    file: str | StoredFile,
    *,
    name: str | None = None,
    note: str = "",
    zip: bool = False,  # noqa: A002 - the word that people look for
    urgent: bool = False,
    at: datetime | None = None,
    expires_s: float | None = None,
    key: str | None = None,
    on_unknown: OnUnknown = "resend",
) -> ShareJob:
    """A file, by its http(s) URL, or by the reference of one that stands in the file store.

    Args:
        destination: A name of the fleet's ``[destinations]``.
        file: Where people can fetch it, or the reference that ``Client.share`` put in a job. It also takes a ``Path``,
            bytes or an open file, and stores them.
        name: What people see; None is the last part of the URL's path, or the stored file's own.
        note: A line about it.
        zip: Pack what DingTalk would refuse as it is; a stored file is packed already.
        urgent: Goes before all that is not.
        at: Not before this instant; aware.
        expires_s: Not worth sending so many seconds later; None is the destination's own.
        key: Makes the job idempotent: the same destination and key is the same job.
        on_unknown: ``resend`` or ``hold`` when nobody saw how an attempt ended.

    Raises:
        InvalidJob: The call cannot become a job; ``field`` names the argument.
    """
    if isinstance(file, PathLike | bytes | bytearray | memoryview) or hasattr(file, "read"):
        raise InvalidJob("file", "Client.share takes it and stores it; a job by itself needs a URL")
    stored = _stored(file, name) if isinstance(file, StoredFile) else None
    if isinstance(file, str) and "://" not in file:
        raise InvalidJob(
            "file", "a text is taken for an address, http:// or https://; a file of this machine is a Path"
        )
    url = "" if isinstance(file, StoredFile) else _url(file, "file", _WEB_SCHEMES)
    job = ShareJob(
        job_id=_job_id(destination, key),
        destination=destination,
        url=url,
        name=stored.name if stored else file_name(url) if name is None else _text(name, "name"),
        note=_text(note, "note", blank=True),
        file=stored,
        zip=_flag(zip, "zip") and not stored,
        terms=_terms(urgent=urgent, at=at, expires_s=expires_s, on_unknown=on_unknown),
    )
    return job if stored else _sayable(job)


def checked(job: object) -> Job:
    """A job that was built by hand or before: the same job, once all of it is checked as the builders check it.

    Raises:
        InvalidJob: It is no job, or the builders would have refused it; ``field`` names their argument.
    """
    match job:
        case SendJob():
            same: Job = send_job(
                job.destination,
                job.content,
                mention=job.mention,
                too_long=job.too_long,
                tables=job.tables,
                **_terms_of(job.terms),
            )
        case AssignJob():
            same = assign_job(
                job.destination,
                job.subject,
                to=job.to,
                due=job.due,
                url=job.url,
                description=job.description,
                priority=job.priority,
                **_terms_of(job.terms),
            )
        case ShareJob():
            same = share_job(
                job.destination,
                job.url if job.file is None else job.file,
                name=job.name,
                note=job.note,
                zip=job.zip,
                **_terms_of(job.terms),
            )
        case ChangeJob():
            same = dataclasses.replace(
                job, destination=_destination(job.destination), terms=_terms(**_terms_of(job.terms))
            )
        case _:
            raise InvalidJob("job", f"expected what send_job, assign_job or share_job returns, got {_type(job)}")
    if _JOB_ID.fullmatch(_text(job.job_id, "job_id")) is None:
        raise InvalidJob("job_id", "a job's id is 1 to 64 letters, digits, dots, dashes and underscores")
    return dataclasses.replace(same, job_id=job.job_id)


def _terms_of(terms: object) -> dict[str, Any]:
    if not isinstance(terms, Terms):
        raise InvalidJob("terms", f"expected Terms, got {_type(terms)}")
    # Where it was handed over is noted when it is.
    return {field.name: getattr(terms, field.name) for field in dataclasses.fields(terms) if field.name != "trace"}


def job_id_for(destination: str, key: str) -> str:
    """The job id of a key: the same for the same destination and key, in every process and for ever.

    UUIDv5 in ``JOB_ID_NAMESPACE`` of the destination's length, the destination and the key. The length keeps
    ``("a", "b:c")`` and ``("a:b", "c")`` apart.
    """
    return str(uuid.uuid5(JOB_ID_NAMESPACE, f"{len(destination)}:{destination}:{key}"))


def change_text(value: object, field: str) -> str:
    """A text that replaces another one: not blank, and a subject not too long."""
    return _subject(value) if field == "subject" else _text(value, field)


def instant_of(value: object, field: str) -> datetime | None:
    """An aware instant, or None."""
    return _instant(value, field)


def _destination(destination: object) -> str:
    name = _text(destination, "destination")
    if _NAME.fullmatch(name) is None:
        raise InvalidJob("destination", "a destination's name is 1 to 64 letters, digits, dots, dashes and underscores")
    return name


def _job_id(destination: str, key: str | None) -> str:
    _destination(destination)
    if key is None:
        return str(uuid.uuid4())
    if len(_text(key, "key")) > MAX_KEY_CHARS:
        raise InvalidJob("key", f"{len(key):,} characters; at most {MAX_KEY_CHARS}")
    return job_id_for(destination, key)


def _sayable(job: _JobT) -> _JobT:
    """The job, once it is known that any fleet's robot can say it. Names are the fleet's to check."""
    check_webhook(job)
    return job


# Content

_FORMS: Mapping[str, type[Text | Markdown | Link | Card | Feed]] = {
    "text": Text,
    "markdown": Markdown,
    "link": Link,
    "card": Card,
    "feed": Feed,
}


def _one_content(given: Mapping[str, Any], title: str | None) -> Content:
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
        raise InvalidJob(field, f"expected {_FORMS[field].__name__} or a mapping with its fields, got {_type(value)}")
    return _checked(value)


def _checked(content: Content) -> Content:
    """The same content with every field checked."""
    match content:
        case Text(text=text):
            return Text(text=_text(text, "text"))
        case Markdown(text=text, title=title):
            return Markdown(text=_text(text, "markdown"), title=_text(title, "title", blank=True))
        case Link():
            return Link(
                title=_text(content.title, "title"),
                text=_text(content.text, "text"),
                url=_url(content.url, "url", _LINK_SCHEMES),
                picture_url=_picture(content.picture_url) if content.picture_url != "" else "",
            )
        case Card():
            return Card(
                title=_text(content.title, "title"),
                text=_text(content.text, "text"),
                buttons=tuple(
                    Button(
                        title=_text(button.title, f"buttons[{number}].title"),
                        url=_url(button.url, f"buttons[{number}].url", _LINK_SCHEMES),
                    )
                    for number, button in enumerate(_parts(Button, content.buttons, "buttons"))
                ),
                horizontal=_flag(content.horizontal, "horizontal"),
            )
        case Feed(items=items):
            return Feed(
                items=tuple(
                    FeedItem(
                        title=_text(item.title, f"items[{number}].title"),
                        url=_url(item.url, f"items[{number}].url", _LINK_SCHEMES),
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
        raise InvalidJob(field, f"expected a list of {form.__name__}, got {_type(values)}")
    parts: list[_PartT] = []
    for number, value in enumerate(values):
        if isinstance(value, Mapping):
            parts.append(_object(form, value, f"{field}[{number}]."))
        elif isinstance(value, form):
            parts.append(value)
        else:
            raise InvalidJob(f"{field}[{number}]", f"expected {form.__name__} or a mapping, got {_type(value)}")
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
            everyone=_flag(given.everyone, field),
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
        raise InvalidJob(field, f"expected people as text or a list of texts, got {_type(given)}")
    texts = (_text(value, field, blank=True).strip() for value in given)
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


def _terms(*, urgent: object, at: object, expires_s: object, on_unknown: object) -> Terms:
    starts_at = _instant(at, "at")
    if starts_at and starts_at.year > _LATEST_YEAR:
        raise InvalidJob("at", f"after the year {_LATEST_YEAR}: milliseconds taken for seconds?")
    return Terms(
        urgent=_flag(urgent, "urgent"),
        at=starts_at,
        expires_s=_seconds(expires_s, "expires_s"),
        on_unknown=_option("on_unknown", on_unknown, ON_UNKNOWN),
    )


def _instant(value: object, field: str) -> datetime | None:
    """An aware datetime with its offset fixed, for a zone's rules do not cross the wire."""
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise InvalidJob(field, f"expected an aware datetime, got {_type(value)}; datetime.fromisoformat reads text")
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
        raise InvalidJob(field, f"expected a number of seconds, got {_type(value)}")
    if not 0 < value <= _LONGEST_WAIT_S:
        raise InvalidJob(field, "a number of seconds is over 0, and finite")
    return value


# Values

_HALF_A_PAIR = re.compile("[\ud800-\udfff]")


def _text(value: object, field: str, *, blank: bool = False) -> str:
    """The text, once it is known to be text that UTF-8 can carry. Never in the error: it may be private."""
    if isinstance(value, bytes | bytearray):
        raise InvalidJob(field, "expected text, got bytes: decode them first")
    if not isinstance(value, str):
        raise InvalidJob(field, f"expected text, got {_type(value)}")
    if _HALF_A_PAIR.search(value):
        raise InvalidJob(field, "holds half of a surrogate pair, which UTF-8 cannot carry")
    if not blank and not value.strip():
        raise InvalidJob(field, "is blank")
    return value


def _url(value: object, field: str, schemes: Collection[str]) -> str:
    """An address with one of the schemes. Never in the error: it may carry a secret."""
    url = _text(value, field)
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
    return _url(value, field, _WEB_SCHEMES)


def _subject(value: object) -> str:
    subject = _text(value, "subject")
    if (size_bytes := len(subject.encode())) > MAX_SUBJECT_BYTES:
        raise InvalidJob(
            "subject", f"{size_bytes:,} bytes; DingTalk takes {MAX_SUBJECT_BYTES:,}: say more in description"
        )
    return subject


def file_name(url: str) -> str:
    """The last part of a URL's path as people would write it, else its host."""
    parts = urlsplit(url)
    name = unquote(parts.path.rstrip("/").rpartition("/")[2])
    return " ".join(name.split()) or str(parts.hostname)


def _stored(file: StoredFile, name: str | None) -> StoredFile:
    """The reference under another name, once it is known to be one."""
    shown = checked_name(_text(file.name if name is None else name, "name"))
    if extension_of(shown) != extension_of(_text(file.name, "file.name")):
        raise InvalidJob("name", f"what is kept as {file.name!r} ends like that under every name")
    _text(file.store, "file.store", blank=True)
    _text(file.id, "file.id", blank=True)
    if _SHA256.fullmatch(_text(file.sha256, "file.sha256")) is None:
        raise InvalidJob("file.sha256", "expected 64 hexadecimal digits")
    size_bytes: object = file.size_bytes
    if not isinstance(size_bytes, int) or not 0 < size_bytes <= MAX_FILE_BYTES:
        raise InvalidJob("file.size_bytes", f"expected a number of bytes from 1 to {MAX_FILE_BYTES:,}")
    if _TYPE.fullmatch(_text(file.type, "file.type")) is None:
        raise InvalidJob("file.type", "expected an extension without its dot, like pdf")
    return dataclasses.replace(file, name=shown)


def _flag(value: object, field: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidJob(field, f"expected True or False, got {_type(value)}")
    return value


def _option(field: str, value: object, options: tuple[_OptionT, ...]) -> _OptionT:
    for option in options:
        if option == value:
            return option
    near = _did_you_mean(value, options)
    raise InvalidJob(field, f"expected one of {', '.join(options)}{near}")


def _did_you_mean(given: object, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(given), known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _type(value: object) -> str:
    return type(value).__name__
