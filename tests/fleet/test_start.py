"""What a worker has loaded when it is ready: all that its jobs need, and nothing that is dear and not for them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dingqueue_worker.sandbox.client import Space
from support.fleet import Fleet
from support.organisation import CONFIG, furnish

pytestmark = pytest.mark.timeout(180)

ROBOTS = """
[robots.ops]
token = "robot0of0the0start"
[destinations.ops]
robots = ["ops"]
"""
#: What only apps need.
OF_APPS = {
    "dingqueue.jobs",
    "dingqueue_worker.in_apps_name",
    "dingqueue_worker.delivery.apps",
    "dingqueue_worker.delivery.lookup",
    "dingqueue_worker.delivery.todo",
    "dingqueue_worker.directory",
    "dingqueue_worker.files.fetch",
    "dingqueue_worker.files.media",
    "requests_toolbelt.multipart.encoder",
}
#: What belongs to other commands, or to what was not switched on.
OF_OTHERS = {
    "dingqueue.client",
    "dingqueue.handover",
    "dingqueue_worker.beat",
    "dingqueue_worker.doctor",
    "dingqueue_worker.metrics",
    "dingqueue_worker.operations",
    "dingqueue_worker.progress",
    "dingqueue_worker.sandbox",
    "dingqueue_worker.tables",
    "celery.beat",
    "celery.bin.celery",
    "flower",
    "fsspec",
    "http.server",
    "jinja2",
    "opentelemetry.exporter",
    "prometheus_client",
    "prompt_toolkit",
    "rich",
    "starlette",
    "tornado",
}


def started(fleet: Fleet) -> None:
    """Start a worker as people do, which notes what it has loaded in the fleet's folder."""
    command = [sys.executable, "-m", "dingqueue_worker", "worker", "-c", "4", "--include", "support.loaded"]
    env = {"LOADED_FOLDER": str(fleet.folder), "PYTHONPATH": str(Path(__file__).parents[1])}
    fleet._process("w", command, env)


def loaded(fleet: Fleet, when: str) -> set[str]:
    path = fleet.folder / when
    fleet.wait_until(path.exists, what=f"the worker says {when}")
    return set(path.read_text().splitlines())


def test_a_worker_for_robots_alone_loads_nothing_that_only_others_need(space: Space) -> None:
    space.robot("robot0of0the0start", name="ops")
    with Fleet(ROBOTS, oapi_url=space.oapi_url) as fleet:
        started(fleet)

        ready = loaded(fleet, "ready")
        (status,) = fleet.wait_for_end(fleet.client.send("ops", "the first one"))
        ran = loaded(fleet, "ran")

    assert status.state == "delivered"
    assert "dingqueue_worker.delivery.webhook" in ready
    assert sorted((OF_APPS | OF_OTHERS) & (ready | ran)) == []
    assert sorted(name for name in ran - ready if name.startswith("dingqueue")) == [], "loaded by the first job"


def test_a_worker_with_an_app_loads_what_it_needs_before_its_first_job(space: Space) -> None:
    furnish(space)
    with Fleet(CONFIG, oapi_url=space.oapi_url, api_url=space.api_url) as fleet:
        started(fleet)

        ready = loaded(fleet, "ready")
        (status,) = fleet.wait_for_end(fleet.client.send("team", "the first one"))
        ran = loaded(fleet, "ran")

    assert status.state == "accepted"
    assert sorted(OF_APPS - ready) == []
    assert sorted(OF_OTHERS & ready) == []
    assert sorted(name for name in ran - ready if name.startswith("dingqueue")) == [], "loaded by the first job"


def test_a_package_that_only_apps_need_is_missed_at_the_start(space: Space, tmp_path: Path) -> None:
    furnish(space)
    # As an install without it: Python looks here first, and finds nothing to load.
    (tmp_path / "requests_toolbelt.py").write_text("raise ModuleNotFoundError(name=__name__)")
    with Fleet(CONFIG, oapi_url=space.oapi_url, api_url=space.api_url, env={"PYTHONPATH": str(tmp_path)}) as fleet:
        done = fleet.command("worker")

    assert done.returncode == 2
    assert "requests_toolbelt is missing" in done.stderr
    assert "pip install 'dingqueue[worker]'" in done.stderr


def test_an_applications_own_variables_mean_nothing_to_a_worker(space: Space) -> None:
    space.robot("robot0of0the0start", name="ops")
    # `celery` itself would take these for its app and its broker.
    env = {"APP": "nothing.of.ours", "BROKER_URL": "redis://127.0.0.1:1/0"}
    with Fleet(ROBOTS, oapi_url=space.oapi_url, env=env) as fleet:
        started(fleet)

        (status,) = fleet.wait_for_end(fleet.client.send("ops", "as ever"))

    assert status.state == "delivered"
