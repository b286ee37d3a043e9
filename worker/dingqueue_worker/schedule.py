"""Beat's entries, each harmless when run twice. Knows the store, and no rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery

from dingqueue_worker.settings import Fleet
from dingqueue_worker.store import Store

PRUNE_EVERY_S = 600.0


def entries() -> dict[str, dict[str, Any]]:
    """Celery's ``beat_schedule``."""
    return {
        # A tick that nobody took in time is worth nothing: the next one does the same.
        "prune": {"task": "dingqueue.prune", "schedule": PRUNE_EVERY_S, "options": {"expires": PRUNE_EVERY_S}},
    }


def register(app: Celery, store: Callable[[], Store], fleet: Fleet) -> None:
    """Give an app the tasks that beat asks for."""

    def prune() -> int:
        return store().prune(keep_dead_ms=round(fleet.keep_dead_s * 1000))

    app.task(name="dingqueue.prune", shared=False)(prune)
    app.conf.beat_schedule = entries()
