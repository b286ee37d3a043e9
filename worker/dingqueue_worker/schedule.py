"""Beat's entries, each harmless when run twice. Knows the store, and no rule."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery import Celery

from dingqueue.files.store import FileStore, FileStoreUnavailable
from dingqueue_worker.settings import Settings
from dingqueue_worker.store import Store
from dingqueue_worker.telemetry import event
from dingqueue_worker.tokens import Token, Tokens

PRUNE_EVERY_S = 600.0
#: Files go by the day.
PRUNE_FILES_EVERY_S = 3_600.0
#: A token is fetched anew in the last third of its two hours, so a tick is never late.
TOKENS_EVERY_S = 60.0


def entries() -> dict[str, dict[str, Any]]:
    """Celery's ``beat_schedule``."""
    return {
        # A tick that nobody took in time is worth nothing: the next one does the same.
        "prune": {"task": "dingqueue.prune", "schedule": PRUNE_EVERY_S, "options": {"expires": PRUNE_EVERY_S}},
        "prune files": {
            "task": "dingqueue.prune_files",
            "schedule": PRUNE_FILES_EVERY_S,
            "options": {"expires": PRUNE_FILES_EVERY_S},
        },
        "tokens": {"task": "dingqueue.tokens", "schedule": TOKENS_EVERY_S, "options": {"expires": TOKENS_EVERY_S}},
    }


def register(
    app: Celery,
    settings: Settings,
    *,
    store: Callable[[], Store],
    tokens: Callable[[], Tokens],
    files: Callable[[], FileStore],
) -> None:
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

    def prune_files() -> str:
        """Drop shared files that no job needs any more, where the file store does not do that by itself."""
        try:
            return f"{files().prune()} days dropped"
        except FileStoreUnavailable as error:
            event("file store not pruned", level=logging.WARNING, error=str(error))
            return str(error)

    app.task(name="dingqueue.prune", shared=False)(prune)
    app.task(name="dingqueue.prune_files", shared=False)(prune_files)
    app.task(name="dingqueue.tokens", shared=False)(refresh)
    app.conf.beat_schedule = entries()
