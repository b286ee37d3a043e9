"""Line breaks that show, titles, fences, tables."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dingqueue import send_job
from dingqueue.messages import render_webhook
from dingqueue.messages.markdown import (
    MAX_TITLE_GRAPHEMES,
    close_fence,
    has_table,
    outside_fences,
    shorten_title,
    tables_as_lines,
    title_of,
    visible_breaks,
)
from support.jobs import texts

# Line breaks


def test_a_single_break_becomes_one_that_shows() -> None:
    assert visible_breaks("CPU 91%\nMEM 80%\r\nDISK 70%\rNET") == "CPU 91%  \n  MEM 80%  \n  DISK 70%  \n  NET"


@pytest.mark.parametrize(
    "text",
    [
        "one line",
        "two\n\nparagraphs",
        "# Heading\ntext",
        "text\n\n# Heading\n## Another\ntext",
        "- one\n- two\n  - three\n1. four\n2) five",
        "```\na\nb\n```",
        "~~~py\na\n\n```\nb\n~~~",
        "    code\n    more code",
        "***\ntext",
        "text\n---\ntext",
        "",
    ],
)
def test_breaks_that_show_already_are_left(text: str) -> None:
    assert visible_breaks(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("text\n- item\n- item", "text  \n- item\n- item"),
        ("- item\nmore of it", "- item  \n  more of it"),
        ("> a\n> b\nc", "> a  \n> b  \n  c"),
        ("a\n```\nb\nc\n```\nd\ne", "a\n```\nb\nc\n```\nd  \n  e"),
        ("a \t\nb", "a  \n  b"),
        ("a\n    b", "a  \n    b"),
        ("| a |\n|---|\n| b |\nc|d\ne", "| a |  \n|---|  \n| b |  \nc|d  \n  e"),
        ("text\n| a |\n|---|", "text  \n| a |  \n|---|"),
        ("see [a](https://e.com)\n![i](https://e.com/i.png)", "see [a](https://e.com)  \n  ![i](https://e.com/i.png)"),
    ],
)
def test_where_breaks_would_vanish(text: str, shown: str) -> None:
    assert visible_breaks(text) == shown


@given(texts())
def test_breaks_are_made_visible_once(text: str) -> None:
    once = visible_breaks(text)

    assert visible_breaks(once) == once


@given(texts())
def test_breaks_change_nothing_but_blanks_and_line_ends(text: str) -> None:
    assert re.sub(r"[ \t\r\n]", "", visible_breaks(text)) == re.sub(r"[ \t\r\n]", "", text)


def test_links_are_left_as_they_are() -> None:
    text = "[http://a.cn](http://a.cn) [q](http://b.cn/x_(1)?a=1&b=中文) ![i](http://c.cn/p.png) [m](mailto:a@b.cn) [t](tel:1)"

    (body,) = render_webhook(send_job("ops", markdown=text)).bodies

    assert body["markdown"]["text"] == text


# Fences


@pytest.mark.parametrize(
    ("text", "closed"),
    [
        ("a", "a"),
        ("```\na", "```\na\n```"),
        ("```\na\n", "```\na\n```"),
        ("````py\na\n```", "````py\na\n```\n````"),
        ("~~~\n```", "~~~\n```\n~~~"),
        ("- x\n  ```\n  a", "- x\n  ```\n  a\n```"),
        ("```\na\n```", "```\na\n```"),
        ("```\na\n``` x", "```\na\n``` x\n```"),
        ("`` a", "`` a"),
        ("```a```", "```a```"),
        ("```" + "x" * 200 + "\na", "```" + "x" * 200 + "\na"),
    ],
)
def test_an_open_fence_is_closed(text: str, closed: str) -> None:
    assert close_fence(text) == closed
    assert close_fence(closed) == closed


def test_what_is_outside_of_code() -> None:
    assert outside_fences("a\n```\nb\n```\nc\n~~~\nd") == "a\nc"


# Titles


@pytest.mark.parametrize(
    ("title", "text", "found"),
    [
        ("Disk", "text", "Disk"),
        ("", "first\nsecond", "first"),
        ("   ", "first", "first"),
        ("## **x**", "text", "x"),
        ("", "## **Disk full** on `db-3`\n91 %", "Disk full on db-3"),
        ("", "\n\n- [ ] item", "[ ] item"),
        ("", "> 1. quoted", "quoted"),
        ("", "![logo](https://e.com/l.png)\nnext", "logo"),
        ("", "![](https://e.com/l.png)\nnext", "next"),
        ("", "[link](https://e.com/a_b) and `code`", "link and code"),
        ("", "<font color=red>Red</font>&nbsp;alert", "Red alert"),
        ("", "# Heading #", "Heading"),
        ("", "snake_case_name", "snake_case_name"),
        ("", "_mild_ **strong** ~~gone~~ 2 * 3 * 4", "mild strong gone 2 * 3 * 4"),
        ("", "---\n***\n===\nfound", "found"),
        ("", "```\ncode\n```\nprose", "prose"),
        ("", "```\ncode\n```", "code"),
        ("", "```\n```", "Message"),
        ("", "***", "Message"),
        ("", "![](https://e.com/图.png)", "消息"),
        ("a\nb", "text", "a b"),
    ],
)
def test_a_title_is_found(title: str, text: str, found: str) -> None:
    assert title_of(title, text) == found


def test_a_title_is_cut_between_characters() -> None:
    family = "👨‍👩‍👧"

    assert title_of("", "x" * 500) == "x" * 63 + "…"
    assert title_of("x" * 64, "") == "x" * 64
    assert title_of(family * 20, "") == family * 20
    assert title_of(family * 40, "") == family * 28 + "…"  # 18 bytes each, 512 in all


@given(st.text(max_size=2000), texts())
def test_a_title_is_never_empty_and_never_long(title: str, text: str) -> None:
    found = title_of(title, text)

    assert found.strip()
    assert "\n" not in found
    assert len(found.encode()) <= 512 + len("…".encode())
    assert shorten_title(found) == found
    assert MAX_TITLE_GRAPHEMES == 64


def test_marks_by_the_thousand_cost_no_time() -> None:
    began_s = time.monotonic()
    for text in (
        "[" * 50_000,
        "*a " * 50_000,
        "_" * 50_000,
        "`" * 50_000,
        "<a" * 50_000,
        "[](" * 50_000,
        "> " * 50_000,
    ):
        title_of("", text)
        visible_breaks(text)
        tables_as_lines(text)

    assert time.monotonic() - began_s < 5


# Tables

TABLE = r"""Load now:
| Host | CPU | **MEM** | Note |
|:-----|:---:|--------:|------|
| db\|1 | **91 %** | 80 % | hot |
| db2 | 10 % | | |
| db3 | 9 % | 8 % | a | extra |
Look!"""


def test_a_table_becomes_lines_one_block_a_row() -> None:
    assert tables_as_lines(TABLE) == (
        "Load now:\n\n"
        "Host: db|1\nCPU: **91 %**\n**MEM**: 80 %\nNote: hot\n\n"
        "Host: db2\nCPU: 10 %\n\n"
        "Host: db3\nCPU: 9 %\n**MEM**: 8 %\nNote: a\nextra\n\n"
        "Look!"
    )


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a | b\n--- | ---\n1 | 2", "a: 1\nb: 2"),
        ("| 主机 | 负载： |\n|--|--|\n| db1 | 91 |", "主机：db1\n负载： 91"),
        ("| | b |\n|--|--|\n| 1 | 2 |", "1\nb: 2"),
        ("| a | b |\n|--|--|", "a, b"),
        ("| a | b |\n|--|--|\n| | |\n| 1 | |", "a: 1"),
        ("# H\n| a |\n|---|\n| 1 |\n\nnext", "# H\n\na: 1\n\nnext"),
        ("- x\n\n  | a |\n  |---|\n  | 1 |", "- x\n\na: 1"),
        ("| a |\r\n|---|\r\n| 1 |", "a: 1"),
        ("| a |\n|---|\n| 1 \\|", "a: 1 |"),
    ],
)
def test_tables_of_all_shapes(text: str, lines: str) -> None:
    assert tables_as_lines(text) == lines


@pytest.mark.parametrize(
    "text", ["```\n| a |\n|---|\n| 1 |\n```", "a | b", "| a |\n| b |", "a || b\nc", "text\n---", "> | a |\n> |---|", ""]
)
def test_what_is_no_table_stays(text: str) -> None:
    assert tables_as_lines(text) == text
    assert not has_table(text)


def test_a_message_shows_lines_unless_the_table_is_to_be_kept() -> None:
    def shown(**options: str) -> tuple[str, tuple[str, ...]]:
        rendered = render_webhook(send_job("ops", markdown="| a | b |\n|---|---|\n| 1 | 2 |", **options))  # type: ignore[arg-type]  # tables only
        return rendered.bodies[0]["markdown"]["text"], rendered.warnings

    assert shown() == ("a: 1  \n  b: 2", ())
    assert shown(tables="keep") == (
        "| a | b |  \n|---|---|  \n| 1 | 2 |",
        ("phones may show the table as lines with pipes",),
    )


def test_cards_and_assigned_work_show_lines_too() -> None:
    from dingqueue import assign_job

    table = "| a | b |\n|---|---|\n| 1 | 2 |"
    card = {"title": "t", "text": table, "buttons": [{"title": "b", "url": "https://e.com"}]}

    (kept,) = render_webhook(send_job("ops", card=card, tables="keep")).bodies
    (lines,) = render_webhook(send_job("ops", card=card)).bodies
    (work,) = render_webhook(assign_job("ops", "x", to="user:u", description=table)).bodies

    assert "|---|" in kept["actionCard"]["text"]
    assert lines["actionCard"]["text"] == "a: 1  \n  b: 2"
    assert work["markdown"]["text"].endswith("a: 1  \n  b: 2")


@given(texts())
def test_no_cell_is_lost(text: str) -> None:
    assert sorted(set(re.findall(r"\w+", text))) == sorted(set(re.findall(r"\w+", tables_as_lines(text))))
