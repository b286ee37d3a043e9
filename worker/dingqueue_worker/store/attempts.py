"""A job's way: submitted, started, settled, released; and how fast it may go."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, assert_never

import redis

from dingqueue.addresses import redis_address
from dingqueue.contract import Job, Kind, from_wire
from dingqueue.lanes import Call, Lanes, Submitted, calls_from
from dingqueue.scripts import Argument, ClockMs, Reply
from dingqueue_worker.outcome import Accepted, Close, Dead, Delivered, Ended, Retry, Snooze, Unknown
from dingqueue_worker.pace import Pace
from dingqueue_worker.store.door import Door, Event, Patience, ask, events_from

#: A `fault` keeps a sender closed this long before the next probe, unless its configuration changes first.
FAULT_PROBE_S = 600.0
#: What a fleet that is off for a week forgets: its pace, never a waiting job.
PACE_KEEP_MS = 7 * 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The attempt may be made. ``fails`` are the attempts of this step that failed so far."""

    job: Job
    sender: str
    step: int
    attempts: int
    fails: int
    notes: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """The lane's next called job, begun by the one before it: no message will bring it."""

    call: Call
    reply: Reply = field(repr=False)  # the message's text is in it

    def started(self) -> Started:
        """As ``start`` would have said it.

        Raises:
            UnknownContract: The job is in a version this worker cannot read.
        """
        return _started(self.reply)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """Somebody else's now, or nobody's: the job is in ``state`` (or ``gone``, ``closed``). Change nothing."""

    state: str
    calls: tuple[Call, ...] = ()
    events: tuple[Event, ...] = ()
    ahead: Ahead | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """The attempt's end is noted. ``next_look_ms`` is when the clock frees something; None when nothing is pending."""

    state: str
    calls: tuple[Call, ...]
    events: tuple[Event, ...]
    next_look_ms: int | None
    ahead: Ahead | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """What the clock freed. ``memory`` marks this life of Redis; empty when it has forgotten the fleet."""

    calls: tuple[Call, ...]
    events: tuple[Event, ...]
    next_look_ms: int | None
    memory: str


Start: TypeAlias = Started | Stale


class _Here(threading.local):
    client: redis.Redis | None = None


class Attempts(Door):
    """The lanes, from the side of who carries jobs out."""

    def __init__(self, url: str, *, prefix: str, clock_ms: ClockMs = None, patience_s: float = 30.0) -> None:
        super().__init__(url, prefix=prefix, clock_ms=clock_ms)
        # A settle that Redis did not hear would be a double later. It is fenced by its grant, so repeating it is safe.
        self._patience = Patience(patience_s)
        self._here, self._keeps = _Here(), redis_address(url).kind != "sentinel"
        self.lanes = Lanes(self._client, prefix=prefix, clock_ms=clock_ms)
        self._start = self._script("start.lua")
        self._settle = self._script("settle.lua", "ending.lua")
        self._release = self._script("release.lua", "ending.lua")
        self._pace, self._alive = self._script("pace.lua"), self._script("alive.lua")

    def _patiently(self, *arguments: Argument) -> Reply:
        """Settle until Redis has heard it or the patience is over.

        Around the whole question, each time over a connection that the pool made or looked at: what redis-py repeats by
        itself goes to the server that a connection once led to, also where Sentinels have named another one since.
        """
        return self._patience.call_with_retry(
            lambda: self._settle(*arguments, client=self._own()), lambda _: self._drop_own()
        )

    def _own(self) -> redis.Redis | None:
        """This thread's own connection: to take one from the pool and look whether it stands costs as much as the command.

        None where Sentinels say who is primary: they are asked only for a connection that comes from the pool.
        """
        here = self._here
        if self._keeps and here.client is None:
            here.client = self._client.client()  # type: ignore[no-untyped-call]  # it has none
        return here.client

    def _drop_own(self) -> None:
        here = self._here
        if here.client is not None:
            here.client.close()
            here.client = None

    def submit(self, job: Job) -> Submitted:
        """Store a job of the fleet's own, like an application's.

        Raises:
            StoreUnavailable: Redis did not answer; whether it was stored is unknown, and the same job again is safe.
        """
        return ask(lambda: self.lanes.submit(job))

    def start(self, job_id: str, grant: int, *, lease_ms: int) -> Start:
        """Is this grant still good? Stamps the permit and the lease anew.

        Raises:
            StoreUnavailable: Redis did not answer; do not attempt.
            UnknownContract: The job is in a version this worker cannot read.
        """
        reply = ask(lambda: self._start(job_id, grant, lease_ms))
        if reply[0] != "started":
            return Stale(state=reply[1], calls=calls_from(reply[2]), events=events_from(reply[3]))
        return _started(reply)

    def settle(
        self,
        job_id: str,
        grant: int,
        ended: Ended,
        *,
        step: int,
        wait_s: float,
        most: int,
        notes: Mapping[str, str],
        on_ms: int = 0,
        kind: Kind = "send",
    ) -> Settled | Stale:
        """Note how an attempt ended and call the lane's next jobs.

        Args:
            job_id: The job.
            grant: The attempt's grant; an older one changes nothing, unless it says "delivered".
            ended: The outcome and how many steps the job takes.
            step: The step that was attempted, from 0.
            wait_s: Before the next attempt, if one must follow.
            most: Attempts before the job is dead.
            notes: What the job's later steps need, all of it.
            on_ms: The lease for the lane's next called job, which whoever asks carries out at once; 0 publishes it.
            kind: Of the job that ended; only another of it is gone on with.

        Raises:
            StoreUnavailable: Redis stayed away for `patience_s`; the lease will end and the attempt count as unknown.
        """
        row = _row(ended, step=step, wait_s=wait_s, most=most, notes=notes)
        reply = ask(lambda: self._patiently(job_id, grant, *row, on_ms, kind))
        if reply[0] == "stale":
            _, state, calls, events, ahead = reply
            return Stale(state=state, calls=calls_from(calls), events=events_from(events), ahead=_ahead(ahead))
        state, calls, events, look_ms, ahead = reply
        return Settled(
            state=state,
            calls=calls_from(calls),
            events=events_from(events),
            next_look_ms=_look(look_ms),
            ahead=_ahead(ahead),
        )

    def release(self, *, most: int, max_deliveries: int, max_attempts: int, who: str = "") -> Released:
        """Call what is due, fairly round the lanes, and say when to look again.

        Args:
            most: Of each kind of work in one go.
            max_deliveries: Workers that a job may take down.
            max_attempts: Attempts before a job is dead.
            who: ``worker:<host>:<process>``: asking is its sign of life.

        Raises:
            StoreUnavailable: Redis did not answer; nothing was called.
        """
        reply = ask(lambda: self._release(most, max_deliveries, max_attempts, who))
        return Released(
            calls=calls_from(reply[0]), events=events_from(reply[1]), next_look_ms=_look(reply[2]), memory=reply[3]
        )

    def sign(self, who: str) -> None:
        """A process (``beat:<host>:<process>``) says that it is there.

        Raises:
            StoreUnavailable: Nobody heard it.
        """
        ask(lambda: self._alive(who))

    def publish_pace(self, pace: Pace, *, known_memory: str) -> tuple[str, bool]:
        """Publish how fast lanes and senders may go.

        Returns:
            The mark of this life of Redis, and whether lanes rest one window because Redis forgot what was sent.
        """
        rows: list[Argument] = [PACE_KEEP_MS, known_memory, pace.rest_ms, len(pace.lanes)]
        for name, one in (*pace.lanes.items(), *pace.senders.items()):
            rows += (name, json.dumps(one))
        reply = ask(lambda: self._pace(*rows))
        return reply[0], reply[1] == "rest"


def _started(reply: Reply) -> Started:
    _, body, sender, step, attempts, fails, notes = reply
    return Started(
        job=from_wire(body),
        sender=sender,
        step=int(step),
        attempts=int(attempts),
        fails=int(fails),
        notes=json.loads(notes) if notes != "{}" else {},
    )


def _ahead(reply: Reply) -> Ahead | None:
    return Ahead(call=calls_from(reply[:4])[0], reply=reply[4]) if reply else None


def _look(ms: Any) -> int | None:
    return None if int(ms) < 0 else int(ms)


def _row(ended: Ended, *, step: int, wait_s: float, most: int, notes: Mapping[str, str]) -> tuple[Argument, ...]:
    outcome = ended.outcome
    why, cause, sent = "", "ok", True
    receipt: dict[str, str] = {}
    verdict: str
    match outcome:
        case Delivered():
            verdict, receipt, why = "delivered", dict(outcome.receipt), outcome.why
        case Accepted():
            verdict, receipt, why = "accepted", dict(outcome.receipt), outcome.why
        case Snooze():
            verdict, why, cause, sent = "snooze", outcome.why, outcome.cause, outcome.sent
        case Retry():
            verdict, why, cause, sent = "retry", outcome.why, outcome.cause, outcome.sent
            most = min(most, outcome.at_most or most)
        case Unknown():
            verdict, why, cause = "unknown", outcome.why, outcome.cause
        case Dead():
            verdict, why, cause, sent = "dead", outcome.why, outcome.cause, outcome.sent
        case other:
            assert_never(other)
    return (
        verdict, step, ended.steps, int(sent), round(wait_s * 1000), most, why, cause,
        _json(receipt), _json({**notes, **ended.notes}), *_close_row(outcome.close), _json(_more(ended)),
    )  # fmt: skip


#: Kept, since `json.dumps` makes one anew at each call that asks for other than its usual.
_encode = json.JSONEncoder(ensure_ascii=False).encode


def _json(fields: Mapping[str, Any]) -> str:
    return _encode(fields) if fields else "{}"


def _more(ended: Ended) -> dict[str, Any]:
    """What few attempts have, as ``settle.lua`` describes it."""
    mark = ended.mark
    found = {
        "route": ended.route,
        "rest_ms": round(ended.rest_s * 1000) or None,
        "keep_ms": None if ended.keep_s is None else round(ended.keep_s * 1000),
        "look_up_ms": None if ended.look_up_s is None else round(ended.look_up_s * 1000),
        "mark": mark
        and {"id": mark.job_id, "receipt": dict(mark.receipt)}
        | ({} if mark.state is None else {"state": mark.state})
        | ({} if mark.why is None else {"why": mark.why}),
    }
    return {name: value for name, value in found.items() if value is not None}


def _close_row(close: Close | None) -> tuple[Argument, ...]:
    if close is None:
        return ("", "", "", "")
    usual: dict[str, Argument] = {"quota": "month", "fault": round(FAULT_PROBE_S * 1000)}
    wait = usual.get(close.cause, "") if close.for_s is None else round(close.for_s * 1000)
    return (close.sender or "@", wait, close.cause, close.why)
