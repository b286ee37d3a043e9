"""The application's handle: check the call, hand the job over, return its id. Knows no Redis and no Celery."""

from __future__ import annotations

import asyncio
import difflib
import functools
import inspect
import os
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from threading import Event
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeAlias

from dingqueue import outbox
from dingqueue.arguments import People
from dingqueue.changes import (
    WorkChange,
    check_of,
    completion_of,
    reassignment_of,
    unplaced,
    work_change,
)
from dingqueue.contract import (
    Action,
    Card,
    ChangeJob,
    Content,
    Feed,
    Job,
    Link,
    Markdown,
    OnUnknown,
    Priority,
    ShareJob,
    StoredFile,
    Tables,
    TooLong,
)
from dingqueue.environment import resolved_files_url
from dingqueue.errors import InvalidJob
from dingqueue.files.limits import MAX_FILE_BYTES
from dingqueue.files.places import kind_of
from dingqueue.files.source import Content as FileContent
from dingqueue.files.source import Source, content_of
from dingqueue.handover import Handover
from dingqueue.jobs import assign_job, checked, send_job, share_job
from dingqueue.lanes import Carries, Left
from dingqueue.messages import Rung
from dingqueue.nowhere import outbox_of
from dingqueue.preview import Preview
from dingqueue.preview import preview as preview_job
from dingqueue.routes import DEFAULT_BROKER_URL, DEFAULT_PREFIX, fit_prefix
from dingqueue.servers import place, servers
from dingqueue.status import CancelEnd, Status
from dingqueue.tracing import Spans, wanted

_LONGEST_TIMEOUT_S = 3_600.0
#: A file outlives its job's expiry by this: attempts go on after it, and clocks differ.
_KEEP_LONGER_S = 86_400.0
#: How long a job is worth sending where neither the call nor the fleet says it; `submit` has the same.
_USUAL_EXPIRY_S = 86_400.0
#: Stands in a job until the file is measured and stored.
_NO_FILE_YET = StoredFile(store="", id="", name="file", size_bytes=1, sha256="0" * 64, type="file")

P = ParamSpec("P")
_ForLoop: TypeAlias = Callable[..., Coroutine[Any, Any, str]]


def _arguments_of(
    method: Callable[Concatenate[Client, P], str],
) -> Callable[[_ForLoop], Callable[Concatenate[Client, P], Coroutine[Any, Any, str]]]:
    """Give an event loop's method the arguments of the one that waits, for type checkers, editors and ``help``."""

    def signed(twin: _ForLoop) -> _ForLoop:
        twin.__signature__ = inspect.signature(method)  # type: ignore[attr-defined]  # what `inspect` looks for first
        return twin

    return signed


class Client:
    """Hands jobs to the fleet. Cheap, thread-safe, fork-safe; connects at the first call.

    One for the whole application is enough. ``with Client() as ding:`` closes it at the end; without that its threads
    end when they have nothing to do, and none of them keeps the process from ending.

    Args:
        broker_url: Celery's broker; default ``DINGQUEUE_BROKER_URL``, else Redis on this machine. ``file:PATH`` names
            a file that holds it. ``dingqueue.addresses`` has the forms: TLS, sockets, Sentinel. ``console://`` shows
            jobs on stderr and ``null://`` forgets them, for a machine without Redis.
        state_url: The Redis that holds the lanes; default ``DINGQUEUE_STATE_URL``, else the broker.
        enqueue_timeout_s: A call returns or raises ``EnqueueFailed`` within this time, whatever Redis does; with a file
            to store, one second more for each of its megabytes.
        prefix: What the fleet's keys start with; default ``DINGQUEUE_PREFIX``, else ``dq:``.
        files_url: Where shared files wait for a worker, the same for the fleet: Redis, ``file:///folder``, or any URL of
            ``fsspec`` (extra ``files``); default ``DINGQUEUE_FILES_URL``, else the lanes' Redis.
    """

    def __init__(
        self,
        broker_url: str | None = None,
        *,
        state_url: str | None = None,
        enqueue_timeout_s: float = 2.0,
        prefix: str | None = None,
        files_url: str | None = None,
    ) -> None:
        if not 0 < enqueue_timeout_s <= _LONGEST_TIMEOUT_S:
            raise ValueError(
                f"enqueue_timeout_s: a number of seconds above 0 and up to 3600, not {enqueue_timeout_s!r}"
            )
        #: Where jobs go instead of Redis, by a URL that says so.
        self._nowhere = outbox_of(broker_url or os.environ.get("DINGQUEUE_BROKER_URL") or "")
        self._at = servers(DEFAULT_BROKER_URL if self._nowhere else broker_url, None if self._nowhere else state_url)
        named = files_url or os.environ.get("DINGQUEUE_FILES_URL")
        files_url = resolved_files_url(named) if named else self._at.state_url
        _check_files_url(files_url)
        try:
            self._spans = Spans() if wanted(os.environ.get("DINGQUEUE_OTEL")) else None
        except ValueError as error:
            raise ValueError(f"DINGQUEUE_OTEL: {error}") from None
        prefix = prefix or os.environ.get("DINGQUEUE_PREFIX") or DEFAULT_PREFIX
        if not fit_prefix(prefix):
            # No fleet can have it: jobs would be taken and never sent.
            raise ValueError(f"prefix: a word like {DEFAULT_PREFIX} (letters, digits, _ . -), not {prefix!r}")
        self._handover = Handover(self._at, files_url, timeout_s=enqueue_timeout_s, prefix=prefix)

    def send(
        self,
        destination: str,
        text: str | Content | None = None,
        *,
        markdown: str | Markdown | Mapping[str, Any] | None = None,
        title: str | None = None,
        link: Link | Mapping[str, Any] | None = None,
        card: Card | Mapping[str, Any] | None = None,
        feed: Feed | Mapping[str, Any] | None = None,
        mention: People = (),
        too_long: TooLong = "split",
        tables: Tables = "lines",
        urgent: bool = False,
        at: datetime | None = None,
        expires_s: float | None = None,
        key: str | None = None,
        on_unknown: OnUnknown = "resend",
    ) -> str:
        """Hand over a message and return its job id.

        Args:
            destination: A name of the fleet's configuration.
            text: Plain text, or one of the content objects. Exactly one of text, markdown, link, card and feed.
            markdown: Markdown text; ``title`` is what the conversation list shows.
            title: Of a markdown message; found in the text when left out.
            link: A link card.
            card: A card with buttons.
            feed: Several links with pictures.
            mention: Whom to ring: names of the fleet's people, mobiles, ``user:ID``, or ``everyone``.
            too_long: ``split`` into numbered parts, ``shorten`` with a note, or ``refuse`` with ``InvalidJob``.
            tables: In markdown and cards: ``lines`` turns a table, which phones show as pipes, into lines of
                "name: value"; ``keep`` sends it as it is.
            urgent: Goes before all that is not.
            at: Not before this (aware) instant.
            expires_s: Not worth sending later than this after ``at`` or now; default is the destination's own.
            key: Makes the job idempotent: the same destination and key are the same job.
            on_unknown: ``resend`` (DingTalk is given the same id to drop the double) or ``hold`` for a person to decide.

        Raises:
            InvalidJob: The call has a mistake; nothing was stored.
            LaneFull: The destination holds as many jobs as it may.
            EnqueueFailed: Redis did not take it in time. Calling again with the same key is safe.
        """
        return self._enqueue(
            send_job(
                destination, text, markdown=markdown, title=title, link=link, card=card, feed=feed, mention=mention,
                too_long=too_long, tables=tables, urgent=urgent, at=at, expires_s=expires_s, key=key, on_unknown=on_unknown,
            )
        )  # fmt: skip

    def assign(
        self,
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
    ) -> str:
        """Hand over a piece of work for people and return its job id; what is not named here is as for ``send``.

        Where the destination has an app it becomes a todo of theirs, and a message in the group.

        Args:
            destination: A name of the fleet's configuration.
            subject: What is to be done, in one line.
            to: Who does it: mobiles, ``user:ID``, ``union:ID`` or names of the fleet's people; at least one.
            due: Until when; aware.
            url: Where the work is. A todo needs it, where the app has no ``todo_url``.
            description: More about it, as markdown.
            priority: As a todo shows it: ``low``, ``normal``, ``high`` or ``urgent``.
            urgent: The job goes before all that is not.
            at: Not before this (aware) instant.
            expires_s: Not worth sending later than this after ``at`` or now.
            key: Makes the job idempotent.
            on_unknown: ``resend`` or ``hold``; a todo is made once in either case.
        """
        return self._enqueue(
            assign_job(
                destination, subject, to=to, due=due, url=url, description=description, priority=priority,
                urgent=urgent, at=at, expires_s=expires_s, key=key, on_unknown=on_unknown,
            )
        )  # fmt: skip

    def share(
        self,
        destination: str,
        file: str | StoredFile | Source,
        *,
        name: str | None = None,
        note: str = "",
        zip: bool = False,  # noqa: A002 - the word that people look for
        urgent: bool = False,
        at: datetime | None = None,
        expires_s: float | None = None,
        key: str | None = None,
        on_unknown: OnUnknown = "resend",
    ) -> str:
        """Hand over a file and return its job id; what is not named here is as for ``send``.

        A ``Path``, bytes and an open binary file are put in the file store first, once for all who share the same
        content, and need a destination with an app. A URL is fetched by the worker; where only a webhook robot speaks
        it becomes a link card.

        Args:
            destination: A name of the fleet's configuration.
            file: An http(s) URL, a ``Path``, bytes (with ``name``), or a binary file, read from where it stands.
            name: What people see; default is the file's own name, or the URL's last part.
            note: A line about it.
            zip: Pack in a .zip what DingTalk refuses as it is (txt, csv, json, md, …), or does not promise to show (pptx,
                xls, mp3, mp4, …).
            urgent: Goes before all that is not.
            at: Not before this (aware) instant; the file is kept until then.
            expires_s: Not worth sending later than this after ``at`` or now.
            key: Makes the job idempotent.
            on_unknown: ``resend`` or ``hold``.

        Raises:
            InvalidJob: The call has a mistake, or the file is too large, empty, or of a type that DingTalk refuses.
            LaneFull: The destination holds as many jobs as it may.
            EnqueueFailed: Redis or the file store did not take it in time. Calling again with the same key is safe.
        """
        job_of = functools.partial(
            share_job, destination, note=note, zip=zip, urgent=urgent, at=at, expires_s=expires_s, key=key, on_unknown=on_unknown
        )  # fmt: skip
        if isinstance(file, str | StoredFile):
            return self._enqueue(job_of(file, name=name))
        return self._share(job_of(_NO_FILE_YET), file, name=name, zip_it=zip)

    def _share(self, draft: ShareJob, file: Source, *, name: str | None, zip_it: bool) -> str:
        box = self._box()
        carries = None if box else self._carries(draft.destination)
        most_bytes = MAX_FILE_BYTES if carries is None or carries.files_bytes is None else carries.files_bytes
        zip_it = zip_it or (carries is not None and carries.zips)
        with content_of(file, name=name, zip_it=zip_it, most_bytes=most_bytes) as content:
            if box:
                return box.accept(_with_file(draft, content, store="", place=content.sha256))
            deadline_s = self._handover.deadline_s(size_bytes=content.size_bytes)
            # The file first: whoever gets the job finds it.
            kind, place = self._handover.ask(
                lambda here: here.keep(content, keep_s=_keep_s(draft, carries)), deadline_s
            )
            return self._enqueue(_with_file(draft, content, store=kind, place=place), deadline_s)

    def _carries(self, destination: str) -> Carries | None:
        """What the fleet says about files there; None before any worker has ever started.

        Raises:
            InvalidJob: No file can go there.
        """
        carries = self._handover.ask(lambda here: here.carries(destination))
        if carries and carries.files_bytes == 0:
            raise InvalidJob(
                "destination",
                f"only a webhook robot speaks at {destination!r}, and it cannot carry a file: put the file where "
                "people can fetch it and share its URL, or give the destination an app",
            )
        return carries

    def enqueue(self, job: Job) -> str:
        """Hand over a job that was built before (``error.job`` of an ``EnqueueFailed``) and return its id."""
        return self._enqueue(checked(job))

    def _enqueue(self, job: Job, deadline_s: float | None = None) -> str:
        if box := self._box():
            return box.accept(job)
        if self._spans is None:
            return self._handover.submit(job, deadline_s)
        with self._spans.enqueue((job,)) as (traced,):
            return self._handover.submit(traced, deadline_s)

    def send_many(self, jobs: Iterable[Job | Mapping[str, Any]]) -> list[str]:
        """Hand over many jobs in a few round trips; returns their ids in order.

        Each is a job (``dingqueue.send_job(…)`` and the like) or a mapping of ``send``'s arguments. All are checked
        before the first is stored. It has ``enqueue_timeout_s`` for each thousand jobs.

        Raises:
            InvalidJob: One has a mistake (the field starts with its index); nothing was stored.
            EnqueueFailed: Not all were taken; ``error.jobs`` are the others, and calling again with them is safe.
        """
        built = [_built(number, job) for number, job in enumerate(jobs)]
        if not built:
            return []
        if box := self._box():
            return [box.accept(job) for job in built]
        if self._spans is None:
            return self._handover.submit_many(built)
        with self._spans.enqueue(built) as traced:
            return self._handover.submit_many(traced)

    def preview(self, job: Job, *, keywords: Sequence[str] = (), people: Mapping[str, Rung] | None = None) -> Preview:
        """What DingTalk would get for a job, in bytes and with warnings. Sends nothing, connects to nothing."""
        return preview_job(job, keywords=keywords, people=people)

    def status(self, job_id: str) -> Status | None:
        """Where a job is; None when nobody knows the id (any more).

        Raises:
            EnqueueFailed: Redis did not answer in time.
        """
        if box := self._box():
            return box.status(job_id)
        return self._handover.ask(lambda here: here.status(job_id))

    def wait(self, job_id: str, *, timeout_s: float) -> Status | None:
        """Where a job is once it has ended, or when `timeout_s` has passed; None for an id nobody knows.

        Raises:
            EnqueueFailed: Redis did not answer in time; waiting again is fine.
        """
        pause, deadline_s = Event(), time.monotonic() + timeout_s
        for wait_s in _waits():
            status = self.status(job_id)
            left_s = deadline_s - time.monotonic()
            # In an outbox nothing ends by itself.
            if status is None or status.ended or left_s <= 0 or self._box():
                return status
            pause.wait(min(wait_s, left_s))
        raise AssertionError("there is always a next wait")

    def cancel(self, job_id: str) -> CancelEnd:
        """End a job that is not at DingTalk yet, or have what it left there taken back.

        An app's robot and work notifications can be taken back for 24 hours, a todo at any time, a webhook robot's
        message never.

        Returns:
            ``cancelled``; ``recalling`` where the fleet takes it back now (the job's status then says ``cancelled``, or
            why it stays); or the state that made it too late; or ``gone``.

        Raises:
            EnqueueFailed: Redis did not answer in time; whether the job was cancelled is then unknown.
        """
        if box := self._box():
            return box.cancel(job_id)
        return self._handover.act(lambda here: here.cancel(job_id))

    def complete(self, job_id: str) -> str:
        """Say that the work of an ``assign`` is done: its todo is closed for everybody.

        Returns:
            The id of the job that does it; the same call again is the same job.

        Raises:
            InvalidJob: That job has no todo (yet, or any more).
            EnqueueFailed: Redis did not take it in time. Calling again is safe.
        """
        return self._change(job_id, "complete", lambda left: completion_of(job_id, left))

    def check(self, job_id: str) -> str:
        """See who has read what an app sent for a job, within 24 hours: its receipt then has ``read_by`` and ``checked_at``.

        An app robot's yes proves nothing: messages have been seen to vanish. That nobody at all has read one is a hint.

        Returns:
            The id of the job that looks.

        Raises:
            InvalidJob: That job sent nothing that DingTalk tells about (a webhook robot's messages are never told of).
            EnqueueFailed: Redis did not take it in time.
        """
        return self._change(job_id, "check", lambda left: check_of(job_id, left))

    def reassign(
        self,
        job_id: str,
        *,
        to: People = (),
        subject: str | None = None,
        description: str | None = None,
        due: datetime | None = None,
        key: str | None = None,
    ) -> str:
        """Change the work of an ``assign``: its todo is for other people from now on, or says something else.

        Args:
            job_id: What ``assign`` returned.
            to: Who does it from now on, instead of those who did; nobody leaves that as it is.
            subject: What is to be done.
            description: More about it.
            due: Until when; aware.
            key: Makes the change idempotent: the same job and key is the same change.

        Returns:
            The id of the job that does it.

        Raises:
            InvalidJob: The call has a mistake, or that job has no todo (yet, or any more).
            EnqueueFailed: Redis did not take it in time.
        """
        change = work_change(to=to, subject=subject, description=description, due=due)
        return self._change(job_id, "reassign", lambda left: reassignment_of(job_id, left, change, key=key), change)

    def _change(
        self, job_id: str, action: Action, build: Callable[[Left | None], ChangeJob], change: WorkChange | None = None
    ) -> str:
        if box := self._box():
            return _kept_change(box, job_id, action, change)
        return self._handover.act(lambda here: here.change(job_id, build))

    @_arguments_of(send)
    async def asend(self, destination: str, text: str | Content | None = None, **options: Any) -> str:
        """``send`` for an event loop, which is never blocked."""
        return await self._aenqueue(send_job(destination, text, **options))

    @_arguments_of(assign)
    async def aassign(self, destination: str, subject: str, *, to: People, **options: Any) -> str:
        """``assign`` for an event loop."""
        return await self._aenqueue(assign_job(destination, subject, to=to, **options))

    @_arguments_of(share)
    async def ashare(self, destination: str, file: str | StoredFile | Source, **options: Any) -> str:
        """``share`` for an event loop; a file is read and stored by another thread."""
        if isinstance(file, str | StoredFile):
            return await self._aenqueue(share_job(destination, file, **options))
        return await asyncio.to_thread(self.share, destination, file, **options)

    async def asend_many(self, jobs: Iterable[Job | Mapping[str, Any]]) -> list[str]:
        """``send_many`` for an event loop."""
        built = [_built(number, job) for number, job in enumerate(jobs)]
        if not built:
            return []
        if box := self._box():
            return [box.accept(job) for job in built]
        if self._spans is None:
            return await self._handover.asubmit_many(built)
        with self._spans.enqueue(built) as traced:
            return await self._handover.asubmit_many(traced)

    async def aenqueue(self, job: Job) -> str:
        """``enqueue`` for an event loop."""
        return await self._aenqueue(checked(job))

    async def _aenqueue(self, job: Job) -> str:
        if box := self._box():
            return box.accept(job)
        if self._spans is None:
            return await self._handover.asubmit(job)
        with self._spans.enqueue((job,)) as (traced,):
            return await self._handover.asubmit(traced)

    async def astatus(self, job_id: str) -> Status | None:
        """``status`` for an event loop."""
        if box := self._box():
            return box.status(job_id)
        return await self._handover.aask(lambda here: here.status(job_id))

    async def await_end(self, job_id: str, *, timeout_s: float) -> Status | None:
        """``wait`` for an event loop."""
        deadline_s = time.monotonic() + timeout_s
        for wait_s in _waits():
            status = await self.astatus(job_id)
            left_s = deadline_s - time.monotonic()
            if status is None or status.ended or left_s <= 0 or self._box():
                return status
            await asyncio.sleep(min(wait_s, left_s))
        raise AssertionError("there is always a next wait")

    async def acancel(self, job_id: str) -> CancelEnd:
        """``cancel`` for an event loop."""
        if box := self._box():
            return box.cancel(job_id)
        return await self._handover.aact(lambda here: here.cancel(job_id))

    async def acomplete(self, job_id: str) -> str:
        """``complete`` for an event loop."""
        return await self._achange(job_id, "complete", lambda left: completion_of(job_id, left))

    async def acheck(self, job_id: str) -> str:
        """``check`` for an event loop."""
        return await self._achange(job_id, "check", lambda left: check_of(job_id, left))

    @_arguments_of(reassign)
    async def areassign(self, job_id: str, *, key: str | None = None, **options: Any) -> str:
        """``reassign`` for an event loop."""
        change = work_change(**options)
        return await self._achange(
            job_id, "reassign", lambda left: reassignment_of(job_id, left, change, key=key), change
        )

    async def _achange(
        self, job_id: str, action: Action, build: Callable[[Left | None], ChangeJob], change: WorkChange | None = None
    ) -> str:
        if box := self._box():
            return _kept_change(box, job_id, action, change)
        return await self._handover.aact(lambda here: here.change(job_id, build))

    def close(self) -> None:
        """Let go of connections and threads when the calls that are under way have ended; the next call opens new ones.

        Does not wait. Calls that have not begun raise ``EnqueueFailed``.
        """
        self._handover.close()

    def __repr__(self) -> str:
        """Where it leads, without user or password."""
        return f"<Client of {place(self._at.state_url)}>" if self._nowhere is None else "<Client of nowhere>"

    def __enter__(self) -> Client:
        """Nothing is opened before the first call."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _box(self) -> outbox.Outbox | None:
        """A test's, which may come and go; else the one that the URL names."""
        return outbox.current() or self._nowhere


def _kept_change(box: outbox.Outbox, job_id: str, action: Action, change: WorkChange | None) -> str:
    if (known := box.status(job_id)) is None:
        raise InvalidJob("job_id", f"nobody knows the job {job_id!r}")
    return box.accept(unplaced(job_id, known.destination, action, change))


def _waits() -> Iterator[float]:
    """Seconds between looks at a job: most end soon, and some wait for hours."""
    wait_s = 0.05
    while True:
        yield wait_s
        wait_s = min(wait_s * 1.5, 1.0)


def _check_files_url(url: str) -> None:
    try:
        kind_of(url)
    except ValueError as error:
        raise ValueError(f"files_url: {error}") from None


def _with_file(draft: ShareJob, content: FileContent, *, store: str, place: str) -> ShareJob:
    file = StoredFile(
        store=store, id=place, name=content.name, size_bytes=content.size_bytes, sha256=content.sha256, type=content.type
    )  # fmt: skip
    return replace(draft, file=file, name=content.name)


def _keep_s(job: ShareJob, carries: Carries | None) -> float:
    """How long the file must be kept: not shorter than its job may wait."""
    at, expires_s = job.terms.at, job.terms.expires_s
    waits_s = max((at - datetime.now(UTC)).total_seconds(), 0.0) if at else 0.0
    return waits_s + (expires_s or (carries.expires_s if carries else _USUAL_EXPIRY_S)) + _KEEP_LONGER_S


def _built(number: int, job: Job | Mapping[str, Any]) -> Job:
    try:
        return _sent(job) if isinstance(job, Mapping) else checked(job)
    except InvalidJob as error:
        raise InvalidJob(f"[{number}].{error.field}", error.problem) from error


def _sent(options: Mapping[str, Any]) -> Job:
    try:
        return send_job(**options)
    except TypeError as error:
        known = list(inspect.signature(send_job).parameters)
        wrong = [str(name) for name in options if name not in known]
        close = [found for name in wrong for found in difflib.get_close_matches(name, known, n=1)]
        hint = f"; did you mean {close[0]}?" if close else ""
        problem = f"send has no argument {', '.join(wrong)}{hint}" if wrong else "destination: expected one, found none"
        raise InvalidJob("job", problem) from error
