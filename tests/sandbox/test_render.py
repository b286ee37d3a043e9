"""A message as HTML: what DingTalk draws is drawn, what could do something is gone."""

from __future__ import annotations

from typing import Any

import pytest

from dingqueue_worker.sandbox.render import Shown, markdown, plain, show


def html(words: str, *rings: str, pictures: bool = False) -> str:
    return str(markdown(words, rings, pictures=pictures))


def shown(body: Any) -> Shown:
    return show(body, "raw", (), pictures=False)


@pytest.mark.parametrize(
    "words",
    [
        "<script>alert(1)</script>",
        "x <img src=x onerror=alert(1)>",
        "<svg/onload=alert(1)>",
        "[x](javascript:alert(1))",
        "[x](JaVaScRiPt:alert(1))",
        "[x](data:text/html;base64,PHNjcmlwdD4=)",
        "![x](javascript:alert(1))",
        '[x](https://example.com "onmouseover=alert(1)")',
        "<a href='javascript:alert(1)'>x</a>",
        "<iframe src=https://example.com></iframe>",
        "<style>*{display:none}</style>",
        "<font color=red onclick=alert(1)>x</font>",
        "<font color='red\" onclick=\"alert(1)'>x</font>",
        '`"><script>alert(1)</script>`',
        "@<script>alert(1)</script>",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "<scr<script>ipt>alert(1)</script>",
        "<base href=//evil.example><form action=//evil.example><input type=submit>",
    ],
)
@pytest.mark.parametrize("pictures", [True, False])
def test_nothing_in_markdown_can_act(words: str, pictures: bool) -> None:
    result = html(words, pictures=pictures).lower()

    for tag in ("<script", "<iframe", "<svg", "<style", "<base", "<form", "<input"):
        assert tag not in result
    for inside in result.split("<")[1:]:
        tag = inside.split(">")[0]
        assert " on" not in tag.replace("&", " "), tag
        assert "javascript:" not in tag
        assert "data:" not in tag


def test_text_is_escaped_and_its_links_open() -> None:
    result = plain("<b>&\"'</b> https://example.com/a?b=1&c=<x> end", ())

    assert "<b>" not in result
    assert 'href="https://example.com/a?b=1&amp;c="' in result


def test_mentions_are_marked_by_whether_they_ring() -> None:
    assert '<span class="at rings">@13800000000</span>' in plain("hi @13800000000", ["13800000000"])
    assert '<span class="at">@13800000000</span>' in plain("hi @13800000000", [])
    assert '<span class="at rings">@bob</span>' in html("**hi** @bob", "bob")
    assert "span" not in plain("bob@example.com", ["example.com"])
    assert "span" not in html("`@bob`", "bob")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("a\nb", "<p>a\nb</p>"),
        ("a  \n  b", "<p>a<br>\nb</p>"),
        ("# a", "<h1>a</h1>"),
        ("1. a\n2. b", "<ol>\n<li>a</li>\n<li>b</li>\n</ol>"),
        ("> a", "<blockquote>\n<p>a</p>\n</blockquote>"),
        ("**a** *b*", "<p><strong>a</strong> <em>b</em></p>"),
        ("<font color=#d4380d>a</font>", '<p><font color="#d4380d">a</font></p>'),
        ("<u>a</u>", "<p>a</p>"),
        ("|a|b|\n|-|-|\n|1|2|", "<p>|a|b|\n|-|-|\n|1|2|</p>"),
        ("~~a~~", "<p>~~a~~</p>"),
    ],
)
def test_only_dingtalk_s_part_of_markdown_is_drawn(words: str, expected: str) -> None:
    assert html(words).strip() == expected


def test_pictures_are_fetched_only_when_asked_for() -> None:
    words = "![plan](https://img.example.com/a.png)"

    assert "<img" not in html(words)
    assert "img.example.com · plan" in html(words)
    assert 'src="https://img.example.com/a.png"' in html(words, pictures=True)


def test_cards_feeds_and_links_lose_addresses_that_a_page_must_not_open() -> None:
    card = shown(
        {"msgtype": "actionCard", "actionCard": {"text": "x", "btns": [{"title": "t", "actionURL": "javascript:1"}]}}
    )
    feed = shown({"msgtype": "feedCard", "feedCard": {"links": [{"title": "t", "messageURL": "javascript:1"}, 5]}})
    link = shown({"msgtype": "link", "link": {"title": "t", "messageUrl": "dingtalk://dingtalkclient/page/link?url=x"}})

    assert (card.buttons[0].words, card.buttons[0].url) == ("t", "")
    assert [item[:2] for item in feed.items] == [("t", "")]
    assert link.url.startswith("dingtalk:")


@pytest.mark.parametrize(
    "body",
    [None, 5, [], {}, {"msgtype": 5}, {"msgtype": "text"}, {"msgtype": "text", "text": "x"}, {"msgtype": "x", "x": {}}],
)
def test_what_cannot_be_drawn_is_shown_raw(body: Any) -> None:
    assert shown(body).form == "raw"


@pytest.mark.parametrize(
    "body",
    [
        {"msgtype": "text", "text": {"content": 5}},
        {"msgtype": "feedCard", "feedCard": {"links": "x"}},
        {"msgtype": "actionCard", "actionCard": {"btns": "x", "text": None}},
        {"msgtype": "actionCard", "actionCard": {"btns": [1, {"title": ["x"], "actionURL": {}}]}},
        {"msgtype": "link", "link": {"messageUrl": "http://[", "picUrl": "http://["}},
    ],
)
def test_a_malformed_message_is_still_drawn(body: Any) -> None:
    assert shown(body).form != "raw"
