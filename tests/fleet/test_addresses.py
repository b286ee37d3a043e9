"""A whole fleet over every form of address that Redis has: TLS, a socket, Sentinels; and two fleets on one Redis."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
import requests

from dingqueue import Client, EnqueueFailed
from dingqueue_worker import children
from dingqueue_worker.embedded import Server, free_port
from dingqueue_worker.sandbox.client import Space
from support.events import Events
from support.fleet import Fleet, Process
from support.front import Authority, Front
from support.ops import tool
from support.sentinels import Sentinels
from support.waiting import wait_for

pytestmark = pytest.mark.timeout(240)

TOKEN = "robot0of0the0addresses"
PASSWORDS = ("planted-server-pw", "planted-sentinel-pw")


def config(token: str = TOKEN) -> str:
    return f'[robots.ops]\ntoken = "{token}"\n[destinations.ops]\nrobots = ["ops"]\n'


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(params=["a door before the server", "the server itself"])
def tls_port(request: pytest.FixtureRequest, authority: Authority, tmp_path: Path) -> Iterator[int]:
    """A Redis over TLS that wants its clients' certificates."""
    if request.param == "a door before the server":
        with Server() as server, Front(server.port, tls=authority.server_context(clients=True)) as front:
            yield front.port
        return
    # Debian's is built with TLS; the wheel that brings our own server is not.
    port, pem = free_port(), str(authority.server)
    options = [
        "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path), "--save", "",
        "--appendonly", "yes", "--tls-cert-file", pem, "--tls-key-file", pem,
        "--tls-ca-cert-file", str(authority.certificate), "--tls-auth-clients", "yes",
    ]  # fmt: skip
    with (tmp_path / "log").open("wb") as log:
        child = children.start([tool("redis-server"), *options], output=log)
    wait_for(lambda: "Ready to accept connections" in (tmp_path / "log").read_text(), what="redis-server is ready")
    yield port
    children.stop(child)


def tls_url(port: int, authority: Authority, *, trusted: Path | None = None) -> str:
    pem = authority.client
    return f"rediss://localhost:{port}/0?ssl_ca_certs={trusted or authority.certificate}&ssl_certfile={pem}&ssl_keyfile={pem}"


def assert_works(fleet: Fleet, space: Space) -> Process:
    """A message goes the whole way, by a worker, and every command finds the fleet; returns the worker."""
    space.robot(TOKEN, name="ops")
    (worker,) = fleet.workers(1)
    fleet.beat()
    sent = fleet.command("send", "ops", "by the command", "--wait", "30")
    assert sent.returncode == 0, sent.stderr + fleet.logs()
    job_ids = [fleet.client.send("ops", f"number {number}") for number in range(5)]
    for status in fleet.wait_for_end(*job_ids):
        assert status.state == "delivered"
    wait_for(lambda: fleet.command("health").returncode == 0, within_s=20, what="worker and beat show themselves")
    for words in (["lanes"], ["metrics", "--once"], ["status", job_ids[0]], ["dead", "list"]):
        done = fleet.command(*words)
        assert done.returncode in {0, 3}, f"{words}: {done.stderr}"
    checked = {one["check"]: one for one in json.loads(fleet.command("doctor", "--json").stdout)["checks"]}
    for check in ("redis", "broker", "workers"):
        assert checked[check]["state"] == "ok", checked[check]
    return worker


def test_a_fleet_over_tls_with_certificates_on_both_sides(space: Space, authority: Authority, tls_port: int) -> None:
    url = tls_url(tls_port, authority)
    with Server() as unused, Fleet(config(), oapi_url=space.oapi_url, server=unused, state_url=url) as fleet:
        assert_works(fleet, space)


def test_a_server_that_a_stranger_vouches_for_is_not_spoken_to(authority: Authority) -> None:
    with Server() as server, Front(server.port, tls=authority.server_context()) as front:
        for url in (
            f"rediss://localhost:{front.port}/0",
            f"rediss://localhost:{front.port}/0?ssl_ca_certs={authority.stranger}",
            # The certificate is for localhost and 127.0.0.1.
            f"rediss://127.0.0.2:{front.port}/0?ssl_ca_certs={authority.certificate}",
        ):
            with Client(url) as client, pytest.raises(EnqueueFailed, match=r"could not be reached"):
                client.send("ops", "to whom?")
        with redis.Redis(port=server.port) as inside:
            assert inside.dbsize() == 0
        unchecked = f"rediss://localhost:{front.port}/0?ssl_cert_reqs=none"
        with Client(unchecked) as client:
            client.send("ops", "as it was asked for")


def test_a_fleet_over_a_socket(space: Space, tmp_path: Path) -> None:
    path = tmp_path / "Redis.sock"
    with Server(options={"unixsocket": str(path)}) as server:
        url = f"unix://{path}?db=3"
        with Fleet(config(), oapi_url=space.oapi_url, server=server, state_url=url) as fleet:
            assert_works(fleet, space)
        with redis.Redis(port=server.port) as inside:
            assert set(inside.info("keyspace")) == {"db3"}


def test_a_fleet_by_sentinels_with_passwords_of_their_own(space: Space) -> None:
    server_password, sentinel_password = PASSWORDS
    with Sentinels(password=server_password, own_password=sentinel_password) as sentinels:
        file = Path(sentinels.servers[0]._folder.name) / "url"
        file.write_text(sentinels.url + "\n")
        with (
            Server() as unused,
            Fleet(
                config(), oapi_url=space.oapi_url, server=unused, state_url=sentinels.url,
                # As a mounted secret: what processes and commands are told.
                env={"DINGQUEUE_BROKER_URL": f"file:{file}", "DINGQUEUE_STATE_URL": ""},
            ) as fleet,
        ):  # fmt: skip
            port = free_port()
            command = [sys.executable, "-m", "dingqueue_worker", "flower", "--port", str(port)]
            flower = Process(
                command, env={**fleet.env, "FLOWER_UNAUTHENTICATED_API": "1"}, log=fleet.folder / "flower.log"
            )
            fleet.processes.append(flower)
            flower.wait_until_says("Flower is at")
            assert_works(fleet, space)

            def get(path: str) -> requests.Response:
                return requests.get(f"http://127.0.0.1:{port}{path}", timeout=20)

            workers = wait_for(lambda: get("/api/workers?refresh=1").json(), within_s=30, what="Flower sees the worker")
            (name,) = workers
            shown = "".join(get(path).text for path in (f"/worker/{name}", "/broker", "/workers", "/api/workers"))
            assert get("/api/queues/length").json()["active_queues"] == [{"name": "dingqueue", "messages": 0}]
            said = fleet.logs() + shown
            for password in PASSWORDS:
                assert password not in said
            assert "sentinel://" in said


def test_two_fleets_on_one_broker_share_nothing_but_the_server(space: Space) -> None:
    tokens = {"dq:": "robot0of0the0first", "second:": "robot0of0the0second"}
    for token in tokens.values():
        space.robot(token, name=token)
    with Server() as server, ExitStack() as stack:
        fleets = {
            prefix: stack.enter_context(Fleet(config(token), oapi_url=space.oapi_url, server=server, prefix=prefix))
            for prefix, token in tokens.items()
        }
        heard = stack.enter_context(Events(server.url))  # as a Flower of the first fleet
        for fleet in fleets.values():
            fleet.workers(1)
            fleet.beat()
        jobs = {
            prefix: [fleet.client.send("ops", f"{prefix} {number}", key=f"same-{number}") for number in range(10)]
            for prefix, fleet in fleets.items()
        }
        for prefix, fleet in fleets.items():
            assert {one.state for one in fleet.wait_for_end(*jobs[prefix])} == {"delivered"}

        arrived = {token: [one.text for one in space.messages(robot=token)] for token in tokens.values()}
        for prefix, token in tokens.items():
            assert sorted(arrived[token]) == [f"{prefix} {number}" for number in range(10)]
        assert jobs["dq:"] == jobs["second:"], (
            "the same destination and key are the same id, in each fleet a job of its own"
        )
        for prefix, fleet in fleets.items():
            counts = fleet.store.counts()
            assert counts["accepted:send:ops"] == 10, prefix
            alive = json.loads(fleet.command("health", "--json").stdout)
            assert [one["said"][:7] for one in alive if one["name"] == "worker"] == ["1 alive"]
            doctor = json.loads(fleet.command("doctor", "--json").stdout)["checks"]
            (workers,) = [one["words"] for one in doctor if one["check"] == "workers"]
            assert workers.startswith("1 on the queue dingqueue"), workers
        # Both fleets have a job of this id: of the second's nothing is heard.
        for job_id in jobs["dq:"]:
            heard.wait_for(job_id, "received", "started", "succeeded")
        with redis.Redis(port=server.port, decode_responses=True) as inside:
            inside.delete(*inside.keys("second:*"))
        assert fleets["second:"].client.status(jobs["second:"][0]) is None
        assert fleets["dq:"].status(jobs["dq:"][0]).state == "delivered"


def test_two_fleets_in_two_databases_share_nothing(space: Space) -> None:
    with Server() as server, ExitStack() as stack:
        fleets = []
        for number in (1, 2):
            space.robot(f"robot0of0database{number}", name=f"of {number}")
            url = f"redis://127.0.0.1:{server.port}/{number}"
            fleet = Fleet(config(f"robot0of0database{number}"), oapi_url=space.oapi_url, server=server, state_url=url)
            fleets.append(stack.enter_context(fleet))
        heard = stack.enter_context(Events(f"redis://127.0.0.1:{server.port}/1"))
        for fleet in fleets:
            fleet.workers(1)

        sent = [fleet.client.send("ops", f"of {number}") for number, fleet in enumerate(fleets, 1)]
        for fleet, job_id in zip(fleets, sent, strict=True):
            assert fleet.wait_for_end(job_id)[0].state == "delivered"

        for number in (1, 2):
            assert [one.text for one in space.messages(robot=f"of {number}")] == [f"of {number}"]
        wait_for(lambda: "succeeded" in heard.of(sent[0]))
        assert not heard.of(sent[1])
        with redis.Redis(port=server.port) as inside:
            assert set(inside.info("keyspace")) == {"db1", "db2"}


def test_a_broker_that_cannot_be_is_refused_by_every_command_and_process(tmp_path: Path) -> None:
    (tmp_path / "dingqueue.toml").write_text(config())
    env = {
        "DINGQUEUE_BROKER_URL": "redis+cluster://:planted@h",
        "PATH": "/usr/bin",
        "DINGQUEUE_CONFIG": str(tmp_path / "dingqueue.toml"),
    }
    for words in (
        ["worker"],
        ["beat"],
        ["flower"],
        ["metrics"],
        ["health"],
        ["lanes"],
        ["send", "ops", "x"],
        ["doctor"],
    ):
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "dingqueue_worker", *words], env=env, capture_output=True, text=True, timeout=30,
            check=False, cwd=tmp_path,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == 2, f"{words}: {said}"
        assert "Celery cannot use a Redis Cluster; take one server, or Sentinel" in said, words
        assert "planted" not in said
