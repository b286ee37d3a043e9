"""How long `settle` keeps trying, against servers that are away or may not write."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from dingqueue_worker.embedded import Server, free_port
from dingqueue_worker.outcome import Delivered, Ended
from dingqueue_worker.store import Settled, Stale, Store, StoreUnavailable
from support.state import LEASE_MS, State, lane, sender
from support.waiting import wait_for

ENDED = Ended(outcome=Delivered())


def settle(store: Store, job_id: str, grant: int) -> Settled | Stale:
    return store.settle(job_id, grant, ENDED, step=0, wait_s=0, most=8, notes={})


def test_it_tries_for_its_time_and_no_longer_than_one_more_wait() -> None:
    store = Store(f"redis://127.0.0.1:{free_port()}/0", prefix="t:", patience_s=1.5)
    began_s = time.monotonic()

    with pytest.raises(StoreUnavailable):
        settle(store, "job", 1)

    assert 1.5 <= time.monotonic() - began_s < 1.5 + 10
    store.close()


def test_a_server_that_may_only_read_for_a_while_hears_it_later() -> None:
    with Server() as demoted:
        state = State(demoted.url, "t:")
        state.pace({"ops": lane("robot.ops")}, {"robot.ops": sender(limit=3, window_ms=10_000)})
        job_id, (call,) = state.submit()
        state.start(call, lease_ms=LEASE_MS)
        store = Store(demoted.url, prefix="t:", clock_ms=state.clock, patience_s=30.0)
        with (
            redis.Redis(port=demoted.port, decode_responses=True) as server,
            ThreadPoolExecutor(1) as thread,
        ):
            server.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))  # nobody answers: it keeps what it has
            waiting = thread.submit(settle, store, job_id, call.grant)
            wait_for(lambda: "errorstat_READONLY" in server.info("errorstats"), what="it is refused")
            assert not waiting.done()

            server.execute_command("REPLICAOF", "NO", "ONE")

            settled = waiting.result(30)
        assert isinstance(settled, Settled)
        assert state.state_of(job_id) == "delivered"
        store.close()


def test_a_threads_own_connection_that_was_cut_is_made_anew() -> None:
    with Server() as server:
        state = State(server.url, "t:")
        state.pace({"ops": lane("robot.ops")}, {"robot.ops": sender(limit=3, window_ms=10_000)})
        store = Store(server.url, prefix="t:", clock_ms=state.clock, patience_s=10.0)
        for _ in range(2):
            job_id, (call,) = state.submit()
            state.start(call, lease_ms=LEASE_MS)

            assert isinstance(settle(store, job_id, call.grant), Settled)

            state.redis.client_kill_filter(_type="normal", skipme=True)
        store.close()
