"""Secrets and message text, planted and then searched for everywhere an outsider may look."""

from __future__ import annotations

import base64
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from dingqueue_worker.sandbox.client import Space
from support.events import Events
from support.fleet import Fleet

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


@pytest.mark.timeout(180)
def test_nothing_planted_comes_out(space: Space) -> None:
    space.robot(TOKEN, name="ops", secret=SIGNING)
    with (
        Fleet(CONFIG, oapi_url=space.oapi_url, env={"PLANTED_TOKEN": TOKEN}) as fleet,
        Events(fleet.broker_url) as events,
    ):
        worker = fleet.worker(loglevel="DEBUG")
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
        lists = "".join(
            fleet.command(*words).stdout
            for words in (
                ["lanes"],
                ["lanes", "--json"],
                ["dead", "list"],
                ["dead", "list", "--json"],
                ["status", *jobs],
            )
        )

        places = {
            "logs": fleet.logs().encode(),
            "events": events.text().encode(),
            "redis": everything_in(fleet.server.url),
            "commands": lists.encode(),
        }
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
