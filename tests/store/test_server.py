"""Which servers may keep jobs; asked of real ones."""

from __future__ import annotations

import pytest

from dingqueue_worker.embedded import Server
from dingqueue_worker.store import ServerFacts, Store, UnfitServer
from support.sentinels import lone_sentinel


def test_a_durable_server_is_fit() -> None:
    with Server(durable=True) as server:
        facts = Store(server.url, prefix="dq:").require_fit_server()

    assert facts.append_only
    assert facts.policy == "noeviction"


def test_a_server_that_may_evict_jobs_is_refused() -> None:
    with Server(durable=False, options={"maxmemory": "50mb", "maxmemory-policy": "allkeys-lru"}) as server:
        store = Store(server.url, prefix="dq:")

        with pytest.raises(UnfitServer, match=r"may evict jobs \(maxmemory-policy allkeys-lru\): set .* noeviction"):
            store.require_fit_server()
        assert not store.server_facts().append_only


def test_a_sentinel_is_refused() -> None:
    with lone_sentinel() as port, pytest.raises(UnfitServer, match=r"its address is sentinel://host:26379/name/0"):
        Store(f"redis://127.0.0.1:{port}/0", prefix="dq:").require_fit_server()


@pytest.mark.parametrize(
    ("name", "version", "fit"),
    [("Redis", "6.0.16", False), ("Redis", "6.2.0", True), ("Redis", "7.0.15", True), ("Redis", "8.0.0", True),
     ("Valkey", "7.2.5", True), ("Valkey", "9.1.0", True)],
)  # fmt: skip
def test_old_servers_are_refused(name: str, version: str, fit: bool) -> None:
    problem = ServerFacts(name=name, version=version, policy="noeviction", append_only=True).problem()

    assert (problem == "") is fit, problem
