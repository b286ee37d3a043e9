"""DingTalk's markdown: line breaks that show, titles, fences, tables. Knows nothing of jobs or sizes.

DingTalk promises headings, quotes, bold, italic, links, pictures and lists. A single line break may collapse; its
hint is two spaces before and after it.
https://open.dingtalk.com/document/development/robot-message-type
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import regex

#: DingTalk's limit for titles of its older messages (34016); nothing is documented for robots, lists cut earlier.
MAX_TITLE_GRAPHEMES = 64
_MAX_TITLE_BYTES = 512
#: Of a line without end only the beginning can become a title.
_TITLE_SOURCE_CHARS = 2_000
#: Longer lines are taken for text: nobody writes such a fence, and it could not be repeated in every part.
MAX_FENCE_CHARS = 100

_LINE_END = re.compile(r"\r\n?|\n")
# A fence may be indented at will, for it may belong to a list item.
_FENCE = re.compile(r"[ \t]*(?:(?P<ticks>`{3,})[^`]*|(?P<tildes>~{3,}).*)")
_HEADING = re.compile(r" {0,3}#{1,6}(\s|$)")
_RULE = re.compile(r" {0,3}(?:([-*_])[ \t]*(?:\1[ \t]*){2,}|=+[ \t]*|-+[ \t]*)")
_ITEM = re.compile(r"\s*(?:[-*+]|\d{1,9}[.)])(?:\s|$)")
_QUOTE = re.compile(r" {0,3}>")
_INDENTED = re.compile(r" {4}| {0,3}\t")
_TABLE_RULE = re.compile(r"[ \t]*(?:\|[ \t]*)?:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*(?:\|[ \t]*)?")
_CELL_END = re.compile(r"(?<!\\)\|")

_Kind: TypeAlias = Literal["blank", "fence", "code", "heading", "rule", "item", "quote", "table", "text"]
#: Where a line break would vanish, or might in a client that cannot draw the block.
_COLLAPSES: frozenset[tuple[_Kind, _Kind]] = frozenset(
    {
        ("text", "text"),
        ("text", "item"),
        ("text", "table"),
        ("item", "text"),
        ("quote", "quote"),
        ("quote", "text"),
        ("table", "table"),
        ("table", "text"),
    }
)


@dataclass(frozen=True, slots=True)
class Fence:
    """An open code fence: its first line, to be repeated, and the marker that ends it."""

    opening: str
    marker: str


def fence_after(line: str, fence: Fence | None) -> Fence | None:
    """The fence that is open after a line, given the one that was open before it."""
    match = _FENCE.fullmatch(line) if len(line) <= MAX_FENCE_CHARS else None
    if match is None:
        return fence
    marker = match["ticks"] or match["tildes"]
    if fence is None:
        return Fence(line.rstrip(), marker)
    closes = line.strip() == marker and marker.startswith(fence.marker)
    return None if closes else fence


def close_fence(text: str) -> str:
    """The text with the code fence that it leaves open closed, so that what follows is not code."""
    fence = None
    for line in text.split("\n"):
        fence = fence_after(line, fence)
    if fence is None:
        return text
    return text.removesuffix("\n") + "\n" + fence.marker


def outside_fences(text: str) -> str:
    """The lines that are no code."""
    return "\n".join(line for line, in_fence in _lines(text.split("\n")) if not in_fence)


def visible_breaks(text: str) -> str:
    r"""The text with every single line break that would vanish made to show: two spaces, ``\n``, two spaces.

    Line ends become ``\n``. Code fences, headings, list items and links are left as they are, so doing it twice
    changes nothing more. Rows of a table keep their breaks where the client cannot draw a table.
    """
    lines = _LINE_END.split(text)
    kinds = _kinds(lines)
    shown: list[str] = []
    for number, (line, kind) in enumerate(zip(lines, kinds, strict=True)):
        before = kinds[number - 1] if number else "blank"
        after = kinds[number + 1] if number + 1 < len(lines) else "blank"
        if kind == "text" and (before, kind) in _COLLAPSES and not line.startswith("  "):
            shown.append("  " + line.lstrip(" \t"))
        else:
            shown.append(line)
        if (kind, after) in _COLLAPSES:
            shown[-1] = shown[-1].rstrip(" \t") + "  "
    return "\n".join(shown)


def has_table(text: str) -> bool:
    """Whether the text draws a table, which phones show as lines with pipes."""
    return "table" in _kinds(_LINE_END.split(text))


def tables_as_lines(text: str) -> str:
    r"""The text with every table turned into lines of "name: value", one block of lines for each row.

    Phones show a table as lines with pipes. Each value keeps its marks and gets its column's name, so that it can be
    read where the columns cannot be seen; empty cells are left out, ``\|`` becomes ``|``. Code fences stay.
    """
    lines = _LINE_END.split(text)
    shown: list[str] = []
    for is_table, run in itertools.groupby(zip(_kinds(lines), lines, strict=True), key=lambda pair: pair[0] == "table"):
        block = [line for _, line in run]
        if not is_table:
            # A blank line after the table, so that what follows is not read as one of its values.
            shown += [""] if shown and block[0].strip() else []
            shown += block
            continue
        if shown and shown[-1].strip():
            shown.append("")
        shown += "\n\n".join(_rows_as_lines(block)).split("\n")
    return "\n".join(shown)


def _rows_as_lines(table: list[str]) -> Iterator[str]:
    """Each row as its lines. The first line of the table has the names, the second one the dashes."""
    names, rows = _cells(table[0]), [_cells(line) for line in table[2:]]
    if not rows:
        yield ", ".join(filter(None, names))
    for row in rows:
        named = itertools.zip_longest(names, row, fillvalue="")
        if lines := [_named(name, value) for name, value in named if value]:
            yield "\n".join(lines)


def _cells(line: str) -> list[str]:
    inner = line.strip().removeprefix("|")
    if inner.endswith("|") and not inner.endswith(r"\|"):
        inner = inner[:-1]
    return [cell.strip().replace(r"\|", "|") for cell in _CELL_END.split(inner)]


def _named(name: str, value: str) -> str:
    if not name or name.endswith((":", "：")):
        return f"{name} {value}".lstrip()
    return f"{name}：{value}" if has_han(name) else f"{name}: {value}"


def title_of(title: str, text: str) -> str:
    """A title for a markdown message: the one given, else the first line that says something; never empty.

    Marks are removed, for a title is shown as it is, and its length is what a conversation list can show.
    """
    lines = _LINE_END.split(text)
    prose = (line for line, in_fence in _lines(lines) if not in_fence)
    code = (line for line in lines if _FENCE.fullmatch(line) is None)
    candidates = itertools.chain([title], prose, code)
    plain = next(filter(None, map(_plain, candidates)), "") or ("消息" if has_han(text) else "Message")
    return shorten_title(plain)


def plain_lines(text: str) -> Iterator[str]:
    """The lines that say something, without their marks; the first and last lines of code fences are none."""
    return filter(None, (_plain(line) for line in _LINE_END.split(text) if _FENCE.fullmatch(line) is None))


def shorten_title(title: str) -> str:
    """At most ``MAX_TITLE_GRAPHEMES`` characters as people count them."""
    graphemes = regex.findall(r"\X", title)
    if len(graphemes) <= MAX_TITLE_GRAPHEMES and len(title.encode()) <= _MAX_TITLE_BYTES:
        return title
    kept = ""
    for grapheme in graphemes[: MAX_TITLE_GRAPHEMES - 1]:
        if len((kept + grapheme).encode()) > _MAX_TITLE_BYTES:
            break
        kept += grapheme
    return kept.rstrip() + "…"


def has_han(text: str) -> bool:
    """Whether Chinese characters are among the text's."""
    return regex.search(r"\p{Han}", text) is not None


def _lines(lines: list[str]) -> Iterator[tuple[str, bool]]:
    """Each line and whether it belongs to a code fence, its first and last line included."""
    fence = None
    for line in lines:
        after = fence_after(line, fence)
        yield line, fence is not None or after is not None
        fence = after


def _kinds(lines: list[str]) -> list[_Kind]:
    kinds: list[_Kind] = []
    for number, (line, in_fence) in enumerate(_lines(lines)):
        before = kinds[-1] if kinds else "blank"
        following = lines[number + 1] if number + 1 < len(lines) else ""
        kinds.append("fence" if in_fence else _kind(line, before, following))
    return kinds


def _kind(line: str, before: _Kind, following: str) -> _Kind:
    kind: _Kind = "text"
    if not line.strip():
        kind = "blank"
    elif "|" in line and (before == "table" or _is_table_rule(following)):
        kind = "table"
    elif _HEADING.match(line):
        kind = "heading"
    elif _RULE.fullmatch(line):
        kind = "rule"
    elif _ITEM.match(line):
        kind = "item"
    elif _QUOTE.match(line):
        kind = "quote"
    elif _INDENTED.match(line) and before in {"blank", "code", "heading", "rule"}:
        kind = "code"
    return kind


def _is_table_rule(line: str) -> bool:
    return "|" in line and _TABLE_RULE.fullmatch(line) is not None


_MARKS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"^(?:\s*(?:#{1,6}(?=\s|$)|>|[-*+](?=\s)|\d{1,9}[.)](?=\s)))+"), ""),
    (re.compile(r"!?\[([^\]]*)\]\([^)]*\)"), r"\1"),
    (re.compile(r"</?[A-Za-z][^<>]*>"), ""),
    (re.compile(r"&nbsp;"), " "),
    (re.compile(r"(\*{1,3}|~~|`+)(?=\S)(.+?)(?<=\S)\1"), r"\2"),
    # Underscores mark only whole words: snake_case is a name.
    (re.compile(r"(?<!\w)(_{1,3})(?=\S)(.+?)(?<=\S)\1(?!\w)"), r"\2"),
    (re.compile(r"\s#+\s*$"), ""),
)


def _plain(line: str) -> str:
    """A line without its marks, "" when nothing is left of it."""
    line = line[:_TITLE_SOURCE_CHARS].rstrip()
    if not line or _RULE.fullmatch(line):
        return ""
    for mark, replacement in _MARKS:
        line = mark.sub(replacement, line)
    return " ".join(line.split())
