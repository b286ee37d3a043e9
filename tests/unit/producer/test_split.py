"""Cutting long texts: at places a reader would choose, never inside a character, every piece within its bytes."""

from __future__ import annotations

import re

import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st

from dingqueue.messages.markdown import close_fence, fence_after
from dingqueue.messages.split import MIN_PIECE_BYTES, cost_bytes, graphemes, pieces
from support.jobs import texts

limits = st.integers(MIN_PIECE_BYTES, 6_000)


def cut(text: str, *, limit_bytes: int = MIN_PIECE_BYTES, markdown: bool = False) -> list[str]:
    return [piece.text for piece in pieces(text, limit_bytes=limit_bytes, markdown=markdown)]


def squeezed(text: str) -> str:
    return re.sub(r"\s", "", text)


# Costs


@given(st.text(), st.text())
def test_costs_add_up(left: str, right: str) -> None:
    assert cost_bytes(left + right) == cost_bytes(left) + cost_bytes(right)


@pytest.mark.parametrize(
    ("text", "bytes_"), [("a", 1), ("中", 3), ("😱", 4), ("\n", 2), ('"', 2), ("\\", 2), ("\x1b", 6), ("👨‍👩‍👧", 18)]
)
def test_a_text_costs_its_json(text: str, bytes_: int) -> None:
    assert cost_bytes(text) == bytes_


def test_characters_are_counted_as_people_do() -> None:
    assert graphemes("é中👨‍👩‍👧🇨🇳") == 4


# Properties


@given(texts(), limits)
def test_pieces_of_text_give_the_text_back(text: str, limit_bytes: int) -> None:
    parts = cut(text, limit_bytes=limit_bytes)

    # Lines at a cut lose their end, and blank pieces are left out: nothing else.
    assert squeezed("".join(parts)) == squeezed(text)


@given(texts(), limits, st.booleans())
def test_every_piece_is_within_its_bytes_and_says_something(text: str, limit_bytes: int, markdown: bool) -> None:
    for part in cut(text, limit_bytes=limit_bytes, markdown=markdown):
        assert cost_bytes(part) <= limit_bytes
        assert part.strip()


@given(texts(), limits, st.booleans())
def test_no_character_is_cut(text: str, limit_bytes: int, markdown: bool) -> None:
    ends = {match.end() for match in regex.finditer(r"\X", text)} | {0}

    assert all(piece.end in ends for piece in pieces(text, limit_bytes=limit_bytes, markdown=markdown))


@given(texts(), limits)
def test_markdown_pieces_stand_alone_and_give_the_code_and_the_prose_back(text: str, limit_bytes: int) -> None:
    # As messages are: line ends are \n, and no fence is left open.
    text = close_fence(re.sub(r"\r\n?", "\n", text))

    parts = cut(text, limit_bytes=limit_bytes, markdown=True)

    assert all(close_fence(part) == part for part in parts)
    assert squeezed("".join(map(_without_fences, parts))) == squeezed(_without_fences(text))


def _without_fences(text: str) -> str:
    """The text less the lines that open and close code, each other line marked as code or prose."""
    fence, kept = None, []
    for line in text.split("\n"):
        after = fence_after(line, fence)
        if after == fence:
            kept.append(("" if fence is None else "CODE") * bool(line.strip()) + line)
        fence = after
    return re.sub(r"(CODE)+", "", "".join(kept))


@example(text="https://example.com/?a=1&b=中" * 300, limit_bytes=1_000, markdown=True)
@given(text=texts(), limit_bytes=limits, markdown=st.booleans())
def test_pieces_are_more_than_half_full(text: str, limit_bytes: int, markdown: bool) -> None:
    """What the door promises about the number of parts rests on this."""
    text = close_fence(re.sub(r"\r\n?", "\n", text)) if markdown else text
    found = list(pieces(text, limit_bytes=limit_bytes, markdown=markdown))
    ends = [piece.end for piece in found]

    for start, piece in zip([0, *ends], found[:-1], strict=False):
        spent = cost_bytes(text[start : piece.end])
        assert spent > (limit_bytes - 400) // 2 - 40, (start, piece.end)


# Places


def test_paragraphs_are_liked_best() -> None:
    first, second = "a. b\n" * 120, "c. d\n" * 120

    assert cut(f"{first}\n{second}") == [first.strip(), second.strip()]


def test_then_lines_then_sentences_then_spaces() -> None:
    assert cut("x" * 600 + "\n" + "y. z " * 120)[0] == "x" * 600
    assert cut("x" * 300 + "。" * 100 + "中" * 300)[0] == "x" * 300 + "。" * 100
    assert cut("He said: “ok.” " * 80, limit_bytes=1_003)[0].endswith("“ok.” ")
    assert cut("word " * 300)[0].endswith("word ")
    assert cut("x" * 1500) == ["x" * 1000, "x" * 500]


def test_links_addresses_and_people_stay_whole() -> None:
    for whole in (
        "[the label](https://example.com/a_b?x=1)",
        "![picture](https://example.com/p.png)",
        "https://example.com/" + "path/" * 30,
        "@13800000000",
        "@+852-91234567",
    ):
        for before in range(960, 1001):
            parts = cut("x" * before + " " + whole + " " + "y" * 900, markdown=True)
            assert sum(whole in part for part in parts) == 1, (before, whole)


def test_a_link_with_all_the_spaces_is_not_where_a_text_is_cut() -> None:
    link = f"[{'y ' * 140}](https://example.com)"

    first, second = cut("x" * 600 + link + "z" * 900)

    assert first == "x" * 600 + link + "z" * (len(first) - 600 - len(link))
    assert set(second) == {"z"}


def test_what_is_longer_than_a_piece_is_cut_all_the_same() -> None:
    assert all(len(part) <= 1000 for part in cut("https://example.com/" + "a" * 5000))


def test_a_character_longer_than_a_piece_is_cut_between_code_points() -> None:
    zalgo = "e" + "\u0301" * 2_000

    parts = cut(zalgo + " end")

    assert "".join(parts) == zalgo + " end"
    assert all(cost_bytes(part) <= MIN_PIECE_BYTES for part in parts)


def test_white_space_at_a_cut_is_left_out() -> None:
    assert cut("a\n" + "\n" * 3000 + "b") == ["a", "b"]
    assert cut("\n" * 3000) == []


# Code


def test_code_that_is_cut_is_closed_and_opened_again() -> None:
    code = "".join(f"line {number}\n" for number in range(300))

    parts = cut(f"Look:\n\n```python\n{code}```\n\nDone.", markdown=True)

    assert len(parts) > 2
    assert parts[0].startswith("Look:\n\n```python\nline 0\n")
    assert all(part.startswith("```python\nline ") and part.endswith("\n```") for part in parts[1:-1])
    assert parts[-1].endswith("```\n\nDone.")
    assert "".join(part.replace("```python\n", "").replace("```", "") for part in parts).count("line ") == 300


def test_indented_code_keeps_its_indentation_at_a_cut() -> None:
    code = "".join(f"    x = {number}\n" for number in range(300))

    parts = cut(f"```\n{code}```", markdown=True)

    assert all(line.startswith("    x") for part in parts for line in part.split("\n") if "x" in line)


def test_a_cut_right_before_the_end_of_code_takes_the_end_along() -> None:
    for length in range(850, 1000):
        parts = cut(f"```\n{'x' * length}\n```\n{'word ' * 200}", markdown=True)
        assert [part.count("```") % 2 for part in parts] == [0] * len(parts)
        assert not any(re.fullmatch(r"```\s*```", part) for part in parts)


def test_code_is_not_opened_over_nothing() -> None:
    for length in range(700, 1000):
        parts = cut(f"{'x' * length}\n```python\n{'y' * 50}\n{'z' * 900}\n```", markdown=True)
        assert not any(re.search(r"```python\s*```", part) for part in parts), length
        assert "".join(parts).count("x") == length


def test_backticks_in_the_middle_of_a_line_do_not_become_a_fence() -> None:
    text = "word " * 180 + "```" + " word" * 300

    assert all(close_fence(part) == part for part in cut(text, markdown=True))


def test_a_list_under_a_cut_is_not_taken_for_code() -> None:
    parts = cut("- item\n" + "".join(f"    - deeper {number}\n" for number in range(150)), markdown=True)

    assert all(not part.startswith(" ") for part in parts)
