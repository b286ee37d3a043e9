"""Jobs that keep coming, in a thread, while a test breaks things."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from dingqueue import EnqueueFailed, send_job
from support.fleet import Fleet


class Pressure:
    """Submits one job after the other round the destinations, until the block ends or `count` is reached.

    What the door refuses because Redis is away is handed over again, the same job, until it is taken: as an
    application does that must not lose anything.
    """

    def __init__(self, fleet: Fleet, destinations: Sequence[str], *, count: int, every_s: float) -> None:
        self._fleet, self._count, self._every_s = fleet, count, every_s
        self._destinations = itertools.cycle(destinations)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.accepted: list[str] = []
        self.refusals = 0

    def _run(self) -> None:
        for number in range(self._count):
            job = send_job(next(self._destinations), f"number {number}")
            while not self._stop.wait(self._every_s):
                try:
                    self.accepted.append(self._fleet.client.enqueue(job))
                    break
                except EnqueueFailed:
                    self.refusals += 1
            else:
                return

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._thread.join(60)
        self._stop.set()
        self._thread.join(10)
