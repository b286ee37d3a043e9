"""Turns an application's call into a job. Knows no Redis, no Celery; ``arguments`` knows what may be said.

After this room no job is malformed: whatever can be known at the call is refused here with ``InvalidJob``.
"""

from __future__ import annotations

import dataclasses
import re
import uuid
from datetime import datetime
from os import PathLike
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from dingqueue.arguments import (
    LINK_SCHEMES,
    WEB_SCHEMES,
    Fields,
    People,
    destination_of,
    flag_of,
    instant_of,
    mention_of,
    one_content,
    option_of,
    stored_of,
    subject_of,
    terms_of,
    text_of,
    type_of,
    url_of,
)
from dingqueue.contract import (
    PRIORITIES,
    TABLES,
    TOO_LONG,
    AssignJob,
    Card,
    ChangeJob,
    Content,
    Feed,
    Job,
    Link,
    Markdown,
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
from dingqueue.messages import check_webhook

#: The name space of job ids made from a key: fixed for ever, or the same key would be another job after an upgrade.
JOB_ID_NAMESPACE = uuid.UUID("5f0f6f2c-8d55-4a0e-9f3b-7c1de2a6b0d4")
MAX_KEY_CHARS = 512

_JobT = TypeVar("_JobT", SendJob, AssignJob, ShareJob)
#: DingTalk is given it as ``msgUuid``; what that may hold is not documented, so no more than a UUID needs.
_JOB_ID = re.compile(r"[0-9A-Za-z_.-]{1,64}")


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
    content = one_content({"text": text, "markdown": markdown, "link": link, "card": card, "feed": feed}, title)
    if option_of(too_long, "too_long", TOO_LONG) == "shorten" and not isinstance(content, Text | Markdown):
        raise InvalidJob("too_long", "only text and markdown can be shortened")
    job = SendJob(
        job_id=_job_id(destination, key),
        destination=destination,
        content=content,
        mention=mention_of(mention),
        too_long=too_long,
        tables=option_of(tables, "tables", TABLES),
        terms=terms_of(urgent=urgent, at=at, expires_s=expires_s, on_unknown=on_unknown),
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
        subject=subject_of(subject),
        to=people,
        due=instant_of(due, "due"),
        url=url_of(url, "url", LINK_SCHEMES) if url != "" else "",
        description=text_of(description, "description", blank=True),
        priority=option_of(priority, "priority", PRIORITIES),
        terms=terms_of(urgent=urgent, at=at, expires_s=expires_s, on_unknown=on_unknown),
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
    stored = stored_of(file, name) if isinstance(file, StoredFile) else None
    if isinstance(file, str) and "://" not in file:
        raise InvalidJob(
            "file", "a text is taken for an address, http:// or https://; a file of this machine is a Path"
        )
    url = "" if isinstance(file, StoredFile) else url_of(file, "file", WEB_SCHEMES)
    job = ShareJob(
        job_id=_job_id(destination, key),
        destination=destination,
        url=url,
        name=stored.name if stored else file_name(url) if name is None else text_of(name, "name"),
        note=text_of(note, "note", blank=True),
        file=stored,
        zip=flag_of(zip, "zip") and not stored,
        terms=terms_of(urgent=urgent, at=at, expires_s=expires_s, on_unknown=on_unknown),
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
                **_said(job.terms),
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
                **_said(job.terms),
            )
        case ShareJob():
            same = share_job(
                job.destination,
                job.url if job.file is None else job.file,
                name=job.name,
                note=job.note,
                zip=job.zip,
                **_said(job.terms),
            )
        case ChangeJob():
            same = dataclasses.replace(
                job, destination=destination_of(job.destination), terms=terms_of(**_said(job.terms))
            )
        case _:
            raise InvalidJob("job", f"expected what send_job, assign_job or share_job returns, got {type_of(job)}")
    if _JOB_ID.fullmatch(text_of(job.job_id, "job_id")) is None:
        raise InvalidJob("job_id", "a job's id is 1 to 64 letters, digits, dots, dashes and underscores")
    return dataclasses.replace(same, job_id=job.job_id)


def _said(terms: object) -> dict[str, Any]:
    """The arguments that made these terms."""
    if not isinstance(terms, Terms):
        raise InvalidJob("terms", f"expected Terms, got {type_of(terms)}")
    # Where it was handed over is noted when it is.
    return {field.name: getattr(terms, field.name) for field in dataclasses.fields(terms) if field.name != "trace"}


def job_id_for(destination: str, key: str) -> str:
    """The job id of a key: the same for the same destination and key, in every process and for ever.

    UUIDv5 in ``JOB_ID_NAMESPACE`` of the destination's length, the destination and the key. The length keeps
    ``("a", "b:c")`` and ``("a:b", "c")`` apart.
    """
    return str(uuid.uuid5(JOB_ID_NAMESPACE, f"{len(destination)}:{destination}:{key}"))


def _job_id(destination: str, key: str | None) -> str:
    destination_of(destination)
    if key is None:
        return str(uuid.uuid4())
    if len(text_of(key, "key")) > MAX_KEY_CHARS:
        raise InvalidJob("key", f"{len(key):,} characters; at most {MAX_KEY_CHARS}")
    return job_id_for(destination, key)


def _sayable(job: _JobT) -> _JobT:
    """The job, once it is known that any fleet's robot can say it. Names are the fleet's to check."""
    check_webhook(job)
    return job


def file_name(url: str) -> str:
    """The last part of a URL's path as people would write it, else its host."""
    parts = urlsplit(url)
    name = unquote(parts.path.rstrip("/").rpartition("/")[2])
    return " ".join(name.split()) or str(parts.hostname)
