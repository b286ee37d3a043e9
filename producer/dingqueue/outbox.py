"""Where jobs go instead of Redis while a test or a preview wants to keep them. Knows no Redis, no Celery, no test.

The client asks ``current()`` at every call. It is one value for the process, not a context variable: an application
under test enqueues from its own threads too.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dingqueue.contract import Job, from_wire, to_wire


class Outbox:
    """Jobs in memory, in the order in which they came. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}

    @property
    def jobs(self) -> tuple[Job, ...]:
        """What was taken so far, oldest first."""
        with self._lock:
            return tuple(self._jobs.values())

    def accept(self, job: Job) -> str:
        """Take a job as the lane would and return its id; a job whose id is known already is the same job.

        It crosses the wire format on the way, so that what would not survive it shows here.
        """
        crossed = from_wire(to_wire(job))
        with self._lock:
            self._jobs.setdefault(crossed.job_id, crossed)
        return crossed.job_id


_lock = threading.Lock()
_active: list[Outbox] = []


def current() -> Outbox | None:
    """The outbox that takes jobs now, the one activated last; None sends jobs on their way."""
    with _lock:
        return _active[-1] if _active else None


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
