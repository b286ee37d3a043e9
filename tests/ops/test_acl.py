"""ops/redis.acl.template: two fleets on one server, each process as its own user, and nobody is refused what it needs."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import redis
import requests

from dingqueue import Client
from dingqueue_worker.embedded import Server, free_port
from dingqueue_worker.sandbox.client import Space
from support.fleet import Fleet, Process
from support.ops import make_secrets
from support.waiting import wait_for

FLEETS = {"dq:": "dq:{dq}:", "crm:": "crm:{crm}:"}


@dataclass(frozen=True, slots=True)
class Guarded:
    """One server, and for each prefix the addresses of its users."""

    server: Server
    urls: dict[str, dict[str, str]]
    admin: Any


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("acl")
    with Server() as server:
        at = f"127.0.0.1:{server.port}"
        urls: dict[str, dict[str, str]] = {}
        rules: dict[str, list[str]] = {}
        for name, prefix in FLEETS.items():
            secrets = make_secrets(folder / name.strip(":"), PREFIX=prefix, REDIS_AT=at, REDIS_FROM_OUTSIDE=at)
            lines = (secrets / "redis.acl").read_text().splitlines()
            if name != "dq:":
                # The second fleet's users need names of their own on the same server.
                lines = [re.sub(r"^user (?!default|probe|admin)(\w+)", r"user crm-\1", line) for line in lines]
            rules |= {line.split()[1]: line.split()[2:] for line in lines}
            urls[name] = {
                file.name.removeprefix("redis_"): file.read_text().strip().replace("://", "://" if name == "dq:" else "://crm-")
                for file in secrets.glob("redis_*")
            }  # fmt: skip
        admin: Any = redis.Redis(port=server.port, decode_responses=True)
        for user, words in rules.items():
            if user not in {"default", "admin"}:
                admin.execute_command("ACL", "SETUSER", user, "reset", *words)
        yield Guarded(server, urls, admin)
        admin.close()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("prefix", FLEETS)
def test_each_process_does_its_work_as_its_own_user(guarded: Guarded, prefix: str, space: Space) -> None:
    token = f"robot0of0the0acl0{prefix.strip(':')}"
    space.robot(token, name="ops")
    config = f'[robots.ops]\ntoken = "{token}"\n[destinations]\nops = {{robots = ["ops"]}}\nstormy = {{robots = ["ops"], overflow = "digest"}}\n'
    urls = guarded.urls[prefix]
    guarded.admin.acl_log_reset()
    with Fleet(
        config, oapi_url=space.oapi_url, server=guarded.server, state_url=urls["producer"], prefix=prefix,
        env={"DINGQUEUE_STATE_URL": ""},
    ) as fleet:  # fmt: skip

        def as_user(name: str) -> dict[str, str]:
            return {"DINGQUEUE_BROKER_URL": urls[name]}

        port = free_port()
        flower = [sys.executable, "-m", "dingqueue_worker", "flower", "--port", str(port)]
        watching = Process(
            flower, env=fleet.env | as_user("flower") | {"FLOWER_UNAUTHENTICATED_API": "1"}, log=fleet.folder / "flower"
        )
        fleet.processes.append(watching)
        watching.wait_until_says("Flower is at")
        worker = fleet.worker(env=as_user("worker"))
        worker.wait_until_says("ready.")
        fleet.beat(env=as_user("beat"))

        with Client(urls["producer"], prefix=prefix) as client:
            job_ids = client.send_many({"destination": "stormy", "text": f"number {number}"} for number in range(5))
            job_ids += [client.send("ops", "one"), client.send("ops", "urgent", urgent=True)]
            job_ids.append(client.assign("ops", "Look", to=["13912345678"]))
            later = client.send("ops", "never mind", expires_s=600, key="to be cancelled")
            client.cancel(later)
            for status in fleet.wait_for_end(*job_ids, within_s=60):
                assert status.state in {"delivered", "merged"}, status
        figures = fleet.command("metrics", "--once", "--broker-url", urls["metrics"])
        assert figures.returncode == 0, (figures.stderr, guarded.admin.acl_log())
        assert "dingqueue_up 1.0" in figures.stdout
        assert "dingqueue_queue_length 0.0" in figures.stdout
        workers = wait_for(
            lambda: requests.get(f"http://127.0.0.1:{port}/api/workers?refresh=1", timeout=20).json(), within_s=30,
            what="Flower asks who is there",
        )  # fmt: skip
        assert len(workers) == 1
        assert worker.terminate() == 0

        denied = guarded.admin.acl_log()

    assert [(one["username"], one["object"], one["context"]) for one in denied] == []


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("worker", ("GET", "crm:{crm}:token:acme")),
        ("worker", ("LPUSH", "dingqueue.crm", "x")),
        ("worker", ("PUBLISH", "/0.celery.dingqueue.crm.pidbox", "x")),
        ("producer", ("HGETALL", "crm:{crm}:pace")),
        ("producer", ("LPUSH", "dingqueue.crm", "x")),
        ("beat", ("LPUSH", "dingqueue.crm", "x")),
        ("flower", ("LRANGE", "dingqueue.crm", "0", "-1")),
        ("flower", ("SUBSCRIBE", "/0.celeryev.dingqueue.crm/worker.*")),
        ("metrics", ("HGETALL", "crm:{crm}:counts")),
    ],
)
def test_no_user_reaches_into_the_other_fleet(guarded: Guarded, user: str, words: tuple[str, ...]) -> None:
    with redis.Redis.from_url(guarded.urls["dq:"][user]) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*words)
    guarded.admin.acl_log_reset()
