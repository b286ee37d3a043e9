"""docker-compose.yml's own commands, environments and health checks, run as plain processes under the ACL it mounts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import requests

from dingqueue_worker.sandbox.client import Space
from support.compose import NEVER, ComposeAsProcesses
from support.waiting import wait_for


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeAsProcesses]:
    with ComposeAsProcesses(tmp_path_factory.mktemp("compose"), env_file="ops/sandbox.env") as running:
        yield running


def url(system: ComposeAsProcesses, service: str, port: int, path: str = "") -> str:
    return f"http://127.0.0.1:{system.of(service)[0].ports[port]}{path}"


@pytest.mark.timeout(240)
def test_a_message_goes_through_the_whole_system(system: ComposeAsProcesses) -> None:
    space = Space(url(system, "sandbox", 8025))

    done = system.exec("worker", "dingqueue", "send", "ops", "Hello from compose", "--wait", "30")

    assert done.returncode == 0, done.stderr
    assert [message.text for message in space.messages()].count("Hello from compose") == 1


def test_only_what_cannot_be_had_here_is_left_out(system: ComposeAsProcesses) -> None:
    running = {service.name for service in system.services}

    assert {"redis", "worker", "beat", "flower", "metrics", "sandbox"} <= running
    assert len(system.of("worker")) == 2
    assert running | NEVER | {"prometheus"} == set(system._spec["services"])


def test_the_exporter_counts_both_workers_and_beat(system: ComposeAsProcesses) -> None:
    def counted() -> bool:
        text = requests.get(url(system, "metrics", 9808, "/metrics"), timeout=10).text
        return 'dingqueue_processes{role="worker"} 2.0' in text and 'dingqueue_processes{role="beat"} 1.0' in text

    wait_for(counted, within_s=20, every_s=0.3)


def test_flower_asks_who_is_there(system: ComposeAsProcesses) -> None:
    name, _, password = (system.secrets / "flower_users").read_text().strip().partition(":")

    assert requests.get(url(system, "flower", 5555, "/"), timeout=10).status_code == 401
    workers = wait_for(
        lambda: requests.get(
            url(system, "flower", 5555, "/api/workers?refresh=1"), auth=(name, password), timeout=20
        ).json(),
        within_s=20,
        what="Flower sees the workers",
    )
    assert workers


def test_prometheus_scrapes_the_fleet(system: ComposeAsProcesses) -> None:
    if not system.of("prometheus"):
        pytest.skip("prometheus is not installed; it comes with Debian's package prometheus")

    def up() -> bool:
        answer = requests.get(
            url(system, "prometheus", 9090, "/api/v1/query"), params={"query": "dingqueue_up"}, timeout=10
        )
        return [row["value"][1] for row in answer.json()["data"]["result"]] == ["1"]

    wait_for(up, within_s=40, every_s=0.5)


def test_nobody_asked_for_more_than_the_acl_allows(system: ComposeAsProcesses) -> None:
    # Whoever runs the tests above in any order or alone: make some traffic of each kind first.
    sent = system.exec("worker", "dingqueue", "send", "release", "Under the ACL", "--wait", "30")
    producer = (system.secrets / "redis_producer").read_text().strip()
    stormy = system.exec("worker", "dingqueue", "send", "builds", "One of a storm", "--wait", "30")
    as_application = system.exec("worker", "dingqueue", "send", "ops", "As an application", "--broker-url", producer)
    in_a_storm = system.exec("worker", "dingqueue", "send", "builds", "Another", "--broker-url", producer)
    # What beat publishes every ten minutes.
    ticked = system.exec("beat", "python", "-m", "celery", "-A", "dingqueue_worker.main", "call", "dingqueue.prune")
    admin = redis.Redis.from_url((system.secrets / "redis_admin").read_text().strip(), decode_responses=True)

    denied = admin.acl_log()
    admin.close()

    assert sent.returncode == 0, sent.stderr
    assert stormy.returncode == 0, stormy.stderr
    assert as_application.returncode == 0, as_application.stderr
    assert in_a_storm.returncode == 0, in_a_storm.stderr
    assert ticked.returncode == 0, ticked.stderr
    assert [(entry["username"], entry["object"], entry["reason"]) for entry in denied] == []


@pytest.mark.parametrize(
    ("user", "command"),
    [
        ("producer", ("GET", "dq:{dq}:token:acme")),
        ("producer", ("ZRANGE", "dq:{dq}:dead", "0", "-1")),
        ("producer", ("FLUSHALL",)),
        ("producer", ("KEYS", "*")),
        ("worker", ("FLUSHALL",)),
        ("worker", ("CONFIG", "GET", "*")),
        ("worker", ("SET", "another:program", "1")),
        ("flower", ("HGETALL", "dq:{dq}:counts")),
        ("metrics", ("SET", "dq:{dq}:clock", "1")),
        ("metrics", ("DEL", "dingqueue")),
        ("metrics", ("GET", "dq:{dq}:body:any")),
        ("metrics", ("HGETALL", "dq:{dq}:token:acme:m1")),
        ("beat", ("GET", "dq:{dq}:token:acme")),
        ("probe", ("INFO",)),
    ],
)
def test_what_a_user_does_not_need_is_refused(system: ComposeAsProcesses, user: str, command: tuple[str, ...]) -> None:
    at = (system.secrets / "redis_admin").read_text().strip()
    if user != "probe":
        at = (system.secrets / f"redis_{user}").read_text().strip()
    port = int(at.rsplit(":", 1)[1].split("/")[0])
    options = {"username": "probe", "password": "probe", "port": port} if user == "probe" else {}
    client = redis.Redis(**options) if options else redis.Redis.from_url(at)  # type: ignore[arg-type]  # a mixed dict

    with client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py has no types for it
    with redis.Redis.from_url((system.secrets / "redis_admin").read_text().strip()) as admin:
        admin.acl_log_reset()


@pytest.mark.timeout(240)
def test_everything_ends_in_order(tmp_path: Path) -> None:
    system = ComposeAsProcesses(tmp_path, env_file="ops/sandbox.env").start()

    codes = system.stop()

    # uvicorn ends in order and then, as the signal wants it, by the signal.
    assert codes.pop("sandbox") in {0, -15}
    assert codes == dict.fromkeys(codes, 0), codes
    logs = {service.name: service.log() for service in system.services}
    assert not [name for name, text in logs.items() if "Traceback" in text], logs
