"""Spaces, clocks, faults and the long poll: what tests lean on."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import pytest
import requests

from dingqueue_worker.sandbox.client import NotArrived, Sandbox, SandboxFailed, Space
from support.sandbox import answer, post, send, text


class TestFaults:
    def test_they_strike_in_order_and_so_many_times(self, space: Space) -> None:
        robot = space.robot()
        space.fault("errcode", errcode=-1, errmsg="system busy", times=2)
        space.fault("pass")
        space.fault("status", status=502, body="Bad Gateway")

        assert [answer(post(space, robot)) for _ in range(3)] == [(-1, "system busy")] * 2 + [(0, "ok")]
        assert post(space, robot).status_code == 502
        assert send(space, robot) == 0
        assert [one.fault for one in space.messages(count=5, state="any")] == [
            "errcode",
            "errcode",
            "pass",
            "status",
            None,
        ]
        assert len(space.messages(count=2)) == 2

    def test_an_html_page_a_redirect_a_ban_and_nothing(self, space: Space) -> None:
        robot = space.robot()
        for kind in ("html", "redirect", "ban", "empty"):
            space.fault(kind)

        page, redirect, ban, empty = (post(space, robot) for _ in range(4))

        assert (page.status_code, page.headers["content-type"]) == (200, "text/html;charset=utf-8")
        assert (redirect.status_code, bool(redirect.headers["location"])) == (302, True)
        assert (ban.json()["status"], ban.json()["punish"]) == (1111, "deny")
        assert (empty.status_code, empty.content) == (200, b"")
        assert space.messages() == []

    def test_a_lost_answer_leaves_the_message_there(self, space: Space) -> None:
        robot = space.robot()
        space.fault("lost", times=2)
        for _ in range(2):
            with pytest.raises(requests.ConnectionError):
                post(space, robot, text(msgUuid="job-1"))

        assert send(space, robot, text(msgUuid="job-1")) == 0

        (message,) = space.messages(count=1)
        assert (message.answered, message.uuid) == (False, "job-1")
        assert len(space.messages(count=2, state="double")) == 2

    def test_a_reset_takes_nothing(self, space: Space) -> None:
        robot = space.robot()
        space.fault("reset")
        with pytest.raises(requests.ConnectionError):
            post(space, robot)

        assert space.messages() == []
        assert space.messages(count=1, state="failed")[0].fault == "reset"

    def test_a_reset_is_a_reset(self, space: Space) -> None:
        space.fault("reset")
        url = urlsplit(space.oapi_url)
        with socket.create_connection((url.hostname or "", url.port or 0), timeout=5) as connection:
            connection.sendall(f"POST {url.path}/robot/send HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
            with pytest.raises(ConnectionResetError):
                connection.recv(1)

    def test_slow_is_taken_at_once_and_answered_late(self, space: Space) -> None:
        robot = space.robot()
        space.fault("slow", delay_s=30)
        with pytest.raises(requests.ReadTimeout):
            post(space, robot, timeout=0.3)

        assert len(space.messages(count=1)) == 1

    def test_a_gateway_may_fail_after_the_message_was_taken(self, space: Space) -> None:
        space.fault("status", status=504, accept=True)

        assert post(space, space.robot()).status_code == 504
        assert len(space.messages(count=1)) == 1

    def test_only_one_robot_is_struck(self, space: Space) -> None:
        one, two = space.robot(), space.robot()
        space.fault("errcode", errcode=400102, sender=two)

        assert [send(space, one), send(space, two), send(space, two)] == [0, 400102, 0]

    def test_chance_repeats_with_its_seed(self, space: Space) -> None:
        robot = space.robot(limit=1_000)

        def run() -> list[int]:
            space.clear_faults()
            space.fault("errcode", errcode=-1, probability=0.5, seed=7)
            return [send(space, robot) for _ in range(40)]

        first = run()
        assert first == run()
        assert 5 < first.count(-1) < 35

    @pytest.mark.parametrize(
        ("settings", "field"),
        [
            ({"kind": "explode"}, "kind"),
            ({"kind": "slow", "delay": 1}, "delay"),
            ({"kind": "errcode", "times": 0}, "times"),
            ({"kind": "errcode", "probability": 2}, "probability"),
        ],
    )
    def test_a_wrong_setting_is_named(self, space: Space, settings: dict[str, object], field: str) -> None:
        with pytest.raises(SandboxFailed, match=field):
            space.call("POST", "faults", settings)


class TestClock:
    def test_it_goes_on_from_where_it_is_set(self, space: Space) -> None:
        shown = space.set_clock(1_700_000_000_000)
        assert shown == pytest.approx(1_700_000_000_000, abs=2_000)
        assert space.advance(3_600) == pytest.approx(1_700_003_600_000, abs=2_000)

    def test_it_can_stand(self, space: Space) -> None:
        space.set_clock(1_700_000_000_000, stands=True)

        assert space.advance(1.5) == 1_700_000_001_500
        assert space.now_ms() == 1_700_000_001_500

    def test_answers_carry_its_date(self, space: Space) -> None:
        space.set_clock(1_700_000_000_000, stands=True)

        date = parsedate_to_datetime(post(space, space.robot()).headers["date"])

        assert date.timestamp() == 1_700_000_000

    def test_reset_gives_the_machine_s_time_and_empty_windows(self, space: Space) -> None:
        robot = space.robot(limit=1)
        space.set_clock(1_700_000_000_000)
        space.fault("ban", times=5)
        space.clear_faults()
        assert [send(space, robot), send(space, robot)] == [0, 660026]

        space.reset()

        assert abs(space.now_ms() - time.time_ns() // 1_000_000) < 5_000
        assert space.messages(state="any") == []
        assert send(space, robot) == 0
        assert space.messages(count=1)[0].number == 1


class TestMessages:
    def test_a_long_poll_ends_with_the_message_it_waits_for(self, space: Space) -> None:
        robot = space.robot()
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(space.messages, 3, wait_s=30)
            for number in range(3):
                assert not waiting.done()
                send(space, robot, text(f"message {number}"))

            found = waiting.result(timeout=5)

        assert [one.text for one in found] == ["message 0", "message 1", "message 2"]
        assert [one.number for one in found] == sorted(one.number for one in found)

    def test_it_says_what_came_instead(self, space: Space) -> None:
        robot = space.robot(keywords=["disk"])
        send(space, robot, text("hello"))

        with pytest.raises(NotArrived, match=r"0 of 1 .* 1 refused.*310000 the text has none of the robot's keywords"):
            space.messages(count=1, wait_s=0.1)

    def test_after_gives_only_what_is_new(self, space: Space) -> None:
        robot = space.robot()
        send(space, robot, text("one"))
        (first,) = space.messages(count=1)
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(space.messages, 1, wait_s=30, after=first.number)
            send(space, robot, text("two"))

            assert [one.text for one in waiting.result(timeout=5)] == ["two"]

    def test_they_go_by_robot(self, space: Space) -> None:
        one, two = space.robot(name="one"), space.robot(name="two")
        for robot in (one, two, one):
            send(space, robot)

        assert [message.robot for message in space.messages(robot=one)] == ["one", "one"]
        with pytest.raises(SandboxFailed, match="only: one, two"):
            space.messages(robot="three")

    def test_the_oldest_are_forgotten_and_that_is_said(self, sandbox: Sandbox) -> None:
        space = sandbox.namespace(keep=2)
        robot = space.robot()
        for _ in range(3):
            send(space, robot)

        assert space.stats()["accepted"] == 3
        with pytest.raises(SandboxFailed, match="keep"):
            space.messages(count=3)
        assert [one.number for one in space.messages(after=1)] == [2, 3]

    def test_a_kept_connection_shows(self, space: Space) -> None:
        robot = space.robot()
        with requests.Session() as session:
            for _ in range(2):
                send(space, robot, session=session)
        send(space, robot)

        first, second, third = space.messages(count=3)
        assert first.connection == second.connection != third.connection


def test_spaces_do_not_see_each_other(sandbox: Sandbox) -> None:
    one, two = sandbox.namespace(), sandbox.namespace()
    robot = one.robot("the-same-token", name="ops", limit=1)
    two.robot("the-same-token", name="ops", limit=1)
    two.set_clock(1_700_000_000_000)
    two.fault("ban")

    assert send(one, robot) == 0
    assert two.messages(state="any") == []
    assert post(two, robot).json()["status"] == 1111
    assert (one.stats()["requests"], two.stats()["requests"]) == (1, 1)


def test_a_deleted_space_is_gone(sandbox: Sandbox) -> None:
    space = sandbox.namespace("short-lived")
    with pytest.raises(SandboxFailed, match="already"):
        sandbox.namespace("short-lived")

    space.delete()

    with pytest.raises(SandboxFailed, match="no namespace"):
        space.stats()


def test_secrets_do_not_show(space: Space) -> None:
    token, secret = "PLANTED-TOKEN-0123456789", "SEC-PLANTED"
    robot = space.robot(token, name="ops", secret=secret)
    send(space, robot)
    post(space, token + "-unknown")
    post(space, robot, query={"secret": secret})

    shown = [str(space.call("GET", what)) for what in ("robots", "messages?state=any", "stats", "messages/1")]

    assert not any("PLANTED" in one for one in shown)
    assert "PLANTED" not in repr(robot)


def test_at_the_root_any_token_is_a_robot(sandbox: Sandbox) -> None:
    assert send(sandbox.root, "some-token-of-nobody") == 0
    assert send(sandbox.root, "some-token-of-nobody") == 0

    assert sandbox.root.stats()["robots"]["robot 1"]["accepted"] == 2


def test_two_robots_have_two_names(space: Space) -> None:
    space.robot("one", name="ops")

    with pytest.raises(SandboxFailed, match="ops"):
        space.robot("two", name="ops")


def test_another_page_cannot_reach_it(space: Space) -> None:
    base = f"{space.url}/_sandbox"

    assert requests.get(f"{base}/messages", headers={"Host": "evil.example"}, timeout=5).status_code == 421
    assert (
        requests.post(f"{base}/reset", data="{}", headers={"Content-Type": "text/plain"}, timeout=5).status_code == 415
    )


def test_it_ends_with_its_parent() -> None:
    with Sandbox() as own:
        assert own.root.stats()["requests"] == 0

    with pytest.raises(SandboxFailed, match="did not answer"):
        own.root.stats()


def test_it_keeps_up_with_many_connections(space: Space) -> None:
    robot = space.robot(name="ops", limit=100_000)
    stop = threading.Event()

    def hammer() -> int:
        with requests.Session() as session:
            sent = 0
            while not stop.is_set() and sent < 100:
                assert send(space, robot, session=session) == 0
                sent += 1
            return sent

    with ThreadPoolExecutor(16) as pool:
        sent = sum(pool.map(lambda _: hammer(), range(16)))

    assert space.stats()["robots"]["ops"]["accepted"] == sent == 1_600
    assert [one.number for one in space.messages()] == list(range(1, 1_601))
