"""Flower as ``dingqueue flower`` starts it, over a real worker: what it shows, to whom, and what it never shows."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from dingqueue_worker.embedded import free_port
from dingqueue_worker.flower import guarded, masked, names_and_passwords
from dingqueue_worker.sandbox.client import Sandbox
from support.fleet import Fleet, Process
from support.waiting import wait_for

TOKEN, SECRET = "feedc0ffee" * 6, "SECplantedplantedplanted"
TEXT, MOBILE = "PLANTED words of a message", "13912345678"
LOGIN = ("admin", "planted-password")
CONFIG = f"""
[robots.ops]
token = "{TOKEN}"
secret = "{SECRET}"
[robots.strict]
token = "{TOKEN}2"
[destinations.ops]
robots = ["ops"]
[destinations.strict]
robots = ["strict"]
[people.alice]
mobile = "{MOBILE}"
"""

Get = Callable[..., requests.Response]


class Watched:
    """A fleet with one delivered and one dead job, and Flower over it."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet, self.port = fleet, free_port()
        users = fleet.folder / "users"
        users.write_text("# who may look\n" + ":".join(LOGIN) + "\n")
        self.db = fleet.folder / "flower" / "flower.db"
        self.command = [
            *(sys.executable, "-m", "dingqueue_worker", "flower", "--port", str(self.port)),
            *("--users", f"file:{users}", "--db", str(self.db)),
        ]
        self.flower = self.start()

    def start(self) -> Process:
        flower = Process(self.command, env=self.fleet.env, log=self.fleet.folder / "flower.log")
        self.fleet.processes.append(flower)
        wait_for(lambda: self._answers(flower), within_s=30, what="Flower answers")
        return flower

    def _answers(self, flower: Process) -> bool:
        assert flower.alive, flower.log()
        try:
            return self.get("/healthcheck").ok
        except requests.ConnectionError:
            return False

    def get(self, path: str, *, auth: tuple[str, str] | None = LOGIN) -> requests.Response:
        return requests.get(f"http://127.0.0.1:{self.port}{path}", auth=auth, timeout=20)

    def worker(self) -> str:
        """Flower's name of the worker: also after a restart, when Flower has not asked anybody yet."""
        seen = wait_for(lambda: self.get("/api/workers?refresh=1").json(), within_s=30, what="Flower sees the worker")
        return str(next(iter(seen)))

    def tasks(self) -> dict[str, str]:
        found = self.get("/api/tasks").json()
        return {job_id: task["state"] for job_id, task in found.items()}


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    with Sandbox() as sandbox:
        space = sandbox.namespace()
        space.robot(TOKEN, name="ops", secret=SECRET)
        space.robot(f"{TOKEN}2", name="strict", keywords=["a word that no message has"])
        with Fleet(CONFIG, oapi_url=space.oapi_url) as fleet:
            one = Watched(fleet)
            fleet.workers(1)
            # Flower switches events on, and sees what comes after that.
            one.worker()
            yield one


@pytest.fixture(scope="module")
def jobs(watched: Watched) -> tuple[str, str]:
    client = watched.fleet.client
    delivered = client.send("ops", f"{TEXT} one", mention=["alice", MOBILE])
    dead = client.send("strict", f"{TEXT} two", mention=[MOBILE])
    watched.fleet.wait_for_end(delivered, dead)
    wait_for(
        lambda: {watched.tasks().get(delivered), watched.tasks().get(dead)} == {"SUCCESS", "FAILURE"},
        within_s=20,
        what="Flower has both ends",
    )
    return delivered, dead


def test_states_mean_what_they_say(watched: Watched, jobs: tuple[str, str]) -> None:
    delivered, dead = jobs
    task = watched.get(f"/api/task/info/{dead}").json()

    assert watched.tasks()[delivered] == "SUCCESS"
    assert task["state"] == "FAILURE"
    assert task["name"] == "dingqueue.send"
    assert "keyword" in task["exception"]


def test_no_page_shows_a_secret_or_a_word_of_a_message(watched: Watched, jobs: tuple[str, str]) -> None:
    worker = watched.worker()
    paths = [
        "/",
        "/workers",
        "/tasks",
        "/broker",
        "/metrics",
        "/api/workers?refresh=1",
        "/api/tasks",
        "/api/task/types",
    ]
    paths += ["/tasks/datatable?draw=1&start=0&length=50&search[value]=&order[0][column]=0&order[0][dir]=asc"
              "&columns[0][data]=name", f"/worker/{worker}", "/api/queues/length"]  # fmt: skip
    for job_id in jobs:
        paths += [f"/task/{job_id}", f"/api/task/info/{job_id}"]

    for path in paths:
        answer = watched.get(path)

        assert answer.status_code == 200, path
        for planted in (TOKEN, SECRET, "PLANTED", MOBILE, LOGIN[1]):
            assert planted not in answer.text, f"{path} shows {planted}"
    for words in (("metrics", "--once"), ("dead", "list", "--json"), ("lanes", "--json"), ("health", "--json")):
        said = watched.fleet.command(*words).stdout
        assert said, words
        assert not [planted for planted in (TOKEN, SECRET, "PLANTED", MOBILE) if planted in said], words
    assert "PLANTED" not in watched.fleet.logs()
    assert MOBILE not in watched.fleet.logs()


@pytest.mark.parametrize("path", ["/", "/tasks", "/broker", "/api/tasks", "/api/workers"])
def test_a_stranger_sees_nothing(watched: Watched, path: str) -> None:
    assert watched.get(path, auth=None).status_code == 401
    assert watched.get(path, auth=("admin", "wrong")).status_code == 401


def test_nobody_can_change_a_worker(watched: Watched) -> None:
    worker = watched.worker()

    answer = requests.post(f"http://127.0.0.1:{watched.port}/api/worker/shutdown/{worker}", auth=LOGIN, timeout=20)

    assert answer.status_code == 403


def test_a_restart_remembers_and_ends_in_order(watched: Watched, jobs: tuple[str, str]) -> None:
    assert watched.flower.terminate() == 0

    watched.flower = watched.start()

    assert watched.tasks()[jobs[0]] == "SUCCESS"
    assert all(file.stat().st_mode & 0o077 == 0 for file in watched.db.parent.iterdir())


def test_it_does_not_start_where_strangers_could_see_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dingqueue_worker", "flower", "--address", "0.0.0.0"],  # noqa: S104 - that is the test
        capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "DINGQUEUE_FLOWER_USERS": ""},
    )  # fmt: skip

    assert done.returncode == 2
    assert "--users" in done.stderr


@pytest.mark.parametrize(
    ("address", "socket", "logins", "fine"),
    [
        ("127.0.0.1", "", False, True),
        ("127.0.0.9", "", False, True),
        ("::1", "", False, True),
        ("localhost", "", False, True),
        ("", "", False, False),
        ("10.0.0.1", "", False, False),
        ("flower.example.com", "", False, False),
        ("10.0.0.1", "", True, True),
        ("", "/run/flower.sock", False, True),
    ],
)
def test_who_is_kept_out(address: str, socket: str, logins: bool, fine: bool) -> None:
    assert guarded(address=address, unix_socket=socket, logins=logins) is fine


@pytest.mark.parametrize("wrong", ["", "\n", "no-colon", "name:", ":password", "a:b\nsecretword"])
def test_a_wrong_file_of_users_is_told_without_a_password(wrong: str, tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text(wrong)

    with pytest.raises(ValueError, match="expected NAME:PASSWORD") as told:
        names_and_passwords(f"file:{file}", from_environment=False)

    assert "secretword" not in str(told.value)


def test_passwords_are_not_taken_from_the_command_line() -> None:
    with pytest.raises(ValueError, match="give file:PATH") as told:
        names_and_passwords("admin:secretword", from_environment=False)

    assert "secretword" not in str(told.value)
    assert names_and_passwords("admin:secretword", from_environment=True) == ("admin:secretword",)


def test_arguments_of_other_peoples_tasks_are_masked() -> None:
    theirs = {"type": "task-received", "uuid": "1", "name": "shop.pay", "args": "('4111',)", "kwargs": "{'cvv': 1}"}
    ours = {"type": "task-received", "uuid": "2", "name": "dingqueue.send", "args": "('job', 1, 'ops')"}

    assert masked(theirs) == {**theirs, "args": "(…)", "kwargs": "{…}"}
    assert masked(ours) == ours
