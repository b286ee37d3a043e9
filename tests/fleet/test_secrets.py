"""Secrets and message text, planted and then searched for everywhere an outsider may look."""

from __future__ import annotations

import base64
import sys
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import requests

from dingqueue_worker.embedded import free_port
from dingqueue_worker.sandbox.client import Space
from support.events import Events
from support.fleet import Fleet, Process
from support.waiting import wait_for

TOKEN = "planted0token0of0the0robot0ops"
SIGNING = "SECplanted0secret0of0the0robot0ops"
PASSWORD = "planted0password0of0redis"
TEXT = "planted text 秘密内容"
MOBILE = "13912345678"

CONFIG = f"""
[robots.ops]
token = "${{PLANTED_TOKEN}}"
secret = "{SIGNING}"
[robots.gone]
token = "{TOKEN}gone"
[destinations]
ops.robots = ["ops"]
gone.robots = ["gone"]
[people.alice]
mobile = "{MOBILE}"
[fleet]
connect_timeout_s = 1.0
read_timeout_s = 1.0
total_timeout_s = 1.5
backoff_base_s = 0.1
"""


def spellings(secret: str) -> list[bytes]:
    """A secret as it might slip out: plain, in a URL, in base64."""
    raw = secret.encode()
    return [raw, urllib.parse.quote(secret).encode(), base64.b64encode(raw)[:-4]]


def everything_in(server_url: str) -> bytes:
    """All that Redis holds, but the jobs' own bodies: keys, values, whatever type."""
    raw: Any = redis.Redis.from_url(server_url)
    parts: list[bytes] = []
    for key in raw.scan_iter():
        if b":body:" in key:
            continue
        parts += [key, raw.dump(key) or b"", *_values(raw, key)]
    return b"\n".join(parts)


def _values(raw: Any, key: bytes) -> Iterator[bytes]:
    match raw.type(key):
        case b"hash":
            for name, value in raw.hgetall(key).items():
                yield from (name, value)
        case b"zset":
            yield from raw.zrange(key, 0, -1)
        case b"list":
            yield from raw.lrange(key, 0, -1)
        case b"set":
            yield from raw.smembers(key)
        case b"string":
            yield raw.get(key) or b""


@pytest.mark.timeout(240)
@pytest.mark.parametrize("form", ["human", "json"])
def test_nothing_planted_comes_out(space: Space, form: str) -> None:
    space.robot(TOKEN, name="ops", secret=SIGNING)
    with (
        Fleet(CONFIG, oapi_url=space.oapi_url, env={"PLANTED_TOKEN": TOKEN, "DINGQUEUE_LOG": form}) as fleet,
        Events(fleet.broker_url) as events,
    ):
        page, watched = free_port(), free_port()
        flower = Process(
            [sys.executable, "-m", "dingqueue_worker", "flower", "--port", str(watched)],
            env={**fleet.env, "FLOWER_UNAUTHENTICATED_API": "1"}, log=fleet.folder / "flower.log",
        )  # fmt: skip
        fleet.processes.append(flower)
        flower.wait_until_says("Flower is at")
        worker = fleet.worker(loglevel="DEBUG", env={"DINGQUEUE_HEALTH": f"127.0.0.1:{page}"})
        worker.wait_until_says("ready.")
        fleet.beat()
        # Every kind of end: delivered, refused with an echo, lost, too slow, an unknown robot, a connection reset.
        jobs = [fleet.client.send("ops", TEXT, mention=["alice"])]
        fleet.wait_for_end(*jobs)
        for fault, more in (
            ("errcode", {"errcode": 430102, "errmsg": f"bad content: {TEXT} from {TOKEN}"}),
            ("lost", {}),
            ("reset", {}),
            ("slow", {"delay_s": 3.0}),
            ("status", {"status": 500, "body": f"<html>{TOKEN}</html>"}),
        ):
            space.fault(fault, times=1, sender="ops", **more)
            jobs.append(fleet.client.send("ops", f"{TEXT} {fault}", mention=["alice"]))
            fleet.wait_for_end(jobs[-1], within_s=60)
        jobs.append(fleet.client.assign("ops", TEXT, to=[MOBILE], description=TEXT))
        fleet.wait_for_end(jobs[-1])
        fleet.client.send("gone", TEXT)
        worker.wait_until_says("sender is broken")
        commands = [
            ["lanes"], ["lanes", "--json"], ["dead", "list"], ["dead", "list", "--json"], ["status", *jobs],
            ["status", "--json", *jobs], ["metrics", "--once"], ["doctor"], ["doctor", "--json"], ["health", "--json"],
        ]  # fmt: skip
        lists = "".join(f"{done.stdout}{done.stderr}" for done in (fleet.command(*words) for words in commands))
        (dead,) = [job_id for job_id in jobs if fleet.status(job_id).state == "dead"]
        shown = fleet.command("dead", "show", dead).stdout

        def get(port: int, *paths: str) -> bytes:
            return b"".join(requests.get(f"http://127.0.0.1:{port}{path}", timeout=20).content for path in paths)

        wait_for(lambda: dead.encode() in get(watched, "/api/tasks"), what="Flower has it")
        name = next(iter(requests.get(f"http://127.0.0.1:{watched}/api/workers?refresh=1", timeout=20).json()))

        places = {
            "logs": fleet.logs().encode(),
            "events": events.text().encode(),
            "redis": everything_in(fleet.server.url),
            "commands": lists.encode(),
            "metrics": get(page, "/metrics", "/metrics/fleet", "/readyz"),
            "flower": get(
                watched,
                "/api/tasks",
                f"/api/task/info/{dead}",
                f"/task/{dead}",
                "/tasks",
                f"/worker/{name}",
                "/metrics",
            ),
        }
        assert TEXT in shown, "a dead job's text is for the person who decides what becomes of it"
        assert not [
            spelling for secret in (TOKEN, SIGNING) for spelling in spellings(secret) if spelling in shown.encode()
        ]
        assert (b'"event": "attempt ended"' in places["logs"]) == (form == "json")
        assert b"dingqueue_up 1.0" in places["metrics"]
        assert b"dingqueue.send" in places["flower"]
        assert b"attempt ended" in places["logs"]
        assert b"task-succeeded" in places["events"]
        assert len(places["redis"]) > 1_000
        for name, said in places.items():
            for secret in (TOKEN, SIGNING):
                for spelling in spellings(secret):
                    assert spelling not in said, f"{secret!r} in {name}: {_around(said, spelling)}"
            for private in (TEXT, "秘密", MOBILE):
                assert private.encode() not in said, f"{private!r} in {name}: {_around(said, private.encode())}"
                escaped = private.encode("unicode_escape")
                assert escaped not in said, f"{private!r} in {name}: {_around(said, escaped)}"


def _around(said: bytes, found: bytes) -> str:
    at = said.index(found)
    return repr(said[max(at - 200, 0) : at + 200])
