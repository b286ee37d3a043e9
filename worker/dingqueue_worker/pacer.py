"""The pacer: a thread of every worker that calls what the clock has freed. Any one that lives paces the fleet."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from celery import bootsteps
from celery.worker import state as worker_state

from dingqueue.lanes import Call
from dingqueue_worker.pace import Pace
from dingqueue_worker.settings import Fleet
from dingqueue_worker.store import Event, Store, StoreUnavailable, UnfitServer
from dingqueue_worker.telemetry import event

#: Longest sleep while something is pending, and while nothing is.
_BUSY_S, _IDLE_S = 1.0, 2.0
#: A worker that cannot reach Redis or the broker asks again this soon, and says so this often.
_AGAIN_S = 1.0
_SAY_AGAIN_S = 60.0
#: Of each kind of work in one look: it holds Redis up for two or three milliseconds, and the next follows at once.
_MOST = 64
#: How often the pace is published again, so that it does not expire under a running fleet.
_PACE_EVERY_S = 3600.0


class Pacer:
    """Calls `release`, publishes, and sleeps until the next thing is due.

    A broker that is away does not stop it: what could not be published is kept and tried again, and meanwhile nothing
    more is called, so that leases do not grow while nobody can hear.
    """

    def __init__(
        self,
        *,
        store: Store,
        pace: Pace,
        fleet: Fleet,
        publish: Callable[[Sequence[Call]], None],
        tell: Callable[[Event], None],
        fold: Callable[[str], Iterable[Call]],
        who: str = "",
    ) -> None:
        self._who, self._fold = who, fold
        self._store, self._pace, self._fleet = store, pace, fleet
        self._publish, self._tell = publish, tell
        self._wake = threading.Condition()
        self._look_at_s = 0.0
        self._stopping = threading.Event()
        self._unpublished: list[Call] = []
        self._memory = ""
        self._pace_at_s = 0.0
        self._fit = False
        #: Since when Redis has not been reached, and when that was last said; None while it is there.
        self._away_s: float | None = None
        self._said_s = 0.0
        #: When a look last came to its end, and when Redis last answered one; ``time.monotonic``.
        self.looked_s = self.heard_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="dingqueue-pacer", daemon=True)

    def start(self) -> None:
        """Begin pacing.

        Raises:
            UnfitServer: Redis would lose jobs. While it is away nobody knows; then the pacer ends the worker later.
        """
        with contextlib.suppress(StoreUnavailable):
            self._require_fit_server()
        self._thread.start()

    def stop(self) -> None:
        """Stop, within one round trip."""
        with self._wake:
            self._stopping.set()
            self._wake.notify()
        self._thread.join(timeout=10.0)

    def dispatch(self, calls: Iterable[Call], *, next_look_ms: int | None = None) -> None:
        """Publish calls now; what the broker does not take, the pacer publishes later. Wakes it for the next look."""
        rows = tuple(calls)
        if rows:
            published = self._try(rows)
            # In a forked pool process the pacer does not run: what is not published there is called again by its lease.
            if not published and self._thread.is_alive():
                with self._wake:
                    self._unpublished += rows
        if next_look_ms is not None:
            self.look_within(next_look_ms / 1000)

    def look_within(self, seconds: float) -> None:
        """Look at the clock's work within this time, if not sooner."""
        at_s = time.monotonic() + seconds
        with self._wake:
            if at_s < self._look_at_s:
                self._look_at_s = at_s
                self._wake.notify()

    def _run(self) -> None:
        while not self._stopping.is_set():
            with self._wake:
                self._look_at_s = math.inf  # who wants a look from now on may not be seen by this one
            try:
                wait_s = self._round()
                self._reached()
            except UnfitServer as error:
                event("the worker stops", level=logging.CRITICAL, why=str(error))
                worker_state.should_stop = os.EX_CONFIG  # type: ignore[assignment]  # an exit code, as Celery reads it
                return
            except StoreUnavailable as error:
                self._not_reached(error)
                wait_s = _AGAIN_S
            except Exception:  # a pacer that died would stop the fleet in silence: say it, and go on
                logging.getLogger("dingqueue.worker").exception("the pacer stumbled")
                wait_s = _AGAIN_S
            self.looked_s = time.monotonic()
            with self._wake:
                self._look_at_s = min(self._look_at_s, time.monotonic() + wait_s)
                while not self._stopping.is_set() and (left_s := self._look_at_s - time.monotonic()) > 0:
                    self._wake.wait(left_s)

    def _not_reached(self, error: StoreUnavailable) -> None:
        """Say it at once, and then once a minute: an outage is one thing, however often it is met."""
        now_s = time.monotonic()
        if self._away_s is None or now_s - self._said_s >= _SAY_AGAIN_S:
            self._away_s = now_s if self._away_s is None else self._away_s
            self._said_s = now_s
            away_s = round(now_s - self._away_s)
            event("state not reached", level=logging.WARNING, error=str(error), for_s=away_s or None)

    def _reached(self) -> None:
        self.heard_s = time.monotonic()
        if self._away_s is not None:
            event("state reached again", after_s=round(self.heard_s - self._away_s))
            self._away_s = None

    def _round(self) -> float:
        """One look; returns seconds until the next."""
        if not self._fit:
            self._require_fit_server()
        with self._wake:
            kept, self._unpublished = self._unpublished, []
        if kept and not self._try(kept):
            with self._wake:
                self._unpublished = kept + self._unpublished
            return _AGAIN_S
        if time.monotonic() >= self._pace_at_s:
            self._tell_pace()
        released = self._store.release(
            most=_MOST,
            max_deliveries=self._fleet.max_deliveries,
            max_attempts=self._fleet.max_attempts,
            who=self._who,
        )
        collecting = [happened.subject for happened in released.events if happened.name == "digest"]
        for happened in released.events:
            if happened.name != "digest":
                self._tell(happened)
        if released.memory != self._memory:
            # Redis forgot, or another worker met that first: publish again, and rest where nobody knows what was sent.
            self._tell_pace()
            return 0.0
        self.dispatch(released.calls)
        for destination in collecting:
            self.dispatch(self._fold(destination))
        if released.next_look_ms is None:
            return _IDLE_S
        return min(released.next_look_ms / 1000, _BUSY_S)

    def _require_fit_server(self) -> None:
        facts = self._store.require_fit_server()
        self._fit = True
        if not facts.append_only:
            event(
                "jobs are kept in memory only",
                level=logging.WARNING,
                server=f"{facts.name} {facts.version}",
                why="its append-only file is off: a restart of the server loses what waits (set appendonly yes)",
            )

    def _tell_pace(self) -> None:
        self._memory, rested = self._store.publish_pace(self._pace, known_memory=self._memory)
        self._pace_at_s = time.monotonic() + _PACE_EVERY_S
        if rested:
            event("Redis lost its memory: lanes rest one window", level=logging.WARNING, rest_ms=self._pace.rest_ms)

    def _try(self, calls: Sequence[Call]) -> bool:
        try:
            self._publish(calls)
        except Exception as error:  # noqa: BLE001 - whatever the broker's library raises, the calls are kept
            event("broker not reached", level=logging.WARNING, calls=len(calls), error=type(error).__name__)
            return False
        return True


class PacerStep(bootsteps.StartStopStep):
    """Runs the pacer beside the worker's pool, broker or not. A subclass says which pacer: see `step`."""

    requires = ("celery.worker.components:Pool",)

    build: Callable[[], Pacer]

    def __init__(self, parent: Any, **options: Any) -> None:
        """Refuse a pool that cannot work before anything starts."""
        super().__init__(parent, **options)
        pool = parent.pool_cls if isinstance(parent.pool_cls, str) else parent.pool_cls.__module__
        if "gevent" in pool or "eventlet" in pool:
            # On Redis it never restores messages, and our pacer is a thread. https://github.com/celery/kombu/issues/1025
            raise SystemExit("dingqueue does not run on the gevent or eventlet pool: leave --pool out")

    def start(self, parent: Any) -> None:
        """Begin pacing once the pool is up."""
        self.pacer = self.build()
        try:
            self.pacer.start()
        except UnfitServer as error:
            raise SystemExit(f"dingqueue does not start: {error}") from None

    def stop(self, parent: Any) -> None:
        """Stop before the pool does: nothing is called that nobody would carry out."""
        self.pacer.stop()


def step(build: Callable[[], Pacer]) -> type[PacerStep]:
    """The bootstep that runs the pacer which `build` gives."""
    return type("Pacer", (PacerStep,), {"build": staticmethod(build), "name": "dingqueue.pacer"})
