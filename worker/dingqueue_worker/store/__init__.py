"""The one door to Redis for the fleet: every key, every script call, typed in and out. Knows no Celery, no HTTP."""

from __future__ import annotations

from dingqueue_worker.store.attempts import (
    FAULT_PROBE_S,
    PACE_KEEP_MS,
    Ahead,
    Attempts,
    Released,
    Settled,
    Stale,
    Start,
    Started,
)
from dingqueue_worker.store.door import Event, StoreUnavailable, connect
from dingqueue_worker.store.letters import DeadLetter, Letters
from dingqueue_worker.store.media import Busy, Kept, Leave, Media
from dingqueue_worker.store.people import People
from dingqueue_worker.store.results import Result, Results
from dingqueue_worker.store.server import Server, ServerFacts, UnfitServer
from dingqueue_worker.store.tokens import Fetch, Held, TokenKeeping, TokenView, Wait
from dingqueue_worker.store.views import Figures, LaneView, Memory, Quota, SenderView, Views, drain_s
from dingqueue_worker.store.waiting import Waiting


class Store(Attempts, Waiting, Letters, Views, TokenKeeping, Results, People, Media, Server):
    """All that the fleet keeps, through one client. Safe to share between threads.

    Args:
        url: Redis or Valkey.
        prefix: What the fleet's keys start with.
        patience_s: How long `settle` keeps trying when Redis is away; other calls do not repeat.
        clock_ms: A test's clock; None is the server's own.
    """


__all__ = [
    "FAULT_PROBE_S",
    "PACE_KEEP_MS",
    "Ahead",
    "Busy",
    "DeadLetter",
    "Event",
    "Fetch",
    "Figures",
    "Held",
    "Kept",
    "LaneView",
    "Leave",
    "Memory",
    "Quota",
    "Released",
    "Result",
    "SenderView",
    "ServerFacts",
    "Settled",
    "Stale",
    "Start",
    "Started",
    "Store",
    "StoreUnavailable",
    "TokenView",
    "UnfitServer",
    "Wait",
    "connect",
    "drain_s",
]
