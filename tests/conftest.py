"""Servers that the tests start themselves, on free ports; nothing is skipped because one is missing."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from dingqueue_worker.embedded import Server
from dingqueue_worker.sandbox.client import Sandbox, Space
from support.state import State

# Tests share the machine with the servers they start: an example's time says nothing about the code.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")
# For a night or a doubt: pytest --hypothesis-profile=deep
settings.register_profile("deep", settings.get_profile("shared machine"), max_examples=3_000)


@pytest.fixture(scope="session")
def valkey() -> Iterator[Server]:
    """One server for each test process; tests keep apart by prefix."""
    with Server(durable=False) as server:
        yield server


@pytest.fixture
def state(valkey: Server) -> Iterator[State]:
    fleet = State(valkey.url, f"t{uuid.uuid4().hex[:8]}:")
    yield fleet
    fleet.store.close()
    fleet.redis.close()


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """One DingTalk for each test process; tests keep apart by namespace."""
    with Sandbox() as running:
        yield running


@pytest.fixture
def space(sandbox: Sandbox) -> Iterator[Space]:
    """A namespace of its own."""
    own = sandbox.namespace()
    yield own
    own.delete()
