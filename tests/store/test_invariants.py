"""Random jobs, clocks, answers and deaths: what must hold whatever happens."""

from __future__ import annotations

import random
import uuid
from collections import Counter, defaultdict
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dingqueue.lanes import Call
from dingqueue_worker.embedded import Server
from dingqueue_worker.outcome import Close, Dead, Delivered, Ended, Outcome, Retry, Snooze, Unknown
from support.state import LEASE_MS, State, lane, sender

LIMITS = {"robot.own": (3, 10_000), "robot.p1": (2, 5_000), "robot.p2": (3, 7_000), "robot.both": (4, 10_000)}
LANES = {
    "solo": lane("robot.own"),
    "pool": lane("robot.p1", "robot.p2"),
    "left": lane("robot.both"),
    "right": lane("robot.both"),
    "wide": lane("robot.both", in_flight=3),
}


@dataclass(frozen=True)
class Attempt:
    call: Call
    sender: str
    started_ms: int


class DingTalk:
    """Counts what a sliding window of the far side would see."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self.arrivals: dict[str, list[int]] = defaultdict(list)

    def arrive(self, attempt: Attempt, now_ms: int) -> None:
        """A request arrives between its start and its end; no attempt outlives its lease."""
        latest_ms = min(now_ms, attempt.started_ms + LEASE_MS)
        self.arrivals[attempt.sender].append(self._dice.randint(attempt.started_ms, latest_ms))

    def check(self) -> None:
        for name, seen in self.arrivals.items():
            limit, window_ms = LIMITS[name]
            seen.sort()
            for first, last in zip(seen, seen[limit:], strict=False):
                assert last - first >= window_ms, f"{name}: {limit + 1} within {last - first} ms of {window_ms}"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_whatever_happens_the_invariants_hold(valkey: Server, seed: int) -> None:
    dice = random.Random(seed)
    state = State(valkey.url, f"h{uuid.uuid4().hex[:8]}:")
    try:
        run(state, dice)
    finally:
        state.store.close()
        state.redis.close()


def run(state: State, dice: random.Random) -> None:
    state.pace(
        LANES,
        {name: sender(limit, window, shared=name == "robot.both") for name, (limit, window) in LIMITS.items()},
    )
    far_side = DingTalk(dice)
    submitted: list[str] = []
    called: list[Call] = []
    running: list[Attempt] = []
    for _ in range(dice.randrange(20, 120)):
        match dice.choices(("submit", "start", "end", "time", "lose", "die", "cancel"), (8, 10, 10, 6, 1, 1, 1))[0]:
            case "submit":
                job_id, calls = state.submit(
                    dice.choice(list(LANES)), urgent=dice.random() < 0.2, on_unknown=dice.choice(("resend", "hold"))
                )
                submitted.append(job_id)
                called += calls
            case "start" if called:
                begin(state, called.pop(dice.randrange(len(called))), running)
            case "end" if running:
                called += end(state, running.pop(dice.randrange(len(running))), far_side, dice)
            case "time":
                state.clock.pass_ms(dice.choice((1, 100, 1_000, 5_000, 40_000)))
                called += state.release()
            case "lose" if called:
                called.pop(dice.randrange(len(called)))  # the broker lost the message
            case "die" if running:
                # killed after DingTalk had it
                far_side.arrive(running.pop(dice.randrange(len(running))), state.clock.now_ms)
            case "cancel" if submitted:
                called += state.lanes.cancel(dice.choice(submitted))[1]
            case _:
                pass
        check(state, submitted)
    drain(state, far_side, called, running, dice)
    check(state, submitted)
    far_side.check()
    for job_id in submitted:
        assert state.state_of(job_id) in {"delivered", "dead", "cancelled", "expired"}, state.lanes.status(job_id)


def begin(state: State, call: Call, running: list[Attempt]) -> list[Call]:
    started = state.store.start(call.job_id, call.grant, lease_ms=LEASE_MS)
    if hasattr(started, "sender"):
        running.append(Attempt(call, started.sender, state.clock.now_ms))
        return []
    return list(started.calls)


def end(state: State, attempt: Attempt, far_side: DingTalk, dice: random.Random) -> list[Call]:
    outcomes: list[Outcome] = [
        Delivered(),
        Delivered(),
        Delivered(),
        Retry(why="500", cause="server"),
        Retry(why="refused", cause="not_sent", sent=False),
        Unknown(why="no answer", cause="unanswered"),
        Dead(why="bad", cause="content"),
        Snooze(why="too fast", cause="too_fast", close=Close(cause="cooldown", why="too fast", for_s=20)),
    ]
    outcome = dice.choice(outcomes)
    if getattr(outcome, "sent", True):
        far_side.arrive(attempt, state.clock.now_ms)
    settled = state.settle(attempt.call, Ended(outcome=outcome), wait_s=dice.choice((0, 1, 10)), most=4)
    return list(settled.calls)


def drain(state: State, far_side: DingTalk, called: list[Call], running: list[Attempt], dice: random.Random) -> None:
    for _ in range(2_000):
        while called:
            called += begin(state, called.pop(), running)
        while running:
            attempt = running.pop()
            far_side.arrive(attempt, state.clock.now_ms)
            called += state.settle(attempt.call).calls
        if (
            state.redis.zcard(state.key("due"))
            + state.redis.zcard(state.key("later"))
            + state.redis.zcard(state.key("leases"))
            == 0
        ):
            return
        state.clock.pass_ms(dice.choice((500, 2_000)))
        called += state.release()
    pytest.fail("the lanes did not drain")


def check(state: State, submitted: list[str]) -> None:
    waiting = {name: set(state.redis.zrange(state.key(f"lane:{name}"), 0, -1)) for name in LANES}
    due = set(state.redis.zrange(state.key("due"), 0, -1))
    later = set(state.redis.zrange(state.key("later"), 0, -1))
    out = set(state.redis.zrange(state.key("leases"), 0, -1))
    for name, jobs in waiting.items():
        assert not jobs or name in due, f"{name} waits and nobody will look"
        busy = set(state.redis.zrange(state.key(f"busy:{name}"), 0, -1))
        assert len(busy) <= LANES[name]["in_flight"]
        assert busy <= out
    for name in LIMITS:
        if name == "robot.both":
            turns = set(state.redis.zrange(state.key(f"turns:{name}"), 0, -1))
            assert all(waiting[str(lane_name)] for lane_name in turns), "an empty lane holds a turn"
    somewhere = later | out | set().union(*waiting.values())
    assert len(later) + len(out) + sum(map(len, waiting.values())) == len(somewhere), "a job stands in two places"
    states = Counter(state.redis.hget(state.key(f"job:{job_id}"), "state") for job_id in submitted)
    open_jobs = states["waiting"] + states["called"] + states["sending"]
    assert open_jobs == len(somewhere), (states, len(somewhere))
    counts = state.store.counts()
    accepted = sum(n for field, n in counts.items() if field.startswith("accepted:"))
    ended = sum(n for field, n in counts.items() if field.startswith("ended:"))
    replayed = counts.get("replayed", 0)
    assert accepted + replayed == ended + open_jobs, "the books do not balance"
