"""The inbox over HTTP, as a browser without scripts sees it."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from typing import Any

import pytest
import requests

from dingqueue_worker.sandbox.client import Space
from support.sandbox import markdown, post, send, signed, text

SECRET = "SECdemo0000000000000000000000000000000000000000000000000000000000"  # nobody's


def page(space: Space, path: str = "/", **options: Any) -> str:
    response = requests.get(f"{space.url}{path}", timeout=10, **options)
    assert response.status_code == 200, response.text
    return response.text


def words(html: str) -> str:
    """What a person reads on the page."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


def numbers(html: str) -> list[int]:
    return [int(number) for number in re.findall(r'<article [^>]*data-number="(\d+)"', html)]


def test_an_empty_inbox_says_what_to_do(space: Space) -> None:
    assert f"DINGQUEUE_OAPI_URL={space.url}" in page(space)


def test_messages_stand_in_order_with_robot_and_group(space: Space) -> None:
    robot = space.robot(name="build bot", group="平台组")
    for number in range(3):
        send(space, robot, text(f"message {number} 😱"))

    html = page(space)

    assert numbers(html) == [1, 2, 3]
    assert "build bot" in html
    assert "平台组" in html
    assert "message 2 😱" in html


def test_a_refused_message_says_why(space: Space) -> None:
    send(space, space.robot(keywords=["disk"]), text("hello"))

    assert "Refused 310000 the text has none of the robot's keywords: disk" in words(page(space))


def test_earlier_messages_are_a_page_away(space: Space) -> None:
    robot = space.robot(limit=1_000)
    with requests.Session() as session:
        for _ in range(120):
            send(space, robot, session=session)

    newest = page(space)
    (link,) = re.findall(r'class="earlier" href="([^"]+before=\d+)"', newest)
    earlier = requests.get(f"{space.url.rpartition('/ns/')[0]}{unescape(link)}", timeout=10).text

    assert numbers(newest) == list(range(71, 121))
    assert numbers(earlier) == list(range(21, 71))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [1, 2, 3, 4]),
        ("disk", [1, 2, 3]),  # it stands in the second one's reason
        ("DISK full", [1]),
        ('"disk full"', [1]),
        ('"disk full', [1]),
        ("监控", [4]),
        ("robot:ops", [1, 2]),
        ('robot:"build bot"', [3, 4]),
        ("is:refused", [2]),
        ("is:seen -kind:text", [4]),
        ("kind:markdown", [4]),
        ("errcode:310000", [2]),
        ("-disk", [4]),
        ("is:warned", [2, 3, 4]),
        ("nowhere", []),
        ("job-1", [1]),
        ("http://x", []),
    ],
)
def test_the_search_finds(space: Space, query: str, expected: list[int]) -> None:
    ops, build = space.robot(name="ops", keywords=["disk"]), space.robot(name="build bot")
    send(space, ops, text("disk full", msgUuid="job-1"))
    send(space, ops, text("hello"))
    send(space, build, text("disk ok"))
    send(space, build, markdown("**监控** 恢复"))

    assert numbers(page(space, params={"q": query})) == expected


def test_a_signature_is_explained_with_the_secret_masked(space: Space) -> None:
    space.set_clock(1_700_000_000_000, stands=True)
    robot = space.robot("PLANTED-TOKEN-0123456789", secret=SECRET)
    send(space, robot, query=signed(SECRET, 1_699_999_000_000))
    send(space, robot, query=signed("another", 1_699_999_000_000))
    right = signed(SECRET, 1_699_999_000_000)["sign"]

    taken, refused = page(space, "/message/1"), page(space, "/message/2")

    assert "1699999000000 = 2023-11-14 21:56:40.000 UTC, 1,000.0 s old" in taken
    assert f"{right[:4]}…{right[-4:]}" in taken
    assert "does not fit the secret" in unescape(refused)
    assert "not looked at" in refused
    for html in (taken, refused, page(space), page(space, "/message/1.json")):
        assert SECRET not in html
        assert "PLANTED" not in html
        assert right not in unescape(html)
    assert "access_token=TOKEN" in unescape(taken)


def test_the_window_is_drawn_with_its_places(space: Space) -> None:
    robot = space.robot(limit=3)
    for _ in range(4):
        send(space, robot)

    third, fourth = page(space, "/message/3"), page(space, "/message/4")

    assert [third.count(f'<i class="{use}"') for use in ("taken", "this", "free")] == [2, 1, 0]
    assert [fourth.count(f'<i class="{use}"') for use in ("taken", "this", "free")] == [3, 0, 0]


def test_the_answer_is_shown_with_a_played_fault(space: Space) -> None:
    space.fault("redirect", location="https://login.example.com/?x=1")
    post(space, space.robot())

    html = words(page(space, "/message/1"))

    assert "HTTP 302, text/html, to https://login.example.com/?x=1" in html
    assert "the fault redirect was played instead" in html


def test_every_page_forbids_what_is_not_its_own(space: Space) -> None:
    send(space, space.robot(name="<script>alert(1)</script>", group='"><img src=x>'), text("<script>alert(2)</script>"))

    for path in ("/", "/message/1", "/message/1?panel=1", "/?q=%3Cscript%3Ealert(3)%3C/script%3E"):
        response = requests.get(f"{space.url}{path}", timeout=10)
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "https:" not in policy
        assert "<script>" not in response.text
        assert "<img src=x" not in response.text
        assert not re.findall(r"\s(?:style|on\w+)=", response.text)
    assert (
        "img-src 'self' https: http:"
        in requests.get(f"{space.url}/", cookies={"pictures": "1"}, timeout=10).headers["content-security-policy"]
    )


def test_news_come_as_they_happen(space: Space) -> None:
    robot = space.robot()
    send(space, robot, text("before"))
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(requests.get, f"{space.url}/stream?after=1&wait=1", timeout=30)
        send(space, robot, text("after"))

        news = waiting.result(timeout=10).json()

    assert (news["last"], news["anew"], news["count"]) == (2, False, 1)
    assert numbers(news["messages"]) == [2]


def test_a_reset_is_news_too(space: Space) -> None:
    robot = space.robot()
    for _ in range(3):
        send(space, robot)
    space.reset()
    send(space, robot, text("anew"))

    news = requests.get(f"{space.url}/stream?after=3", timeout=10).json()

    assert (news["last"], news["anew"], numbers(news["messages"])) == (1, True, [1])


@pytest.mark.parametrize(
    "path",
    [
        "/message/1",
        "/message/99999999999999999999",
        "/message/x",
        "/assets/base.html",
        "/assets/..%2f..%2fserver.py",
        "/nothing",
    ],
)
def test_what_is_not_there_is_404(space: Space, path: str) -> None:
    assert requests.get(f"{space.url}{path}", timeout=10).status_code == 404


def test_no_asset_comes_from_elsewhere(space: Space) -> None:
    html = page(space)
    for reference in re.findall(r'(?:src|href)="([^"]+)"', html):
        assert reference.startswith("/"), reference
    for asset in ("inbox.css", "inbox.js", "icon.svg"):
        assert "http" not in re.sub(r"http://www\.w3\.org/\S+", "", page(space, f"/assets/{asset}"))
