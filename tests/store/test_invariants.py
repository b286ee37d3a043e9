"""Random jobs, clocks, answers and deaths: what must hold whatever happens."""

from __future__ import annotations

import random
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dingqueue.contract import AssignJob, Job, Markdown, Mention, SendJob, Terms, Text
from dingqueue.lanes import Call
from dingqueue_worker.embedded import Server
from dingqueue_worker.outcome import (
    EVERY_SENDER,
    Accepted,
    Close,
    Dead,
    Delivered,
    Ended,
    Outcome,
    Retry,
    Snooze,
    Unknown,
)
from dingqueue_worker.store import Settled, Stale, Started
from support.state import LEASE_MS, State, lane, sender

MONTHLY = 6
QUOTA = "organisation.acme.webhook"
WINDOWS: dict[str, list[tuple[int, int]]] = {
    "robot.own": [(3, 10_000)],
    "robot.p1": [(2, 5_000)],
    "robot.p2": [(3, 7_000)],
    "robot.both": [(4, 10_000)],
    "robot.month": [(5, 10_000)],
    "robot.storm": [(3, 10_000)],
    "robot.ring": [(2, 8_000)],
    "app.acme.group": [(2, 1_000), (6, 20_000)],
    "app.acme.todo": [(3, 1_000)],
}
SHARED = {"robot.both", "robot.ring", "app.acme.group", "app.acme.todo"}
RESERVE = {"robot.both": 1}


def _senders(mark: str) -> dict[str, Any]:
    found: dict[str, Any] = {"app.acme": sender(mark=mark) | {"windows": []}}
    for name, windows in WINDOWS.items():
        pace = sender(shared=name in SHARED, reserve=RESERVE.get(name, 0), mark=mark)
        pace["windows"] = [list(window) for window in windows]
        if name.startswith("app."):
            pace["of"] = "app.acme"
        if name == "robot.month":
            pace |= {"month": MONTHLY, "month_reserve": 1, "quota": QUOTA}
        found[name] = pace
    return found


ROUTES = {
    "group": {"senders": ["app.acme.group"]},
    "todo": {"senders": ["app.acme.todo"]},
    "webhook": {"senders": ["robot.ring"], "in_flight": 1},
}
LANES = {
    "solo": lane("robot.own"),
    "pool": lane("robot.p1", "robot.p2"),
    "left": lane("robot.both"),
    "right": lane("robot.both"),
    "wide": lane("robot.both", in_flight=3),
    "monthly": lane("robot.month"),
    "storm": lane("robot.storm", digest_ms=4_000),
    "ring": lane("robot.ring"),
    "team": lane("app.acme.group", "app.acme.todo", "robot.ring", in_flight=4)
    | {"routes": ROUTES, "first": {"send": "group", "ring": "webhook", "assign": "todo"}},
}
#: What another worker's configuration may say: a destination is gone, another has lost its app.
OTHERS = {name: pace for name, pace in LANES.items() if name != "right"} | {"team": lane("robot.ring")}


@dataclass(frozen=True)
class Attempt:
    call: Call
    sender: str
    step: int
    started_ms: int

    @property
    def permit(self) -> str:
        return f"{self.call.job_id}/{self.call.grant}"


@dataclass
class World:
    """The fleet's state, all that is outside of it, and what the books should say."""

    state: State
    dice: random.Random
    lanes: dict[str, dict[str, Any]] = field(default_factory=lambda: dict(LANES))
    submitted: list[str] = field(default_factory=list)
    dropped: int = 0
    called: list[Call] = field(default_factory=list)
    running: list[Attempt] = field(default_factory=list)
    arrivals: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    #: Permits that may count: of all attempts that were not given back.
    taken: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    #: Those that DingTalk does not count in its month.
    refused: set[str] = field(default_factory=set)

    # --- What happens -------------------------------------------------------------------------------------------

    def submit(self) -> None:
        name = self.dice.choice(list(self.lanes))
        now = datetime.fromtimestamp(self.state.clock.now_ms / 1000, UTC)
        terms = Terms(
            urgent=self.dice.random() < 0.2,
            on_unknown=self.dice.choice(("resend", "hold")),
            at=now + timedelta(seconds=self.dice.choice((-5, 3, 60))) if self.dice.random() < 0.1 else None,
            expires_s=self.dice.choice((2, 30)) if self.dice.random() < 0.15 else None,
        )
        job_id = f"job-{len(self.submitted) + self.dropped:04d}"
        job: Job = SendJob(job_id=job_id, destination=name, content=Text(text="words"), terms=terms)
        match self.dice.randrange(4):
            case 0:
                job = AssignJob(
                    job_id=job_id, destination=name, subject="work", to=Mention(names=("alice",)), terms=terms
                )
            case 1:
                ringing = Mention(everyone=True)
                job = SendJob(job_id=job_id, destination=name, content=Text(text="words"), mention=ringing, terms=terms)
        _, calls = self.state.submit(job=job)
        self.submitted.append(job_id)
        self.hear(calls)

    def begin(self, call: Call) -> None:
        started = self.state.store.start(call.job_id, call.grant, lease_ms=LEASE_MS)
        if not isinstance(started, Started):
            self.hear(started.calls)
            return
        self.run(call, started)

    def run(self, call: Call, started: Started) -> None:
        attempt = Attempt(call, started.sender, started.step, self.state.clock.now_ms)
        self.running.append(attempt)
        self.taken[attempt.sender].add(attempt.permit)
        for closed in (f"sender:{attempt.sender}:closed", "sender:app.acme:closed"):
            if closed.startswith("sender:app") and not attempt.sender.startswith("app."):
                continue
            until, cause, probe = self.state.redis.hmget(self.state.key(closed), "until", "cause", "probe")
            assert until is None or int(until) <= self.state.clock.now_ms, f"sent through a closed {attempt.sender}"
            assert until is None or cause == "busy" or probe == attempt.permit, "sent beside the probe"

    def end(self, attempt: Attempt, outcome: Outcome | None = None) -> None:
        outcome = outcome or self._outcome()
        steps = 1 + sum(map(ord, attempt.call.job_id)) % 3
        ended = Ended(
            outcome=outcome,
            steps=max(steps, attempt.step + 1),
            route=self.dice.choice((None, None, "webhook", "todo", "group", "gone")),
            rest_s=self.dice.choice((0, 0, 2)),
        )
        sent = getattr(outcome, "sent", True)
        if sent:
            self.arrive(attempt)
        wait_s, on_ms = self.dice.choice((0, 1, 10)), self.dice.choice((0, LEASE_MS))
        settled = self.state.settle(attempt.call, ended, step=attempt.step, wait_s=wait_s, most=4, on_ms=on_ms)
        if isinstance(settled, Settled):  # not a late answer, which changes nothing
            if not sent:
                self.taken[attempt.sender].discard(attempt.permit)
            elif outcome.close and outcome.close.cause == "busy":
                self.refused.add(attempt.permit)
        if settled.ahead:
            assert (settled.ahead.call.kind, settled.ahead.call.destination) == (
                attempt.call.kind,
                attempt.call.destination,
            )
            self.hear([settled.ahead.call])
            self.called.remove(settled.ahead.call)
            self.run(settled.ahead.call, settled.ahead.started())
            if self.dice.random() < 0.3:  # the answer was lost, and redis-py asks again
                again = self.state.settle(attempt.call, ended, step=attempt.step, wait_s=wait_s, most=4, on_ms=on_ms)
                assert isinstance(again, Stale)
                assert (again.ahead, again.calls) == (settled.ahead, ())
        self.hear(settled.calls)

    def arrive(self, attempt: Attempt) -> None:
        """A request arrives between its start and its end; no attempt outlives its lease."""
        latest_ms = min(self.state.clock.now_ms, attempt.started_ms + LEASE_MS)
        self.arrivals[attempt.sender].append(self.dice.randint(attempt.started_ms, latest_ms))

    def hear(self, calls: Iterable[Call]) -> None:
        """Calls come; a lane without routes called what was first in it."""
        rows = tuple(calls)
        self.called += rows
        for call in rows:
            if "routes" in self.lanes.get(call.destination, {"routes": ()}):
                continue
            first, (score, step) = self.ask(
                [
                    ("ZRANGE", f"lane:{call.destination}", 0, 0, "WITHSCORES"),
                    ("HMGET", f"job:{call.job_id}", "score", "step"),
                ]
            )
            assert not first or int(step or 0) or float(score) <= first[0][1], (call, first)

    def look(self) -> int | None:
        """What a pacer does, until nothing is due; then no lane may wait that could go."""
        for _ in range(200):
            released = self.state.store.release(most=200, max_deliveries=3, max_attempts=4)
            self.hear(released.calls)
            for happened in released.events:
                if happened.name == "digest":
                    self.fold(happened.subject)
            if released.next_look_ms != 0:
                self.nobody_could_go()
                return released.next_look_ms
        pytest.fail("the pacer spins")

    def fold(self, destination: str) -> None:
        waiting = self.state.store.foldable(destination, most=50)
        if len(waiting) < 2:
            self.hear(self.state.store.fold(destination, None, ())[1])
            return
        members = [job.job_id for job, _ in waiting]
        digest = SendJob(
            job_id=f"digest-{len(self.submitted) + self.dropped:04d}",
            destination=destination,
            content=Markdown(title="d", text="d"),
        )
        if self.dice.random() < 0.2:
            self.hear(self.state.lanes.cancel(self.dice.choice(members))[1])
        outcome, calls = self.state.store.fold(destination, digest, members)
        if outcome == "folded":
            self.submitted.append(digest.job_id)
        self.hear(calls)

    def repace(self) -> None:
        self.lanes = dict(self.dice.choice((LANES, OTHERS)))
        self.state.pace(self.lanes, _senders(self.dice.choice(("m1", "m2"))))

    def letters(self) -> None:
        dead = list(self.state.store.dead())
        if not dead:
            return
        letter = self.dice.choice(dead)
        if self.dice.random() < 0.3:
            assert self.state.store.drop(letter.job_id) == "dropped"
            self.submitted.remove(letter.job_id)
            self.dropped += 1
        else:
            outcome, calls = self.state.store.replay(letter.job_id, expires_s=self.dice.choice((3, 600)), by="dice")
            assert outcome == "waiting"
            self.hear(calls)

    def _outcome(self) -> Outcome:
        def closing(cause: Any, for_s: float | None, name: str | None = None) -> Snooze:
            return Snooze(why="not now", cause=cause, close=Close(cause=cause, why="so", for_s=for_s, sender=name))

        rare: list[Outcome] = [
            closing("cooldown", 20),
            closing("busy", 1),
            closing("fault", 15),
            closing("quota", None),
            closing("ban", 30, EVERY_SENDER),
            closing("fault", 15, "app.acme"),
            Snooze(why="another way", cause="route", sent=False),
            Retry(why="500", cause="server", close=Close(cause="cooldown", why="so", for_s=5)),
        ]
        usual: list[Outcome] = [
            Delivered(),
            Delivered(),
            Accepted(receipt={"task_id": "1"}),
            Retry(why="500", cause="server"),
            Retry(why="refused", cause="not_sent", sent=False),
            Unknown(why="no answer", cause="unanswered"),
            Dead(why="bad", cause="content"),
            Dead(why="cannot be said", cause="content", sent=False),
            self.dice.choice(rare),
        ]
        return self.dice.choice(usual)

    # --- What must hold -----------------------------------------------------------------------------------------

    def nobody_could_go(self) -> None:
        """After a look nothing waits whose turn it is: its lane is not paused, and a sender of its own has room."""
        names = [name for name, pace in self.lanes.items() if "routes" not in pace and not pace.get("digest_ms")]
        now_ms = self.state.clock.now_ms
        every, *flat = self.ask(
            [("HGET", "sender:*:closed", "until")]
            + [("ZRANGE", f"lane:{name}", 0, 0) for name in names]
            + [("HMGET", f"hold:{name}", "until", "rests") for name in names]
            + [("ZCARD", f"busy:{name}") for name in names]
        )
        if int(every or 0) > now_ms:
            return
        firsts, holds, outs = flat[: len(names)], flat[len(names) : 2 * len(names)], flat[2 * len(names) :]
        for name, first, held, out in zip(names, firsts, holds, outs, strict=True):
            pace = self.lanes[name]
            if not first or out >= pace["in_flight"] or any(int(one or 0) > now_ms for one in held):
                continue
            urgent = self.state.redis.hget(self.state.key(f"job:{first[0]}"), "urgent") == "1"
            for one in pace["senders"]:
                assert not self.has_room(one, urgent=urgent), f"{first[0]} waits in {name}, and {one} has room"

    def has_room(self, name: str, *, urgent: bool) -> bool:
        now_ms = self.state.clock.now_ms
        month = datetime.fromtimestamp(now_ms / 1000, timezone(timedelta(hours=8))).strftime("%Y%m")
        closed, used, *windows = self.ask(
            [("EXISTS", f"sender:{name}:closed"), ("GET", f"sender:{QUOTA}:{month}")]
            + [("ZCOUNT", f"sender:{name}:{ms}", f"({now_ms}", "+inf") for _, ms in WINDOWS[name]]
        )
        if closed or (name == "robot.month" and int(used or 0) >= MONTHLY - (0 if urgent else 1)):
            return False
        limits = [limit - (0 if urgent else RESERVE.get(name, 0)) for limit, _ in WINDOWS[name]]
        return all(permits < limit for permits, limit in zip(windows, limits, strict=True))

    def ask(self, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
        """Many questions in one round trip."""
        with self.state.redis.pipeline(transaction=False) as pipe:
            send: Any = pipe.execute_command  # as any command: its stub has no types
            for command, name, *arguments in commands:
                send(command, self.state.key(name), *arguments)
            return list(pipe.execute())

    def check(self) -> None:
        busy_names = [*LANES, *(f"{name}/{route}" for name in LANES for route in ROUTES)]
        rows = [f"lane:{name}" for name in LANES] + [f"busy:{name}" for name in busy_names]
        rows += [f"turns:{name}" for name in SHARED] + ["due", "later", "leases", "dead"]
        found = dict(zip(rows, map(set, self.ask(("ZRANGE", row, 0, -1) for row in rows)), strict=True))
        for name, pace in LANES.items():
            busy = found[f"busy:{name}"]
            assert not found[f"lane:{name}"] or name in found["due"], f"{name} waits and nobody will look"
            assert len(busy) <= pace["in_flight"]
            assert all(found[f"busy:{name}/{route}"] <= busy for route in ROUTES)
        out, later = found["leases"], found["later"]
        assert set().union(*(found[f"busy:{name}"] for name in LANES)) == out
        for name in SHARED:
            assert all(found[f"lane:{one}"] for one in found[f"turns:{name}"]), "an empty lane holds a turn"
        waiting = [found[f"lane:{name}"] for name in LANES]
        somewhere = later | out | set().union(*waiting)
        assert len(later) + len(out) + sum(map(len, waiting)) == len(somewhere), "a job stands in two places"
        states = Counter(self.ask(("HGET", f"job:{job_id}", "state") for job_id in self.submitted))
        open_jobs = states["waiting"] + states["called"] + states["sending"]
        assert open_jobs == len(somewhere), (states, len(somewhere))
        assert states["dead"] == len(found["dead"])
        counts = self.state.store.counts()
        accepted = sum(n for field, n in counts.items() if field.startswith("accepted:"))
        ended = sum(n for field, n in counts.items() if field.startswith("ended:"))
        assert accepted + counts.get("replayed", 0) == ended + open_jobs, "the books do not balance"
        self.check_permits(sorted(out))

    def check_permits(self, out: list[str]) -> None:
        """A permit belongs to a call that is out, or to an attempt that was made; and so does a month's count."""
        held: dict[str, set[str]] = defaultdict(set)
        records = self.ask(("HMGET", f"job:{job_id}", "state", "sender", "grant") for job_id in out)
        for job_id, (state, name, grant) in zip(out, records, strict=True):
            assert state in {"called", "sending"}
            held[name].add(f"{job_id}/{grant}")
        windows = [(name, limit, ms) for name, windows in WINDOWS.items() for limit, ms in windows]
        now = f"({self.state.clock.now_ms}"
        counting = self.ask(("ZRANGE", f"sender:{name}:{ms}", now, "+inf", "BYSCORE") for name, _, ms in windows)
        for (name, limit, _), permits in zip(windows, map(set, counting), strict=True):
            assert permits <= held[name] | self.taken[name], "a permit of nobody"
            assert held[name] <= permits, "a call without a permit"
            assert len(permits) <= limit
        months = self.ask(("GET", f"sender:{QUOTA}:{one}") for one in ("202612", "202701", "202702"))
        counted = (self.taken["robot.month"] | held["robot.month"]) - self.refused
        assert sum(int(used or 0) for used in months) == len(counted), "the month's count is off"

    def check_keys(self) -> None:
        """Every key that is not a waiting job expires."""
        states = self.ask(("HGET", f"job:{job_id}", "state") for job_id in self.submitted)
        open_jobs = {
            job_id
            for job_id, state in zip(self.submitted, states, strict=True)
            if state in {"waiting", "called", "sending"}
        }
        lasting = {"due", "later", "leases", "expiry"}
        found = self.state.redis.scan_iter(f"{self.state.prefix}*", count=1_000)
        names = [full.removeprefix(self.state.key("")) for full in found]
        for name, ttl in zip(names, self.ask(("PTTL", name) for name in names), strict=True):
            kind, _, of = name.partition(":")
            if ttl != -1:
                assert kind not in {"job", "body"} or of not in open_jobs, f"{name} of an open job expires"
                continue
            fine = name in lasting or kind in {"lane", "busy"} or (kind in {"job", "body"} and of in open_jobs)
            assert fine, f"{name} does not expire"

    def ended(self, job_id: str) -> bool:
        status = self.state.lanes.status(job_id)
        assert status is not None
        return status.ended

    def drain(self) -> None:
        """Everybody reads the same file and answers at last, and the clock goes from look to look."""
        self.lanes = dict(LANES)
        self.state.pace(LANES, _senders("m1"))
        for _ in range(3_000):
            while self.called:
                self.begin(self.called.pop())
            while self.running:
                self.end(self.running.pop(), Delivered())
            next_ms = self.look()
            if next_ms is None:
                return
            if not self.called:
                self.state.clock.pass_ms(next_ms)
        pytest.fail("the lanes did not drain")


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_whatever_happens_the_invariants_hold(valkey: Server, seed: int) -> None:
    state = State(valkey.url, f"h{uuid.uuid4().hex[:8]}:")
    try:
        run(World(state, random.Random(seed)))
    finally:
        state.store.close()
        state.redis.close()


def run(world: World) -> None:
    state, dice = world.state, world.dice
    # A few minutes before Beijing's new year: months end, too.
    new_year = datetime(2027, 1, 1, tzinfo=timezone(timedelta(hours=8)))
    state.clock.now_ms = round(new_year.timestamp() * 1000) - dice.choice((20_000, 300_000, 4_000_000))
    state.pace(LANES, _senders("m1"))
    weights = {
        "submit": 16, "start": 18, "end": 18, "time": 10, "look": 4, "lose": 1, "die": 1, "cancel": 2, "pause": 1, "resume": 1,
        "letters": 2, "pace": 0.5,
    }  # fmt: skip
    for number in range(dice.randrange(30, 150)):
        match dice.choices(list(weights), list(weights.values()))[0]:
            case "submit":
                world.submit()
            case "start" if world.called:
                world.begin(world.called.pop(dice.randrange(len(world.called))))
            case "end" if world.running:
                world.end(world.running.pop(dice.randrange(len(world.running))))
            case "time":
                state.clock.pass_ms(dice.choice((1, 100, 1_000, 5_000, 40_000)))
                world.look()
            case "look":
                world.look()
            case "lose" if world.called:
                world.called.pop(dice.randrange(len(world.called)))  # the broker lost the message
            case "die" if world.running:
                # killed after DingTalk had it
                world.arrive(world.running.pop(dice.randrange(len(world.running))))
            case "cancel" if world.submitted:
                world.hear(state.lanes.cancel(dice.choice(world.submitted))[1])
            case "pause":
                state.store.hold(dice.choice(list(world.lanes)), for_s=dice.choice((1, 30)), why="paused")
            case "resume":
                world.hear(state.store.hold(dice.choice(list(world.lanes)), for_s=0, why="")[1])
            case "letters":
                world.letters()
            case "pace":
                world.repace()
            case _:
                pass
        world.check()
        if number % 20 == 0:
            world.check_keys()
    world.drain()
    world.check()
    world.check_keys()
    for name, seen in world.arrivals.items():
        seen.sort()
        for limit, window_ms in WINDOWS[name]:
            for first, last in zip(seen, seen[limit:], strict=False):
                assert last - first >= window_ms, f"{name}: {limit + 1} within {last - first} ms of {window_ms}"
    assert all(map(world.ended, world.submitted))
    state.store.figures()
    for name in (*LANES, *(f"{one}/{route}" for one in LANES for route in ROUTES)):
        assert not state.redis.exists(state.key(f"lane:{name}"), state.key(f"busy:{name}"))
    assert not state.redis.exists(*(state.key(one) for one in ("due", "later", "leases", "expiry")))
