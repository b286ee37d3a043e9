"""One Celery task per kind: start, attempt, settle, publish what is called. No rule lives here."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol

from celery import Celery
from celery.exceptions import Ignore
from celery.exceptions import Retry as TaskRetry

from dingqueue.contract import KINDS, Job, Kind
from dingqueue.errors import UnknownContract
from dingqueue.lanes import Call
from dingqueue.routes import task_name
from dingqueue_worker.backoff import delay_s
from dingqueue_worker.outcome import Dead, Ended, Retry, Snooze, Unknown
from dingqueue_worker.settings import Fleet
from dingqueue_worker.shift import Shift
from dingqueue_worker.store import Ahead, Event, Settled, Stale, Started, Store, StoreUnavailable
from dingqueue_worker.telemetry import acknowledged, event

#: An attempt's lease: two whole requests, and room for a slow machine.
_LEASE_PER_REQUEST = 2.0
_LEASE_EXTRA_S = 3.0


class JobDead(Exception):
    """How Celery and Flower are told that a job failed for good; the text is safe to show."""


class JobWaits(Exception):
    """How Celery and Flower are told that a job goes on later, and why; the text is safe to show."""


class Attempt(Protocol):
    """Tries once and says how it ended."""

    def __call__(self, job: Job, *, sender: str, step: int, notes: Mapping[str, str]) -> Ended: ...


class Dispatch(Protocol):
    """Where called jobs go: published now, or soon by the pacer; and when the clock must be looked at."""

    def __call__(self, calls: Iterable[Call], *, next_look_ms: int | None = None) -> None: ...


class Desk:
    """Carries out one call of one job, start to settle. At most one attempt, and nothing waits here."""

    def __init__(
        self,
        *,
        store: Store,
        attempt: Attempt,
        fleet: Fleet,
        dispatch: Dispatch,
        tell: Callable[[Event], None],
        shift: Shift,
        uploads: Collection[str] = (),
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Remember what to work with.

        Args:
            store: The lanes.
            attempt: Tries once.
            fleet: How long requests may take, and what follows.
            dispatch: Where called jobs go.
            tell: Where events go.
            shift: What this thread goes on with.
            uploads: The destinations to which a file is uploaded, which takes its time.
            monotonic_s: A clock.
        """
        self._store, self._attempt, self._fleet = store, attempt, fleet
        self._dispatch, self._tell, self._monotonic_s = dispatch, tell, monotonic_s
        self._shift, self._uploads = shift, frozenset(uploads)

    def carry_out(
        self, job_id: str, grant: int, *, kind: Kind = "send", destination: str = ""
    ) -> tuple[Started, Ended, Settled] | Stale:
        """Start, unless the job before this one has begun it; attempt, settle.

        Args:
            job_id: The job.
            grant: Leave to make this attempt.
            kind: Of the job, as the call says.
            destination: The job's, as the call says.

        Raises:
            StoreUnavailable: Redis did not answer; the job's lease will end and it is called again.
        """
        # Counted from before the question: however late the answer comes, the lease cannot be shorter than we think.
        began_s = self._monotonic_s()
        uploads = kind == "share" and destination in self._uploads
        held_s = lease_s(self._fleet, uploads=uploads)
        lease_ms = round(held_s * 1000)
        begun = self._shift.take(job_id, grant)
        started: Started | Stale
        try:
            if begun is None:
                started = self._store.start(job_id, grant, lease_ms=lease_ms)
            else:
                ahead, began_s = begun
                started = ahead.started()
        except UnknownContract as error:
            ended = Ended(outcome=Dead(why=str(error), cause="contract", sent=False))
            return self._settle(job_id, grant, None, ended, kind=kind, lease_ms=lease_ms)
        if isinstance(started, Stale):
            self._pass_on(started)
            return started
        latest_s = began_s + held_s - attempt_s(self._fleet, uploads=uploads)
        if self._monotonic_s() > latest_s:
            ended = Ended(outcome=Snooze(why="this worker was held up", cause="late", sent=False))
        else:
            try:
                ended = self._attempt(started.job, sender=started.sender, step=started.step, notes=started.notes)
            except Exception as error:  # noqa: BLE001 - a mistake of ours; left alone, the job would look like poison
                ended = _broke(error, job_id, destination)
        return self._settle(job_id, grant, started, ended, kind=kind, lease_ms=lease_ms)

    def give_back(self, ahead: Ahead) -> None:
        """What was begun and will not be carried out here goes back to its lane; if Redis is away, when its lease ends."""
        ended = Ended(outcome=Snooze(why="this worker did not carry it out", cause="late", sent=False))
        call = ahead.call
        with contextlib.suppress(StoreUnavailable, UnknownContract):
            self._settle(call.job_id, call.grant, ahead.started(), ended, kind=call.kind, lease_ms=0)

    def _settle(
        self, job_id: str, grant: int, started: Started | None, ended: Ended, *, kind: Kind, lease_ms: int
    ) -> tuple[Started, Ended, Settled] | Stale:
        asked_s = self._monotonic_s()
        settled = self._store.settle(
            job_id,
            grant,
            ended,
            step=started.step if started else 0,
            wait_s=self._wait_s(ended, started.fails if started else 0),
            most=self._fleet.max_attempts,
            notes=started.notes if started else {},
            on_ms=lease_ms if self._shift.goes_on() else 0,
            kind=kind,
        )
        if settled.ahead:
            self._shift.leave(settled.ahead, asked_s=asked_s)
        self._pass_on(settled)
        if isinstance(settled, Stale) or started is None:
            return settled if isinstance(settled, Stale) else Stale(state=settled.state)
        return started, ended, settled

    def _pass_on(self, reply: Settled | Stale) -> None:
        self._dispatch(reply.calls, next_look_ms=reply.next_look_ms if isinstance(reply, Settled) else None)
        for happened in reply.events:
            self._tell(happened)

    def _wait_s(self, ended: Ended, fails: int) -> float:
        match ended.outcome:
            case Snooze(for_s=for_s, close=close):
                return 0.0 if close else for_s
            case Retry() | Unknown():
                fleet = self._fleet
                return delay_s(
                    fails + 1,
                    base_s=fleet.backoff_base_s,
                    cap_s=fleet.backoff_cap_s,
                    random=random.random,  # jitter, not secrecy
                )
            case _:
                return 0.0


def _broke(error: Exception, job_id: str, destination: str) -> Ended:
    """How an attempt ends that raised what it should not. Its text may hold a secret or a message: nobody is told it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{os.path.basename(frame.filename)}:{frame.lineno}"  # noqa: PTH119 - a name to show
    name = type(error).__name__
    event("attempt broke", level=logging.ERROR, job_id=job_id, destination=destination, error=name, where=where)
    why = f"a mistake of dingqueue's own ({name} at {where}): please report it"
    return Ended(outcome=Unknown(why=why, cause="bug"))


def attempt_s(fleet: Fleet, *, uploads: bool = False) -> float:
    """How long an attempt may take: the whole request, and before it the download and the upload of a file."""
    return fleet.total_timeout_s + (fleet.fetch_timeout_s + fleet.upload_timeout_s if uploads else 0.0)


def lease_s(fleet: Fleet, *, uploads: bool = False) -> float:
    """How long an attempt may hold its job: no attempt starts later than this less what it may take."""
    return attempt_s(fleet, uploads=uploads) + fleet.total_timeout_s * (_LEASE_PER_REQUEST - 1.0) + _LEASE_EXTRA_S


def register(app: Celery, desk: Callable[[], Desk]) -> None:
    """Give an app the three tasks; `desk` is asked for at each call, since a forked process needs its own."""

    def task(kind: Kind) -> Callable[[str, int, str], str]:
        def carry_out(job_id: str, grant: int, destination: str) -> str:
            return report(
                job_id, destination, lambda: desk().carry_out(job_id, grant, kind=kind, destination=destination)
            )

        return carry_out

    for kind in KINDS:
        app.task(name=task_name(kind), throws=(JobDead,), shared=False)(task(kind))


def report(job_id: str, destination: str, carry_out: Callable[[], tuple[Started, Ended, Settled] | Stale]) -> str:
    """Tell the log and Celery how an attempt went: SUCCESS, RETRY with a reason, FAILURE with a clean one."""
    began_s = time.monotonic()
    try:
        result = carry_out()
    except StoreUnavailable as error:
        event(
            "state not reached, the job is called again",
            level=logging.WARNING,
            job_id=job_id,
            destination=destination,
            error=str(error),
        )
        raise Ignore from None
    if isinstance(result, Stale):
        event("stale call", level=logging.DEBUG, job_id=job_id, destination=destination, state=result.state)
        # SUCCESS or FAILURE would be a lie about a job that is somebody else's now.
        raise Ignore
    started, ended, settled = result
    outcome = ended.outcome
    why = getattr(outcome, "why", "")
    event(
        "attempt ended",
        level=logging.WARNING if isinstance(outcome, Retry | Unknown) else logging.INFO,
        job_id=job_id,
        destination=destination,
        sender=started.sender,
        outcome=type(outcome).__name__.lower(),
        state=settled.state,
        attempt=started.attempts + (0 if isinstance(outcome, Snooze) else 1),
        part=f"{started.step + 1}/{ended.steps}" if ended.steps > 1 else None,
        took_ms=round((time.monotonic() - began_s) * 1000),
        why=why,
        receipt=acknowledged(getattr(outcome, "receipt", {})),
    )
    if settled.state in {"delivered", "accepted"}:
        return settled.state
    if settled.state in {"dead", "expired"}:
        raise JobDead(why if settled.state == "dead" else f"not sent in time; {why}") from None
    # Celery's own Retry, published nowhere: the row in Flower says RETRY and why; the lane has the job.
    why = why or f"part {started.step + 1} of {ended.steps} delivered, the next one follows"
    raise TaskRetry(why, exc=JobWaits(why))
