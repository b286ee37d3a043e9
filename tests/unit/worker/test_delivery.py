"""One attempt, from a job to its outcome; over real sockets where bytes matter."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from dingqueue.contract import (
    Button,
    Card,
    Content,
    Feed,
    FeedItem,
    Job,
    Link,
    Markdown,
    Mention,
    SendJob,
    ShareJob,
    Terms,
    Text,
)
from dingqueue.jobs import assign_job, send_job
from dingqueue.messages import Rendered, Rung
from dingqueue.messages.model import MAX_BODY_BYTES
from dingqueue_worker.delivery import Delivery
from dingqueue_worker.dingtalk.answers import Answer
from dingqueue_worker.dingtalk.api import Api
from dingqueue_worker.dingtalk.errors import NotSent, Unanswered
from dingqueue_worker.embedded import free_port
from dingqueue_worker.outcome import Dead, Delivered, Ended, Retry, Snooze, Unknown
from dingqueue_worker.settings import App, Destination, Person, Robot, Secret, Settings
from support.raw_server import Close, Moves, RawServer, Reset, reply

TOKEN, SECRET = "PLANTED-TOKEN-1", "SECPLANTED-SECRET-1"
NOW_MS = 1_767_225_601_279


def settings(*keywords: str, oapi_url: str = "http://127.0.0.1:9") -> Settings:
    return Settings(
        broker_url="redis://127.0.0.1:1/0",
        state_url="redis://127.0.0.1:1/0",
        oapi_url=oapi_url,
        api_url=oapi_url,
        robots={"ops": Robot(name="ops", token=Secret(TOKEN), secret=Secret(SECRET), keywords=keywords)},
        apps={"acme": App(name="acme", app_key="k", app_secret=Secret("s"))},
        destinations={
            "ops": Destination(name="ops", robots=("ops",)),
            "team": Destination(name="team", app="acme", conversation="cid"),
        },
        people={
            "alice": Person(name="alice", mobile="13800000000"),
            "bob": Person(name="bob", user_id="u-bob"),
            "carol": Person(name="carol"),
        },
    )


class FakeApi:
    """Answers as told, and remembers what it was given."""

    def __init__(self, answer: str | Exception = '{"errcode":0}') -> None:
        self.answer = answer
        self.posts: list[tuple[Robot, bytes, int]] = []

    def robot_send(self, robot: Robot, body: bytes, *, timestamp_ms: int) -> Answer:
        self.posts.append((robot, body, timestamp_ms))
        if isinstance(self.answer, Exception):
            raise self.answer
        return Answer(status=200, content_type="application/json", body=self.answer)


@contextmanager
def over_sockets(answers: Any, *keywords: str) -> Iterator[tuple[RawServer, Callable[..., Ended]]]:
    """A delivery whose DingTalk is a scripted server."""
    with RawServer(answers) as server:
        told = settings(*keywords, oapi_url=server.url)
        with Api(
            oapi_url=told.oapi_url,
            api_url=told.api_url,
            connect_timeout_s=2,
            read_timeout_s=2,
            total_timeout_s=4,
            pool_size=2,
        ) as api:
            delivery = Delivery(told, api=api, clock_ms=lambda: NOW_MS)
            yield server, lambda job, step=0: delivery.attempt(job, sender="robot.ops", step=step, notes={})


def deliver(job: Job, *keywords: str, api: FakeApi | None = None, sender: str = "robot.ops", step: int = 0) -> Ended:
    delivery = Delivery(settings(*keywords), api=api or FakeApi(), clock_ms=lambda: NOW_MS)
    return delivery.attempt(job, sender=sender, step=step, notes={})


def a_job(content: Content | str = "Deploy finished", **more: Any) -> SendJob:
    return SendJob(
        job_id="job-1", destination="ops", content=Text(text=content) if isinstance(content, str) else content, **more
    )


# --- What is posted -----------------------------------------------------------------------------------------------


def test_a_message_is_posted_once_with_the_jobs_id_and_signed_for_now() -> None:
    with over_sockets(reply()) as (server, attempt):
        ended = attempt(a_job())

    assert isinstance(ended.outcome, Delivered)
    assert (ended.steps, dict(ended.notes)) == (1, {})
    (request,) = server.requests
    assert request.json == {"msgtype": "text", "text": {"content": "Deploy finished"}, "msgUuid": "job-1"}
    assert f"timestamp={NOW_MS}" in request.target


@pytest.mark.parametrize(
    "content",
    [
        Text(text="x"),
        Markdown(text="## x", title="t"),
        Link(title="t", text="x", url="https://example.com"),
        Card(title="t", text="x", buttons=(Button(title="b", url="https://example.com"),)),
        Feed(items=(FeedItem(title="t", url="https://example.com", picture_url="https://example.com/p.png"),)),
    ],
    ids=lambda content: type(content).__name__,
)
def test_every_kind_of_content_reaches_dingtalk_with_the_same_id_at_each_attempt(content: Content) -> None:
    """Case B15: the id with which DingTalk can drop a double."""
    with over_sockets([Reset(), reply()]) as (server, attempt):
        assert isinstance(attempt(a_job(content)).outcome, Unknown)
        assert isinstance(attempt(a_job(content)).outcome, Delivered)

    first, second = server.requests
    assert first.body == second.body
    assert first.json["msgUuid"] == "job-1"


def test_characters_outside_the_basic_plane_arrive_whole_and_unescaped() -> None:
    """Case B51."""
    odd = "😱 ① ㎡ 𠮷 👨‍👩‍👧 🇨🇳"
    with over_sockets(reply()) as (server, attempt):
        attempt(a_job(odd))

    assert server.requests[0].json["text"]["content"] == odd
    assert odd.encode() in server.requests[0].body


def test_a_long_message_goes_part_by_part_and_each_fits() -> None:
    """Cases B31 and B53: 9,000 Chinese characters, in two parts with the keyword in each, ringing people once."""
    text = "## 报告\n\n" + "\n".join("- " + "监控数据" * 25 for _ in range(90)) + "\n```\n" + "x = 1\n" * 40 + "```\n"
    job = a_job(Markdown(text=text, title="报告"), mention=Mention(names=("alice",)))
    with over_sockets(reply(), "运维") as (server, attempt):
        steps = attempt(job, 0).steps
        for step in range(1, steps):
            assert attempt(job, step).steps == steps

    assert steps == len(server.requests) >= 2
    bodies = [request.json for request in server.requests]
    assert all(len(request.body) <= MAX_BODY_BYTES for request in server.requests)
    assert all("运维" in body["markdown"]["text"] for body in bodies)
    assert all(body["markdown"]["text"].count("```") % 2 == 0 for body in bodies)
    assert [body["msgUuid"] for body in bodies] == [f"job-1-{number + 1}" for number in range(steps)]
    assert sum("at" in body for body in bodies) == 1


def test_people_are_rung_by_what_the_configuration_says_of_them() -> None:
    """Case B35."""
    with over_sockets(reply()) as (server, attempt):
        attempt(a_job(Markdown(text="disk"), mention=Mention(names=("alice", "bob"))))

    body = server.requests[0].json
    assert body["at"] == {"atMobiles": ["13800000000"], "atUserIds": ["u-bob"]}
    assert body["markdown"]["text"].endswith("@13800000000 @u-bob")


@pytest.mark.parametrize("mention", [Mention(), Mention(mobiles=("",)), Mention(mobiles=("", " "), user_ids=("",))])
def test_nobody_is_rung_unasked(mention: Mention) -> None:
    """Case B37."""
    with over_sockets(reply()) as (server, attempt):
        attempt(a_job(mention=mention))

    assert "at" not in server.requests[0].json


def test_tasks_and_files_go_through_a_robot_as_messages() -> None:
    with over_sockets(reply()) as (server, attempt):
        attempt(assign_job("ops", "Review the contract", to=["alice"]))
        attempt(ShareJob(job_id="job-2", destination="ops", url="https://example.com/r.pdf", name="r.pdf"))

    assert [request.json["msgtype"] for request in server.requests] == ["markdown", "link"]
    assert "@13800000000" in server.requests[0].json["markdown"]["text"]


# --- What an attempt ends with ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "why"),
    [
        (a_job(mention=Mention(names=("nobody",))), "'nobody' is not in the fleet's [people]"),
        (a_job(mention=Mention(names=("alcie",))), "did you mean alice?"),
        (a_job(mention=Mention(names=("carol",))), "carol of [people] has neither a mobile nor a user_id"),
        (a_job(Link(title="t", text="x", url="https://e.com"), mention=Mention(everyone=True)), "a link card rings nobody"),
        (a_job("x" * 30_000, too_long="refuse"), "DingTalk takes 20,000"),
    ],
)  # fmt: skip
def test_a_job_that_cannot_be_rendered_is_dead_without_a_request(job: SendJob, why: str) -> None:
    """Case B41 is among them: a mention on a type that cannot ring."""
    api = FakeApi()

    ended = deliver(job, api=api)

    assert isinstance(ended.outcome, Dead)
    assert why in ended.outcome.why
    assert (ended.outcome.cause, ended.outcome.sent) == ("content", False)
    assert api.posts == []


def test_a_request_that_never_left_gives_the_permit_back() -> None:
    ended = deliver(a_job(), api=FakeApi(NotSent("gaierror", "nothing was sent: the host's name was not found")))

    assert ended.outcome == Retry(
        why="nothing was sent: the host's name was not found (gaierror)", cause="not_sent", sent=False
    )


def test_a_request_without_an_answer_is_unknown() -> None:
    ended = deliver(a_job(), api=FakeApi(Unanswered("TimeoutError", "sent, and nobody saw the end: no answer in time")))

    assert ended.outcome == Unknown(
        why="sent, and nobody saw the end: no answer in time (TimeoutError)", cause="unanswered"
    )


def test_what_is_no_network_trouble_is_a_bug_and_loud() -> None:
    with pytest.raises(ZeroDivisionError):
        deliver(a_job(), api=FakeApi(ZeroDivisionError()))


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (reply({"errcode": 400402, "errmsg": "markdown title missing"}), [Dead]),  # case B01
        (reply("<html><body>Access denied</body></html>", content_type="text/html"), [Snooze]),  # case B03
        ([reply("", status="500 Oops"), reply("", status="500 Oops"), reply()], [Retry, Retry, Delivered]),  # case B05
        (reply({"errcode": 130101}), [Snooze]),
        (reply({"errcode": 300005, "errmsg": "token is not exist"}), [Snooze]),
        (reply("moved", status="302 Found"), [Snooze]),
        (Close(), [Unknown]),
    ],
)
def test_an_answer_becomes_an_outcome(answers: Moves, expected: list[type]) -> None:
    with over_sockets(answers) as (server, attempt):
        outcomes = [type(attempt(a_job()).outcome) for _ in expected]

    assert outcomes == expected
    assert len(server.requests) == len(expected)


def test_a_missing_keyword_is_named_and_not_repeated() -> None:
    """Case B53, where the configuration does not know the keyword."""
    ended = deliver(a_job("disk full"), api=FakeApi('{"errcode":310000,"errmsg":"keywords not in content"}'))

    assert isinstance(ended.outcome, Dead)
    assert ended.outcome.cause == "keyword"
    assert "set `keyword` for this robot" in ended.outcome.why


@pytest.mark.parametrize("text", ["disk full", "监 控", "监控"])
def test_a_configured_keyword_is_in_every_message(text: str) -> None:
    """Case B53."""
    api = FakeApi()

    deliver(a_job(text), "监控", api=api)

    assert "监控".encode() in api.posts[0][1]
    assert api.posts[0][1].count("监控".encode()) == 1


def test_a_robot_that_this_worker_does_not_know_is_asked_for_again_elsewhere() -> None:
    """Another worker may have read a newer file; the job is not lost to a stale one."""
    ended = deliver(a_job(), sender="robot.new")

    assert isinstance(ended.outcome, Retry)
    assert ended.outcome.cause == "configuration"
    assert not ended.outcome.sent
    assert "robot.new" in ended.outcome.why


def test_a_step_is_counted_from_what_is_there() -> None:
    api = FakeApi()
    job = a_job("第一段\n" * 5_000)

    ended = deliver(job, api=api, step=1)

    assert ended.steps > 2
    assert b"(2/" in api.posts[0][1]


def test_a_message_that_shrank_between_its_parts_is_for_a_person_to_judge() -> None:
    ended = deliver(a_job("short"), step=1)

    assert isinstance(ended.outcome, Dead)
    assert "changed between attempts" in ended.outcome.why
    assert (ended.steps, ended.outcome.sent) == (1, False)


def test_a_job_that_renders_to_nothing_is_dead_not_delivered() -> None:
    def nothing(job: Job, *, people: Mapping[str, Rung], keywords: tuple[str, ...]) -> Rendered:
        return Rendered(())

    delivery = Delivery(settings(), api=FakeApi(), clock_ms=lambda: NOW_MS, render=nothing)

    ended = delivery.attempt(a_job(), sender="robot.ops", step=0, notes={})

    assert isinstance(ended.outcome, Dead)
    assert ended.steps == 1


# --- No secret, no message text (cases B59, B61) ------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["errmsg", "page"])
def test_what_dingtalk_echoes_stays_out_of_the_outcome(answer: str) -> None:
    said = f"salary 123, 13800000000, {TOKEN}, access_token={TOKEN}, {SECRET}"
    refused = reply({"errcode": 310000, "errmsg": f"sign not match {said}"})
    with over_sockets(refused if answer == "errmsg" else reply(f"<p>{said}</p>")) as (_, attempt):
        ended = attempt(a_job(f"{said} and more", mention=Mention(mobiles=("13800000000",)), terms=Terms()))

    shown = repr(ended)
    for planted in ("salary 123", "13800000000", "PLANTED"):
        assert planted not in shown


def test_an_attempt_logs_neither_secret_nor_text(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with over_sockets([reply(), Reset(), reply("<p>no</p>")]) as (_, attempt):
        for _ in range(3):
            attempt(a_job("salary 123", mention=Mention(names=("alice",))))
    dead_end = Delivery(
        settings(oapi_url=f"http://127.0.0.1:{free_port()}"), api=FakeApi(), clock_ms=lambda: NOW_MS
    ).attempt(a_job("salary 123", mention=Mention(names=("zoe",))), sender="robot.ops", step=0, notes={})

    shown = caplog.text + repr(dead_end)
    for planted in ("PLANTED", "salary", "13800000000", "sign="):
        assert planted not in shown


def test_the_producers_checks_and_ours_agree() -> None:
    """What the client lets through can be rendered: the same words, the same limits."""
    job = send_job("ops", "Disk 91 %", mention=["13800000000", "user:u7", "everyone"])

    assert isinstance(deliver(job).outcome, Delivered)
