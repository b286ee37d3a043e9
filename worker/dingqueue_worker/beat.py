"""Celery's beat, which also says whether it ticks. Knows Celery, and nothing of what its entries do."""

from __future__ import annotations

import threading
import time
from typing import Any

from celery.beat import PersistentScheduler

from dingqueue_worker.health import Page, notify, verdict
from dingqueue_worker.progress import FRESH_S, SAMPLE_EVERY_S, STANDS_STILL_S
from dingqueue_worker.store import Store, StoreUnavailable


class BeatHealth:
    """Watches one beat from a thread of its own, and gives its sign of life as long as its ticks come."""

    def __init__(self, *, store: Store, who: str, address: tuple[str, int] | None) -> None:
        self._store, self._who = store, who
        self._ticked_s = time.monotonic()
        self._reached_s: float | None = None
        self._page = None
        if address:
            self._page = Page(
                address,
                {"/livez": lambda: verdict(self.not_live()), "/readyz": lambda: verdict(self.not_ready())},
            )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dingqueue-progress", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        if self._page:
            self._page.start()
        self._thread.start()
        notify("READY=1")

    def stop(self) -> None:
        """Watch no more."""
        notify("STOPPING=1")
        self._stopping.set()
        if self._page:
            self._page.stop()
        self._thread.join(timeout=10.0)

    def tick(self) -> None:
        """Beat has looked at its schedule."""
        self._ticked_s = time.monotonic()

    def not_live(self) -> list[str]:
        """Why this beat must be restarted. While Redis is away it waits in Celery's hands, and that is right."""
        now_s = time.monotonic()
        there_s = 0.0 if self._reached_s is None else now_s - self._reached_s
        if min(there_s, now_s - self._ticked_s) > STANDS_STILL_S:
            return [f"no tick for {now_s - self._ticked_s:.0f} s, though Redis answers"]
        return []

    def not_ready(self) -> list[str]:
        """Why this beat does nothing just now."""
        problems = self.not_live()
        now_s = time.monotonic()
        if now_s - self._ticked_s > FRESH_S:
            problems.append("no tick yet, or none for a while")
        if self._reached_s is None:
            problems.append("Redis does not answer")
        return problems

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                if time.monotonic() - self._ticked_s < FRESH_S:
                    self._store.sign(self._who)
                else:
                    self._store.ping()
                self._reached_s = self._reached_s or time.monotonic()
            except StoreUnavailable:
                self._reached_s = None
            if not self.not_live():
                notify("WATCHDOG=1")
            self._stopping.wait(SAMPLE_EVERY_S)


class Beat(PersistentScheduler):
    """Celery's own scheduler, which also says that it ticks: to what the app's ``beat_health`` builds."""

    _health: BeatHealth | None = None

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        """Look at the schedule, and say so."""
        if self._health is None:
            # Here and not in the constructor: Celery also makes schedulers that never tick, for its banner.
            fleet: Any = self.app
            self._health = fleet.beat_health()
            self._health.start()
        # Before the work, too: an entry that takes long is no reason to look dead at the start.
        self._health.tick()
        next_s = super().tick(*args, **kwargs)
        self._health.tick()
        return next_s

    def close(self) -> None:
        """Keep the schedule, and watch no more."""
        if self._health:
            self._health.stop()
        super().close()
