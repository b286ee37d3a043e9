"""What a sandbox is told: robots, rules, faults, clocks. Checked here, so that a wrong value is named at the door."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

#: What happened to a message.
#: ``accepted``: people see it. ``double``: taken, and not shown again. ``refused``: by a rule. ``failed``: by a fault.
State = Literal["accepted", "double", "refused", "failed"]
STATES: tuple[State, ...] = ("accepted", "double", "refused", "failed")

_Seconds = Annotated[float, Field(ge=0, le=366 * 86_400, allow_inf_nan=False)]
_Name = Annotated[str, Field(min_length=1, max_length=200)]


class _Model(BaseModel):
    # Input is hidden in errors: it may hold a token.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Robot(_Model):
    """A custom robot as its group's settings page describes it. Limits are DingTalk's published ones.

    https://open.dingtalk.com/document/development/custom-bot-to-send-group-chat-messages
    """

    token: Annotated[str, Field(min_length=1, max_length=500, repr=False)]
    name: _Name
    group: _Name = "sandbox group"
    secret: Annotated[str | None, Field(repr=False)] = None
    keywords: Annotated[tuple[str, ...], Field(max_length=10)] = ()
    allow_ips: tuple[str, ...] = ()
    limit: Annotated[int, Field(ge=1)] = 20
    window_s: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    cooldown_s: _Seconds = 600.0
    #: Messages of this robot in a calendar month; None is no limit.
    month: Annotated[int | None, Field(ge=0)] = None
    #: What the group's owner did to it.
    state: Literal["on", "disabled", "removed", "group gone"] = "on"
    #: In a group with people of other organisations a robot rings nobody.
    external: bool = False

    @field_validator("keywords")
    @classmethod
    def _words(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        if not all(word.strip() for word in words):
            raise ValueError("a keyword is not blank")
        return words

    @field_validator("allow_ips")
    @classmethod
    def _networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            ipaddress.IPv4Network(network)
        return networks


class App(_Model):
    """An enterprise app as its console describes it, with the limits of the standard edition.

    https://open.dingtalk.com/document/development/how-to-process-api-throttling-on-the-dingtalk-server
    """

    key: Annotated[str, Field(min_length=1, max_length=200)]
    secret: Annotated[str, Field(min_length=1, max_length=500, repr=False)]
    name: _Name
    agent_id: int | None = None
    robot_code: str | None = None
    #: The groups that its robot stands in; empty is every group whose id looks like one.
    conversations: tuple[str, ...] = ()
    token_life_s: Annotated[float, Field(gt=0, le=366 * 86_400)] = 7_200.0
    #: Calls to one interface in any second; one more closes that interface for a second.
    per_second: Annotated[int, Field(ge=1)] = 20
    per_minute: Annotated[int | None, Field(ge=1)] = None
    #: Calls that it has no permission for, by their path's beginning.
    forbidden: tuple[str, ...] = ()
    #: ``stopped``: its robot may not send.
    state: Literal["on", "stopped"] = "on"


class Person(_Model):
    """Somebody of the organisation."""

    user_id: Annotated[str, Field(min_length=1, max_length=64)]
    union_id: Annotated[str, Field(min_length=1, max_length=128)]
    name: _Name
    mobile: str | None = None
    active: bool = True
    #: So many of the next messages of an app's robot are held back as too fast.
    held_back: Annotated[int, Field(ge=0)] = 0


class Rules(_Model):
    """Where nobody outside knows how DingTalk behaves, which of the truths to play. The defaults are the strict ones."""

    #: The same ``msgUuid`` again: not shown a second time, or shown.
    doubles: Literal["suppress", "show"] = "suppress"
    #: What counts against a robot's limit: every request with its token, or only what it took.
    counts: Literal["attempts", "accepted"] = "attempts"
    #: Whether requests during a mute make it longer.
    mute_extends: bool = False
    #: The code for "too fast": the documented one, an older one, the newest one seen.
    too_fast_errcode: Literal[410100, 130101, 660026] = 660026
    #: The code for a token that belongs to no robot: today's, an older one, the documented one.
    no_robot_errcode: Literal[300005, 300001, 400101] = 300005
    #: DingTalk's words for a failed security check come in both languages.
    wording: Literal["en", "zh"] = "en"
    #: DingTalk's page shows ``errcode`` as a string, its servers send a number.
    errcode_as: Literal["number", "string"] = "number"
    #: Whether ``\\uXXXX`` in a body is refused, as the list of error codes says.
    refuse_escapes: bool = False
    #: A token, app or person that nobody set up is taken for a new one.
    any_token: bool = False
    #: The organisation's calls in a calendar month (Beijing's), of apps and of webhook robots; None is no limit.
    api_month: Annotated[int | None, Field(ge=0)] = None
    webhook_month: Annotated[int | None, Field(ge=0)] = None
    #: Messages kept; the numbers go on counting.
    keep: Annotated[int, Field(ge=1, le=1_000_000)] = 20_000


FaultKind = Literal[
    "errcode", "code", "status", "html", "redirect", "ban", "empty", "slow", "lost", "reset", "swallow", "pass"
]


class Fault(_Model):
    """A failure to play, in the order in which faults were added; a request meets one of them at most.

    ``errcode``: HTTP 200 with that code. ``code``: HTTP 4xx with a ``code`` of the newer host. ``status``: an HTTP status
    and a body. ``html``: a page. ``redirect``: HTTP 302. ``ban``: the body of a block at the edge. ``empty``: HTTP 200
    and nothing. ``slow``: taken at once, answered after ``delay_s``. ``lost``: taken, and the connection is reset
    instead of an answer (after ``delay_s``). ``swallow``: answered as taken, and nobody ever sees it. ``reset``: not taken, the connection is reset. ``pass``: nothing happens,
    for a place in a row of faults.
    """

    kind: FaultKind
    #: Requests it strikes; None is until a reset. One, or None with a probability.
    times: Annotated[int | None, Field(ge=1)] = None
    #: Strikes a request with this chance, drawn from ``seed``.
    probability: Annotated[float | None, Field(gt=0, le=1)] = None
    seed: int = 0
    #: Only this robot's (or app's) requests, by name.
    sender: str | None = None
    #: Only requests whose path begins so (``/v1.0/todo``).
    path: str | None = None
    #: Whether DingTalk takes the message all the same. True for slow, lost, swallow and pass.
    accept: bool = False
    delay_s: Annotated[float, Field(ge=0, le=3_600)] = 0.0
    errcode: int | str = -1
    errmsg: str = "system busy"
    status: Annotated[int, Field(ge=200, le=599)] = 502
    body: str | None = None
    content_type: str | None = None
    location: str = "https://login.dingtalk.invalid/"

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, fields: Any) -> Any:
        if isinstance(fields, dict):
            fields = dict(fields)
            if "times" not in fields:
                fields["times"] = None if fields.get("probability") else 1
            if fields.get("kind") in {"slow", "lost", "swallow", "pass"}:
                fields["accept"] = True
            if fields.get("kind") == "code":
                fields.setdefault("status", 400)
                fields.setdefault("errcode", "system.busy")
        return fields


class Moment(_Model):
    """What a space's clock is told.

    Attributes:
        at_ms: The moment it shows now, Unix milliseconds; None is the machine's own.
        stands: It moves only when told.
    """

    at_ms: Annotated[int | None, Field(ge=0, le=4_102_444_800_000)] = None
    stands: bool = False


class Advance(_Model):
    """How far a space's clock goes forward."""

    s: Annotated[float, Field(gt=0, le=10 * 366 * 86_400, allow_inf_nan=False)]


def problem(error: ValidationError) -> str:
    """What is wrong with the input, by the field's name and without its value."""
    return "; ".join(f"{'.'.join(str(part) for part in one['loc']) or 'body'}: {one['msg']}" for one in error.errors())
