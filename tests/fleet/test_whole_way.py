"""From an application's call to what people see: real worker, real server, real HTTP, DingTalk's rules."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from dingqueue import SendJob, Text
from dingqueue_worker.sandbox.client import Sandbox, Space
from support.fleet import Fleet

SECRET = "SEC0123456789abcdef0123456789abcdef"

CONFIG = """
[robots.ops]
token = "token-ops"
secret = "SEC0123456789abcdef0123456789abcdef"
[robots.build]
token = "token-build"
keyword = "build"
[robots.fast]
token = "token-fast"
limit = 20
window_s = 2
[robots.shut]
token = "token-shut"
[robots.slow]
token = "token-slow"

[destinations]
ops.robots = ["ops"]
build.robots = ["build"]
fast.robots = ["fast"]
shut.robots = ["shut"]
slow.robots = ["slow"]

[people.alice]
mobile = "13800000001"
[people.bob]
user_id = "bob456"
"""


@pytest.fixture(scope="module")
def space(sandbox: Sandbox) -> Space:
    space = sandbox.namespace()
    space.robot("token-ops", name="ops", secret=SECRET)
    space.robot("token-build", name="build", keywords=["build"])
    space.robot("token-fast", name="fast", window_s=2, cooldown_s=20)
    space.robot("token-shut", name="shut", keywords=["invoice"])
    space.robot("token-slow", name="slow")
    return space


@pytest.fixture(scope="module")
def fleet(space: Space) -> Iterator[Fleet]:
    with Fleet(CONFIG, oapi_url=space.oapi_url) as fleet:
        fleet.workers(1)
        yield fleet


def test_a_text_rings_who_it_names(fleet: Fleet, space: Space) -> None:
    job_id = fleet.client.send("ops", "部署完成 🚀", mention=["alice", "bob"])

    (status,) = fleet.wait_for_end(job_id)

    assert status.state == "delivered"
    (message,) = [one for one in space.messages(robot="ops", state="any") if one.uuid == job_id]
    assert message.state == "accepted"
    assert message.text.startswith("部署完成 🚀")
    assert set(message.rings) == {"13800000001", "bob456"}
    assert message.warnings == ()


def test_every_kind_takes_one_request(fleet: Fleet, space: Space) -> None:
    client = fleet.client
    button = {"title": "Open", "url": "https://example.com"}
    job_ids = [
        client.send("build", markdown="# Nightly\n3 failed", title="Nightly"),
        client.send("build", link={"title": "Report", "text": "of today", "url": "https://example.com/r"}),
        client.send("build", card={"title": "Roll back?", "text": "Error rate 7 %", "buttons": [button]}),
        client.send("build", card={"title": "Choose", "text": "one", "buttons": [button, button]}),
        client.send("build", feed={"items": [{"title": "One", "url": "https://e.com/1", "picture_url": "https://e.com/1.png"}]}),
        client.assign("build", "Review the contract", to=["alice"], due=datetime.now(UTC) + timedelta(days=1)),
        client.share("build", "https://example.com/report.pdf"),
    ]  # fmt: skip

    statuses = fleet.wait_for_end(*job_ids)

    assert [status.state for status in statuses] == ["delivered"] * len(job_ids)
    came = space.messages(robot="build", state="any")
    assert [one.uuid for one in came] == job_ids
    assert [one.kind for one in came] == [
        "markdown", "link", "actionCard", "actionCard", "feedCard", "markdown", "link",
    ]  # fmt: skip
    assert {one.state for one in came} == {"accepted"}
    assert len({one.connection for one in came}) == 1, "one kept connection"


def test_a_long_markdown_arrives_in_numbered_parts_in_order(fleet: Fleet, space: Space) -> None:
    lines = [f"- 服务 {number:04d} 状态良好 ✅" for number in range(2000)]

    job_id = fleet.client.send("slow", markdown="\n".join(lines), title="Weekly", mention=["alice"])
    (status,) = fleet.wait_for_end(job_id)

    parts = space.messages(robot="slow")
    assert status.state == "delivered"
    assert status.steps == len(parts) >= 3
    assert all(part.size_bytes <= 20_000 for part in parts)
    assert len({part.uuid for part in parts}) == len(parts)
    assert [part.rings for part in parts] == [("13800000001",), *[()] * (len(parts) - 1)]
    together = "".join(part.text for part in parts)
    places = [together.index(f"服务 {number:04d}") for number in range(2000)]
    assert places == sorted(places)


def test_twenty_five_at_once_meet_the_limit_and_none_is_refused(fleet: Fleet, space: Space) -> None:
    job_ids = fleet.client.send_many({"destination": "fast", "text": f"alarm {number}"} for number in range(25))

    statuses = fleet.wait_for_end(*job_ids)

    assert {status.state for status in statuses} == {"delivered"}
    assert {status.attempts for status in statuses} == {1}
    assert [one.uuid for one in space.messages(robot="fast", state="any")] == job_ids
    assert space.stats()["robots"]["fast"]["max_in_window"] == 20


def test_a_refusal_explains_itself_and_is_kept(fleet: Fleet) -> None:
    job_id = fleet.client.send("shut", "Month closed")

    (status,) = fleet.wait_for_end(job_id)

    assert status.state == "dead"
    assert "keyword" in status.reason
    letter = fleet.store.dead_letter(job_id)
    assert letter is not None
    assert isinstance(letter.job, SendJob)
    assert letter.job.content == Text(text="Month closed")


def test_the_command_line(fleet: Fleet, space: Space) -> None:
    done = fleet.command("send", "ops", "Hello", "--mention", "alice", "--wait", "20", "--json")

    status = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert status["state"] == "delivered"
    (message,) = [one for one in space.messages(robot="ops") if one.uuid == status["job_id"]]
    assert message.rings == ("13800000001",)


def test_from_an_event_loop(fleet: Fleet) -> None:
    async def both() -> list[str]:
        return list(
            await asyncio.gather(
                fleet.client.asend("ops", "one"),
                fleet.client.aassign("ops", "two", to=["alice"]),
                fleet.client.ashare("ops", "https://example.com/three.pdf"),
            )
        )

    statuses = fleet.wait_for_end(*asyncio.run(both()))

    assert [status.state for status in statuses] == ["delivered"] * 3
    assert sorted(status.kind for status in statuses) == ["assign", "send", "share"]


def test_the_same_key_is_one_message(fleet: Fleet, space: Space) -> None:
    first = fleet.client.send("ops", "disk full", key="disk-db3")
    second = fleet.client.send("ops", "disk full", key="disk-db3")
    fleet.wait_for_end(first)
    third = fleet.client.send("ops", "disk full", key="disk-db3")

    assert first == second == third
    assert len([one for one in space.messages(robot="ops", state="any") if one.uuid == first]) == 1


def test_cancelled_or_too_late(fleet: Fleet) -> None:
    later = fleet.client.send("ops", "tomorrow", at=datetime.now(UTC) + timedelta(days=1))
    sent = fleet.client.send("ops", "now")
    fleet.wait_for_end(sent)

    assert fleet.client.cancel(later) == "cancelled"
    assert fleet.client.cancel(sent) == "delivered"
    assert fleet.client.cancel("nobody") == "gone"
    assert fleet.status(later).state == "cancelled"


def test_a_scheduled_job_goes_at_its_time(fleet: Fleet, space: Space) -> None:
    at = datetime.now(UTC) + timedelta(seconds=2)
    job_id = fleet.client.send("ops", "at nine", at=at)
    assert fleet.status(job_id).state == "waiting"

    (status,) = fleet.wait_for_end(job_id)

    assert status.state == "delivered"
    (message,) = [one for one in space.messages(robot="ops") if one.uuid == job_id]
    assert 0 <= message.at_ms - at.timestamp() * 1000 < 3_000
