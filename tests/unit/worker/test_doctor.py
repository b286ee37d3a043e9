"""What the doctor makes of what it finds: pure judgements."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from dingqueue_worker.dingtalk.answers import Answer
from dingqueue_worker.doctor import (
    Finding,
    dingtalk_clock_finding,
    dingtalk_finding,
    lane_findings,
    redis_clock_finding,
    sender_findings,
    server_findings,
    token_finding,
)
from dingqueue_worker.settings import Destination
from dingqueue_worker.store import LaneView, SenderView, ServerFacts, TokenView

NOW = datetime(2026, 11, 25, 8, 0, tzinfo=UTC)
NOW_MS = round(NOW.timestamp() * 1000)


def facts(**more: Any) -> ServerFacts:
    usual: dict[str, Any] = {"name": "Redis", "version": "7.4.1", "policy": "noeviction", "append_only": True}
    return ServerFacts(**usual | more)


def server(**more: Any) -> dict[str, Finding]:
    found = server_findings(facts(**more), where="r:6379", took_s=0.002, redis_cli="redis-cli -h r -p 6379")
    return {finding.check: finding for finding in found}


def sender(name: str = "robot.ops", **more: Any) -> SenderView:
    usual = {"used": 0, "limit": 20, "window_ms": 60_000, "closed_until_ms": None, "why": "", "broken": False}
    return SenderView(name=name, **usual | more)


def lane(destination: str = "ops", *senders: SenderView, **more: Any) -> LaneView:
    usual = {"waiting": 0, "out": 0, "oldest_ms": None, "held_until_ms": None, "held_why": "", "drain_s": 0.0}
    return LaneView(destination=destination, senders=senders, **usual | more)


# --- The server ---------------------------------------------------------------------------------------------------


def test_a_fit_server_is_named_with_its_version_and_speed() -> None:
    found = server()

    assert {finding.state for finding in found.values()} == {"ok"}
    assert found["redis"].words == "Redis 7.4.1 at r:6379 answers in 2 ms"


@pytest.mark.parametrize(("name", "version"), [("Redis", "6.0.16"), ("Valkey", "7.0.1"), ("Redis", "5.0")])
def test_an_old_server_fails(name: str, version: str) -> None:
    found = server(name=name, version=version)

    assert found["redis"].state == "fail"
    assert f"{name} {version} is too old" in found["redis"].words
    assert found["redis"].fix == "upgrade the server"


def test_a_replica_fails() -> None:
    assert server(replica=True)["redis"].state == "fail"


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_server_that_may_evict_fails_and_says_what_to_type(policy: str) -> None:
    found = server(policy=policy)["eviction"]

    assert found.state == "fail"
    assert policy in found.words
    assert found.fix.startswith("redis-cli -h r -p 6379 CONFIG SET maxmemory-policy noeviction")


def test_a_server_that_forgets_is_worth_a_warning() -> None:
    found = server(append_only=False)["persistence"]

    assert found.state == "warn"
    assert found.fix.startswith("redis-cli -h r -p 6379 CONFIG SET appendonly yes")


@pytest.mark.parametrize(("used", "most", "warned"), [(90, 100, True), (70, 100, False), (10**9, 0, False)])
def test_memory_that_runs_out_is_told_before_it_has(used: int, most: int, warned: bool) -> None:
    assert ("memory" in server(used_bytes=used, most_bytes=most)) is warned


# --- Clocks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("off_s", "state", "words"),
    [
        (0.2, "ok", "within 1 s of this machine's"),
        (-30.0, "ok", "within 30 s of this machine's"),
        (90.0, "warn", "Redis's is 90 s ahead of this machine's"),
        (-7200.0, "warn", "Redis's is 2 h behind this machine's"),
    ],
)
def test_redis_clock(off_s: float, state: str, words: str) -> None:
    found = redis_clock_finding(off_s)

    assert found.state == state
    assert found.words.startswith(words)


@pytest.mark.parametrize(
    ("ahead_s", "state", "words"),
    [
        (0, "ok", "within 1 s"),
        (-59, "ok", "within 59 s"),
        (300, "warn", "this machine's is 5 min ahead; signatures are refused from an hour on"),
        (-300, "warn", "this machine's is 5 min behind"),
        (3_700, "fail", "this machine's is 61.7 min ahead: signed robots refuse"),
        (-86_400 * 2, "fail", "this machine's is 2 d behind"),
    ],
)
def test_dingtalks_clock(ahead_s: int, state: str, words: str) -> None:
    date = format_datetime(NOW - timedelta(seconds=ahead_s), usegmt=True)

    found = dingtalk_clock_finding(date, now=NOW)

    assert found.state == state
    assert found.words.startswith(words)
    assert (found.fix == "timedatectl set-ntp true") is (state != "ok")


@pytest.mark.parametrize("date", [None, "", "yesterday", "Wed, 99 Nov 2026 08:00:00 GMT"])
def test_an_answer_without_a_time_is_said(date: str | None) -> None:
    assert dingtalk_clock_finding(date, now=NOW).state == "warn"


def test_a_date_without_a_zone_is_utc() -> None:
    assert dingtalk_clock_finding("Wed, 25 Nov 2026 08:00:00 -0000", now=NOW).state == "ok"


# --- DingTalk -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "state", "words"),
    [
        (200, '{"errcode":40035,"errmsg":"missing corpid or appkey"}', "ok", "h answers in 30 ms"),
        (400, '{"code":"MissingappKey","message":"x","requestid":"1"}', "ok", "h answers"),
        (404, '{"code":"InvalidAction.NotFound","message":"x"}', "fail", "h: there is no such call"),
        (200, '{"errcode":0}', "ok", "h answers"),
        (200, '{"errcode":90018}', "ok", "h answers"),
        (200, "<html>Sign in to the network</html>", "fail", "h refuses this address"),
        (302, "", "fail", "h refuses this address"),
        (200, '{"status":1111,"punish":"deny"}', "fail", "h refuses this address"),
        (404, "<h1>Not Found</h1>", "fail", "h: HTTP 404: there is no such call at this address"),
        (407, "", "fail", "h: HTTP 407: the proxy wants a user and a password"),
        (500, "<h1>Oops</h1>", "warn", "h is in trouble"),
        (503, "", "warn", "h answers strangely"),
        (200, "", "warn", "h answers strangely"),
        (200, "{}", "warn", "h answers strangely"),
    ],
)
def test_any_refusal_in_dingtalks_own_words_is_a_good_sign(status: int, body: str, state: str, words: str) -> None:
    found = dingtalk_finding("dingtalk", "h", Answer(status=status, content_type="", body=body), took_s=0.03)

    assert found.state == state
    assert found.words.startswith(words)
    assert bool(found.fix) is (state != "ok")


# --- Tokens -------------------------------------------------------------------------------------------------------


def token(**more: Any) -> TokenView:
    usual: dict[str, Any] = {
        "number": 1, "got_ms": 0, "refresh_ms": 0, "usable_ms": 0, "again_ms": 0, "fails": 0, "why": "", "bad": False,
    }  # fmt: skip
    return TokenView(**usual | more)


@pytest.mark.parametrize(
    ("view", "state", "words"),
    [
        (None, "ok", "acme: not asked for yet"),
        (token(usable_ms=NOW_MS + 7_200_000), "ok", "acme: good for 2 h"),
        (token(usable_ms=NOW_MS + 60_000, fails=3, why="x"), "ok", "acme: good for 60 s"),
        (token(bad=True, fails=1, why="wrong"), "fail", "acme: DingTalk refuses the credentials: wrong"),
        (token(fails=2, why="no connection"), "fail", "acme: none, and 2 questions failed: no connection"),
        (token(), "ok", "acme: run out; it is fetched when it is needed"),
    ],
)
def test_an_apps_token(view: TokenView | None, state: str, words: str) -> None:
    found = token_finding("acme", NOW_MS, view)

    assert (found.state, found.words) == (state, words)


# --- Senders and lanes --------------------------------------------------------------------------------------------


def test_a_broken_sender_fails_with_what_to_correct() -> None:
    robot = sender(broken=True, closed_until_ms=NOW_MS, why="there is no robot with this token (code 300005)")
    app = sender("app.acme.cn.group", broken=True, why="the app's key or secret is wrong")

    found = list(sender_findings([lane("a", robot), lane("b", robot, app)]))

    assert [one.state for one in found] == ["fail", "fail"]
    assert "there is no robot with this token" in found[0].words
    assert "[robots.ops] in dingqueue.toml" in found[0].fix
    assert "[apps.acme.cn] in dingqueue.toml" in found[1].fix


def test_a_closed_sender_is_told_with_its_time_and_opens_by_itself() -> None:
    (found,) = sender_findings([lane("a", sender(closed_until_ms=NOW_MS, why="too fast"))])

    assert found.state == "warn"
    assert found.words.startswith("robot.ops is closed until ")
    assert found.words.endswith(": too fast")


@pytest.mark.parametrize(("lanes", "words"), [([lane("a", sender())], "1 open"), ([], "none yet: no worker has published its pace")])  # fmt: skip
def test_open_senders_are_counted(lanes: list[LaneView], words: str) -> None:
    (found,) = sender_findings(lanes)

    assert (found.state, found.words) == ("ok", words)


def judged(*lanes: LaneView, any_worker: bool = True, **destinations: Destination) -> list[tuple[str, str]]:
    found = lane_findings(list(lanes), destinations, now_ms=NOW_MS, any_worker=any_worker)
    return [(one.state, one.words) for one in found if one.check != "lanes"]


def test_lanes_in_order_need_nothing() -> None:
    assert judged(lane("ops", sender(), waiting=5, drain_s=15.0), ops=Destination(name="ops")) == []


def test_a_destination_that_the_workers_do_not_know_fails_where_there_are_workers() -> None:
    new = Destination(name="new")

    assert judged(lane("ops", sender()), ops=Destination(name="ops"), new=new) == [
        ("fail", "the workers do not know new: they read another file, or this one before it changed")
    ]
    assert judged(lane("ops", sender()), any_worker=False, new=new) == []


def test_a_lane_without_senders_fails_while_something_waits() -> None:
    assert judged(lane("old", waiting=7)) == [("fail", "old has 7 jobs waiting and nobody to send them")]
    assert judged(lane("old")) == []


def test_a_resting_lane_is_told_and_why() -> None:
    ((state, words),) = judged(
        lane("ops", sender(), held_until_ms=NOW_MS + 60_000, held_why="paused by ann: maintenance")
    )

    assert state == "warn"
    assert words.endswith("paused by ann: maintenance")
    assert judged(lane("ops", sender(), held_until_ms=NOW_MS - 1, held_why="over")) == []


def test_a_lane_that_takes_longer_than_its_jobs_live_is_told() -> None:
    slow = lane("ops", sender(), waiting=30_000, drain_s=90_000.0)

    assert judged(slow, ops=Destination(name="ops")) == [
        ("warn", "ops needs 25 h for 30,000 waiting jobs; they are given 24 h")
    ]
    assert judged(slow, ops=Destination(name="ops", expires_s=200_000)) == []
