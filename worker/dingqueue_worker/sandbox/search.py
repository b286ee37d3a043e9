"""The inbox's search: words, and ``robot: is: kind: errcode: fault:`` with a value. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass

from dingqueue_worker.sandbox import view
from dingqueue_worker.sandbox.space import Message

#: What ``is:`` understands beside the four states.
_IS: dict[str, Callable[[Message], bool]] = {
    "lost": lambda one: not one.answered,
    "warned": lambda one: bool(view.warnings_of(one)),
    "seen": lambda one: one.state == "accepted",
    "todo": lambda one: one.way == "todo",
    "file": lambda one: one.way == "upload",
    "call": lambda one: one.way in {"call", "upload"},
}


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for; every part must hold.

    Attributes:
        words: In the text, title, robot, group, reason or body.
        fields: ``("robot", "ops")`` and the like.
        excluded: The same with a ``-`` before.
    """

    words: tuple[str, ...] = ()
    fields: tuple[tuple[str, str], ...] = ()
    excluded: tuple[tuple[str, str], ...] = ()

    def fits(self, message: Message) -> bool:
        """Whether the message is meant. Calls that went well are no news."""
        if message.way in {"call", "upload"} and message.state != "refused" and not self.wants_calls:
            return False
        return (
            all(_field(message, name, value) for name, value in self.fields)
            and not any(_field(message, name, value) for name, value in self.excluded)
            and all(word in _haystack(message) for word in self.words)
        )

    @property
    def wants_calls(self) -> bool:
        """Whether calls that are no message are looked for too."""
        return any(field == "is" and value in {"call", "file"} for field, value in self.fields)

    def value(self, name: str) -> str | None:
        """The first value asked for under a name."""
        return next((value for field, value in self.fields if field == name), None)


def parse(text: str) -> Query:
    """Read a search as typed; quotes keep blanks together, a field nobody knows is a word."""
    try:
        parts = shlex.split(text)
    except ValueError:  # a quote that is not closed yet: somebody is typing
        parts = text.replace('"', " ").replace("'", " ").split()
    words: list[str] = []
    fields: list[tuple[str, str]] = []
    excluded: list[tuple[str, str]] = []
    for part in parts:
        negated = part.startswith("-") and len(part) > 1
        name, colon, value = part.removeprefix("-").partition(":")
        if colon and value and name.lower() in {"robot", "is", "kind", "errcode", "fault", "group"}:
            (excluded if negated else fields).append((name.lower(), value.casefold()))
        elif negated:
            excluded.append(("word", part[1:].casefold()))
        else:
            words.append(part.casefold())
    return Query(tuple(words), tuple(fields), tuple(excluded))


def _field(message: Message, name: str, value: str) -> bool:
    match name:
        case "robot":
            return (message.name or "").casefold() == value
        case "group":
            return (message.place or "").casefold() == value
        case "is":
            return _IS[value](message) if value in _IS else message.state == value
        case "kind":
            return (view.message(message)["kind"] or "").casefold() == value
        case "errcode":
            return str(message.verdict.errcode) == value
        case "fault":
            return (message.fault or "").casefold() == value
        case _:
            return value in _haystack(message)


def _haystack(message: Message) -> str:
    if message.haystack is None:
        shown = view.message(message)
        kind, seen = shown["kind"], shown["content"]
        content = seen.get(kind) if isinstance(seen, dict) and kind else None
        parts = [shown["text"], content or shown["raw"], shown["robot"], shown["group"], shown["reason"], shown["note"]]
        message.haystack = "\n".join(
            map(str, filter(None, [*parts, *shown["to"], shown["uuid"], shown["path"]]))
        ).casefold()
    return message.haystack
