"""What real processes print: JSON from the first line to the last, and one story for each job."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest

from dingqueue_worker.sandbox.client import Space
from support.fleet import Fleet, Process
from support.waiting import wait_for

pytestmark = pytest.mark.timeout(180)

CONFIG = """
[robots.ops]
token = "robot0of0the0logs"
[destinations.ops]
robots = ["ops"]
[fleet]
backoff_base_s = 0.1
"""


def lines(process: Process) -> list[dict[str, Any]]:
    return [json.loads(line) for line in process.log().splitlines()]


def test_every_line_is_an_object_from_the_start_to_the_end(space: Space) -> None:
    space.robot("robot0of0the0logs", name="ops")
    # Without this the tests' own PYTHONWARNINGS would have Python say things before there is a log.
    env = {"DINGQUEUE_LOG": "json", "PYTHONWARNINGS": "ignore"}
    with Fleet(CONFIG, oapi_url=space.oapi_url, env=env) as fleet:
        worker = fleet.worker()
        worker.wait_until_says("ready.")
        beat = fleet.beat()
        fleet.wait_for_end(fleet.client.send("ops", "before"))
        fleet.server.kill()
        worker.wait_until_says("state not reached")
        fleet.server.start()
        worker.wait_until_says("state reached again")
        fleet.wait_for_end(fleet.client.send("ops", "after"))
        assert worker.terminate() == 0
        beat.wait_until_says("beat starts")
        assert beat.terminate() == 0

        for process in (worker, beat):
            said = lines(process)
            assert all({"ts", "level", "logger", "event"} <= one.keys() for one in said)
        said = lines(worker)
        assert said[0]["event"] in {"running as root", "worker starts"}
        assert said[-1]["event"].startswith("worker: Warm shutdown") or said[-1]["logger"].startswith("kombu")
        assert not [one for one in said if "exception" in one]
        assert sum(one["event"] == "state not reached" for one in said) == 1, "once, not every second"


@pytest.mark.parametrize("program", ["celery -A", "dingqueue"])
def test_a_person_sees_a_line_for_each_attempt_and_no_more(space: Space, program: str) -> None:
    space.robot("robot0of0the0logs", name="ops")
    space.fault("status", times=1, sender="ops", status=500, body="oops")
    with Fleet(CONFIG, oapi_url=space.oapi_url, env={"PYTHONWARNINGS": "ignore"}) as fleet:
        if program == "dingqueue":
            worker = fleet._process("w", [sys.executable, "-m", "dingqueue_worker", "worker", "-c", "4"], None)
        else:
            worker = fleet.worker()
        worker.wait_until_says("ready.")
        job_id = fleet.client.send("ops", "one that is tried twice")
        fleet.wait_for_end(job_id)
        wait_for(lambda: "state=delivered" in worker.log())

        about = [line for line in worker.log().splitlines() if job_id in line]
        assert len(about) == 2, about
        assert "WARNING  attempt ended" in about[0]
        assert "outcome=retry state=waiting attempt=1" in about[0]
        assert "INFO     attempt ended" in about[1]
        assert "outcome=delivered state=delivered attempt=2" in about[1]
        assert ("[queues]" in worker.log()) == (program != "dingqueue"), "Celery's banner belongs to Celery's command"
        assert "SecurityWarning" not in worker.log()
        assert "superuser" not in worker.log()


def test_a_job_is_followed_from_the_application_to_dingtalks_receipt(
    space: Space, caplog: pytest.LogCaptureFixture
) -> None:
    space.app("logs-key", "logs-secret", name="acme", robot_code="logs-robot")
    config = """
        [apps.acme]
        app_key = "logs-key"
        app_secret = "logs-secret"
        robot_code = "logs-robot"
        [destinations.team]
        app = "acme"
        conversation = "cidLogs="
    """
    with Fleet(
        config,
        oapi_url=space.oapi_url,
        api_url=space.api_url,
        env={"DINGQUEUE_LOG": "json", "PYTHONWARNINGS": "ignore"},
    ) as fleet:
        (worker,) = fleet.workers(1)
        caplog.set_level(logging.DEBUG, "dingqueue")
        job_id = fleet.client.send("team", "planted words", key="one")
        fleet.client.send("team", "planted words", key="one")
        (status,) = fleet.wait_for_end(job_id)
        (ended,) = wait_for(lambda: [one for one in lines(worker) if one.get("job_id") == job_id])

    here = [record for record in caplog.records if record.name == "dingqueue"]
    assert [(record.__dict__["event"], record.__dict__["job_id"]) for record in here] == [
        ("job accepted", job_id),
        ("job known already", job_id),
    ]
    assert "planted words" not in caplog.text
    assert ended["receipt"] == {"process_query_key": status.receipt["process_query_key"]}
    assert (ended["destination"], ended["outcome"], ended["attempt"]) == ("team", "accepted", 1)
