"""One call of an app to DingTalk's API, and how it is refused. Knows no HTTP library and no state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

#: What a call was for: something that people see in a chat, a piece of work, or neither.
Way = Literal["webhook", "group", "people", "notice", "todo", "upload", "call"]
#: The ways that end in a chat.
CHATS: frozenset[Way] = frozenset({"webhook", "group", "people", "notice"})


class Refused(Exception):
    """DingTalk's no.

    Args:
        code: ``errcode`` of the older host, ``code`` of the newer one.
        message: In DingTalk's words.
        reason: For a person: what is wrong and what to change.
        status: HTTP status on the newer host.
        step: The check that refused it.
        assumed: Nobody has documented or reported this code for this case: it is the sandbox's guess.
        gate: Refused before the call itself was reached: the older host then wraps the code.
    """

    def __init__(
        self,
        code: int | str,
        message: str,
        reason: str = "",
        *,
        status: int = 400,
        step: str = "fields",
        assumed: bool = False,
        gate: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason or message
        self.status = status
        self.step = step
        self.assumed = assumed
        self.gate = gate


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """An uploaded file.

    Attributes:
        media_id: As the upload gave it.
        name: As the form named it.
        kind: ``image``, ``voice``, ``video`` or ``file``.
        content: Its bytes.
        sha256: Of them, in hex.
        app: The name of the app that uploaded it.
        at_ms: When.
        number: Of its request in the space.
    """

    media_id: str
    name: str
    kind: str
    content: bytes = field(repr=False)
    sha256: str
    app: str
    at_ms: int
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """DingTalk's yes.

    Attributes:
        body: The answer's fields.
        content: What people see: ``msgtype`` and its fields as a webhook robot would send them, where that fits.
        place: Where they see it: a conversation's id, "".
        to: Who sees it, or has to do it: user ids, or union ids of a todo.
        note: For a person, what the answer did not say.
        key: The answer's proof: ``processQueryKey``, ``task_id``, a todo's id, a media id.
        seen: False where nobody ever sees it although the answer said yes.
        record: What the organisation keeps of it: a message, a notification, a todo, a file.
    """

    body: Mapping[str, Any]
    content: Mapping[str, Any] | None = None
    place: str = ""
    to: Sequence[str] = ()
    note: str = ""
    key: str = ""
    seen: bool = True
    record: Any = None


def text_of(data: Mapping[str, Any], name: str, refusal: Refused, *, most_bytes: int | None = None) -> str:
    """A string field that is not blank.

    Raises:
        Refused: The given refusal, its reason naming the field.
    """
    value = data.get(name)
    if not isinstance(value, str) or not value.strip():
        refusal.reason = f"{name} is missing" if value is None else f"{name} must be a string that is not blank"
        raise refusal
    if most_bytes is not None and len(value.encode()) > most_bytes:
        refusal.reason = f"{name} has {len(value.encode()):,} bytes, {most_bytes:,} are allowed"
        raise refusal
    return value


def strings_of(data: Mapping[str, Any], name: str, refusal: Refused, *, needed: bool = True) -> list[str]:
    """A list of strings.

    Raises:
        Refused: The given refusal, its reason naming the field.
    """
    value = data.get(name)
    if value is None and not needed:
        return []
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value) or (needed and not value):
        refusal.reason = f"{name} must be a list of strings that are not empty"
        raise refusal
    return value
