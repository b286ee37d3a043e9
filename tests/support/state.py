"""A fleet's state on a real server, with a clock that tests move."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import redis

from dingqueue.contract import Job, OnUnknown, SendJob, Terms, Text
from dingqueue.lanes import Accepted, Call, Lanes
from dingqueue_worker.outcome import Delivered, Ended
from dingqueue_worker.pace import Pace
from dingqueue_worker.store import Settled, Stale, Started, Store

_numbers = itertools.count(1)

CALL_LEASE_MS = 5_000
LEASE_MS = 30_000


class Clock:
    """Milliseconds that move only when told."""

    def __init__(self, now_ms: int = 1_800_000_000_000) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms

    def pass_ms(self, ms: int) -> None:
        self.now_ms += ms


def lane(
    *senders: str,
    in_flight: int = 1,
    max_waiting: int = 1_000_000,
    expires_ms: int = 86_400_000,
    digest_ms: int | None = None,
) -> dict[str, Any]:
    return {
        **({"digest_ms": digest_ms} if digest_ms else {}),
        "senders": list(senders),
        "in_flight": in_flight,
        "expires_ms": expires_ms,
        "max_waiting": max_waiting,
        "call_lease_ms": CALL_LEASE_MS,
        "keep_ms": 86_400_000,
        "keep_dead_ms": 30 * 86_400_000,
    }


def sender(
    limit: int = 20,
    window_ms: int = 60_000,
    *,
    reserve: int = 0,
    shared: bool = False,
    month: int | None = None,
    mark: str = "m1",
) -> dict[str, Any]:
    pace: dict[str, Any] = {
        "windows": [[limit, window_ms]],
        "reserve": reserve,
        "cooldown_ms": 600_000,
        "shared": shared,
        "mark": mark,
    }
    return pace | ({"month": month} if month is not None else {})


class State:
    """One fleet on a server, under its own prefix: parallel tests do not see each other."""

    def __init__(self, url: str, prefix: str) -> None:
        self.clock = Clock()
        self.url = url
        self.redis = redis.Redis.from_url(url, decode_responses=True)
        self.prefix = prefix
        self.store = Store(url, prefix=prefix, clock_ms=self.clock)
        self.lanes: Lanes = self.store.lanes
        self.memory = ""

    def pace(self, lanes: Mapping[str, dict[str, Any]], senders: Mapping[str, dict[str, Any]]) -> bool:
        longest = max((w[1] for s in senders.values() for w in s["windows"]), default=60_000)
        self.memory, rested = self.store.publish_pace(
            Pace(lanes=dict(lanes), senders=dict(senders), rest_ms=longest), known_memory=self.memory
        )
        return rested

    def job(
        self, destination: str = "ops", *, job_id: str | None = None, on_unknown: OnUnknown = "resend", **terms: Any
    ) -> SendJob:
        number = next(_numbers)
        return SendJob(
            job_id=job_id or f"job-{number:06d}",
            destination=destination,
            content=Text(text=f"message {number}"),
            terms=Terms(on_unknown=on_unknown, **terms),
        )

    def submit(self, destination: str = "ops", *, job: Job | None = None, **terms: Any) -> tuple[str, tuple[Call, ...]]:
        chosen = job or self.job(destination, **terms)
        reply = self.lanes.submit(chosen)
        assert isinstance(reply, Accepted), reply
        return chosen.job_id, reply.calls

    def start(self, call: Call, *, lease_ms: int = LEASE_MS) -> Started:
        started = self.store.start(call.job_id, call.grant, lease_ms=lease_ms)
        assert isinstance(started, Started), started
        return started

    def settle(
        self,
        call: Call,
        ended: Ended | None = None,
        *,
        step: int = 0,
        wait_s: float = 0.0,
        most: int = 8,
        on_ms: int = 0,
    ) -> Settled | Stale:
        return self.store.settle(
            call.job_id,
            call.grant,
            ended or Ended(outcome=Delivered()),
            step=step,
            wait_s=wait_s,
            most=most,
            notes={},
            on_ms=on_ms,
            kind=call.kind,
        )

    def deliver(self, call: Call) -> Settled:
        self.start(call)
        settled = self.settle(call)
        assert isinstance(settled, Settled)
        return settled

    def release(self, *, most: int = 200, max_deliveries: int = 5, max_attempts: int = 8) -> tuple[Call, ...]:
        return self.store.release(most=most, max_deliveries=max_deliveries, max_attempts=max_attempts).calls

    def state_of(self, job_id: str) -> str:
        status = self.lanes.status(job_id)
        assert status is not None
        return status.state

    def key(self, name: str) -> str:
        return f"{self.prefix}{{{self.prefix.strip(':')}}}:{name}"
