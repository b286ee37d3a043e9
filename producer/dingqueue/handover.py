"""A job's way out of the application: into its lane, and what that called to the broker. Jobs come here checked.

It may be called from any process, thread or event loop, and every call ends in time, whatever Redis does.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import functools
import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures import wait as wait_for_futures
from typing import TypeVar, assert_never

import redis

from dingqueue import broker, inline
from dingqueue.changes import recall_of
from dingqueue.connections import redis_client
from dingqueue.contract import ChangeJob, Job
from dingqueue.errors import EnqueueFailed, InvalidJob, LaneFull
from dingqueue.files.source import Content as FileContent
from dingqueue.files.store import FileStoreUnavailable, open_store
from dingqueue.hands import Closed, Hands
from dingqueue.lanes import Accepted, Barred, Call, Carries, Full, Lanes, Left, Repeat, Submitted, UnknownDestination
from dingqueue.routes import barred
from dingqueue.servers import Refusal, Servers, refusal
from dingqueue.status import CancelEnd, Status

log = logging.getLogger("dingqueue")

T = TypeVar("T")

#: Threads that carry out a client's calls. More callers than that share them.
_THREADS = 8
#: Jobs in one round trip of ``submit_many``.
_CHUNK = 500
#: A call with many jobs has its time for each so many.
_JOBS_A_TIMEOUT = 1_000
#: A file may take longer to store than a job: so much longer, by its size.
_SLOWEST_STORE_BYTES_PER_S = 1_000_000
#: How long no message is published after the broker failed: jobs are safe in their lanes and are called again.
_BROKER_REST_S = 5.0


class Handover:
    """What a client hands its jobs to: it finds this process's connections, and waits for them only so long.

    Args:
        at: Where the broker and the lanes are.
        files_url: Where shared files wait for a worker.
        timeout_s: How long a call may take; see ``deadline_s``.
        prefix: What the fleet's keys start with.
    """

    def __init__(self, at: Servers, files_url: str, *, timeout_s: float, prefix: str) -> None:
        self._at, self._files_url = at, files_url
        self._timeout_s, self._prefix = timeout_s, prefix
        # By process and number of forks. No lock: a child that was forked while it was held would wait for ever.
        self._connected: dict[tuple[int, int], Connected] = {}

    def deadline_s(self, *, jobs: int = 1, size_bytes: int = 0) -> float:
        """When a call that begins now must be over, by ``time.monotonic()``: later with a thousand jobs or a large file."""
        return (
            time.monotonic()
            + self._timeout_s * max(1.0, jobs / _JOBS_A_TIMEOUT)
            + size_bytes / _SLOWEST_STORE_BYTES_PER_S
        )

    def submit(self, job: Job, deadline_s: float | None = None) -> str:
        """Put a job into its lane, publish what it called, and return its id.

        Args:
            job: One whose arguments are checked.
            deadline_s: When it must be over; by default a call's time from now.

        Raises:
            InvalidJob: The fleet knows no such destination, or it has no way that could carry the job.
            LaneFull: The destination holds as many jobs as it may.
            EnqueueFailed: Redis did not take it in time.
        """
        deadline_s = self.deadline_s() if deadline_s is None else deadline_s
        here = self.here()
        calls = here.submit_here(job, deadline_s)
        if calls is None:
            here, future = self._begin(lambda here: here.submit(job))
            calls = self._result(future, deadline_s, (job,))
        here.publish(calls, deadline_s)
        return job.job_id

    async def asubmit(self, job: Job) -> str:
        """``submit`` for an event loop."""
        return await self.aact(lambda here: (job.job_id, here.submit(job)), self.deadline_s(), (job,))

    def submit_many(self, jobs: Sequence[Job]) -> list[str]:
        """``submit`` for several jobs, at least one, in a few round trips.

        Raises:
            InvalidJob: The fleet knows the destination, or a way, of none of them.
            EnqueueFailed: Not all were taken; ``jobs`` are the others.
        """
        deadline_s = self.deadline_s(jobs=len(jobs))
        if problem := self.act(lambda here: here.submit_many(jobs, deadline_s), deadline_s, jobs):
            raise problem
        return [job.job_id for job in jobs]

    async def asubmit_many(self, jobs: Sequence[Job]) -> list[str]:
        """``submit_many`` for an event loop."""
        deadline_s = self.deadline_s(jobs=len(jobs))
        if problem := await self.aact(lambda here: here.submit_many(jobs, deadline_s), deadline_s, jobs):
            raise problem
        return [job.job_id for job in jobs]

    def ask(self, question: Callable[[Connected], T], deadline_s: float | None = None) -> T:
        """What another thread finds out, or stores, over this process's connections.

        Raises:
            EnqueueFailed: There was no answer in time.
        """
        deadline_s = self.deadline_s() if deadline_s is None else deadline_s
        _, future = self._begin(question)
        return self._result(future, deadline_s)

    async def aask(self, question: Callable[[Connected], T]) -> T:
        """``ask`` for an event loop."""
        deadline_s = self.deadline_s()
        _, future = self._begin(question)
        return await self._aresult(future, deadline_s)

    def act(
        self,
        action: Callable[[Connected], tuple[T, Sequence[Call]]],
        deadline_s: float | None = None,
        jobs: Sequence[Job] = (),
    ) -> T:
        """Have another thread change something in the lanes, and publish what that called.

        Args:
            action: Returns what the caller is told, and the calls.
            deadline_s: When it must be over; by default a call's time from now.
            jobs: Those that an ``EnqueueFailed`` gives back.

        Raises:
            EnqueueFailed: There was no answer in time; whether it happened is unknown.
        """
        deadline_s = self.deadline_s() if deadline_s is None else deadline_s
        here, future = self._begin(action)
        told, calls = self._result(future, deadline_s, jobs)
        here.publish(calls, deadline_s)
        return told

    async def aact(
        self,
        action: Callable[[Connected], tuple[T, Sequence[Call]]],
        deadline_s: float | None = None,
        jobs: Sequence[Job] = (),
    ) -> T:
        """``act`` for an event loop."""
        deadline_s = self.deadline_s() if deadline_s is None else deadline_s
        here, future = self._begin(action)
        told, calls = await self._aresult(future, deadline_s, jobs)
        await here.apublish(calls, deadline_s)
        return told

    def close(self) -> None:
        """Let go of this process's connections and threads when the calls under way have ended. Does not wait."""
        if here := self._connected.pop(_process(), None):
            here.close()

    def here(self) -> Connected:
        """This process's connections; a child that was forked makes its own."""
        process = _process()
        here = self._connected.get(process)
        if here is None:
            # Of two threads that come here at once, one makes connections that are thrown away before they did anything.
            made = Connected(self._at, self._files_url, timeout_s=self._timeout_s, prefix=self._prefix)
            here = self._connected.setdefault(process, made)
        return here

    def _begin(self, action: Callable[[Connected], T]) -> tuple[Connected, Future[T]]:
        # Sockets have timeouts of their own, but name look-ups, handshakes and answers that drip in have none together.
        while True:
            here = self.here()
            try:
                return here, here.hands.later(functools.partial(action, here))
            except Closed:
                # Another thread closed the client between the two lines.
                continue

    def _result(self, future: Future[T], deadline_s: float, jobs: Sequence[Job] = ()) -> T:
        try:
            return future.result(timeout=max(0.0, deadline_s - time.monotonic()))
        except FutureTimeoutError as error:
            future.cancel()
            raise self._late(jobs) from error
        except CancelledError as error:
            raise EnqueueFailed("the client was closed meanwhile", jobs=jobs) from error

    async def _aresult(self, future: Future[T], deadline_s: float, jobs: Sequence[Job] = ()) -> T:
        waiting = asyncio.wrap_future(future)
        try:
            return await asyncio.wait_for(waiting, max(0.0, deadline_s - time.monotonic()))
        except TimeoutError as error:
            raise self._late(jobs) from error
        except asyncio.CancelledError as error:
            # Either the caller's task was cancelled, or the client was closed under it.
            if not waiting.cancelled() or (task := asyncio.current_task()) is None or task.cancelling():
                raise
            raise EnqueueFailed("the client was closed meanwhile", jobs=jobs) from error

    def _late(self, jobs: Sequence[Job]) -> EnqueueFailed:
        also = "" if self._files_url == self._at.state_url else "or the file store "
        return EnqueueFailed(
            self._at.failed(Refusal(said=f"{also}did not answer in time (enqueue_timeout_s is {self._timeout_s:g})")),
            jobs=jobs,
        )


#: How often this process or one before it was forked: a process id alone may come back.
_forks = 0


def _forked() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_forked)


def _process() -> tuple[int, int]:
    return os.getpid(), _forks


class Connected:
    """What one process has open: connections to the lanes, the broker and the file store, and threads that use them."""

    def __init__(self, at: Servers, files_url: str, *, timeout_s: float, prefix: str) -> None:
        self._at = at
        self._redis = redis_client(
            at.state_url,
            # Less than a call has when it begins, so that only one that is late sets its socket's timeout anew.
            timeout_s=0.9 * timeout_s,
            connect_timeout_s=timeout_s,
            # It repeats nothing: a command that timed out may have been carried out, and that is the caller's to decide.
            decode_responses=True,
            client_name="dingqueue-producer",
            plain=inline.Connection,
        )
        self._inline = inline.serves(at.state_url)
        self._open: list[redis.Redis] = []
        self.hands = Hands(_THREADS, name="dingqueue")
        self._lanes = Lanes(self._redis, prefix=prefix)
        self._publisher = broker.Publisher(at.broker_url, prefix=prefix, timeout_s=timeout_s / 2)
        self._files = open_store(files_url, prefix=prefix, timeout_s=timeout_s)
        self._broker_rests_until_s = 0.0

    def carries(self, destination: str) -> Carries | None:
        """What the fleet says about files there; None before any worker has ever started."""
        try:
            carries = self._lanes.carries(destination)
        except redis.RedisError as error:
            raise self._refused(error) from error
        if isinstance(carries, UnknownDestination):
            raise _unknown(destination, carries.known)
        return carries

    def keep(self, content: FileContent, *, keep_s: float) -> tuple[str, str]:
        """Store a file; the kind of the store and the file's id there."""
        try:
            return self._files.kind, self._files.keep(content, keep_s=keep_s)
        except FileStoreUnavailable as error:
            raise EnqueueFailed(str(error)) from error

    def submit(self, job: Job) -> tuple[Call, ...]:
        calls = self._submit(job, None)
        if self._inline and len(self._open) < _THREADS:
            # The connection that this used, for `submit_here`; without a pool to ask, a call takes half the time.
            self._open.append(redis.Redis(connection_pool=self._redis.connection_pool, single_connection_client=True))
        return calls

    def _submit(self, job: Job, client: redis.Redis | None) -> tuple[Call, ...]:
        try:
            submitted = self._lanes.submit(job, client=client)
        except redis.RedisError as error:
            raise self._refused(error, (job,)) from error
        return _calls(submitted, job)

    def submit_here(self, job: Job, deadline_s: float) -> tuple[Call, ...] | None:
        """`submit` in the caller's own thread; None where that cannot be bounded, or the connection was gone."""
        try:
            client = self._open.pop()
        except IndexError:
            return None
        keep = True
        try:
            with self.hands.shared(), inline.until(deadline_s):
                return self._submit(job, client)
        except (Closed, inline.NotOpen):
            keep = False
            return None
        except EnqueueFailed as error:
            keep = not isinstance(error.__cause__, redis.RedisError)
            if not keep:
                self._drop_open()  # the others lead to the same server, which may be another one by now
            # It may have been closed while nobody used it. Whether the job was stored is unknown, and asking again is safe.
            if isinstance(error.__cause__, redis.ConnectionError):
                return None
            raise
        finally:
            if keep:
                self._open.append(client)
            else:
                _disconnect(client)

    def _drop_open(self) -> None:
        while self._open:
            with contextlib.suppress(IndexError):  # another thread uses it, and finds out by itself
                _disconnect(self._open.pop())

    def submit_many(
        self, jobs: Sequence[Job], deadline_s: float
    ) -> tuple[EnqueueFailed | InvalidJob | None, list[Call]]:
        """What is to be raised once the calls are published, and these."""
        calls: list[Call] = []
        failed: list[tuple[int, EnqueueFailed | InvalidJob]] = []
        for start in range(0, len(jobs), _CHUNK):
            chunk = jobs[start : start + _CHUNK]
            if start and time.monotonic() > deadline_s:
                # The caller is told, or was told already, that not all were taken.
                late = EnqueueFailed("there was no time left", jobs=chunk)
                failed += [(number, late) for number in range(start, len(jobs))]
                break
            try:
                results = self._lanes.submit_many(chunk)
            except redis.RedisError as error:
                failed += [(start + number, self._refused(error, chunk)) for number in range(len(jobs) - start)]
                break
            for number, (job, submitted) in enumerate(zip(chunk, results, strict=True), start):
                try:
                    if isinstance(submitted, Exception):
                        raise self._refused(submitted, (job,))
                    calls += _calls(submitted, job)
                except (EnqueueFailed, InvalidJob) as error:
                    failed.append((number, error))
        return _several(failed, jobs) if failed else None, calls

    def status(self, job_id: str) -> Status | None:
        try:
            return self._lanes.status(job_id)
        except redis.RedisError as error:
            raise self._refused(error) from error

    def cancel(self, job_id: str) -> tuple[CancelEnd, tuple[Call, ...]]:
        try:
            state, calls = self._lanes.cancel(job_id)
            left = self._lanes.left(job_id) if state == "recall" else None
        except redis.RedisError as error:
            raise self._refused(error) from error
        if state != "recall":
            return state, calls
        return ("recalling", tuple(self.submit(recall_of(job_id, left)))) if left else ("gone", ())

    def change(self, job_id: str, build: Callable[[Left | None], ChangeJob]) -> tuple[str, Sequence[Call]]:
        """Submit a change to an earlier job: its own id, and the calls."""
        try:
            left = self._lanes.left(job_id)
        except redis.RedisError as error:
            raise self._refused(error) from error
        job = build(left)
        return job.job_id, self.submit(job)

    def publish(self, calls: Sequence[Call], deadline_s: float) -> None:
        """Publish what an accepted job called, and wait for it as long as there is time: it is accepted anyway."""
        if calls and self._publish_here(calls, deadline_s):
            return
        if publishing := self._publish_soon(calls):
            wait_for_futures([publishing], timeout=max(0.0, deadline_s - time.monotonic()))

    async def apublish(self, calls: Sequence[Call], deadline_s: float) -> None:
        """``publish`` for an event loop."""
        if publishing := self._publish_soon(calls):
            await asyncio.wait([asyncio.wrap_future(publishing)], timeout=max(0.0, deadline_s - time.monotonic()))

    def _publish_here(self, calls: Sequence[Call], deadline_s: float) -> bool:
        """In the caller's own thread, if that can be bounded. What failed is published again: a second call is stale."""
        if not self._publisher.inline or time.monotonic() < self._broker_rests_until_s:
            return False
        try:
            with self.hands.shared(), inline.until(deadline_s):
                self._publisher.publish(calls, wait=False)
        except Exception:  # noqa: BLE001 - whatever the broker's library raises, another thread looks into it
            return False
        return True

    def _publish_soon(self, calls: Sequence[Call]) -> Future[None] | None:
        if not calls or time.monotonic() < self._broker_rests_until_s:
            return None
        try:
            return self.hands.later(lambda: self._publish(calls))
        except Closed:
            return None  # the pacer repeats them

    def _publish(self, calls: Sequence[Call]) -> None:
        try:
            self._publisher.publish(calls)
        except Exception as error:  # noqa: BLE001 - the job is accepted: whatever the broker's library raises, it is called again
            self._broker_rests_until_s = time.monotonic() + _BROKER_REST_S
            log.warning(
                "%d calls not published (%s): their jobs are safe, and workers call them again",
                len(calls),
                type(error).__name__,
                extra={"calls": len(calls), "error": type(error).__name__},
            )

    def _refused(self, error: Exception, jobs: Sequence[Job] = ()) -> EnqueueFailed:
        """What went wrong, without the URL (it may hold a password)."""
        why = (
            refusal(error) if isinstance(error, redis.RedisError) else Refusal(said=f"failed ({type(error).__name__})")
        )
        return EnqueueFailed(self._at.failed(why), jobs=jobs)

    def close(self) -> None:
        self.hands.close(self._let_go)

    def _let_go(self) -> None:
        for close in (self._publisher.close, self._redis.close, self._files.close):
            with contextlib.suppress(Exception):  # what fails to close is gone too, and nobody waits for it
                close()


def _disconnect(client: redis.Redis) -> None:
    """End the one connection of a client: given back to the pool as it is, it would still lead to the old server."""
    if client.connection is not None:
        client.connection.disconnect()  # type: ignore[no-untyped-call]  # redis-py's has no types
    client.close()


def _calls(submitted: Submitted, job: Job) -> tuple[Call, ...]:
    match submitted:
        case Accepted(calls=calls):
            if log.isEnabledFor(logging.DEBUG):
                _note("job accepted", job)
            return calls
        case Repeat(state=state):
            if log.isEnabledFor(logging.DEBUG):
                _note("job known already", job, state=state)
            return ()
        case Full(waiting=waiting):
            problem = f"{job.destination}: {waiting} jobs wait there already, as many as it may hold"
            raise LaneFull(problem, jobs=(job,))
        case UnknownDestination(known=known):
            raise _unknown(job.destination, known)
        case Barred(route=route):
            field, problem = barred(job)[route]
            raise InvalidJob(field, f"{job.destination}: {problem}")
        case other:
            assert_never(other)


def _note(message: str, job: Job, **more: str) -> None:
    """The first line of a job's story; the worker's lines go on with the same ``job_id``. Never the text."""
    fields = {"job_id": job.job_id, "destination": job.destination, "kind": job.kind, **more}
    said = " ".join(f"{name}={value}" for name, value in fields.items())
    log.debug("%s  %s", message, said, extra={"event": message, **fields})


def _unknown(destination: str, known: Sequence[str]) -> InvalidJob:
    close = difflib.get_close_matches(destination, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"the fleet knows: {', '.join(known[:10]) or 'none'}"
    return InvalidJob("destination", f"no destination is called {destination!r}; {hint}")


def _several(
    failed: Sequence[tuple[int, EnqueueFailed | InvalidJob]], jobs: Sequence[Job]
) -> EnqueueFailed | InvalidJob:
    """What is to be raised where some of several jobs were not taken."""
    number, first = failed[0]
    if len(failed) == len(jobs) and isinstance(first, InvalidJob):  # nothing was stored, and trying again is no use
        return InvalidJob(f"[{number}].{first.field}", first.problem)
    if len(failed) == len(jobs) == 1:
        return first
    kind = LaneFull if all(isinstance(error, LaneFull) for _, error in failed) else EnqueueFailed
    problem = f"{len(failed)} of {len(jobs)} jobs were not taken, the first: {first}"
    several = kind(problem, jobs=[jobs[number] for number, _ in failed])
    several.__cause__ = first
    return several
