"""The commands of whoever is on call, against a real server: what they print, change, and exit with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dingqueue_worker.cli import main
from dingqueue_worker.embedded import Server
from dingqueue_worker.outcome import Close, Dead, Ended, Retry
from support.state import State, lane, sender


class Shell:
    """Types commands at one fleet."""

    def __init__(self, url: str, prefix: str) -> None:
        self._env = {"DINGQUEUE_BROKER_URL": url, "DINGQUEUE_PREFIX": prefix}

    def __call__(self, *words: str, stdin: str = "") -> Result:
        return CliRunner().invoke(main, words, env=self._env, input=stdin, catch_exceptions=False)


@pytest.fixture
def ops(state: State) -> State:
    state.pace({"ops": lane("robot.ops"), "dev": lane("robot.dev")}, {"robot.ops": sender(3), "robot.dev": sender()})
    return state


@pytest.fixture
def shell(valkey: Server, ops: State) -> Shell:
    # Commands live by the server's clock, so their lanes must too.
    ops.clock.now_ms = int(ops.redis.time()[0]) * 1000
    return Shell(valkey.url, ops.prefix)


def die(ops: State, destination: str, *, why: str = "content refused (code 460101)", cause: str = "content") -> str:
    job_id, calls = ops.submit(destination)
    (call,) = calls
    ops.start(call)
    ops.settle(call, Ended(outcome=Dead(why=why, cause=cause, sent=False)))
    return job_id


def test_lanes_say_what_waits_and_when_it_will_be_gone(ops: State, shell: Shell) -> None:
    for _ in range(8):
        _, calls = ops.submit("ops")
        for call in calls:
            ops.deliver(call)

    text, data = shell("lanes").stdout, json.loads(shell("lanes", "--json").stdout)

    row = next(line for line in text.splitlines() if line.startswith("ops"))
    assert row.split()[:2] == ["ops", "5"]
    assert "ops 3/3 in 60 s" in row
    assert "at its limit" in row
    assert data[1]["destination"] == "ops"
    assert data[1]["drain_s"] == 100.0


def test_lanes_say_what_to_do_about_a_broken_sender(ops: State, shell: Shell) -> None:
    fault = Ended(outcome=Retry(why="no such robot", cause="fault", close=Close(cause="fault", why="no such robot")))
    _, calls = ops.submit("ops")
    for _ in range(2):
        ops.start(calls[0])
        ops.settle(calls[0], fault)
        ops.clock.pass_ms(3_000)
        calls = ops.release()

    text = shell("lanes").stdout

    assert "ops BROKEN until" in text
    assert "robot.ops is broken: correct its table in dingqueue.toml and restart the workers" in text


def test_no_lanes_at_all(valkey: Server) -> None:
    assert "no worker has published" in Shell(valkey.url, "nobody:")("lanes").stdout


def test_a_paused_lane_waits_and_says_why(ops: State, shell: Shell) -> None:
    assert shell("lanes", "pause", "ops", "--for", "600", "--why", "maintenance").stdout == "ops  paused for 10 min\n"
    job_id, calls = ops.submit("ops")
    assert calls == ()
    assert ops.submit("dev")[1]

    assert "maintenance" in shell("status", job_id).stdout
    assert "maintenance" in shell("lanes").stdout
    assert shell("lanes", "resume", "ops").stdout == "ops  resumed\n"
    assert ops.state_of(job_id) == "called"


def test_pausing_a_lane_that_is_not_there(shell: Shell) -> None:
    result = shell("lanes", "pause", "oops")

    assert result.exit_code == 3
    assert "no lane is called oops" in result.stderr


def test_dead_letters_are_listed_without_their_text_and_shown_with_it(ops: State, shell: Shell) -> None:
    job_id = die(ops, "ops")

    listed, shown = shell("dead", "list").stdout, shell("dead", "show", job_id).stdout

    assert job_id in listed
    assert "content refused (code 460101)" in listed
    assert "message" not in listed
    assert '"text": "message' in shown


def test_filters(ops: State, shell: Shell) -> None:
    first, second = die(ops, "ops"), die(ops, "dev", why="robot gone", cause="gone")

    def ids(*words: str) -> list[str]:
        result = shell("dead", "list", "--json", *words)
        return [row["job_id"] for row in json.loads(result.stdout)] if result.stdout.strip() else []

    assert ids() == [first, second]
    assert ids("--destination", "ops") == [first]
    assert ids("--reason", "GONE") == [second]
    assert ids("--older", "3600") == []
    assert ids("--newer", "3600") == [first, second]
    assert ids("--limit", "1") == [first]
    assert shell("dead", "list", "-d", "nobody").exit_code == 3


def test_replay_asks_which_and_shows_before_it_acts(ops: State, shell: Shell) -> None:
    for _ in range(6):
        die(ops, "ops")

    assert shell("dead", "replay").exit_code == 2
    plan = shell("dead", "replay", "--all", "--dry-run")
    assert plan.exit_code == 0
    assert plan.stdout == "ops  6 would be replayed\n"
    assert "about 60 s at the lanes' pace" in plan.stderr, "three of them go at once"
    assert len(list(ops.store.dead())) == 6


def test_with_json_there_is_a_document_where_nothing_is_dead(shell: Shell) -> None:
    for words in (("list",), ("replay", "--all"), ("replay", "nobody"), ("drop", "--all", "--yes")):
        ended = shell("dead", *words, "--json")
        assert (ended.exit_code, json.loads(ended.stdout)) == (3, []), words


def test_replay_keeps_id_and_order_and_goes_through_the_limiter(ops: State, shell: Shell) -> None:
    died = [die(ops, "ops") for _ in range(5)]

    result = shell("dead", "replay", "--all")

    assert result.exit_code == 0, result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines()] == died
    assert ops.state_of(died[0]) == "called"
    statuses = [ops.lanes.status(job_id) for job_id in died[1:]]
    assert [status.place for status in statuses if status] == [0, 1, 2, 3]
    assert list(ops.store.dead()) == []


def test_an_interrupted_replay_goes_on_where_it_stopped(ops: State, shell: Shell) -> None:
    died = [die(ops, "ops") for _ in range(4)]
    shell("dead", "replay", died[0], died[1])

    assert [letter.job_id for letter in ops.store.dead()] == died[2:]
    result = shell("dead", "replay", "--all")
    assert [line.split()[0] for line in result.stdout.splitlines()] == died[2:]


def test_a_job_that_is_not_dead_is_named(ops: State, shell: Shell) -> None:
    job_id = die(ops, "ops")
    shell("dead", "replay", job_id)

    result = shell("dead", "replay", job_id)

    assert result.exit_code == 3
    assert shell("dead", "show", job_id).exit_code == 3


def test_drop_asks_first(ops: State, shell: Shell) -> None:
    job_id = die(ops, "ops")

    assert shell("dead", "drop", job_id, stdin="n\n").exit_code == 1
    assert len(list(ops.store.dead())) == 1
    assert shell("dead", "drop", job_id, "--yes").stdout == f"{job_id}  dropped\n"
    assert list(ops.store.dead()) == []


def test_a_list_does_not_read_the_messages(ops: State) -> None:
    for _ in range(3):
        die(ops, "ops")

    assert [letter.body for letter in ops.store.dead()] == [None] * 3
    assert all(letter.job for letter in ops.store.whole(ops.store.dead()))


def test_export_is_one_whole_job_a_line(ops: State, shell: Shell, tmp_path: Path) -> None:
    died = [die(ops, "ops"), die(ops, "dev")]
    file = tmp_path / "dead.jsonl"

    assert shell("dead", "export", "-o", str(file)).exit_code == 0

    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["job"]["id"] for row in rows] == died


def test_redis_away_is_said_and_has_its_own_exit_code() -> None:
    from dingqueue_worker.embedded import free_port

    result = Shell(f"redis://127.0.0.1:{free_port()}/0", "dq:")("lanes")

    assert result.exit_code == 4
    assert "could not be reached (connection refused); is it running" in result.stderr
