"""Cuts a long text where a reader would. Knows nothing of messages: it is given a text and a number of bytes."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import regex

from dingqueue.messages.markdown import MAX_FENCE_CHARS, Fence, fence_after

#: Below this a part could not hold a fence's first line, its end, and something between.
MIN_PIECE_BYTES = 1_000

#: Where to cut, best first; each match's end is a place. A place counts in the second half of what would fit.
_PLACES = (
    re.compile(r"\n[ \t]*\n+"),
    re.compile(r"\n"),
    re.compile(r"[。！？；…][”’」』）]*|[.!?;][\"')”’]*\s"),
    re.compile(r"\s"),
)
#: What a cut would break: markdown links, addresses, and the tokens that ring.
_WHOLE = re.compile(r"!?\[[^\]\n]{0,300}\]\([^)\s]{0,1000}\)|https?://\S{1,1000}|@[+\w.-]{1,70}")
_LONGEST_WHOLE_CHARS = 1_400
#: At the start of a line this would be read as a fence; elsewhere in a line it is not one.
_FENCE_RUN = re.compile(r"[ \t]*(?:`{3}|~{3})")
_GRAPHEME = regex.compile(r"\X")
_CODE_POINT = regex.compile(r"(?s:.)")


@dataclass(frozen=True, slots=True)
class Piece:
    """A part's own text, and where in the whole text the next part begins."""

    text: str
    end: int


def cost_bytes(text: str) -> int:
    """What a text adds to a body: its JSON form in UTF-8 without the quotes. Additive over concatenation."""
    return len(json.dumps(text, ensure_ascii=False).encode()) - 2


#: Texts are made of few different characters, and this is asked for each one.
_unit_cost_bytes = lru_cache(maxsize=4_096)(cost_bytes)


def graphemes(text: str) -> int:
    """How many characters the text has, as people count them."""
    return sum(1 for _ in _GRAPHEME.finditer(text))


def pieces(text: str, *, limit_bytes: int, markdown: bool) -> Iterator[Piece]:
    r"""Cut a text into pieces of at most ``limit_bytes`` each, as ``cost_bytes`` counts.

    Cuts at paragraphs, lines, sentences, spaces, graphemes, in this order of liking; never inside a grapheme, except
    in one that is itself over the limit. Blank pieces are left out, and so is white space at a cut. In markdown a
    code fence that is cut is closed and opened again.

    Args:
        text: Line ends are ``\n``.
        limit_bytes: At least ``MIN_PIECE_BYTES``.
        markdown: Whether there are fences, and indentation at a piece's start means nothing.
    """
    start = 0
    fence: Fence | None = None
    while start < len(text):
        if not markdown:
            end = _cut(text, start, limit_bytes, markdown=False)
            piece = Piece(text[start:end].strip("\n"), end)
        else:
            piece, fence = _markdown_piece(text, start, limit_bytes, fence)
        if piece.text.strip():
            yield piece
        start = piece.end


def _markdown_piece(text: str, start: int, limit_bytes: int, fence: Fence | None) -> tuple[Piece, Fence | None]:
    opening = f"{fence.opening}\n" if fence else ""
    room_bytes = limit_bytes - cost_bytes(opening) - MAX_FENCE_CHARS - len(r"\n")
    end = _cut(text, start, room_bytes, markdown=True)
    after, opened_at = _fence_at(text, start, end, fence)
    if after and start < opened_at and not text[opened_at:end].partition("\n")[2].strip():
        # Only the fence's first line would stand here, over nothing.
        end, after = opened_at, None
    if after and (closing := _closing_line(text, end, after)):
        return Piece(_open(opening, text[start:end], fence) + _close(text[start:end], after), closing), None
    own = _open(opening, text[start:end], fence)
    if after is None:
        return Piece(own.rstrip(" \t\n"), end), None
    return Piece(own + _close(text[start:end], after), end), after


def _open(opening: str, own: str, fence: Fence | None) -> str:
    return opening + own if fence else own.lstrip(" \t\n")


def _close(own: str, fence: Fence) -> str:
    return fence.marker if own.endswith("\n") else f"\n{fence.marker}"


def _fence_at(text: str, start: int, end: int, fence: Fence | None) -> tuple[Fence | None, int]:
    """The fence that is open at ``end``, and where it was opened (``start``, when before the piece)."""
    opened_at = start
    at = start
    for number, line in enumerate(text[start:end].split("\n")):
        # The rest of a line that was cut is not a line: it opens and closes nothing.
        whole = number > 0 or start == 0 or text[start - 1] == "\n"
        after = fence_after(line, fence) if whole else fence
        if fence is None and after is not None:
            opened_at = at
        fence = after
        at += len(line) + 1
    return fence, opened_at


def _closing_line(text: str, at: int, fence: Fence) -> int:
    """Where the line after the fence's last line begins, when that last line stands right at the cut; else 0."""
    if text[at - 1] != "\n":
        return 0
    line = text[at:].split("\n", 1)[0]
    return min(at + len(line) + 1, len(text)) if fence_after(line, fence) is None else 0


def _cut(text: str, start: int, limit_bytes: int, *, markdown: bool) -> int:
    """The best place to end a piece that begins at ``start``."""
    ends = _ends(text, start, limit_bytes)
    if ends[-1] == len(text):
        return len(text)
    furthest = ends[-1]
    floor = start + (furthest - start) // 2
    wholes = [
        m.span()
        for m in _WHOLE.finditer(text, max(start, floor - _LONGEST_WHOLE_CHARS), furthest + _LONGEST_WHOLE_CHARS)
    ]

    def allowed(place: int) -> bool:
        at = bisect_left(ends, place)
        if at == len(ends) or ends[at] != place or any(first < place < last for first, last in wholes):
            return False
        return not (markdown and text[place - 1] != "\n" and _FENCE_RUN.match(text, place))

    for pattern in _PLACES:
        places = [match.end() for match in pattern.finditer(text, floor, furthest)]
        for place in reversed(places):
            if allowed(place):
                return place
    return next((place for place in reversed(ends) if place > floor and allowed(place)), furthest)


def _ends(text: str, start: int, limit_bytes: int) -> list[int]:
    """Where the graphemes from ``start`` end, as far as they fit; inside the first one when it alone does not."""
    return _fitting(_GRAPHEME, text, start, limit_bytes) or _fitting(_CODE_POINT, text, start, limit_bytes)[-1:]


def _fitting(unit: regex.Pattern[str], text: str, start: int, limit_bytes: int) -> list[int]:
    left_bytes = limit_bytes
    ends: list[int] = []
    for match in unit.finditer(text, pos=start):
        left_bytes -= _unit_cost_bytes(match.group())
        if left_bytes < 0:
            break
        ends.append(match.end())
    return ends
