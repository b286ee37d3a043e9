"""``dingqueue health``, over a real Redis and without one."""

from __future__ import annotations

import json

from click.testing import CliRunner

from dingqueue_worker.cli import main
from dingqueue_worker.embedded import Server
from support.state import State


def ask(state: State, url: str, *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["health", *words, "--broker-url", url], env={"DINGQUEUE_PREFIX": state.prefix})
    return done.exit_code, done.output


def test_a_fleet_that_lives_is_well(valkey: Server, state: State) -> None:
    state.clock.now_ms = state.store.now_ms()
    state.store.sign("worker:a:1")
    state.store.sign("worker:a:2")
    state.store.sign("beat:a:3")

    code, said = ask(state, valkey.url)

    assert code == 0, said
    assert "OK    worker: 2 alive" in said
    assert "OK    beat: 1 alive" in said


def test_a_silent_worker_is_said_with_what_to_type(valkey: Server, state: State) -> None:
    state.clock.now_ms = state.store.now_ms() - 60_000
    state.store.sign("worker:a:1")

    code, said = ask(state, valkey.url)

    assert code == 1
    assert "FAIL  worker: silent: the last sign was 6" in said
    assert "FAIL  beat: none was here in the last day; start one: dingqueue beat" in said


def test_one_part_alone_and_as_json(valkey: Server, state: State) -> None:
    code, said = ask(state, valkey.url, "redis", "--json")

    assert code == 0
    (part,) = json.loads(said)
    assert (part["name"], part["ok"]) == ("redis", True)


def test_without_redis_nothing_is_known(state: State) -> None:
    code, said = ask(state, "redis://127.0.0.1:1/0")

    assert code == 4
    assert "could not be reached (connection refused)" in said


def test_a_broker_that_holds_no_lanes_is_refused(state: State) -> None:
    assert ask(state, "amqp://guest@127.0.0.1")[0] == 2
    assert ask(state, "file:/nowhere")[0] == 2
