"""How an attempt ended: a closed set of values. Knows no Redis, no HTTP, no Celery."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeAlias

#: Why a sender is closed. ``fault`` is a proof of misconfiguration: the second one marks the sender broken.
CloseCause: TypeAlias = Literal["cooldown", "busy", "ban", "quota", "fault"]
#: Closes every sender of the fleet: DingTalk blocks our address, not one robot.
EVERY_SENDER = "*"

NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """No sending through a sender for a while; rides on any outcome.

    Attributes:
        cause: What closed it; a bounded set, safe as a metric label.
        for_s: How long; None is the robot's own ``cooldown_s`` for ``cooldown``, the next month for ``quota``.
        sender: None is the sender of the attempt; ``EVERY_SENDER`` is all.
        why: What a person should read; no secret, no message text.
    """

    cause: CloseCause
    why: str
    for_s: float | None = None
    sender: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """DingTalk said yes. ``receipt`` is its acknowledgement, kept with the job; ``why`` says whom it did not reach."""

    receipt: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    why: str = ""
    close: Close | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """DingTalk took it and proves nothing (work notifications, app robots). ``why`` says whom it cannot reach."""

    receipt: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    why: str = ""
    close: Close | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snooze:
    """Not now; spends no attempt. With a ``close`` the job keeps its place and the sender's clock decides.

    ``sent`` is False when no request was made: the permit goes back.
    """

    why: str
    cause: str
    for_s: float = 0.0
    sent: bool = True
    close: Close | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """It failed and may work later; spends an attempt. ``at_most`` caps attempts below the fleet's own cap.

    ``sent`` is False when the request provably never left: the permit goes back.
    """

    why: str
    cause: str
    at_most: int | None = None
    sent: bool = True
    close: Close | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """The request left and nobody saw the end; the job's ``on_unknown`` decides."""

    why: str
    cause: str
    close: Close | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dead:
    """No attempt can deliver this job; kept for a person.

    ``sent`` is False when no request was made: the permit goes back.
    """

    why: str
    cause: str
    sent: bool = True
    close: Close | None = None


Outcome: TypeAlias = Delivered | Accepted | Snooze | Retry | Unknown | Dead


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What a job did to what an earlier one left at DingTalk; noted in that one's record, if it is still kept.

    Attributes:
        job_id: The earlier job.
        state: Its state from now on (``cancelled``); None leaves it.
        why: What a person should read there; None leaves it.
        receipt: Entries that are added to its receipt, or replace those of the same name.
    """

    job_id: str
    state: str | None = None
    why: str | None = None
    receipt: Mapping[str, str] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """One attempt's end and how far it brought the job.

    Attributes:
        outcome: How the attempt ended.
        steps: How many steps (requests) the job takes in all, at least 1.
        notes: What later steps need from this one (a media id, a todo's id); kept in the job's record.
        route: How the next attempt goes, by the name the pace knows (``todo``, ``webhook``); None is the same way.
        rest_s: Before the next step, where this one was good.
        keep_s: The record is needed at least this long after the job's end.
        look_up_s: The result of what was accepted is to be looked up after this time.
        mark: What this job did to an earlier one.
    """

    outcome: Outcome
    steps: int = 1
    notes: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    route: str | None = None
    rest_s: float = 0.0
    keep_s: float | None = None
    look_up_s: float | None = None
    mark: Mark | None = None
