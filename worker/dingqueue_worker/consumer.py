"""Celery's consumer with less to do for each message. Knows Celery and no rule."""

from __future__ import annotations

import logging
import os
from typing import Any

from celery import bootsteps
from celery.exceptions import WorkerShutdown
from celery.worker.consumer import Consumer as CeleryConsumer

from dingqueue.servers import refusal
from dingqueue_worker.telemetry import event
from dingqueue_worker.threads import TaskPool
from dingqueue_worker.transport import Many

#: Its type stub knows little of what is used here.
_Consumer: Any = CeleryConsumer

#: Longest time that an event waits for others. Each carries its own time, so Flower shows the same.
EVERY_S = 0.2
#: Events in one message, if that many come sooner.
MOST = 300


class Consumer(_Consumer):  # type: ignore[misc]  # see above
    """Named by ``worker_consumer``."""

    def call_soon_ack(self, p: Any, *args: Any, **kwargs: Any) -> Any:
        """Acknowledge where that is a note in memory: at once, without a turn of the loop for each message."""
        if self.task_consumer is not None and isinstance(self.task_consumer.channel, Many):
            return p(*args, **kwargs)
        return super().call_soon_ack(p, *args, **kwargs)

    def update_strategies(self) -> None:
        """Tell our pool, whose threads go on by themselves while they are heard."""
        super().update_strategies()
        if isinstance(self.pool, TaskPool):
            self.pool.strategies = self.strategies
        self.app.shift.unheard = False

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """End the worker where the broker can be none, as a Sentinel: Celery would ask it for ever, twice a second."""
        why = refusal(exc)
        if why.for_good:
            event("the worker stops", level=logging.CRITICAL, why=f"the broker {why.said}")
            raise WorkerShutdown(os.EX_CONFIG) from None
        super().on_connection_error_after_connected(exc)

    def on_close(self) -> None:
        """The connection is lost: what a thread began itself would be told to nobody."""
        self.app.shift.unheard = True
        super().on_close()


class BundledEvents(bootsteps.StartStopStep):
    """Lets the dispatcher's buffer fill: Celery publishes it in every turn of its loop, with one event or two in it."""

    requires = ("celery.worker.consumer.events:Events",)

    def __init__(self, parent: Any, **options: Any) -> None:
        """Nothing flushes yet."""
        super().__init__(parent, **options)
        self._timer: Any = None

    def start(self, parent: Any) -> None:
        """Flush by the clock. Without an event loop the dispatcher buffers nothing, and nothing changes."""
        dispatcher = parent.event_dispatcher
        if parent.hub is None or dispatcher is None:
            return
        dispatcher.buffer_limit = MOST
        dispatcher.on_send_buffered = None
        self._timer = parent.hub.call_repeatedly(EVERY_S, dispatcher.flush)

    def stop(self, parent: Any) -> None:
        """Publish what is left."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            parent.event_dispatcher.flush()
