"""How long an attempt may hold its job: a file takes longer, and only where one is uploaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest

from dingqueue.contract import Job, Kind
from dingqueue_worker.outcome import Delivered, Ended, Snooze, Unknown
from dingqueue_worker.settings import Fleet
from dingqueue_worker.shift import Shift
from dingqueue_worker.store import Settled, Started, Store
from dingqueue_worker.tasks import Desk, attempt_s, lease_s

FLEET = Fleet(total_timeout_s=10, fetch_timeout_s=30, upload_timeout_s=60)


class Lanes:
    """Starts every job, after as long as it is told, and remembers the leases."""

    def __init__(self, clock: Clock, *, takes_s: float = 0.0) -> None:
        self._clock, self._takes_s = clock, takes_s
        self.leases_s: list[float] = []
        self.ends: list[Ended] = []

    def start(self, job_id: str, grant: int, *, lease_ms: int) -> Started:
        self.leases_s.append(lease_ms / 1000)
        self._clock.now_s += self._takes_s
        return Started(job=cast("Job", None), sender="app.acme.upload", step=0, attempts=0, fails=0, notes={})

    def settle(self, job_id: str, grant: int, ended: Ended, **more: Any) -> Settled:
        self.ends.append(ended)
        return Settled(state="delivered", calls=(), events=(), next_look_ms=None, ahead=None)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def deliver(job: Job, *, sender: str, step: int, notes: Mapping[str, str]) -> Ended:
    return Ended(outcome=Delivered())


def carried_out(kind: Kind, destination: str, *, takes_s: float = 0.0) -> Lanes:
    clock = Clock()
    lanes = Lanes(clock, takes_s=takes_s)
    desk = Desk(
        store=cast("Store", lanes), attempt=deliver, fleet=FLEET, dispatch=lambda calls, **more: None,
        tell=lambda event: None, shift=Shift(), uploads={"project"}, monotonic_s=clock,
    )  # fmt: skip
    desk.carry_out("job-1", 1, kind=kind, destination=destination)
    return lanes


@pytest.mark.parametrize(
    ("kind", "destination", "lease"),
    [("send", "project", 23.0), ("share", "ops", 23.0), ("share", "project", 113.0), ("assign", "project", 23.0)],
)
def test_only_an_upload_has_the_longer_lease(kind: Kind, destination: str, lease: float) -> None:
    assert carried_out(kind, destination).leases_s == [lease]


@pytest.mark.parametrize("uploads", [False, True])
def test_no_attempt_starts_that_could_outlast_its_lease(uploads: bool) -> None:
    kind: Kind = "share" if uploads else "send"
    slack_s = lease_s(FLEET, uploads=uploads) - attempt_s(FLEET, uploads=uploads)

    in_time = carried_out(kind, "project", takes_s=slack_s)
    late = carried_out(kind, "project", takes_s=slack_s + 0.1)

    assert slack_s >= 10
    assert isinstance(in_time.ends[0].outcome, Delivered)
    assert isinstance(late.ends[0].outcome, Snooze)


def test_a_mistake_of_ours_ends_the_attempt_and_its_text_is_told_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def fail(job: Job, *, sender: str, step: int, notes: Mapping[str, str]) -> Ended:
        raise KeyError("planted-secret")

    clock = Clock()
    lanes = Lanes(clock)
    desk = Desk(
        store=cast("Store", lanes), attempt=fail, fleet=FLEET, dispatch=lambda calls, **more: None,
        tell=lambda event: None, shift=Shift(), monotonic_s=clock,
    )  # fmt: skip

    desk.carry_out("job-1", 1, destination="ops")

    (ended,) = lanes.ends
    assert isinstance(ended.outcome, Unknown)
    assert ended.outcome.why.startswith("a mistake of dingqueue's own (KeyError at test_tasks.py:")
    assert "attempt broke  job_id=job-1 destination=ops error=KeyError" in caplog.text
    assert "planted" not in caplog.text + ended.outcome.why
