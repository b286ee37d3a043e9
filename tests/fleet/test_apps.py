"""Destinations with an app, from the application's call to what people see: real workers, real servers, DingTalk's rules."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dingqueue import InvalidJob
from dingqueue_worker.sandbox.client import Sandbox, Space
from support.fleet import Fleet
from support.organisation import CONFIG, furnish
from support.waiting import wait_for

PDF = b"%PDF-1.7\n" + b"x" * 5_000


@pytest.fixture(scope="module")
def space(sandbox: Sandbox) -> Space:
    space = sandbox.namespace()
    furnish(space)
    return space


@pytest.fixture(scope="module")
def fleet(space: Space) -> Iterator[Fleet]:
    with Fleet(CONFIG, oapi_url=space.oapi_url, api_url=space.api_url) as fleet:
        fleet.workers(2)
        beat = fleet.beat()
        beat.wait_until_says("beat starts")
        yield fleet


def test_a_message_reaches_a_group_by_the_apps_robot(fleet: Fleet, space: Space) -> None:
    job_id = fleet.client.send("team", markdown="## 部署完成\n一切正常", title="部署")

    (status,) = fleet.wait_for_end(job_id)

    assert status.state == "accepted"
    assert status.receipt["process_query_key"]
    message = next(one for one in space.messages(robot="acme") if "部署完成" in one.text)
    assert message.group == "cidTeam"


def test_a_message_that_rings_goes_by_the_webhook_robot_and_the_others_do_not(fleet: Fleet, space: Space) -> None:
    job_ids = [
        fleet.client.send("project", "plain words"),
        fleet.client.send("project", "come, please", mention=["alice"]),
    ]

    plain, rung = fleet.wait_for_end(*job_ids)

    assert (plain.state, rung.state) == ("accepted", "delivered")
    assert next(one for one in space.messages(robot="ops") if "come, please" in one.text).rings == ("u-alice",)


def test_a_message_that_nobody_there_could_ring_for_is_refused_at_the_call(fleet: Fleet) -> None:
    with pytest.raises(InvalidJob, match=r"^mention: team: an app's robot rings nobody in a group"):
        fleet.client.send("team", "come, please", mention=["alice"])

    done = fleet.command("send", "team", "come, please", "--mention", "alice")
    assert done.returncode == 5, done.stderr
    assert "give the destination a webhook robot (robots = [...])" in done.stderr


def test_people_get_a_message_each_and_who_is_unknown_is_named(fleet: Fleet, space: Space) -> None:
    (status,) = fleet.wait_for_end(fleet.client.send("staff", "hello you"))

    assert status.state == "accepted"
    message = next(one for one in space.messages(robot="acme") if one.text == "hello you")
    assert set(message.to) == {"u-alice", "u-bob"}


def test_a_notifications_result_arrives(fleet: Fleet, space: Space) -> None:
    job_id = fleet.client.send("notices", "the canteen is shut")
    (status,) = fleet.wait_for_end(job_id)
    assert status.state in {"accepted", "delivered"}

    fleet.wait_until(lambda: fleet.status(job_id).state == "delivered", within_s=40, what="the result")

    receipt = fleet.status(job_id).receipt
    assert {receipt[f"person.{name}"] for name in ("alice", "bob", "carol")} == {"delivered"}
    assert receipt["task_id"] if "task_id" in receipt else receipt["2.task_id"]


def test_work_is_a_todo_for_two_and_a_message_that_rings_them(fleet: Fleet, space: Space) -> None:
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    job_id = fleet.client.assign("project", "Review the contract", to=["alice", "bob"], due=due, priority="high")

    (status,) = fleet.wait_for_end(job_id)

    assert status.state == "delivered"
    todo = next(one for one in space.todos() if one.source_id == job_id)
    assert set(todo.executors) == {"union-alice", "union-bob"}
    assert (todo.due_ms, todo.priority, todo.url) == (round(due.timestamp() * 1000), 30, "https://example.com/works")
    message = next(one for one in space.messages(robot="ops") if "Review the contract" in one.text)
    assert set(message.rings) == {"u-alice", "13800000002"}


def test_work_is_closed_changed_and_taken_back(fleet: Fleet, space: Space) -> None:
    job_id = fleet.client.assign("project", "Write the minutes", to=["alice"])
    fleet.wait_for_end(job_id)

    fleet.wait_for_end(fleet.client.reassign(job_id, to=["bob"], subject="Write the minutes, please"))
    todo = next(one for one in space.todos() if one.source_id == job_id)
    assert (todo.executors, todo.subject) == (("union-bob",), "Write the minutes, please")

    closing = fleet.client.complete(job_id)
    assert fleet.client.complete(job_id) == closing, "the same call is the same job"
    fleet.wait_for_end(closing)
    assert next(one for one in space.todos() if one.source_id == job_id).done
    assert fleet.status(job_id).receipt["assigned_to"] == "bob"
    assert fleet.status(job_id).receipt["todo"] == "done"

    assert fleet.client.cancel(job_id) == "recalling"
    fleet.wait_until(lambda: fleet.status(job_id).state == "cancelled")
    assert next(one for one in space.todos() if one.source_id == job_id).deleted
    assert "the webhook robot's message stays" in fleet.status(job_id).reason


def test_work_without_a_todo_cannot_be_closed(fleet: Fleet) -> None:
    job_id = fleet.client.assign("ops", "Look at the disk", to=["alice"])
    fleet.wait_for_end(job_id)

    with pytest.raises(InvalidJob, match="left no todo at DingTalk"):
        fleet.client.complete(job_id)
    with pytest.raises(InvalidJob, match="nobody knows the job"):
        fleet.client.complete("no-such-job")


@pytest.mark.parametrize("destination", ["team", "staff", "notices"])
def test_what_an_app_sent_can_be_taken_back(fleet: Fleet, space: Space, destination: str) -> None:
    job_id = fleet.client.send(destination, f"a mistake at {destination}")
    fleet.wait_for_end(job_id)

    result = fleet.command("cancel", job_id)

    assert (result.returncode, "being taken back" in result.stdout) == (0, True), result.stderr
    fleet.wait_until(lambda: fleet.status(job_id).state == "cancelled", what="the recall")
    assert fleet.status(job_id).reason == "taken back from DingTalk"
    recalled = [one for one in space.messages(robot="acme", state="any") if f"a mistake at {destination}" in one.text]
    assert [one.recalled for one in recalled] == [True]


@pytest.mark.parametrize("destination", ["team", "staff"])
def test_who_has_read_it_can_be_looked_up(fleet: Fleet, destination: str) -> None:
    """B33: accepted is not delivered, and a check can be run."""
    job_id = fleet.client.send(destination, "has anybody seen this?")
    fleet.wait_for_end(job_id)

    result = fleet.command("check", job_id)

    assert (result.returncode, "read by 0" in result.stdout) == (0, True), result.stderr
    assert fleet.status(job_id).receipt["read_by"] == "0"
    assert fleet.status(job_id).state == "accepted"


def test_a_webhook_robots_message_cannot_be_looked_at(fleet: Fleet) -> None:
    job_id = fleet.client.send("ops", "read me")
    fleet.wait_for_end(job_id)

    result = fleet.command("check", job_id)

    assert result.returncode == 5
    assert "only messages of an app can be looked at" in result.stderr


def test_a_webhook_robots_message_cannot_be_taken_back(fleet: Fleet) -> None:
    job_id = fleet.client.send("ops", "said is said")
    fleet.wait_for_end(job_id)

    assert fleet.client.cancel(job_id) == "delivered"


def test_a_path_is_a_file_in_the_group_and_again_without_an_upload(fleet: Fleet, space: Space, tmp_path: Path) -> None:
    report = tmp_path / "季度报表(终稿).pdf"
    report.write_bytes(PDF)

    first = fleet.client.share("team", report, note="For the board")
    fleet.wait_for_end(first)
    again = fleet.client.share("project", report)
    (status,) = fleet.wait_for_end(again)

    assert status.state == "accepted"
    (file,) = [one for one in space.files() if one.name == report.name]
    assert space.content(file) == PDF
    shown = [
        one
        for one in space.messages(robot="acme")
        if one.group in {"cidTeam", "cidProject"} and report.name in one.text
    ]
    assert len(shown) == 2
    assert any(one.text == "For the board" for one in space.messages(robot="acme"))


def test_a_token_that_ends_early_goes_unnoticed(fleet: Fleet, space: Space) -> None:
    fleet.wait_for_end(fleet.client.send("team", "before"))
    space.expire_tokens()

    job_ids = [fleet.client.send("team", f"after {at}") for at in range(10)]

    ended = fleet.wait_for_end(*job_ids)
    assert {(one.state, one.attempts) for one in ended} == {("accepted", 1)}
    assert sum(one.text.startswith("after ") for one in space.messages(robot="acme")) == 10


def test_wrong_credentials_stop_that_app_with_one_alarm_and_no_hammering(fleet: Fleet, space: Space) -> None:
    before = len(space.calls(path="/v1.0/oauth2/accessToken", state="any"))
    job_ids = [fleet.client.send("shut", f"never {at}") for at in range(5)]

    alarm = wait_for(
        lambda: [one for one in space.messages(robot="ops") if "app.wrong is broken" in one.text], within_s=20
    )

    assert len(alarm) == 1
    assert {fleet.status(job_id).state for job_id in job_ids} == {"waiting"}
    assert "key or secret is wrong" in fleet.status(job_ids[0]).reason
    refused = space.calls(path="/v1.0/oauth2/accessToken", state="refused")
    assert len(refused) == 2
    assert len(space.calls(path="/v1.0/oauth2/accessToken", state="any")) - before <= 3
    fleet.wait_for_end(fleet.client.send("team", "the other app goes on"))
    lines = fleet.command("tokens").stdout
    assert "acme: good" in lines
    assert "wrong: refused" in lines


def test_no_secret_and_no_token_is_in_what_the_fleet_says(fleet: Fleet) -> None:
    said = fleet.logs() + fleet.command("tokens", "--json").stdout + fleet.command("lanes", "--json").stdout

    assert "planted" not in said


def test_two_hundred_messages_keep_to_twenty_a_second_without_a_failure(sandbox: Sandbox) -> None:
    """B57: about ten seconds, nothing refused, and the robot's minute is not confused with it."""
    space = sandbox.namespace()
    furnish(space)
    with Fleet(CONFIG, oapi_url=space.oapi_url, api_url=space.api_url) as fleet:
        fleet.workers(2)
        fleet.wait_for_end(fleet.client.send("team", "the token is there"))
        began_s = time.monotonic()

        ended = fleet.wait_for_end(*(fleet.client.send("team", f"message {at}") for at in range(200)), within_s=60)

        took_s = time.monotonic() - began_s
        assert {(one.state, one.attempts) for one in ended} == {("accepted", 1)}
        assert space.calls(state="refused") == []
        assert len(space.messages(robot="acme")) == 201
        assert 8 <= took_s <= 25, took_s


def test_what_is_throttled_anyway_waits_and_is_no_failure(sandbox: Sandbox) -> None:
    """Other programs share the app: half of what we count on is theirs."""
    space = sandbox.namespace()
    furnish(space, per_second=5)
    with Fleet(CONFIG, oapi_url=space.oapi_url, api_url=space.api_url) as fleet:
        fleet.workers(1)

        ended = fleet.wait_for_end(*(fleet.client.send("team", f"message {at}") for at in range(30)), within_s=60)

        assert {(one.state, one.attempts) for one in ended} == {("accepted", 1)}
        assert len({one.text for one in space.messages(robot="acme")}) == 30


def test_a_months_quota_keeps_its_reserve_and_warns(sandbox: Sandbox) -> None:
    space = sandbox.namespace()
    furnish(space)
    with Fleet(
        CONFIG + "[organisations.acme]\napi_calls = 10\nurgent_reserve = 2\n",
        oapi_url=space.oapi_url,
        api_url=space.api_url,
    ) as fleet:
        fleet.workers(1)
        ended = fleet.wait_for_end(*(fleet.client.send("team", f"message {at}") for at in range(8)))
        late = fleet.client.send("team", "one too many")
        urgent = fleet.client.send("team", "this matters", urgent=True)

        (one,) = fleet.wait_for_end(urgent)

        assert {one.state, *(other.state for other in ended)} == {"accepted"}
        assert fleet.status(late).state == "waiting"
        used, events = fleet.store.quota("organisation.acme.api", most=10, marks_percent=(80, 95))
        assert (used, [event.name for event in events]) == (9, ["quota"])
        assert fleet.store.quota("organisation.acme.api", most=10, marks_percent=(80, 95))[1] == ()


# --- Killed in between ------------------------------------------------------------------------------------------------


def crash_between(sandbox: Sandbox, *, slow: str, act: Any) -> tuple[Space, Any]:
    """Kill the only worker while DingTalk takes its time with the calls of one address; another goes on."""
    space = sandbox.namespace()
    furnish(space)
    with Fleet(
        CONFIG
        + "connect_timeout_s = 1\nread_timeout_s = 3\ntotal_timeout_s = 4\ncall_lease_s = 1\nfetch_timeout_s = 2\nupload_timeout_s = 3\n",
        oapi_url=space.oapi_url,
        api_url=space.api_url,
    ) as fleet:
        (victim,) = fleet.workers(1)
        job_id = act(fleet)
        fleet.wait_until(lambda: space.calls(path=slow, state="any"), what=f"a call to {slow}")
        victim.kill()
        fleet.workers(1)
        (status,) = fleet.wait_for_end(job_id, within_s=60)
        return space, status


def test_killed_between_todo_and_message_the_todo_is_made_once(sandbox: Sandbox) -> None:
    space, status = crash_between(
        sandbox,
        slow="/v1.0/todo/",
        act=lambda fleet: fleet.client.assign("project", "Only once", to=["alice"]),
    )

    assert status.state == "delivered"
    assert len([one for one in space.todos() if one.subject == "Only once"]) == 1
    assert len([one for one in space.messages(robot="ops") if "Only once" in one.text]) == 1


def test_killed_between_upload_and_message_the_file_is_shown_once(sandbox: Sandbox, tmp_path: Path) -> None:
    report = tmp_path / "once.pdf"
    report.write_bytes(PDF)

    space, status = crash_between(sandbox, slow="/media/upload", act=lambda fleet: fleet.client.share("team", report))

    assert status.state == "accepted"
    assert len([one for one in space.messages(robot="acme") if "once.pdf" in one.text]) == 1


def test_the_command_closes_and_changes_works(fleet: Fleet, space: Space) -> None:
    given = fleet.command("assign", "project", "Count the chairs", "--to", "alice", "--json", "--wait", "20")
    job_id = json.loads(given.stdout)["job_id"]

    changed = fleet.command("assign", "--change", job_id, "--to", "bob", "--wait", "20")
    closed = fleet.command("assign", "--done", job_id, "--wait", "20")
    wrong = fleet.command("assign", "project", "--done", job_id)
    lacking = fleet.command("assign", "project", "Nobody does it")

    assert (given.returncode, changed.returncode, closed.returncode) == (0, 0, 0), closed.stderr + changed.stderr
    todo = next(one for one in space.todos() if one.source_id == job_id)
    assert (todo.done, todo.executors) == (True, ("union-bob",))
    assert (wrong.returncode, lacking.returncode) == (2, 2)
    assert "missing --to" in lacking.stderr
