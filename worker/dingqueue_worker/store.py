"""The one door to Redis for the fleet: every key, every script call, typed in and out. Knows no Celery, no HTTP."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, TypeAlias, TypeVar, assert_never, cast

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry as RedisRetry

from dingqueue.connections import redis_client
from dingqueue.contract import Job, SendJob, from_wire, to_wire
from dingqueue.errors import DingqueueError
from dingqueue.lanes import Call, Lanes, Submitted, calls_from
from dingqueue.routes import key_base
from dingqueue.scripts import Argument, ClockMs, Reply, Script, prelude, source
from dingqueue.servers import Refusal, refusal
from dingqueue_worker.outcome import EVERY_SENDER, Accepted, Close, Dead, Delivered, Ended, Retry, Snooze, Unknown
from dingqueue_worker.pace import Pace

#: A `fault` keeps a sender closed this long before the next probe, unless its configuration changes first.
FAULT_PROBE_S = 600.0
#: What a fleet that is off for a week forgets: its pace, never a waiting job.
PACE_KEEP_MS = 7 * 86_400_000
#: Scores of jobs that are not urgent begin here, as in call.lua.
_NORMAL = 4_000_000_000_000_000
#: DingTalk bills by Beijing's calendar.
_BILLED_IN = timezone(timedelta(hours=8))


#: Dead letters read in one round trip.
_PAGE = 500
_LETTER_FIELDS = ("kind", "destination", "why", "cause", "attempts", "submitted_ms", "score", "replays")


class StoreUnavailable(Exception):
    """Redis did not answer, or refused: nothing is known to have changed.

    Attributes:
        why: What went wrong, without an address or a password.
    """

    def __init__(self, why: Refusal) -> None:
        super().__init__(str(why))
        self.why = why


class UnfitServer(Exception):
    """This Redis would lose jobs or cannot run the scripts; the text says what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What matters about the server: ``name`` is Redis or Valkey, ``policy`` its ``maxmemory-policy``."""

    name: str
    version: str
    policy: str
    append_only: bool
    #: A replica takes no jobs, and it may be promoted at any time.
    replica: bool = False
    used_bytes: int = 0
    #: 0 is without a limit.
    most_bytes: int = 0

    def outdated(self) -> str:
        """Why it cannot run the scripts; empty when it can."""
        oldest = (7, 2) if self.name == "Valkey" else (6, 2)
        if tuple(int(part) for part in self.version.split(".")[:2]) < oldest:
            return f"{self.name} {self.version} is too old: {self.name} {oldest[0]}.{oldest[1]} or newer is needed"
        return ""

    def problem(self) -> str:
        """Why no job may be entrusted to it; empty when it is fit."""
        if outdated := self.outdated():
            return outdated
        if self.policy != "noeviction":
            return (
                f"{self.name} may evict jobs (maxmemory-policy {self.policy}): "
                "set maxmemory-policy noeviction, or give dingqueue a server of its own"
            )
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What a script asks for.

    A person should hear once that a job is ``dead`` or a sender ``broken``, and why; or somebody should fold what waits
    in a lane (``digest``).
    """

    name: str
    subject: str
    why: str


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
class Stale:
    """Somebody else's now, or nobody's: the job is in ``state`` (or ``gone``, ``closed``). Change nothing."""

    state: str
    calls: tuple[Call, ...] = ()
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """The attempt's end is noted. ``next_look_ms`` is when the clock frees something; None when nothing is pending."""

    state: str
    calls: tuple[Call, ...]
    events: tuple[Event, ...]
    next_look_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An app token as it is kept; ``number`` grows with each one that was fetched."""

    token: str = field(repr=False)
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """Leave to fetch an app's token, alone in the fleet; ``held`` is one that can still be used meanwhile."""

    lease: int
    held: Held | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """There is no token: somebody fetches one, or (``resting``) the last question failed and the next one must wait.

    ``refused``: the credentials were, twice.
    """

    for_s: float
    why: str
    resting: bool
    refused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """An accepted job whose result is to be looked up, for the ``looks``-th time."""

    job_id: str
    destination: str
    notes: Mapping[str, str]
    receipt: Mapping[str, str]
    ended_ms: int
    looks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenView:
    """An app's token as a person may see it: all but the token. Milliseconds since 1970, by the server's clock.

    ``usable_ms`` is 0 where there is none; ``again_ms`` is when the next question may be asked after a failure.
    """

    number: int
    got_ms: int
    refresh_ms: int
    usable_ms: int
    again_ms: int
    fails: int
    why: str
    bad: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An upload that was made before."""

    media_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """Leave to make an upload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """Somebody else makes it, for so long at most."""

    for_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """What the clock freed. ``memory`` marks this life of Redis; empty when it has forgotten the fleet."""

    calls: tuple[Call, ...]
    events: tuple[Event, ...]
    next_look_ms: int | None
    memory: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A job that no attempt can deliver, kept for a person. Times are ms since 1970."""

    job_id: str
    kind: str
    destination: str
    reason: str
    cause: str
    attempts: int
    submitted_ms: int
    died_ms: int
    replays: int
    #: Its place in its lane: lower goes first.
    place: float
    #: The job on the wire.
    body: str | None

    @property
    def job(self) -> Job | None:
        """The job; None where its body is gone or in a version that this worker cannot read."""
        try:
            return from_wire(self.body) if self.body else None
        except (DingqueueError, ValueError):
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderView:
    """A sender as it stands: permits used of its first window, and what closed it. Milliseconds since 1970.

    ``closed_as`` is what was closed: the sender, the app that it is an interface of, or all (``*``).
    """

    name: str
    used: int
    limit: int
    window_ms: int
    closed_until_ms: int | None
    why: str
    broken: bool
    cause: str = ""
    closed_as: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneView:
    """A lane as it stands. ``drain_s`` is how long what waits needs at the lawful pace; None when that is unknown.

    ``senders`` carry its plain messages; ``beside`` are those of its other routes, where it has an app.
    """

    destination: str
    waiting: int
    out: int
    oldest_ms: int | None
    held_until_ms: int | None
    held_why: str
    drain_s: float | None
    senders: tuple[SenderView, ...]
    beside: tuple[SenderView, ...] = ()

    @property
    def shut(self) -> tuple[SenderView, ...]:
        """What is closed or broken, each once, whatever closed it."""
        found = [one for one in (*self.senders, *self.beside) if one.closed_until_ms or one.broken]
        return tuple({one.closed_as or one.name: one for one in reversed(found)}.values())[::-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """Calls of this calendar month, Beijing's. ``limit`` is None where the configuration names none."""

    used: int
    limit: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What the server says of its memory. ``limit_bytes`` is 0 where it may take all there is."""

    used_bytes: int
    limit_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The fleet in numbers, as one look at Redis gives them. Milliseconds since 1970, the server's clock.

    Attributes:
        now_ms: When it was looked.
        lanes: As in `overview`.
        senders: Every sender the fleet knows, by name.
        quotas: By name: a sender's own, or one that an organisation's senders share.
        token_ends_ms: When each app's token ends; 0 after DingTalk refused it.
        counts: The counters that the scripts write; see ops/METRICS.md.
        scheduled: Jobs that must not run before a time: send-at, back-off.
        open_jobs: Jobs that wait, are scheduled or are out; read together with `counts`, so that the books balance.
        dead: Dead letters that are kept.
        dead_oldest_ms: When the oldest of them died; None without one.
        alive: ``<role>:<host>:<process>`` and its last sign of life.
        memory: The server's.
    """

    now_ms: int
    lanes: tuple[LaneView, ...]
    senders: Mapping[str, SenderView]
    quotas: Mapping[str, Quota]
    token_ends_ms: Mapping[str, int]
    counts: Mapping[str, int]
    scheduled: int
    open_jobs: int
    dead: int
    dead_oldest_ms: int | None
    alive: Mapping[str, int]
    memory: Memory


Start: TypeAlias = Started | Stale
T = TypeVar("T")


class Store:
    """The lanes, from the fleet's side. Safe to share between threads.

    Args:
        url: Redis or Valkey.
        prefix: What the fleet's keys start with.
        patience_s: How long `settle` keeps trying when Redis is away; other calls do not repeat.
        clock_ms: A test's clock; None is the server's own.
    """

    def __init__(self, url: str, *, prefix: str, patience_s: float = 30.0, clock_ms: ClockMs = None) -> None:
        self._client = connect(url)
        # A settle that Redis did not hear would be a double later. It is fenced by its grant, so repeating it is safe.
        self._patient = connect(
            url, retry=RedisRetry(ExponentialWithJitterBackoff(cap=1.0, base=0.05), max(1, round(patience_s)))
        )
        self._base = key_base(prefix)
        self.lanes = Lanes(self._client, prefix=prefix, clock_ms=clock_ms)

        def script(name: str, client: redis.Redis = self._client) -> Script:
            ours = ("dingqueue_worker.scripts", name)
            ending = [("dingqueue_worker.scripts", "ending.lua")] if name in {"settle.lua", "release.lua"} else []
            return Script(client, prefix, source(prelude(), *ending, ours), clock_ms)

        self._start, self._release, self._pace = script("start.lua"), script("release.lua"), script("pace.lua")
        self._settle = script("settle.lua", self._patient)
        self._replay, self._drop, self._hold = script("replay.lua"), script("drop.lua"), script("hold.lua")
        self._fold, self._alive = script("fold.lua"), script("alive.lua")
        self._media_claim, self._media_end = script("media_claim.lua"), script("media_end.lua")
        self._media_refuse = script("media_refuse.lua")
        self._quota = script("quota.lua")
        self._permit, self._results_due, self._learn = (
            script("permit.lua"),
            script("results_due.lua"),
            script("learn.lua"),
        )
        self._token_ask, self._token_keep = script("token_ask.lua"), script("token_keep.lua")
        self._token_fail, self._token_drop = script("token_fail.lua"), script("token_drop.lua")

    def submit(self, job: Job) -> Submitted:
        """Store a job of the fleet's own, like an application's.

        Raises:
            StoreUnavailable: Redis did not answer; whether it was stored is unknown, and the same job again is safe.
        """
        return _ask(lambda: self.lanes.submit(job))

    def start(self, job_id: str, grant: int, *, lease_ms: int) -> Start:
        """Is this grant still good? Stamps the permit and the lease anew.

        Raises:
            StoreUnavailable: Redis did not answer; do not attempt.
            UnknownContract: The job is in a version this worker cannot read.
        """
        reply = _ask(lambda: self._start(job_id, grant, lease_ms))
        if reply[0] != "started":
            return Stale(state=reply[1], calls=calls_from(reply[2]))
        _, body, sender, step, attempts, fails, notes = reply
        return Started(
            job=from_wire(body),
            sender=sender,
            step=int(step),
            attempts=int(attempts),
            fails=int(fails),
            notes=json.loads(notes),
        )

    def settle(
        self, job_id: str, grant: int, ended: Ended, *, step: int, wait_s: float, most: int, notes: Mapping[str, str]
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

        Raises:
            StoreUnavailable: Redis stayed away for `patience_s`; the lease will end and the attempt count as unknown.
        """
        row = _row(ended, step=step, wait_s=wait_s, most=most, notes=notes)
        reply = _ask(lambda: self._settle(job_id, grant, *row))
        if reply[0] == "stale":
            return Stale(state=reply[1], calls=calls_from(reply[2]), events=_events(reply[3]))
        return Settled(
            state=reply[0], calls=calls_from(reply[1]), events=_events(reply[2]), next_look_ms=_look(reply[3])
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
        reply = _ask(lambda: self._release(most, max_deliveries, max_attempts, who))
        return Released(
            calls=calls_from(reply[0]), events=_events(reply[1]), next_look_ms=_look(reply[2]), memory=reply[3]
        )

    def sign(self, who: str) -> None:
        """A process (``beat:<host>:<process>``) says that it is there.

        Raises:
            StoreUnavailable: Nobody heard it.
        """
        _ask(lambda: self._alive(who))

    def ping(self) -> None:
        """Ask for an answer.

        Raises:
            StoreUnavailable: There was none.
        """
        _ask(lambda: [self._client.ping()])

    def publish_pace(self, pace: Pace, *, known_memory: str) -> tuple[str, bool]:
        """Publish how fast lanes and senders may go.

        Returns:
            The mark of this life of Redis, and whether lanes rest one window because Redis forgot what was sent.
        """
        reply = _ask(
            lambda: self._pace(
                json.dumps(pace.lanes), json.dumps(pace.senders), PACE_KEEP_MS, known_memory, pace.rest_ms
            )
        )
        return reply[0], reply[1] == "rest"

    def dead(self, *, until_ms: int | None = None, since_ms: int | None = None) -> Iterator[DeadLetter]:
        """The dead letters, oldest first, read in pages.

        Args:
            until_ms: Those that died no later than this, ms since 1970.
            since_ms: Those that died no earlier.
        """
        low = "-inf" if since_ms is None else since_ms
        high = "+inf" if until_ms is None else until_ms
        # The ids are taken at once: who replays while reading must not shift the pages.
        rows: Any = _ask(lambda: self._client.zrange(f"{self._base}dead", low, high, byscore=True, withscores=True))
        for start in range(0, len(rows), _PAGE):
            yield from self._letters(rows[start : start + _PAGE])

    def dead_count(self) -> int:
        """How many dead letters there are."""
        return int(_ask(lambda: [self._client.zcard(f"{self._base}dead")])[0])

    def dead_letter(self, job_id: str) -> DeadLetter | None:
        """One dead letter; None when the job is not dead."""
        died_ms = _ask(lambda: [self._client.zscore(f"{self._base}dead", job_id)])[0]
        return None if died_ms is None else next(self._letters([(job_id, died_ms)]), None)

    def _letters(self, rows: Sequence[tuple[str, float]]) -> Iterator[DeadLetter]:
        with self._client.pipeline(transaction=False) as pipe:
            for job_id, _ in rows:
                pipe.hmget(f"{self._base}job:{job_id}", *_LETTER_FIELDS)
                pipe.get(f"{self._base}body:{job_id}")
            flat = _ask(pipe.execute)
        for (job_id, died_ms), record, body in zip(rows, flat[::2], flat[1::2], strict=True):
            kind, destination, why, cause, attempts, submitted_ms, place, replays = record
            if kind is None:  # its record has been forgotten, or it was replayed a moment ago
                continue
            yield DeadLetter(
                job_id=job_id,
                kind=kind,
                destination=destination,
                reason=why or "",
                cause=cause or "",
                attempts=int(attempts or 0),
                submitted_ms=int(submitted_ms),
                died_ms=int(died_ms),
                replays=int(replays or 0),
                place=float(place),
                body=body,
            )

    def replay(self, job_id: str, *, expires_s: float, by: str) -> tuple[str, tuple[Call, ...]]:
        """Put a dead job back at its old place: ``"waiting"`` and the calls, or the state it is in instead."""
        reply = _ask(lambda: self._replay(job_id, round(expires_s * 1000), by))
        return ("waiting", calls_from(reply[1])) if reply[0] == "waiting" else (reply[1], ())

    def drop(self, job_id: str) -> str:
        """Forget a dead job for good: ``"dropped"``, or the state it is in instead."""
        reply = _ask(lambda: self._drop(job_id))
        return "dropped" if reply[0] == "dropped" else str(reply[1])

    def hold(self, destination: str, *, for_s: float, why: str) -> tuple[str, tuple[Call, ...]]:
        """Pause a lane (or, with 0, let it go on): ``paused``, ``resumed`` or ``unknown destination``, and the calls."""
        reply = _ask(lambda: self._hold(destination, round(for_s * 1000), why))
        return reply[0], calls_from(reply[1])

    def foldable(self, destination: str, *, most: int) -> list[tuple[SendJob, datetime]]:
        """The messages that wait in a lane and may become one, in order, each with the instant it was submitted.

        Urgent ones, works, files, digests and what has begun are not among them.
        """
        ids: Any = _ask(lambda: self._client.zrange(f"{self._base}lane:{destination}", 0, most - 1))
        with self._client.pipeline(transaction=False) as pipe:
            for job_id in ids:
                pipe.hmget(f"{self._base}job:{job_id}", "kind", "urgent", "step", "merges", "submitted_ms")
                pipe.get(f"{self._base}body:{job_id}")
            flat = _ask(pipe.execute)
        found = []
        for (kind, urgent, step, merges, submitted_ms), body in zip(flat[::2], flat[1::2], strict=True):
            if kind != "send" or urgent == "1" or int(step or 0) or merges or not body:
                continue
            # A version that this worker cannot read is left to one that can.
            with contextlib.suppress(DingqueueError, ValueError):
                job = from_wire(body)
                if isinstance(job, SendJob):
                    found.append((job, datetime.fromtimestamp(int(submitted_ms) / 1000, UTC)))
        return found

    def fold(
        self, destination: str, digest: SendJob | None, members: Sequence[str], *, expires_s: float
    ) -> tuple[str, tuple[Call, ...]]:
        """Put a digest in the place of the jobs it tells of: ``folded``, or ``changed`` (nothing happened), and calls.

        Without a digest the lane's first job goes as it is: ``single``.
        """
        expires_ms = round(expires_s * 1000)
        row: tuple[Argument, ...] = (destination, "", "", expires_ms, "")
        if digest:
            row = (destination, digest.job_id, to_wire(digest), expires_ms, digest.terms.on_unknown, *members)
        reply = _ask(lambda: self._fold(*row))
        return reply[0], calls_from(reply[1])

    def overview(self) -> tuple[int, list[LaneView]]:
        """Now (ms since 1970, the server's) and every lane that the fleet knows or that has something waiting."""
        with self._client.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.hgetall(f"{self._base}pace")
            pipe.hgetall(f"{self._base}senders")
            pipe.zrange(f"{self._base}due", 0, -1)
            (seconds, micros), paces, sender_paces, due = _ask(pipe.execute)
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        every = self._closed([EVERY_SENDER])[EVERY_SENDER]
        senders = self._senders({name: json.loads(text) for name, text in sender_paces.items()}, every, now_ms)
        names = sorted({*paces, *due})
        with self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.zcard(f"{self._base}lane:{name}")
                pipe.zcard(f"{self._base}busy:{name}")
                pipe.zrange(f"{self._base}lane:{name}", 0, 0)
                pipe.zrange(f"{self._base}lane:{name}", _NORMAL, "+inf", byscore=True, offset=0, num=1)
                pipe.hmget(f"{self._base}hold:{name}", "until", "why", "rests", "rests_why")
            flat = _ask(pipe.execute)
        rows = [flat[at : at + 5] for at in range(0, len(flat), 5)]
        # Urgent jobs stand before older ones.
        oldest = self._submitted_ms([job_id for row in rows for job_id in {*row[2], *row[3]}])
        lanes = []
        for name, (waiting, out, first, normal, (paused, paused_why, rests, rests_why)) in zip(
            names, rows, strict=True
        ):
            held_ms, held_why = max((int(paused or 0), paused_why or ""), (int(rests or 0), rests_why or ""))
            pace = json.loads(paces.get(name, '{"senders": []}'))
            main = pace["routes"][pace["first"]["send"]]["senders"] if "routes" in pace else pace["senders"]
            own = tuple(senders[sender] for sender in main if sender in senders)
            lanes.append(
                LaneView(
                    destination=name,
                    waiting=waiting,
                    out=out,
                    oldest_ms=min((oldest[one] for one in {*first, *normal} if one in oldest), default=None),
                    held_until_ms=held_ms or None,
                    held_why=held_why,
                    drain_s=_drain_s(waiting, own, now_ms),
                    senders=own,
                    beside=tuple(
                        senders[sender] for sender in pace["senders"] if sender in senders and sender not in main
                    ),
                )
            )
        return now_ms, lanes

    def figures(self) -> Figures:
        """The whole fleet in numbers: a few round trips, O(lanes and senders), and nothing is written.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        now_ms, lanes = self.overview()
        texts: Any = _ask(lambda: [self._client.hgetall(f"{self._base}senders")])[0]
        paces: Mapping[str, Mapping[str, Any]] = {name: json.loads(text) for name, text in texts.items()}
        senders = self._senders(paces, self._closed([EVERY_SENDER])[EVERY_SENDER], now_ms)
        known = self.counts()
        names = {lane.destination for lane in lanes} | {
            field.split(":")[2] for field in known if field.startswith("accepted:")
        }
        monthly = {
            str(pace.get("quota") or name): pace.get("month")
            for name, pace in paces.items()
            if pace.get("month") or pace.get("quota")
        }
        month = datetime.fromtimestamp(now_ms / 1000, _BILLED_IN).strftime("%Y%m")
        with self._client.pipeline(transaction=True) as pipe:
            pipe.hgetall(f"{self._base}counts")
            pipe.zcard(f"{self._base}later")
            pipe.zcard(f"{self._base}leases")
            pipe.zcard(f"{self._base}dead")
            pipe.zrange(f"{self._base}dead", 0, 0, withscores=True)
            pipe.zrange(f"{self._base}alive", 0, -1, withscores=True)
            pipe.hgetall(f"{self._base}token_ends")
            pipe.info("memory")
            for name in monthly:
                pipe.get(f"{self._base}sender:{name}:{month}")
            for name in names:
                pipe.zcard(f"{self._base}lane:{name}")
            counts, later, out, dead, oldest, alive, tokens, memory, *rest = _ask(pipe.execute)
        used, waiting = rest[: len(monthly)], rest[len(monthly) :]
        return Figures(
            now_ms=now_ms,
            lanes=tuple(lanes),
            senders=senders,
            quotas={
                name: Quota(used=int(used_now or 0), limit=int(most) if most else None)
                for (name, most), used_now in zip(monthly.items(), used, strict=True)
            },
            token_ends_ms={app: int(ends_ms) for app, ends_ms in tokens.items()},
            counts={field: int(value) for field, value in counts.items()},
            scheduled=later,
            open_jobs=later + out + sum(waiting),
            dead=dead,
            dead_oldest_ms=int(oldest[0][1]) if oldest else None,
            alive={who: int(at_ms) for who, at_ms in alive},
            memory=Memory(used_bytes=int(memory["used_memory"]), limit_bytes=int(memory["maxmemory"])),
        )

    def queue_length(self, queue: str) -> int:
        """Calls that stand in Celery's queue, where the broker is this Redis: published, and no worker has taken them."""
        # kombu keeps a list for each priority.
        names = [queue, *(f"{queue}\x06\x16{step}" for step in (3, 6, 9))]
        with self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.llen(name)
            return sum(_ask(pipe.execute))

    def _closed(self, names: Sequence[str]) -> dict[str, list[str | None]]:
        with self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hmget(f"{self._base}sender:{name}:closed", "until", "why", "broken", "cause")
            return dict(zip(names, _ask(pipe.execute), strict=True))

    def _senders(
        self, paces: Mapping[str, Mapping[str, Any]], every: Sequence[str | None], now_ms: int
    ) -> dict[str, SenderView]:
        names = list(paces)
        closed = self._closed(names)
        # An app's own entry has no window: it only says what closes all of its interfaces.
        names = [name for name in names if paces[name]["windows"]]
        with self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.zcount(f"{self._base}sender:{name}:{paces[name]['windows'][0][1]}", f"({now_ms}", "+inf")
            used = _ask(pipe.execute)
        views = {}
        for name, permits in zip(names, used, strict=True):
            app = paces[name].get("of", "")
            ways = {name: closed[name], EVERY_SENDER: every} | ({app: closed[app]} if app in closed else {})
            closed_as = max(ways, key=lambda way: int(ways[way][0] or 0))
            until, why, broken, cause = ways[closed_as]
            limit, window_ms = paces[name]["windows"][0]
            shut = until is not None and int(until) > now_ms
            views[name] = SenderView(
                name=name,
                used=permits,
                limit=limit,
                window_ms=window_ms,
                closed_until_ms=int(until) if until is not None and shut else None,
                why=(why or "") if shut or broken == "1" else "",
                broken=broken == "1",
                cause=(cause or "") if shut else "",
                closed_as=closed_as if shut or broken == "1" else "",
            )
        return views

    def _submitted_ms(self, job_ids: Sequence[str]) -> dict[str, int]:
        with self._client.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hget(f"{self._base}job:{job_id}", "submitted_ms")
            times = _ask(pipe.execute)
        return {job_id: int(ms) for job_id, ms in zip(job_ids, times, strict=True) if ms}

    def token_ask(self, app: str, mark: str, *, lease_ms: int, eager: bool) -> Held | Fetch | Wait:
        """The app's token, or leave to fetch it, or a wait.

        Args:
            app: The app's name.
            mark: The fingerprint of its credentials: other ones have another token.
            lease_ms: How long leave to fetch lasts.
            eager: Fetch as soon as it is time, not only when the token is late.
        """
        reply = _ask(lambda: self._token_ask(app, mark, lease_ms, int(eager)))
        match reply[0]:
            case "token":
                return Held(token=reply[1], number=int(reply[2]))
            case "fetch":
                held = Held(token=reply[2], number=int(reply[3])) if reply[2] else None
                return Fetch(lease=int(reply[1]), held=held)
            case _:
                return Wait(
                    for_s=int(reply[1]) / 1000,
                    why=reply[2],
                    resting=reply[3] != "fetching",
                    refused=reply[3] == "refused",
                )

    def token_keep(
        self, app: str, mark: str, lease: int, token: str, *, refresh_ms: int, late_ms: int, usable_ms: int
    ) -> Held | Wait:
        """Keep what was fetched under a lease; gives back the newest token, which may be another's, or already refused."""
        row = (app, mark, lease, token, refresh_ms, late_ms, usable_ms)
        _, newest, number = _ask(lambda: self._token_keep(*row))
        if not newest:
            return Wait(for_s=0.0, why="the app's token was refused", resting=False)
        return Held(token=newest, number=int(number))

    def token_fail(
        self, app: str, mark: str, lease: int, *, why: str, bad: bool, rest_ms: int | None, jitter: float
    ) -> Wait:
        """Note that no token came, and give back how long the next question waits.

        Args:
            app: The app's name.
            mark: The fingerprint of its credentials.
            lease: Under which it was asked.
            why: In words, without a secret.
            bad: The credentials were refused.
            rest_ms: How long; None is a back-off.
            jitter: From 0 to 1, for the back-off.
        """
        row = (app, mark, lease, why, "bad" if bad else "", "" if rest_ms is None else rest_ms, jitter)
        reply = _ask(lambda: self._token_fail(*row))
        return Wait(for_s=int(reply[1]) / 1000 if reply[0] == "failed" else 0.0, why=why, resting=True)

    def token_drop(self, app: str, mark: str, number: int) -> bool:
        """Never use this very token again; False when a newer one has taken its place."""
        return bool(_ask(lambda: self._token_drop(app, mark, number))[0] == "dropped")

    def token_view(self, app: str, mark: str) -> tuple[int, TokenView | None]:
        """Now (ms since 1970, the server's), and an app's token without the token; None when it was never asked for."""
        fields = ("number", "got_ms", "refresh_ms", "usable_ms", "again_ms", "fails", "why", "bad")
        with self._client.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.hmget(f"{self._base}token:{app}:{mark}", *fields)
            pipe.exists(f"{self._base}token:{app}:{mark}")
            (seconds, micros), values, known = _ask(pipe.execute)
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        if not known:
            return now_ms, None
        numbers = [int(value or 0) for value in values[:6]]
        return now_ms, TokenView(
            number=numbers[0],
            got_ms=numbers[1],
            refresh_ms=numbers[2],
            usable_ms=numbers[3],
            again_ms=numbers[4],
            fails=numbers[5],
            why=values[6] or "",
            bad=values[7] == "bad",
        )

    def now_ms(self) -> int:
        """The server's clock, milliseconds since 1970."""
        seconds, micros = _ask(lambda: cast("Reply", self._client.time()))
        return int(seconds) * 1000 + int(micros) // 1000

    def permit(self, sender: str) -> int:
        """Leave for one call that is no job's: 0, or the milliseconds to wait before asking again."""
        return int(_ask(lambda: self._permit(sender))[0])

    def quota(self, name: str, *, most: int, marks_percent: Sequence[int]) -> tuple[int, tuple[Event, ...]]:
        """Calls of this month that a quota has counted, and what a person should hear: each mark is told once a month."""
        reply = _ask(lambda: self._quota(name, most, *marks_percent))
        return int(reply[0]), _events(reply[1])

    def results_due(self, *, most: int, lease_ms: int) -> tuple[int, list[Result]]:
        """Now (ms since 1970), and accepted jobs whose result is to be looked up; they are the caller's for the lease."""
        now_ms, flat = _ask(lambda: self._results_due(most, lease_ms))
        found = [
            Result(
                job_id=job_id,
                destination=destination,
                notes=json.loads(notes),
                receipt=json.loads(receipt),
                ended_ms=int(ended_ms),
                looks=int(looks),
            )
            for job_id, destination, notes, receipt, ended_ms, looks in (
                flat[at : at + 6] for at in range(0, len(flat), 6)
            )
        ]
        return int(now_ms), found

    def learn(
        self, job_id: str, *, receipt: Mapping[str, str], notes: Mapping[str, str], verdict: str, why: str, next_ms: int
    ) -> tuple[str, tuple[Event, ...]]:
        """Note what became of an accepted job; gives back its state and what a person should hear.

        Args:
            job_id: The job.
            receipt: All of it, with what is known of each person.
            notes: All of them.
            verdict: ``delivered``, ``dead``, ``given up`` (it stays accepted), or empty: it is looked up again.
            why: Whom it did not reach.
            next_ms: When it is looked up again.
        """
        told, noted = json.dumps(dict(receipt), ensure_ascii=False), json.dumps(dict(notes), ensure_ascii=False)
        reply = _ask(lambda: self._learn(job_id, told, noted, verdict, why, next_ms))
        return reply[0], _events(reply[1])

    def known_ids(self, app: str, asked: Sequence[tuple[str, str, str]]) -> list[str | None]:
        """Ids of people that were looked up before: for each (what is wanted, by what kind of id, its value)."""
        if not asked:
            return []
        keys = [self._id_key(app, *one) for one in asked]
        found: Any = _ask(lambda: self._client.mget(keys))
        return list(found)

    def keep_id(self, app: str, wanted: str, kind: str, value: str, found: str, *, keep_s: float) -> None:
        """Keep what a person was found to be."""
        key = self._id_key(app, wanted, kind, value)
        _ask(lambda: self._client.set(key, found, px=round(keep_s * 1000)))

    def forget_ids(self, app: str, asked: Sequence[tuple[str, str, str]]) -> None:
        """Look these up again when they are needed."""
        keys = [self._id_key(app, *one) for one in asked]
        if keys:
            _ask(lambda: self._client.delete(*keys))

    def _id_key(self, app: str, wanted: str, kind: str, value: str) -> str:
        # A mobile is nobody's business who looks at the keys.
        digest = hashlib.sha256(f"{kind}\0{value}".encode()).hexdigest()[:32]
        return f"{self._base}person:{app}:{wanted}:{digest}"

    def media_claim(self, key: str, holder: str, *, lease_ms: int) -> Kept | Leave | Busy:
        """The media id of an upload, or leave to make it, alone in the fleet until the lease ends.

        Args:
            key: The upload's, or of what must be known before it (a URL).
            holder: Somebody's own name.
            lease_ms: How long fetching and uploading may take.
        """
        reply = _ask(lambda: self._media_claim(key, holder, lease_ms))
        match reply[0]:
            case "there":
                return Kept(media_id=reply[1])
            case "claimed":
                return Leave()
            case _:
                return Busy(for_s=max(int(reply[1]), 0) / 1000)

    def media_id(self, key: str) -> str | None:
        """The media id of an upload, if it is known."""
        found = _ask(lambda: [self._client.get(f"{self._base}media:{key}")])[0]
        return None if found is None else str(found)

    def media_end(self, claim: str, holder: str, *, key: str, media_id: str, keep_ms: int) -> None:
        """Keep an upload's media id ("" where there is none) and give up the claim."""
        _ask(lambda: self._media_end(claim, holder, key, media_id, keep_ms))

    def media_refuse(self, key: str, media_id: str, *, count_ms: int) -> int:
        """Forget this media id; how many were refused lately, 0 when a newer one has taken its place."""
        reply = _ask(lambda: self._media_refuse(key, media_id, count_ms))
        return int(reply[1]) if reply[0] == "forgotten" else 0

    def server_facts(self) -> ServerFacts:
        """What the server says about itself (``INFO``, which managed servers allow too)."""
        facts: Mapping[str, Any] = _ask(lambda: [self._client.info()])[0]
        return ServerFacts(
            name="Valkey" if "valkey_version" in facts else "Redis",
            version=str(facts.get("valkey_version") or facts["redis_version"]),
            policy=str(facts.get("maxmemory_policy", "noeviction")),
            append_only=bool(facts.get("aof_enabled")),
            replica=facts.get("role") == "slave",
            used_bytes=int(facts.get("used_memory", 0)),
            most_bytes=int(facts.get("maxmemory", 0)),
        )

    def require_fit_server(self) -> ServerFacts:
        """The server's facts.

        Raises:
            UnfitServer: It would lose jobs, or cannot run the scripts.
            StoreUnavailable: It did not answer.
        """
        facts = self.server_facts()
        if problem := facts.problem():
            raise UnfitServer(problem)
        return facts

    def prune(self, *, keep_dead_ms: int) -> int:
        """Forget the index entries of dead letters older than their records; returns how many."""
        now_s, _ = _ask(lambda: cast("Reply", self._client.time()))
        oldest_ms = now_s * 1000 - keep_dead_ms
        removed = _ask(lambda: [self._client.zremrangebyscore(f"{self._base}dead", "-inf", oldest_ms)])
        return int(removed[0])

    def counts(self) -> dict[str, int]:
        """The counters that the scripts write."""
        flat: Any = _ask(lambda: self._client.hgetall(f"{self._base}counts"))
        return {field: int(value) for field, value in flat.items()}

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()
        self._patient.close()


def connect(url: str, *, retry: RedisRetry | None = None) -> redis.Redis:
    """A Redis client with bounded waits that does not repeat a command by itself."""
    return redis_client(
        url,
        timeout_s=5.0,
        connect_timeout_s=2.0,
        retry=retry,
        decode_responses=True,
        health_check_interval=10,
        client_name="dingqueue-worker",
    )


def _ask(question: Callable[[], T]) -> T:
    try:
        return question()
    except redis.RedisError as error:
        raise StoreUnavailable(refusal(error)) from None


def _drain_s(waiting: int, senders: Sequence[SenderView], now_ms: int) -> float | None:
    """Seconds until the last of what waits may go, if nothing more comes and every answer is quick."""
    if not waiting:
        return 0.0
    if not senders:
        return None
    opens_s = min(max((sender.closed_until_ms or 0) - now_ms, 0) / 1000 for sender in senders)
    per_s = sum(sender.limit * 1000 / sender.window_ms for sender in senders)
    free = sum(max(sender.limit - sender.used, 0) for sender in senders)
    return opens_s + max(waiting - free, 0) / per_s


def _look(ms: Any) -> int | None:
    return None if int(ms) < 0 else int(ms)


def _events(flat: Sequence[str]) -> tuple[Event, ...]:
    return tuple(Event(name=flat[i], subject=flat[i + 1], why=flat[i + 2]) for i in range(0, len(flat), 3))


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
        json.dumps(receipt, ensure_ascii=False), json.dumps({**notes, **ended.notes}, ensure_ascii=False),
        *_close_row(outcome.close), json.dumps(_more(ended), ensure_ascii=False),
    )  # fmt: skip


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
