"""ops/redis.acl.template: each process and person as their own user: refused nothing that they need, and all else."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
import requests

from dingqueue import Client
from dingqueue_worker.embedded import Server, free_port
from dingqueue_worker.sandbox.client import Sandbox, Space
from dingqueue_worker.store import Store
from support.fleet import Fleet, Process
from support.ops import make_secrets
from support.organisation import CONFIG, furnish
from support.state import sender
from support.waiting import wait_for

FLEETS = {"dq:": "dq:{dq}:", "crm:": "crm:{crm}:"}


@dataclass(frozen=True, slots=True)
class Guarded:
    """One server, and for each prefix the addresses of its users."""

    server: Server
    urls: dict[str, dict[str, str]]
    admin: Any

    @contextmanager
    def nobody_is_refused(self) -> Iterator[None]:
        """Fails with whoever asks meanwhile for what they may not."""
        self.admin.acl_log_reset()
        yield
        denied = self.admin.acl_log()
        assert [(one["username"], one["object"], one["context"]) for one in denied] == []


@contextmanager
def guard(folder: Path) -> Iterator[Guarded]:
    """A server with the users of both fleets, as the template has them."""
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


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with guard(tmp_path_factory.mktemp("acl")) as guarded:
        yield guarded


@pytest.mark.timeout(240)
@pytest.mark.parametrize("prefix", FLEETS)
def test_each_process_does_its_work_as_its_own_user(guarded: Guarded, prefix: str, space: Space) -> None:
    token = f"robot0of0the0acl0{prefix.strip(':')}"
    space.robot(token, name="ops")
    config = f'[robots.ops]\ntoken = "{token}"\n[destinations]\nops = {{robots = ["ops"]}}\nstormy = {{robots = ["ops"], overflow = "digest"}}\n'
    urls = guarded.urls[prefix]
    with guarded.nobody_is_refused(), Fleet(
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


# --- A fleet with an app, and the people who look after it ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Company:
    """A running fleet with an app, its sandbox, and the application that uses it; commands are the worker's user's."""

    guarded: Guarded
    fleet: Fleet
    space: Space
    application: Client

    def as_application(self, *words: str) -> str:
        """What a command says on an application's machine."""
        return self.as_person(*words, "--broker-url", self.guarded.urls["dq:"]["producer"])

    def as_person(self, *words: str, code: int = 0) -> str:
        """What a command says to who is on call: `docker compose exec worker dingqueue …`."""
        done = self.fleet.command(*words)
        assert done.returncode == code, (words, done.stdout, done.stderr, self.guarded.admin.acl_log())
        return done.stdout

    def dead(self, stranger: str) -> str:
        """A work for somebody who is not there."""
        job_id = self.application.assign("project", f"Greet {stranger}", to=[f"user:{stranger}"])
        (status,) = self.fleet.wait_for_end(job_id)
        assert status.state == "dead"
        return job_id


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Company]:
    space = sandbox.namespace()
    furnish(space)
    with guard(tmp_path_factory.mktemp("company")) as guarded:
        urls = guarded.urls["dq:"]
        with guarded.nobody_is_refused(), Fleet(
            CONFIG, oapi_url=space.oapi_url, api_url=space.api_url, server=guarded.server, state_url=urls["worker"],
            env={"DINGQUEUE_STATE_URL": ""},
        ) as fleet:  # fmt: skip
            fleet.workers(1)
            fleet.beat(env={"DINGQUEUE_BROKER_URL": urls["beat"]}).wait_until_says("beat starts")
            with Client(urls["producer"]) as application:
                yield Company(guarded, fleet, space, application)


@pytest.mark.timeout(240)
def test_an_apps_messages_works_and_files_go_their_whole_way(company: Company, tmp_path: Path) -> None:
    fleet, application = company.fleet, company.application
    report = tmp_path / "report.pdf"
    report.write_bytes(b"%PDF-1.7\n" + b"x" * 700_000)

    with company.guarded.nobody_is_refused():
        shared = [application.share("team", report), application.share("staff", report, note="again")]
        given = application.assign("project", "Count the chairs", to=["alice", "bob"])
        notice = application.send("notices", "the canteen is shut")
        written = application.send("team", "come, all")
        stays = application.send("shut", "never", expires_s=600)
        at_night = application.send("staff", "not yet", at=datetime.now(UTC) + timedelta(minutes=10))
        ends = fleet.wait_for_end(*shared, given, notice, written, within_s=60)
        assert {one.state for one in ends} <= {"accepted", "delivered"}

        fleet.wait_for_end(application.reassign(given, to=["carol"]))
        fleet.wait_for_end(application.complete(given), application.check(written))
        assert application.cancel(at_night) == "cancelled"
        assert [application.cancel(one) for one in (given, written)] == ["recalling"] * 2
        fleet.wait_until(lambda: {fleet.status(one).state for one in (given, written)} == {"cancelled"})
        fleet.wait_until(lambda: fleet.status(notice).state == "delivered", what="the result of the notification")
        fleet.wait_until(lambda: "key or secret" in fleet.status(stays).reason, what="the refused credentials")
        status = application.wait(shared[0], timeout_s=5)

    assert status
    assert status.state == "accepted"


@pytest.mark.timeout(240)
def test_who_is_on_call_needs_no_more_than_the_workers_own_user(company: Company) -> None:
    with company.guarded.nobody_is_refused():
        for words in (["lanes"], ["lanes", "--json"], ["health"], ["metrics", "--once"]):
            assert company.as_person(*words)
        assert "acme: good" in company.as_person("tokens", code=1), "the other app's credentials are wrong"
        doctor = json.loads(company.fleet.command("doctor", "--json").stdout)
        company.as_person("lanes", "pause", "ops", "--for", "30m", "--why", "moving house")
        waits = company.application.send("ops", "nothing to hurry")
        assert "moving house" in company.as_person("status", waits)
        company.as_person("lanes", "resume", "ops")
        company.as_person("watch", waits)
        sent = json.loads(company.as_person("send", "team", "hello", "--wait", "20", "--json"))["job_id"]
        company.as_person("check", sent)
        company.as_person("cancel", sent)
        first, second = company.dead("u-new"), company.dead("u-gone")
        assert first in company.as_person("dead", "list", "--json")
        assert "Greet u-new" in company.as_person("dead", "show", first)
        assert "Greet u-gone" in company.as_person("dead", "export", second)
        company.space.person("u-new", union_id="union-new")
        company.as_person("dead", "replay", first)
        company.fleet.wait_until(lambda: company.fleet.status(first).state == "delivered")
        company.as_person("dead", "drop", second, "--yes")
        assert second not in company.fleet.command("dead", "list", "--json").stdout

    assert "permission" not in json.dumps(doctor).lower(), doctor


@pytest.mark.timeout(240)
def test_an_applications_commands_need_no_more_than_the_producers_user(company: Company, tmp_path: Path) -> None:
    note = tmp_path / "note.pdf"
    note.write_bytes(b"%PDF-1.7\n")

    with company.guarded.nobody_is_refused():
        sent = json.loads(company.as_application("send", "team", "hello", "--wait", "20", "--json"))["job_id"]
        work = json.loads(
            company.as_application("assign", "project", "Look", "--to", "alice", "--wait", "20", "--json")
        )["job_id"]
        company.as_application("share", "team", str(note), "--wait", "20")
        company.as_application("assign", "--change", work, "--to", "bob", "--wait", "20")
        company.as_application("assign", "--done", work, "--wait", "20")
        company.as_application("check", sent)
        company.as_application("cancel", sent)
        company.as_application("status", sent, work)
        company.as_application("watch", work)


@pytest.mark.parametrize("user", ["worker", "beat", "producer"])
def test_whoever_meets_a_clock_that_was_set_back_may_move_what_lasts(guarded: Guarded, user: str) -> None:
    """A lane would stand still for an hour: the first script that meets it notes the new time, and then nobody else does it."""
    base, ahead_ms = FLEETS["crm:"], 3_600_000
    redis_ms = round(time.time() * 1000) + ahead_ms
    state: Any = guarded.admin
    state.set(f"{base}clock", redis_ms)
    state.hset(f"{base}senders", "robot.ops", json.dumps(sender()))
    state.hset(f"{base}job:out", mapping={"kind": "send", "destination": "ops", "state": "sending", "way": "webhook"})
    state.zadd(f"{base}due", {"ops": redis_ms + 1_000})
    state.set(f"{base}rest:ops", redis_ms)
    state.hset(f"{base}hold:ops", "rests", redis_ms + 1_000)
    lasting = [
        f"{base}{name}"
        for name in ("leases", "busy:ops", "busy:ops/webhook", "later", "results", "sender:robot.ops:60000")
    ]
    for key in lasting:
        state.zadd(key, {"out": redis_ms + 5_000})
    state.hset(f"{base}sender:robot.ops:closed", mapping={"until": redis_ms + 5_000, "cause": "cooldown"})
    url = guarded.urls["crm:"][user]

    with guarded.nobody_is_refused():
        if user == "producer":
            with Client(url, prefix="crm:") as client:
                assert client.status("nobody") is None
        else:
            store = Store(url, prefix="crm:")
            store.sign(f"{user}:host:1")
            store.close()

    assert {key: round((state.zscore(key, "out") - redis_ms) / 1000) for key in lasting} == dict.fromkeys(
        lasting, 5 - 3_600
    )
    assert int(state.hget(f"{base}sender:robot.ops:closed", "until")) < redis_ms
    state.delete(*state.keys(f"{base}*"))


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("producer", ("GET", "dq:{dq}:body:any")),
        ("producer", ("GET", "dq:{dq}:file:any")),
        ("producer", ("GETDEL", "dq:{dq}:body:any")),
        ("producer", ("COPY", "dq:{dq}:body:any", "dq:{dq}:job:any")),
        ("producer", ("RENAME", "dq:{dq}:body:any", "dq:{dq}:job:any")),
        ("producer", ("SET", "dq:{dq}:body:any", "x", "GET")),
        ("producer", ("EVAL", "return redis.call('GET', 'dq:{dq}:body:any')", "0")),
        ("producer", ("ZRANGE", "dq:{dq}:dead", "0", "-1")),
        ("producer", ("HGETALL", "dq:{dq}:token:acme")),
        ("producer", ("SCAN", "0")),
        ("producer", ("FUNCTION", "FLUSH")),
        ("worker", ("FUNCTION", "FLUSH")),
        ("beat", ("CLIENT", "LIST")),
        ("beat", ("CLIENT", "KILL", "127.0.0.1:1")),
        ("beat", ("GET", "dq:{dq}:body:any")),
        ("beat", ("HSET", "dq:{dq}:job:any", "state", "delivered")),
        ("beat", ("EVAL", "return redis.call('DEL', 'dq:{dq}:job:any')", "0")),
        ("flower", ("HGETALL", "dq:{dq}:job:any")),
        ("flower", ("SCAN", "0")),
        ("metrics", ("RANDOMKEY",)),
        ("metrics", ("GET", "dq:{dq}:body:any")),
    ],
)
def test_no_user_reaches_what_is_not_its_own(guarded: Guarded, user: str, words: tuple[str, ...]) -> None:
    with (
        redis.Redis.from_url(guarded.urls["dq:"][user]) as client,
        pytest.raises(redis.exceptions.ResponseError, match=r"permission|ACL failure"),
    ):
        client.execute_command(*words)
    guarded.admin.acl_log_reset()
