"""The commands that an application's people type: what they print, on which stream, and what they exit with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dingqueue_worker.cli import main
from dingqueue_worker.embedded import Server, free_port
from support.state import State, lane, sender


class Shell:
    def __init__(self, url: str, prefix: str) -> None:
        self._env = {"DINGQUEUE_BROKER_URL": url, "DINGQUEUE_PREFIX": prefix, "DINGQUEUE_STATE_URL": None}

    def __call__(self, *words: str, stdin: str = "") -> Result:
        return CliRunner().invoke(main, words, env=self._env, input=stdin, catch_exceptions=False)


@pytest.fixture
def ops(state: State) -> State:
    state.clock.now_ms = int(state.redis.time()[0]) * 1000
    state.pace({"ops": lane("robot.ops"), "dev": lane("robot.dev")}, {"robot.ops": sender(1), "robot.dev": sender()})
    return state


@pytest.fixture
def shell(valkey: Server, ops: State) -> Shell:
    return Shell(valkey.url, ops.prefix)


def test_send_prints_the_job_id_and_nothing_else(ops: State, shell: Shell) -> None:
    result = shell("send", "ops", "Hello", "--mention", "alice")

    assert result.exit_code == 0
    assert result.stderr == ""
    assert ops.state_of(result.stdout.strip()) == "called"


def test_json_is_one_document(ops: State, shell: Shell) -> None:
    assert set(json.loads(shell("send", "ops", "Hello", "--json").stdout)) == {"job_id"}


def test_text_may_come_through_a_pipe(ops: State, shell: Shell) -> None:
    job_id = shell("send", "ops", "-", stdin="load 7.2\nload 8.1\n").stdout.strip()

    body = ops.redis.get(ops.key(f"body:{job_id}"))
    assert json.loads(str(body))["content"]["text"] == "load 7.2\nload 8.1\n"


def test_content_may_come_from_a_file(ops: State, shell: Shell, tmp_path: Path) -> None:
    card = {"card": {"title": "T", "text": "x", "buttons": [{"title": "Open", "url": "https://example.com"}]}}
    file = tmp_path / "card.json"
    file.write_text(json.dumps(card))

    assert shell("send", "ops", "--content", str(file)).exit_code == 0
    file.write_text("{not json")
    result = shell("send", "ops", "--content", str(file))
    assert result.exit_code == 2
    assert "--content: expected one JSON object" in result.stderr
    file.write_text('{"carpet": {}}')
    result = shell("send", "ops", "--content", str(file))
    assert result.exit_code == 2
    assert "carpet" in result.stderr


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["send", "ops", ""], "text"),
        (["send", "opps", "Hello"], "destination"),
        (["assign", "ops", "", "--to", "alice"], "subject"),
        (["share", "ops", "ftp://example.com/x"], "file"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_the_fields_name(shell: Shell, words: list[str], field: str) -> None:
    result = shell(*words)

    assert result.exit_code == 5
    assert result.stdout == ""
    assert f"Error: {field}: " in result.stderr


def test_usage_has_its_own_exit_code(shell: Shell) -> None:
    assert shell("send").exit_code == 2
    assert shell("send", "ops").exit_code == 2
    assert shell("send", "ops", "x", "--at", "tomorrow").exit_code == 2
    assert shell("assign", "ops", "x").exit_code == 2
    assert shell("nonsense").exit_code == 2


def test_a_dry_run_sends_nothing(ops: State, shell: Shell) -> None:
    result = shell("send", "ops", "Hello", "--dry-run", "--mention", "13800000001")

    assert result.exit_code == 0
    assert "@13800000001" in result.stdout
    assert "of 20,000 bytes" in result.stdout
    assert ops.store.counts().get("submitted", 0) == 0


def test_wait_says_that_it_still_waits(ops: State, shell: Shell) -> None:
    shell("send", "ops", "the window's only place")

    result = shell("send", "ops", "Hello", "--wait", "0.2")

    assert result.exit_code == 6
    assert "waiting, place 1, about " in result.stdout


def test_a_job_by_key_is_the_same_job(shell: Shell) -> None:
    assert shell("send", "ops", "a", "--key", "k").stdout == shell("send", "ops", "a", "--key", "k").stdout


def test_status_and_watch_of_a_job_that_ended(ops: State, shell: Shell) -> None:
    job_id, (call,) = ops.submit("ops")
    ops.deliver(call)

    result = shell("status", job_id)
    watched = shell("watch", job_id)

    assert result.exit_code == 0
    assert result.stdout.startswith(f"{job_id}  send to ops: delivered, at ")
    assert watched.exit_code == 0
    assert watched.stdout.startswith("send to ops: delivered")
    (data,) = json.loads(shell("status", job_id, "--json").stdout)
    assert data["state"] == "delivered"


def test_watch_stops_in_time(ops: State, shell: Shell) -> None:
    job_id, _ = ops.submit("ops")

    assert shell("watch", job_id, "--for", "0.1").exit_code == 6


def test_jobs_that_nobody_knows(ops: State, shell: Shell) -> None:
    job_id, _ = ops.submit("ops")

    assert shell("status", "nobody").exit_code == 3
    assert shell("status", job_id, "nobody").exit_code == 1
    assert shell("watch", "nobody").exit_code == 3
    assert shell("cancel", "nobody").exit_code == 3


def test_cancel_says_whether_it_was_in_time(ops: State, shell: Shell) -> None:
    sent, (call,) = ops.submit("ops")
    ops.deliver(call)
    waiting, _ = ops.submit("ops")

    assert shell("cancel", waiting).stdout == f"{waiting}  cancelled\n"
    late = shell("cancel", sent)
    assert late.exit_code == 1
    assert late.stdout == f"{sent}  too late: delivered\n"


def test_redis_away(valkey: Server) -> None:
    shell = Shell(f"redis://127.0.0.1:{free_port()}/0", "dq:")

    for words in (["send", "ops", "Hello"], ["status", "x"], ["cancel", "x"], ["watch", "x"]):
        result = shell(*words)
        assert result.exit_code == 4, words
        assert (
            "could not be reached (connection refused); is it running, and is DINGQUEUE_BROKER_URL right?"
            in result.stderr
        )
        assert "Traceback" not in result.stderr


def test_another_broker_needs_a_state(valkey: Server) -> None:
    result = CliRunner().invoke(main, ["send", "ops", "x", "--broker-url", "amqp://localhost//"])

    assert result.exit_code == 2
    assert "state" in result.stderr
