"""Beat's entries, each harmless when run twice. Knows the store, and no rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery

from dingqueue_worker.settings import Settings
from dingqueue_worker.store import Store
from dingqueue_worker.tokens import Token, Tokens

PRUNE_EVERY_S = 600.0
#: A token is fetched anew in the last third of its two hours, so a tick is never late.
TOKENS_EVERY_S = 60.0


def entries() -> dict[str, dict[str, Any]]:
    """Celery's ``beat_schedule``."""
    return {
        # A tick that nobody took in time is worth nothing: the next one does the same.
        "prune": {"task": "dingqueue.prune", "schedule": PRUNE_EVERY_S, "options": {"expires": PRUNE_EVERY_S}},
        "tokens": {"task": "dingqueue.tokens", "schedule": TOKENS_EVERY_S, "options": {"expires": TOKENS_EVERY_S}},
    }


def register(app: Celery, settings: Settings, *, store: Callable[[], Store], tokens: Callable[[], Tokens]) -> None:
    """Give an app the tasks that beat asks for."""

    def prune() -> int:
        return store().prune(keep_dead_ms=round(settings.fleet.keep_dead_s * 1000))

    def refresh() -> dict[str, str]:
        """Fetch the tokens that are due; says of each app whether it has one."""
        found = {}
        for name, one in settings.apps.items():
            got = tokens().refresh(one)
            found[name] = "good" if isinstance(got, Token) else got.outcome.why
        return found

    app.task(name="dingqueue.prune", shared=False)(prune)
    app.task(name="dingqueue.tokens", shared=False)(refresh)
    app.conf.beat_schedule = entries()
