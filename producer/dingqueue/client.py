"""The application's handle: check, store, publish, return the id. Bounded in time whatever Redis does."""

from __future__ import annotations

import asyncio
import difflib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from datetime import datetime
from typing import Any, TypeVar

import redis
from celery import Celery
from redis.backoff import NoBackoff
from redis.retry import Retry

from dingqueue import broker, outbox
from dingqueue.contract import AssignJob, Card, Content, Feed, Job, Link, OnUnknown, SendJob, TooLong
from dingqueue.environment import resolved
from dingqueue.errors import EnqueueFailed, InvalidJob, LaneFull
from dingqueue.jobs import assign_job, send_job, share_job
from dingqueue.lanes import Accepted, Call, Full, Lanes, Repeat, Status, Submitted, UnknownDestination
from dingqueue.messages import Rung
from dingqueue.preview import Preview
from dingqueue.preview import preview as preview_job
from dingqueue.routes import DEFAULT_BROKER_URL, DEFAULT_PREFIX

log = logging.getLogger("dingqueue")

T = TypeVar("T")
Mentions = str | Iterable[str]

#: Threads that a client publishes with. More callers than that share them.
_THREADS = 8
#: How long no message is published after the broker failed: jobs are safe in their lanes and are called again.
_BROKER_REST_S = 5.0


class Client:
    """Hands jobs to the fleet. Cheap, thread-safe, fork-safe; connects at the first call.

    Args:
        broker_url: Celery's broker; default ``DINGQUEUE_BROKER_URL``, else Redis on this machine. ``file:PATH`` names
            a file that holds it.
        state_url: The Redis that holds the lanes; default ``DINGQUEUE_STATE_URL``, else the broker.
        enqueue_timeout_s: A call returns or raises ``EnqueueFailed`` within this time, whatever Redis does.
        prefix: What the fleet's keys start with; default ``DINGQUEUE_PREFIX``, else ``dq:``.
    """

    def __init__(
        self,
        broker_url: str | None = None,
        *,
        state_url: str | None = None,
        enqueue_timeout_s: float = 2.0,
        prefix: str | None = None,
    ) -> None:
        if not enqueue_timeout_s > 0:
            raise ValueError(f"enqueue_timeout_s: a number of seconds above 0, not {enqueue_timeout_s!r}")
        chosen = resolved(broker_url or os.environ.get("DINGQUEUE_BROKER_URL") or DEFAULT_BROKER_URL)
        self._broker_url = chosen
        self._state_url = resolved(
            state_url or (None if broker_url else os.environ.get("DINGQUEUE_STATE_URL")) or chosen
        )
        if not self._state_url.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("state_url: the lanes stand in Redis; with another broker give state_url='redis://…'")
        self._timeout_s = enqueue_timeout_s
        self._prefix = prefix or os.environ.get("DINGQUEUE_PREFIX") or DEFAULT_PREFIX
        self._lock = threading.Lock()
        self._line: _Line | None = None

    def send(
        self,
        destination: str,
        text: str | Content | None = None,
        *,
        markdown: str | None = None,
        title: str | None = None,
        link: Link | Mapping[str, Any] | None = None,
        card: Card | Mapping[str, Any] | None = None,
        feed: Feed | Mapping[str, Any] | None = None,
        mention: Mentions = (),
        too_long: TooLong = "split",
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
        return self.enqueue(
            send_job(
                destination, text, markdown=markdown, title=title, link=link, card=card, feed=feed, mention=mention,
                too_long=too_long, urgent=urgent, at=at, expires_s=expires_s, key=key, on_unknown=on_unknown,
            )
        )  # fmt: skip

    def assign(
        self,
        destination: str,
        subject: str,
        *,
        to: Mentions,
        due: datetime | None = None,
        url: str = "",
        description: str = "",
        urgent: bool = False,
        at: datetime | None = None,
        expires_s: float | None = None,
        key: str | None = None,
        on_unknown: OnUnknown = "resend",
    ) -> str:
        """Hand over a piece of work for people and return its job id; arguments and errors as for ``send``."""
        return self.enqueue(
            assign_job(
                destination, subject, to=to, due=due, url=url, description=description,
                urgent=urgent, at=at, expires_s=expires_s, key=key, on_unknown=on_unknown,
            )
        )  # fmt: skip

    def share(
        self,
        destination: str,
        file: str,
        *,
        name: str | None = None,
        note: str = "",
        urgent: bool = False,
        at: datetime | None = None,
        expires_s: float | None = None,
        key: str | None = None,
        on_unknown: OnUnknown = "resend",
    ) -> str:
        """Hand over a file by its URL and return its job id; arguments and errors as for ``send``."""
        return self.enqueue(
            share_job(
                destination, file, name=name, note=note,
                urgent=urgent, at=at, expires_s=expires_s, key=key, on_unknown=on_unknown,
            )
        )  # fmt: skip

    def enqueue(self, job: Job) -> str:
        """Hand over a job that was built before (``error.job`` of an ``EnqueueFailed``) and return its id."""
        if box := outbox.current():
            return box.accept(job)
        return self._bounded(lambda line: line.enqueue(job), job=job)

    def send_many(self, jobs: Iterable[Job | Mapping[str, Any]]) -> list[str]:
        """Hand over many jobs in a few round trips; returns their ids in order.

        Each is a job (``dingqueue.send_job(…)`` and the like) or a mapping of ``send``'s arguments. All are checked
        before the first is stored.

        Raises:
            InvalidJob: One has a mistake (the field starts with its index); nothing was stored.
            EnqueueFailed: Not all were taken; calling again with jobs that have keys, or the same job objects, is safe.
        """
        built = [_built(number, job) for number, job in enumerate(jobs)]
        if box := outbox.current():
            return [box.accept(job) for job in built]
        return self._bounded(lambda line: line.enqueue_many(built), jobs=len(built)) if built else []

    async def asend(self, destination: str, text: str | Content | None = None, **options: Any) -> str:
        """``send`` for an event loop, which is never blocked."""
        return await self._aenqueue(send_job(destination, text, **options))

    async def aassign(self, destination: str, subject: str, **options: Any) -> str:
        """``assign`` for an event loop."""
        return await self._aenqueue(assign_job(destination, subject, **options))

    async def ashare(self, destination: str, file: str, **options: Any) -> str:
        """``share`` for an event loop."""
        return await self._aenqueue(share_job(destination, file, **options))

    async def _aenqueue(self, job: Job) -> str:
        if box := outbox.current():
            return box.accept(job)
        line = self._connected()
        future = line.later(lambda: line.enqueue(job))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._timeout_s)
        except TimeoutError as error:
            raise self._late(job) from error

    def preview(self, job: Job, *, keywords: Sequence[str] = (), people: Mapping[str, Rung] | None = None) -> Preview:
        """What DingTalk would get for a job, in bytes and with warnings. Sends nothing, connects to nothing."""
        return preview_job(job, keywords=keywords, people=people)

    def status(self, job_id: str) -> Status | None:
        """Where a job is; None when nobody knows the id (any more).

        Raises:
            EnqueueFailed: Redis did not answer in time.
        """
        return self._bounded(lambda line: line.lanes.status(job_id))

    def wait(self, job_id: str, *, timeout_s: float) -> Status | None:
        """Where a job is once it has ended, or when `timeout_s` has passed; None for an id nobody knows."""
        pause, deadline_s, wait_s = threading.Event(), time.monotonic() + timeout_s, 0.05
        while True:
            status = self.status(job_id)
            left_s = deadline_s - time.monotonic()
            if status is None or status.ended or left_s <= 0:
                return status
            pause.wait(min(wait_s, left_s))
            wait_s = min(wait_s * 1.5, 1.0)

    def cancel(self, job_id: str) -> str:
        """End a job that is not at DingTalk yet: ``cancelled``, or the state that made it too late, or ``gone``."""
        return self._bounded(lambda line: line.cancel(job_id))

    def close(self) -> None:
        """Let go of connections and threads; the next call opens new ones."""
        with self._lock:
            line, self._line = self._line, None
        if line:
            line.close()

    def _connected(self) -> _Line:
        line = self._line
        if line is not None and line.pid == os.getpid():
            return line
        with self._lock:
            if self._line is None or self._line.pid != os.getpid():
                self._line = _Line(self._broker_url, self._state_url, timeout_s=self._timeout_s, prefix=self._prefix)
            return self._line

    def _bounded(self, action: Callable[[_Line], T], *, job: Job | None = None, jobs: int = 1) -> T:
        line = self._connected()
        # Sockets have timeouts of their own, but name look-ups, handshakes and answers that drip in have none together.
        future = line.later(lambda: action(line))
        try:
            # Many jobs may take longer to store; a Redis that is away is noticed in the same time.
            return future.result(timeout=self._timeout_s * max(1.0, jobs / 1000))
        except FutureTimeoutError as error:
            future.cancel()
            raise self._late(job) from error

    def _late(self, job: Job | None) -> EnqueueFailed:
        return EnqueueFailed(
            f"Redis did not answer within {self._timeout_s:g} s: is it up, and the URL right?", job=job
        )


def _built(number: int, job: Job | Mapping[str, Any]) -> Job:
    if not isinstance(job, Mapping):
        return job
    try:
        return send_job(**job)
    except InvalidJob as error:
        raise InvalidJob(f"[{number}].{error.field}", error.problem) from error
    except TypeError as error:
        raise InvalidJob(f"[{number}]", f"these are not the arguments of send: {', '.join(map(str, job))}") from error


class _Line:
    """One process's connections: to the lanes, to the broker, and the threads that use them."""

    def __init__(self, broker_url: str, state_url: str, *, timeout_s: float, prefix: str) -> None:
        self.pid = os.getpid()
        self._redis = redis.Redis.from_url(
            state_url,
            decode_responses=True,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            socket_keepalive=True,
            # A command that timed out may have been carried out: repeating it is the caller's to decide.
            retry=Retry(NoBackoff(), 0),
            client_name="dingqueue-producer",
        )
        self.lanes = Lanes(self._redis, prefix=prefix)
        self._app: Celery = broker.producer_app(broker_url, prefix=prefix, timeout_s=timeout_s / 2)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="dingqueue")
        self._broker_rests_until = 0.0

    def later(self, action: Callable[[], T]) -> Future[T]:
        try:
            return self._threads.submit(action)
        except RuntimeError:
            # The interpreter is shutting down and starts no more threads: the sockets' own timeouts must do.
            future: Future[T] = Future()
            try:
                future.set_result(action())
            except Exception as error:  # noqa: BLE001 - carried to the caller by the future, as a thread would
                future.set_exception(error)
            return future

    def enqueue(self, job: Job) -> str:
        try:
            submitted = self.lanes.submit(job)
        except redis.RedisError as error:
            raise _refused(error, job) from error
        self._publish(_calls(submitted, job))
        return job.job_id

    def enqueue_many(self, jobs: Sequence[Job]) -> list[str]:
        calls: list[Call] = []
        failures: list[EnqueueFailed | InvalidJob] = []
        for start in range(0, len(jobs), 500):
            chunk = jobs[start : start + 500]
            try:
                results = self.lanes.submit_many(chunk)
            except redis.RedisError as error:
                raise EnqueueFailed(f"{_refused(error, None)} ({start} of {len(jobs)} jobs were taken)") from error
            for job, submitted in zip(chunk, results, strict=True):
                try:
                    if isinstance(submitted, Exception):
                        raise _refused(submitted, job)
                    calls += _calls(submitted, job)
                except (EnqueueFailed, InvalidJob) as error:
                    failures.append(error)
        self._publish(calls)
        if failures:
            first = failures[0]
            if len(failures) == len(jobs) == 1:
                raise first
            raise EnqueueFailed(f"{len(failures)} of {len(jobs)} jobs were not taken, the first: {first}") from first
        return [job.job_id for job in jobs]

    def cancel(self, job_id: str) -> str:
        try:
            state, calls = self.lanes.cancel(job_id)
        except redis.RedisError as error:
            raise _refused(error, None) from error
        self._publish(calls)
        return state

    def _publish(self, calls: Sequence[Call]) -> None:
        if not calls or time.monotonic() < self._broker_rests_until:
            return
        try:
            broker.publish(self._app, calls)
        except Exception as error:  # noqa: BLE001 - the job is accepted: whatever the broker's library raises, it is called again
            self._broker_rests_until = time.monotonic() + _BROKER_REST_S
            log.warning(
                "calls not published; the pacer repeats them",
                extra={"calls": len(calls), "error": type(error).__name__},
            )

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._app.close()
        self._redis.close()


def _calls(submitted: Submitted, job: Job) -> tuple[Call, ...]:
    match submitted:
        case Accepted(calls=calls):
            return calls
        case Repeat():
            return ()
        case Full(waiting=waiting):
            raise LaneFull(f"{job.destination}: {waiting} jobs wait there already, as many as it may hold", job=job)
        case UnknownDestination(known=known):
            close = difflib.get_close_matches(job.destination, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"the fleet knows: {', '.join(known[:10]) or 'none'}"
            raise InvalidJob("destination", f"no destination is called {job.destination!r}; {hint}")


def _refused(error: Exception, job: Job | None) -> EnqueueFailed:
    """What went wrong, without the URL (it may hold a password): the class, and Redis's own word where it spoke."""
    if isinstance(error, redis.exceptions.ResponseError):
        said = str(error).split(" script: ", 1)[0]
        return EnqueueFailed(f"Redis refused the job: {said[:200]}", job=job)
    return EnqueueFailed(f"Redis could not be reached ({type(error).__name__})", job=job)


__all__ = ["AssignJob", "Client", "SendJob", "Status"]
