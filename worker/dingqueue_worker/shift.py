"""What one thread of a worker carries out in a row: a job that a message brought, then what its lane calls next.

Publishing a call, taking it off the queue and handing it to a thread costs more than carrying it out. So whoever settled
a job goes on with the next one of its lane. Only for a short time where other calls wait for a thread, not at all where
many do; and not for long where none does, so that lanes come to the workers that have the least to do. Knows neither
Celery nor Redis.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from dingqueue_worker.store import Ahead

#: How long after it began a thread may begin another job while other calls wait for a thread.
SHORT_S = 0.2
#: And while none does.
LONG_S = 2.0


class Shift:
    """Asked by the pool and the desk, each in the thread that works. A thread that no pool let begin never goes on."""

    def __init__(
        self,
        *,
        short_s: float = SHORT_S,
        long_s: float = LONG_S,
        stopping: Callable[[], object] = lambda: False,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nobody works yet.

        Args:
            short_s: How long after it began its first job a thread may begin another, while calls wait for a thread.
            long_s: How long it may while none does.
            stopping: Is this worker about to end? Then what is called is for others.
            monotonic_s: A clock.
        """
        self._short_s, self._long_s, self._stopping, self._monotonic_s = short_s, long_s, stopping, monotonic_s
        self._here = _Here()
        #: Nobody is told of what is carried out now: the broker is away.
        self.unheard = False

    def begin(self, waiting: Callable[[], float]) -> None:
        """This thread takes up a job that a message brought; `waiting` says how many calls wait, for each thread."""
        self._here.began_s, self._here.waiting, self._here.ahead = self._monotonic_s(), waiting, None

    def end(self) -> Ahead | None:
        """This thread goes back to the pool; returns what it should have carried out next, and nobody will."""
        left = self._here.ahead
        self._here.began_s = self._here.ahead = None
        return left

    def goes_on(self) -> bool:
        """May this thread carry out another one after this?"""
        here = self._here
        if here.began_s is None or self.unheard or self._stopping():
            return False
        waiting = here.waiting()
        # One for each thread is all that a worker takes off the queue: more may wait there.
        longest_s = self._long_s if waiting <= 0 else self._short_s if waiting < 1 else 0.0
        return self._monotonic_s() - here.began_s < longest_s

    def leave(self, ahead: Ahead, *, asked_s: float) -> None:
        """This thread carries that out next.

        Args:
            ahead: Begun already: its lease runs.
            asked_s: When that was asked for, by the desk's clock; the lease cannot have begun sooner.
        """
        self._here.ahead = ahead
        self._here.asked_s = asked_s

    @property
    def ahead(self) -> Ahead | None:
        """What this thread carries out next."""
        return self._here.ahead

    def take(self, job_id: str, grant: int) -> tuple[Ahead, float] | None:
        """What was left for this thread, and when it was asked for, if it is this call."""
        ahead = self._here.ahead
        if ahead is None or (ahead.call.job_id, ahead.call.grant) != (job_id, grant):
            return None
        self._here.ahead = None
        return ahead, self._here.asked_s


class _Here(threading.local):
    began_s: float | None = None
    waiting: Callable[[], float] = float
    ahead: Ahead | None = None
    asked_s: float = 0.0
