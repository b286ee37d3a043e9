"""The pacer's own clockwork; what it decides is the scripts' and is tested there."""

from __future__ import annotations

import threading
import time
from typing import Any, cast

from dingqueue_worker.pace import Pace
from dingqueue_worker.pacer import Pacer
from dingqueue_worker.settings import Fleet
from dingqueue_worker.store import Released, ServerFacts, Store


class QuietStore:
    """Nothing is ever due; each look can be held up in its middle."""

    def __init__(self) -> None:
        self.looks = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)

    def require_fit_server(self) -> ServerFacts:
        return ServerFacts(name="Valkey", version="8.0.0", policy="noeviction", append_only=True)

    def publish_pace(self, pace: Pace, *, known_memory: str) -> tuple[str, bool]:
        return "m1", False

    def release(self, **_: Any) -> Released:
        self.looks.release()
        self.go_on.acquire(timeout=10)
        return Released(calls=(), events=(), next_look_ms=None, memory="m1")


def test_who_wants_a_look_while_one_is_being_taken_gets_another() -> None:
    store = QuietStore()
    pacer = Pacer(
        store=cast("Store", store), pace=Pace(lanes={}, senders={}, rest_ms=1), fleet=Fleet(),
        publish=lambda calls: None, tell=lambda happened: None, fold=lambda destination: (),
    )  # fmt: skip
    pacer.start()
    assert store.looks.acquire(timeout=10)

    pacer.look_within(0.05)
    store.go_on.release()

    began_s = time.monotonic()
    assert store.looks.acquire(timeout=10)
    assert time.monotonic() - began_s < 1.0, "the idle look came, not the one that was asked for"
    store.go_on.release()
    pacer.stop()
