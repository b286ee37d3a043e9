"""The producer's only touch of Redis: submit, status and cancel. Knows no broker and nothing of DingTalk."""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from dingqueue.contract import Job, Kind, to_wire
from dingqueue.routes import DEFAULT_PREFIX, barred, key_base, need_of
from dingqueue.scripts import Argument, ClockMs, Script, prelude, source
from dingqueue.status import State, Status

if TYPE_CHECKING:  # whoever only reads a Status does not load Redis's client
    import redis


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Leave for one job to make one attempt: what a Celery message carries, and all of it."""

    job_id: str
    kind: Kind
    destination: str
    grant: int


def calls_from(flat: Sequence[Any]) -> tuple[Call, ...]:
    """Read the calls of a script's reply: job id, kind, destination and grant, one after the other."""
    return tuple(
        Call(job_id=flat[i], kind=cast("Kind", flat[i + 1]), destination=flat[i + 2], grant=int(flat[i + 3]))
        for i in range(0, len(flat), 4)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What a job left at DingTalk: ``recall`` (its messages) and ``todo``, each as the fleet noted it."""

    destination: str
    state: str
    things: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The job stands in its lane; ``calls`` are the jobs to be published now (not always this one)."""

    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """A job with this id was accepted before and is, or ended, in ``state``."""

    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Full:
    """The lane holds ``waiting`` jobs, as many as it may."""

    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownDestination:
    """No worker knows the destination; ``known`` are those they do know."""

    known: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Barred:
    """The destination has only a ``route`` that cannot carry the job."""

    route: str


Submitted: TypeAlias = Accepted | Repeat | Full | UnknownDestination | Barred


@dataclass(frozen=True, slots=True, kw_only=True)
class Carries:
    """What the fleet says about files for a destination.

    Attributes:
        files_bytes: The largest file it can carry, 0 where none; None where the fleet does not say.
        zips: The fleet packs what DingTalk would refuse, asked or not.
        expires_s: How long its jobs are worth sending.
    """

    files_bytes: int | None
    zips: bool
    expires_s: float


class Lanes:
    """The door to the fleet's lanes, from the application's side. Safe to share between threads."""

    def __init__(self, client: redis.Redis, *, prefix: str = DEFAULT_PREFIX, clock_ms: ClockMs = None) -> None:
        self._client = client
        self._base = key_base(prefix)
        self._pace_key = f"{self._base}pace"

        def script(name: str) -> Script:
            return Script(client, prefix, source(prelude(), ("dingqueue", name)), clock_ms)

        self._submit, self._status, self._cancel = script("submit.lua"), script("status.lua"), script("cancel.lua")

    def submit(self, job: Job, *, client: redis.Redis | None = None) -> Submitted:
        """Store the job in its lane, once. Raises what redis-py raises; whether the job was stored is then unknown."""
        return self._submitted(self._submit(*_arguments(job), client=client))

    def submit_many(self, jobs: Iterable[Job]) -> list[Submitted | Exception]:
        """Store jobs in order, in one pipeline; what failed is in its place as the exception."""
        replies = self._submit.many(self._client, (_arguments(job) for job in jobs))
        return [reply if isinstance(reply, Exception) else self._submitted(reply) for reply in replies]

    def _submitted(self, reply: Sequence[Any]) -> Submitted:
        match reply[0]:
            case "accepted":
                return Accepted(calls=calls_from(reply[1]))
            case "repeat":
                return Repeat(state=reply[1])
            case "full":
                return Full(waiting=int(reply[1]))
            case "barred":
                return Barred(route=reply[1])
            case _:
                known = cast("list[str]", self._client.hkeys(self._pace_key))
                return UnknownDestination(known=tuple(sorted(known)))

    def carries(self, destination: str) -> Carries | UnknownDestination | None:
        """What may be shared there; None before any worker has ever started. Raises what redis-py raises."""
        text = cast("str | None", self._client.hget(self._pace_key, destination))
        if text is None:
            known = cast("list[str]", self._client.hkeys(self._pace_key))
            return UnknownDestination(known=tuple(sorted(known))) if known else None
        pace = json.loads(text)
        return Carries(files_bytes=pace.get("files"), zips=bool(pace.get("zip")), expires_s=pace["expires_ms"] / 1000)

    def status(self, job_id: str) -> Status | None:
        """Where the job is now; None when there is no such job, or its record has been forgotten."""
        reply = self._status(job_id)
        return _status(job_id, reply) if reply else None

    def cancel(self, job_id: str) -> tuple[State | Literal["recall", "gone"], tuple[Call, ...]]:
        """End a job that is not at DingTalk yet.

        Returns:
            ``"cancelled"`` and the calls that the freed place allows; ``"recall"`` where it is at DingTalk and can be
            taken back from there; or the state that made it too late, or ``"gone"`` for an id nobody knows.
        """
        reply = self._cancel(job_id)
        if reply[0] == "cancelled":
            return "cancelled", calls_from(reply[1])
        if reply[0] == "recall":
            return "recall", ()
        return (cast("State", reply[1]) if reply[0] == "too late" else "gone"), ()

    def left(self, job_id: str) -> Left | None:
        """What a job left at DingTalk; None for an id nobody knows (any more)."""
        destination, state, notes = cast(
            "list[str | None]", self._client.hmget(f"{self._base}job:{job_id}", "destination", "state", "notes")
        )
        if destination is None or state is None:
            return None
        kept = json.loads(notes or "{}")
        found = {name: json.loads(kept[name]) for name in ("recall", "todo") if kept.get(name)}
        return Left(destination=destination, state=state, things=found)


def _arguments(job: Job) -> tuple[Argument, ...]:
    terms = job.terms
    return (
        job.job_id,
        job.kind,
        job.destination,
        to_wire(job),
        int(terms.urgent),
        _ms(terms.at) if terms.at else 0,
        "" if terms.expires_s is None else math.ceil(terms.expires_s * 1000),
        terms.on_unknown,
        need_of(job),
        *barred(job),
    )


def _ms(instant: datetime) -> int:
    return int(instant.timestamp() * 1000)


def _at(ms: str | float | None) -> datetime | None:
    return datetime.fromtimestamp(float(ms) / 1000, UTC) if ms else None


def _status(job_id: str, reply: Sequence[Any]) -> Status:
    flat, place, later_ms, hold_ms, hold_why, collects_ms, now, rows = reply
    senders = [_sender(row) for row in rows]
    record = dict(zip(flat[::2], flat[1::2], strict=True))
    now_ms = int(now)
    reason = record.get("why", "")
    expected_ms: float | None = None
    if record["state"] == "waiting":
        starts_ms = max(now_ms, *(float(ms or 0) for ms in (later_ms, hold_ms, collects_ms)))
        ahead = 0 if place == "" or collects_ms != "" else int(place) + sum(one.others for one in senders)
        expected_ms = _expected_ms(starts_ms, ahead, senders)
        reason = _waits_for(reason, later_ms, hold_why, senders, now_ms)
    return Status(
        job_id=job_id,
        kind=cast("Kind", record["kind"]),
        destination=record["destination"],
        state=cast("State", record["state"]),
        submitted_at=cast("datetime", _at(record["submitted_ms"])),
        expires_at=cast("datetime", _at(record["expires_ms"])),
        ended_at=_at(record.get("ended_ms")),
        place=None if place == "" else int(place),
        expected_at=_at(expected_ms),
        reason=reason,
        attempts=int(record.get("attempts", 0)),
        unknowns=int(record.get("unknowns", 0)),
        snoozes=int(record.get("snoozes", 0)),
        step=int(record.get("step", 0)),
        steps=int(record.get("steps", 1)),
        receipt=MappingProxyType(json.loads(record.get("receipt") or "{}")),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """Of a sender: how many in what time, and when each permit that counts now ends."""

    limit: int
    ms: float
    ends_ms: tuple[float, ...]

    @property
    def full(self) -> bool:
        return len(self.ends_ms) >= self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sender:
    """What stands before a job at a sender: until when it is closed, jobs of other lanes, its windows."""

    name: str
    opens_ms: float
    why: str
    others: int
    windows: tuple[_Window, ...]

    @property
    def slowest(self) -> _Window:
        """The window that tells how long many jobs take."""
        return min(self.windows, key=lambda window: window.limit / window.ms)


def _sender(row: Sequence[Any]) -> _Sender:
    name, opens, cause, why, others, windows = row
    return _Sender(
        name="every sender" if name == "*" else name,
        opens_ms=float(opens),
        why=why or cause,
        others=int(others),
        windows=tuple(
            _Window(limit=int(limit), ms=float(ms), ends_ms=tuple(map(float, ends))) for limit, ms, ends in windows
        ),
    )


def _waits_for(reason: str, later_ms: str, hold_why: str, senders: Sequence[_Sender], now_ms: int) -> str:
    if hold_why:
        return str(hold_why)
    if later_ms:
        return reason or "scheduled"
    if not senders:
        return "no worker has said how fast this destination may go: is one running?"
    if all(one.opens_ms > now_ms for one in senders):
        return f"{senders[0].name} is closed: {senders[0].why}"
    full = [next((window for window in one.windows if window.full), None) for one in senders]
    if full[0] and all(full):
        return f"{senders[0].name} is at its limit of {full[0].limit} in {full[0].ms / 1000:g} s"
    return reason or "waits for its turn"


#: Messages that are played one by one; beyond them the lawful pace tells enough.
_PLAYED = 1_000


def _expected_ms(starts_ms: float, ahead: int, senders: Sequence[_Sender]) -> float | None:
    """When the job after `ahead` others gets a permit, by playing the windows forward; every answer is quick."""
    free: list[tuple[float, float]] = []  # when a permit is free, and for how long it is then taken
    for one in senders:
        opens_ms, window = max(starts_ms, one.opens_ms), one.slowest
        # A request that is out counts from its answer, which is near.
        taken = sorted(max(min(end_ms, opens_ms + window.ms), opens_ms) for end_ms in window.ends_ms)[-window.limit :]
        free += [(opens_ms, window.ms)] * (window.limit - len(taken)) + [(end_ms, window.ms) for end_ms in taken]
    if not free:
        return None
    heapq.heapify(free)
    per_ms = sum(1 / window_ms for _, window_ms in free)
    # Whole windows of all permits need no play.
    period_ms = max(window_ms for _, window_ms in free)
    rounds = max(0, ahead - _PLAYED) // max(1, math.floor(period_ms * per_ms))
    at_ms = free[0][0]
    for _ in range(ahead - rounds * math.floor(period_ms * per_ms) + 1):
        at_ms, window_ms = heapq.heappop(free)
        heapq.heappush(free, (at_ms + window_ms, window_ms))
    return at_ms + rounds * period_ms
