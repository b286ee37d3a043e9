"""What one thread of a worker carries out in a row: a job that a message brought, then what its lane calls next.

Publishing a call, taking it off the queue and handing it to a thread costs more than carrying it out. So whoever settled
a job goes on with the next one of its lane. Only for a short time where another call waits for a thread; and not for long
where none does, so that lanes come to those workers that have the least to do. Knows neither Celery nor Redis.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from dingqueue_worker.store import Ahead

#: How long a thread goes on while another call waits for a thread.
SHORT_S = 0.2
#: How long it goes on in any case.
LONG_S = 5.0


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
            short_s: How long after it began its first job a thread may begin another, while a call waits for a thread.
            long_s: How long it may while none does.
            stopping: Is this worker about to end? Then what is called is for others.
            monotonic_s: A clock.
        """
        self._short_s, self._long_s, self._stopping, self._monotonic_s = short_s, long_s, stopping, monotonic_s
        self._here = _Here()

    def begin(self, others_wait: Callable[[], object]) -> None:
        """This thread takes up a job that a message brought; `others_wait` says whether calls wait for a thread."""
        self._here.began_s, self._here.others_wait, self._here.ahead = self._monotonic_s(), others_wait, None

    def end(self) -> None:
        """This thread goes back to the pool."""
        self._here.began_s = self._here.ahead = None

    def goes_on(self) -> bool:
        """May this thread carry out another one after this?"""
        here = self._here
        if here.began_s is None or self._stopping():
            return False
        gone_s = self._monotonic_s() - here.began_s
        return gone_s < self._short_s or (gone_s < self._long_s and not here.others_wait())

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
    others_wait: Callable[[], object] = bool
    ahead: Ahead | None = None
    asked_s: float = 0.0
