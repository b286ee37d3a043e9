"""Does this worker make progress? What is looked at, and what follows. Knows Celery's worker, and no rule of jobs.

Liveness looks only at what the process can do by itself: a Redis that is away makes nobody dead, since a restart would
not bring it back. Celery's own `inspect ping` is not asked: it costs more than a second of processor time, and a worker
that consumes nothing may still answer it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from celery import Celery, bootsteps
from celery.worker import state as worker_state
from kombu import Connection
from kombu.exceptions import ChannelError

from dingqueue_worker.health import Page, Shown, notify, verdict
from dingqueue_worker.pacer import Pacer

#: Nothing in a healthy process takes as long: Redis's socket timeouts are 5 s, a request is bounded by 12 s.
STANDS_STILL_S = 60.0
#: For "ready": every look and tick is due several times in this.
FRESH_S = 15.0
SAMPLE_EVERY_S = 5.0
_TICK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """What a worker shows of itself. Seconds of the process's own clock.

    Attributes:
        now_s: The clock now.
        looked_s: The pacer's last look came to an end, whether Redis answered or not.
        heard_s: Redis last answered the pacer.
        ticked_s: Celery's loop last came round; the start counts.
        consumes: It has come round at all.
        reached_s: Since when the broker has answered without a gap; None while it does not.
        idle_s: Since when the queue has had messages and this worker, with hands free, took none; None when it does.
        oldest_attempt_s: When the oldest attempt that is still out began; None without one.
        lease_s: No attempt may take longer.
    """

    now_s: float
    looked_s: float
    heard_s: float
    ticked_s: float
    consumes: bool
    reached_s: float | None
    idle_s: float | None
    oldest_attempt_s: float | None
    lease_s: float


def not_live(signs: Signs) -> list[str]:
    """Why this worker must be restarted; empty when it need not."""
    problems = []
    if signs.now_s - signs.looked_s > STANDS_STILL_S:
        problems.append(f"the pacer has not come to an end of its look for {signs.now_s - signs.looked_s:.0f} s")
    # Celery's timers rest while the broker is away: then it is no sign, and for a while after.
    there_s = 0.0 if signs.reached_s is None else signs.now_s - signs.reached_s
    if there_s > STANDS_STILL_S:
        if signs.now_s - signs.ticked_s > STANDS_STILL_S:
            problems.append(f"Celery's loop has stood still for {signs.now_s - signs.ticked_s:.0f} s")
        if signs.idle_s is not None and signs.now_s - signs.idle_s > STANDS_STILL_S:
            problems.append(f"calls wait in the queue and none was taken for {signs.now_s - signs.idle_s:.0f} s")
    if signs.oldest_attempt_s is not None and signs.now_s - signs.oldest_attempt_s > 3 * signs.lease_s:
        problems.append(f"an attempt has hung for {signs.now_s - signs.oldest_attempt_s:.0f} s")
    return problems


def not_ready(signs: Signs) -> list[str]:
    """Why this worker does nothing just now; empty when it does."""
    problems = not_live(signs)
    if signs.now_s - signs.heard_s > FRESH_S:
        problems.append("Redis has not answered the pacer")
    if signs.reached_s is None:
        problems.append("the broker is not reached")
    elif not signs.consumes:
        problems.append("not consuming yet")
    elif signs.now_s - signs.ticked_s > FRESH_S:
        problems.append("not consuming any more")
    return problems


class WorkerHealth:
    """Watches one worker from a thread of its own; serves its page and tells systemd, where they are wanted."""

    def __init__(
        self,
        *,
        app: Celery,
        worker: Any,
        pacer: Pacer,
        queue: str,
        lease_s: float,
        address: tuple[str, int] | None,
        pages: Callable[[Callable[[], Signs]], Mapping[str, Callable[[], Shown]]],
    ) -> None:
        self._app, self._worker, self._pacer, self._queue, self._lease_s = app, worker, pacer, queue, lease_s
        now_s = time.monotonic()
        self._began_s = now_s
        self._ticked_s: float | None = None
        self._reached_s: float | None = None
        self._idle_s: float | None = None
        self._taken = 0
        self._stopping = threading.Event()
        self._connection: Connection | None = None
        self._page = None
        if address:
            self._page = Page(
                address,
                {
                    "/livez": lambda: verdict(not_live(self.signs())),
                    "/readyz": lambda: verdict(not_ready(self.signs())),
                    **pages(self.signs),
                },
            )
        self._thread = threading.Thread(target=self._run, name="dingqueue-progress", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        if self._page:
            self._page.start()
        self._thread.start()
        # Ready as far as systemd is concerned: with Redis away a start must not time out.
        notify("READY=1")

    def stop(self) -> None:
        """Watch no more."""
        notify("STOPPING=1")
        self._stopping.set()
        if self._page:
            self._page.stop()
        self._thread.join(timeout=10.0)

    def tick(self) -> None:
        """Celery's loop came round."""
        self._ticked_s = time.monotonic()

    def signs(self) -> Signs:
        """As things stand."""
        began = [request.time_start for request in tuple(worker_state.active_requests) if request.time_start]
        ages = [time.time() - at for at in began]
        now_s = time.monotonic()
        return Signs(
            now_s=now_s,
            looked_s=self._pacer.looked_s,
            heard_s=self._pacer.heard_s,
            ticked_s=self._ticked_s or self._began_s,
            consumes=self._ticked_s is not None,
            reached_s=self._reached_s,
            idle_s=self._idle_s,
            oldest_attempt_s=now_s - max(ages) if ages else None,
            lease_s=self._lease_s,
        )

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._sample()
            if not not_live(self.signs()):
                notify("WATCHDOG=1")
            self._stopping.wait(SAMPLE_EVERY_S)
        self._let_go()

    def _sample(self) -> None:
        taken = sum(worker_state.total_count.values())
        try:
            waiting = self._waiting()
        except Exception:  # noqa: BLE001 - whatever the broker's library raises: it is away, which is no fault of ours
            self._let_go()
            self._reached_s = self._idle_s = None
            return
        now_s = time.monotonic()
        self._reached_s = self._reached_s or now_s
        hands = getattr(self._worker.pool, "limit", None) or self._worker.concurrency
        busy = len(worker_state.active_requests) >= hands
        if not waiting or busy or taken != self._taken:
            self._idle_s = None
        else:
            self._idle_s = self._idle_s or now_s
        self._taken = taken

    def _waiting(self) -> int:
        """Messages in the queue. The connection is our own: Celery's belong to Celery's threads."""
        if self._connection is None:
            self._connection = self._app.connection_for_read()
        try:
            channel: Any = self._connection.default_channel
            return int(channel.queue_declare(self._queue, passive=True).message_count)
        except ChannelError:  # an empty list does not exist in Redis
            return 0

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.release()


class HealthStep(bootsteps.StartStopStep):
    """Runs `WorkerHealth` beside the pool. A subclass says which: see `steps`."""

    requires = ("celery.worker.components:Pool",)
    build: Callable[[Any], WorkerHealth]
    health: WorkerHealth | None = None

    def start(self, parent: Any) -> None:
        """Begin to watch."""
        # On the class: the consumer's step, which Celery makes anew after each loss of the broker, looks there.
        type(self).health = health = self.build(parent)
        health.start()

    def stop(self, parent: Any) -> None:
        """Watch no more."""
        if self.health:
            self.health.stop()


def steps(app: Celery, build: Callable[[Any], WorkerHealth]) -> None:
    """Give an app's workers their health: a step of the worker, and one of its consumer, whose timer is the loop's."""
    health_step: type[HealthStep] = type(
        "Health", (HealthStep,), {"build": staticmethod(build), "name": "dingqueue.health"}
    )

    class Tick(bootsteps.StartStopStep):
        name = "dingqueue.tick"

        def start(self, parent: Any) -> None:
            # Not told at once: one that connects, fails and connects again has not come round.
            self._entry = parent.timer.call_repeatedly(_TICK_EVERY_S, self._tick)

        def stop(self, parent: Any) -> None:
            if entry := getattr(self, "_entry", None):
                entry.cancel()

        @staticmethod
        def _tick() -> None:
            if health := health_step.health:
                health.tick()

    app.steps["worker"].add(health_step)
    app.steps["consumer"].add(Tick)
