"""Beat's entries, each harmless when run twice. Knows the store, and no rule."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery import Celery

from dingqueue.files.store import FileStore, FileStoreUnavailable
from dingqueue_worker.pace import quotas_of
from dingqueue_worker.results import Results
from dingqueue_worker.settings import Settings
from dingqueue_worker.store import Event, Store
from dingqueue_worker.telemetry import event
from dingqueue_worker.tokens import Token, Tokens

PRUNE_EVERY_S = 600.0
#: How much of a month's calls is worth a warning.
QUOTA_MARKS_PERCENT = (80, 95)
#: Files go by the day.
PRUNE_FILES_EVERY_S = 3_600.0
#: Work notifications are asked about within seconds; how often for each is `results`' own.
RESULTS_EVERY_S = 5.0
#: A month's quota is warned about within minutes.
QUOTAS_EVERY_S = 60.0
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
        "results": {"task": "dingqueue.results", "schedule": RESULTS_EVERY_S, "options": {"expires": RESULTS_EVERY_S}},
        "quotas": {"task": "dingqueue.quotas", "schedule": QUOTAS_EVERY_S, "options": {"expires": QUOTAS_EVERY_S}},
    }


def register(
    app: Celery,
    settings: Settings,
    *,
    store: Callable[[], Store],
    tokens: Callable[[], Tokens],
    results: Callable[[], Results],
    tell: Callable[[], Callable[[Event], None]],
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

    def look_up() -> int:
        """Look up what became of work notifications; says of how many."""
        return results().look()

    def warn() -> dict[str, int]:
        """Warn once a month at each mark that an organisation's calls pass; says how many there were."""
        used = {}
        for quota, most in quotas_of(settings).items():
            used[quota], events = store().quota(quota, most=most, marks_percent=QUOTA_MARKS_PERCENT)
            for happened in events:
                tell()(happened)
        return used

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
    app.task(name="dingqueue.results", shared=False)(look_up)
    app.task(name="dingqueue.quotas", shared=False)(warn)
    app.conf.beat_schedule = entries()
