"""Servers that the tests start themselves, on free ports; nothing is skipped because one is missing."""

from __future__ import annotations

import fcntl
import os
import signal
import uuid
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings

from dingqueue_worker.embedded import Server
from dingqueue_worker.sandbox.client import Sandbox, Space
from support import figures
from support.figures import Figure
from support.state import State

# Tests share the machine with the servers they start: an example's time says nothing about the code.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")
# For a night or a doubt: pytest --hypothesis-profile=deep --timeout=0
settings.register_profile("deep", settings.get_profile("shared machine"), max_examples=3_000)


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell started the tests in its background: the programs that they start would be deaf to Ctrl-C, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--backwards``: from the last test to the first. None may need the order."""
    parser.addoption("--backwards", action="store_true", help="from the last test to the first")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Turn the order around, where that was asked for."""
    if config.getoption("backwards"):
        items.reverse()


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Figure:
    """Says what was measured; the run's end shows it."""
    return lambda words: record_property(figures.NAME, words)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Every figure, below the tests' outcomes."""
    reports = [one for kind in ("passed", "failed") for one in terminalreporter.getreports(kind)]
    said = [words for report in reports for name, words in report.user_properties if name == figures.NAME]
    if said:
        terminalreporter.section("figures")
        for words in said:
            terminalreporter.line(str(words))


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


@pytest.fixture(autouse=True)
def _room(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A test marked ``alone`` has the machine to itself; all others share it.

    Test processes meet at two locks: who wants to be alone holds the door, so that nobody new comes in meanwhile.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    alone = request.node.get_closest_marker("alone") is not None
    with (shared / "door").open("w") as door, (shared / "room").open("w") as room:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        if not alone:
            fcntl.flock(door, fcntl.LOCK_UN)
        yield
