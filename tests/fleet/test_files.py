"""Files from an application's disk to what people see: real worker, real server, real HTTP, DingTalk's rules."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dingqueue_worker.sandbox.client import Message, Sandbox, Space
from support.fleet import Fleet
from support.raw_server import RawServer, reply

CONFIG = """
[robots.ops]
token = "token-ops"
[apps.acme]
app_key = "key-acme"
app_secret = "secret-acme"
agent_id = 77
robot_code = "dingrobot"
[destinations.ops]
robots = ["ops"]
[destinations.one]
app = "acme"
conversation = "cidOne"
[destinations.two]
app = "acme"
conversation = "cidTwo"
[destinations.people]
app = "acme"
users = ["alice", "bob"]
[destinations.notices]
app = "acme"
users = ["alice"]
via = "notice"
[people.alice]
user_id = "alice"
[people.bob]
user_id = "bob"
[fleet]
fetch_hosts = ["127.0.0.1"]
upload_timeout_s = 5
fetch_timeout_s = 5
backoff_base_s = 0.2
"""
PNG = b"\x89PNG\r\n\x1a\n"


def pdf(size_bytes: int = 300_000) -> bytes:
    return b"%PDF-1.7\n" + os.urandom(size_bytes)


@pytest.fixture(scope="module")
def space(sandbox: Sandbox) -> Space:
    space = sandbox.namespace()
    for name in ("alice", "bob"):
        space.person(name)
    space.app(
        name="acme", key="key-acme", secret="secret-acme", agent_id=77, robot_code="dingrobot",
        conversations=["cidOne", "cidTwo"],
    )  # fmt: skip
    space.robot("token-ops", name="ops")
    return space


@pytest.fixture(scope="module")
def fleet(space: Space) -> Iterator[Fleet]:
    with Fleet(CONFIG, oapi_url=space.oapi_url, api_url=space.api_url) as fleet:
        fleet.workers(1)
        yield fleet


def uploads(space: Space, data: bytes) -> list[str]:
    """The media ids of a content's uploads."""
    digest = hashlib.sha256(data).hexdigest()
    return [file.media_id for file in space.files() if file.sha256 == digest]


def came(space: Space, way: str, kind: str) -> list[Message]:
    """What people saw of a kind."""
    return [one for one in space.messages() if (one.way, one.kind) == (way, kind)]


def shown(space: Space, way: str, name: str) -> list[str]:
    """Where a file of this name was seen."""
    return [
        one.group or ",".join(one.to)
        for one in came(space, way, "file")
        if (one.content or {})["file"]["fileName"] == name
    ]


def test_a_file_reaches_two_groups_and_is_uploaded_once(fleet: Fleet, space: Space, tmp_path: Path) -> None:
    path = tmp_path / '季度 "Q3" 报表 👨‍👩‍👧.pdf'
    path.write_bytes(data := pdf())

    job_ids = [fleet.client.share(name, path) for name in ("one", "two", "one")]
    statuses = fleet.wait_for_end(*job_ids)

    assert [(status.state, status.reason) for status in statuses] == [("accepted", "")] * 3
    assert sorted(shown(space, "group", path.name)) == ["cidOne", "cidOne", "cidTwo"]
    assert len(uploads(space, data)) == 1
    [file] = [file for file in space.files() if file.media_id in uploads(space, data)]
    assert space.content(file) == data


def test_a_file_reaches_people_and_a_notification(fleet: Fleet, space: Space) -> None:
    data = pdf()

    job_ids = [fleet.client.share(name, data, name="contract.pdf") for name in ("people", "notices")]
    statuses = fleet.wait_for_end(*job_ids)

    assert [status.state for status in statuses] == ["accepted"] * 2
    assert shown(space, "people", "contract.pdf") == ["alice,bob"]
    [notice] = came(space, "notice", "file")
    assert notice.content == {"msgtype": "file", "file": {"mediaId": uploads(space, data)[0]}}
    assert len(uploads(space, data)) == 1


def test_a_picture_is_shown_as_one_and_the_line_follows(fleet: Fleet, space: Space) -> None:
    data = PNG + os.urandom(1_000)

    (status,) = fleet.wait_for_end(fleet.client.share("two", data, name="chart.png", note="Load of the day"))

    assert status.state == "accepted"
    pictures = came(space, "group", "sampleImageMsg")
    assert [one.content for one in pictures] == [
        {"msgtype": "sampleImageMsg", "sampleImageMsg": {"photoURL": uploads(space, data)[0]}}
    ]
    [line] = [one for one in came(space, "group", "text") if one.text == "Load of the day"]
    assert line.number > pictures[0].number


def test_a_url_is_fetched_and_reaches_the_group_as_a_file(fleet: Fleet, space: Space) -> None:
    data = pdf()
    with RawServer([reply(data)]) as files:
        (status,) = fleet.wait_for_end(fleet.client.share("one", f"{files.url}/daily.pdf?X-Signature=planted"))

    assert status.state == "accepted"
    assert shown(space, "group", "daily.pdf") == ["cidOne"]
    assert len(uploads(space, data)) == 1
    assert "planted" not in fleet.logs()


def test_what_a_url_may_not_reach_is_dead_with_its_reason(fleet: Fleet, space: Space) -> None:
    job_id = fleet.client.share("one", "https://169.254.169.254/latest/meta-data?X-Signature=planted")

    (status,) = fleet.wait_for_end(job_id)

    assert status.state == "dead"
    assert "link-local address" in status.reason
    assert "planted" not in status.reason + fleet.logs()


def test_rows_are_packed(fleet: Fleet, space: Space) -> None:
    (status,) = fleet.wait_for_end(fleet.client.share("one", b"day,count\n" * 100, name="rows.csv", zip=True))

    assert status.state == "accepted"
    assert shown(space, "group", "rows.csv.zip") == ["cidOne"]


def test_an_upload_that_dingtalk_forgot_is_made_again(fleet: Fleet, space: Space) -> None:
    data = pdf()
    fleet.wait_for_end(fleet.client.share("one", data, name="forgotten.pdf"))
    space.fault(
        "code", times=1, errcode="invalidParameter.msgParam.invalid", errmsg="mediaId is invalid", status=400,
        path="/v1.0/robot/groupMessages/send",
    )  # fmt: skip

    (status,) = fleet.wait_for_end(fleet.client.share("two", data, name="forgotten.pdf"))

    assert status.state == "accepted"
    assert len(uploads(space, data)) == 2
    assert shown(space, "group", "forgotten.pdf")[-1] == "cidTwo"


def test_a_robots_destination_still_gets_a_link(fleet: Fleet, space: Space) -> None:
    (status,) = fleet.wait_for_end(fleet.client.share("ops", "https://example.com/report.pdf"))

    assert status.state == "delivered"
    assert space.messages(robot="ops")[-1].kind == "link"


def test_the_worker_refuses_a_file_that_no_door_could(space: Space) -> None:
    """Shared before any worker had said what the destination carries: dead with the way out, not lost."""
    with Fleet(CONFIG, oapi_url=space.oapi_url, api_url=space.api_url) as fleet:
        job_id = fleet.client.share("ops", pdf(), name="report.pdf")
        fleet.workers(1)

        (status,) = fleet.wait_for_end(job_id)

    assert status.state == "dead"
    assert "share its URL, or give the destination an app" in status.reason


def test_a_worker_that_is_killed_between_upload_and_message_uploads_once(sandbox: Sandbox) -> None:
    space = sandbox.namespace()
    space.app(
        name="acme", key="key-acme", secret="secret-acme", agent_id=77, robot_code="dingrobot",
        conversations=["cidOne"],
    )  # fmt: skip
    data = pdf()
    with Fleet(CONFIG, oapi_url=space.oapi_url, api_url=space.api_url) as fleet:
        (worker,) = fleet.workers(1)
        # The message hangs after the upload: that is when the worker goes.
        space.fault("slow", times=1, delay_s=3, path="/v1.0/robot/groupMessages/send", accept=False)
        job_id = fleet.client.share("one", data, name="once.pdf")
        fleet.wait_until(lambda: fleet.status(job_id).step == 1, what="the upload is noted")
        worker.kill()
        worker.restart()

        (status,) = fleet.wait_for_end(job_id, within_s=60)

        assert status.state == "accepted"
        assert len(uploads(space, data)) == 1
