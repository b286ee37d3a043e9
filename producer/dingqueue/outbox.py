"""Where jobs go instead of Redis while a test or a preview wants to keep them. Knows no Redis, no Celery, no test.

The client asks ``current()`` at every call. It is one value for the process, not a context variable: an application
under test enqueues from its own threads too.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from dingqueue.contract import Job, from_wire, to_wire
from dingqueue.status import CancelEnd, Status

#: Where neither the job nor a fleet says how long it is worth sending.
_EXPIRES_S = 86_400.0


class Outbox:
    """Jobs in memory, in the order in which they came. Safe to use from several threads.

    Args:
        most: Jobs to remember, the newest; None is all.
    """

    def __init__(self, *, most: int | None = None) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._submitted_at: dict[str, datetime] = {}
        self._cancelled_at: dict[str, datetime] = {}

    @property
    def jobs(self) -> tuple[Job, ...]:
        """What was taken so far and not cancelled, oldest first."""
        with self._lock:
            return tuple(job for job_id, job in self._jobs.items() if job_id not in self._cancelled_at)

    def accept(self, job: Job) -> str:
        """Take a job as the lane would and return its id; a job whose id is known already is the same job.

        It crosses the wire format on the way, so that what would not survive it shows here.
        """
        crossed = from_wire(to_wire(job))
        with self._lock:
            if crossed.job_id not in self._jobs:
                self._jobs[crossed.job_id] = crossed
                self._submitted_at[crossed.job_id] = datetime.now(UTC)
                if self._most is not None and len(self._jobs) > self._most:
                    oldest = next(iter(self._jobs))
                    for known in (self._jobs, self._submitted_at, self._cancelled_at):
                        known.pop(oldest, None)
        return crossed.job_id

    def status(self, job_id: str) -> Status | None:
        """Where a job would be if no worker ran: waiting, or cancelled. None for an id that was not taken."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is None:
                return None
            submitted_at, ended_at = self._submitted_at[job_id], self._cancelled_at.get(job_id)
        starts_at = max(submitted_at, job.terms.at or submitted_at)
        waits = not ended_at and starts_at <= datetime.now(UTC)
        return Status(
            job_id=job_id,
            kind=job.kind,
            destination=job.destination,
            state="cancelled" if ended_at else "waiting",
            submitted_at=submitted_at,
            expires_at=starts_at + timedelta(seconds=job.terms.expires_s or _EXPIRES_S),
            ended_at=ended_at,
            place=self._place(job) if waits else None,
            reason="" if ended_at else "kept in an outbox" if waits else "scheduled",
        )

    def cancel(self, job_id: str) -> CancelEnd:
        """``cancelled``, or ``gone`` for an id that was not taken."""
        with self._lock:
            if job_id not in self._jobs:
                return "gone"
            self._cancelled_at.setdefault(job_id, datetime.now(UTC))
        return "cancelled"

    def _place(self, job: Job) -> int | None:
        now = datetime.now(UTC)
        lane = [
            other
            for other in self.jobs
            if other.destination == job.destination and not (other.terms.at and other.terms.at > now)
        ]
        lane.sort(key=lambda other: not other.terms.urgent)
        return next((place for place, other in enumerate(lane) if other is job), None)


_lock = threading.Lock()
_active: list[Outbox] = []


def current() -> Outbox | None:
    """The outbox that takes jobs now, the one activated last; None sends jobs on their way."""
    # Without the lock: every call of every client asks, and a process forked while it is held must not wait for it.
    active = _active[-1:]
    return active[0] if active else None


@contextmanager
def activated(outbox: Outbox) -> Iterator[None]:
    """Let an outbox take every job of this process, in all threads."""
    with _lock:
        _active.append(outbox)
    try:
        yield
    finally:
        with _lock:
            # By identity and from the end: two tests in two threads need not end in the order of their beginning.
            position = next(at for at in reversed(range(len(_active))) if _active[at] is outbox)
            del _active[position]
