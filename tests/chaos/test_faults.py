"""Every way DingTalk can answer, fifty jobs each: the outcome table holds, nobody hammers, other lanes go on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from dingqueue_worker.sandbox.client import Space
from support.figures import Figure
from support.fleet import Fleet
from support.load import arrivals, copies, lanes

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]


@dataclass(frozen=True)
class Case:
    """A fault that strikes a lane's first requests, and how its fifty jobs must end."""

    fault: str
    times: int
    more: Mapping[str, Any] = field(default_factory=dict)
    dead: int = 0
    #: Unknown ends that jobs must have noted, at most.
    unknown: int = 0


CASES = {
    "busy": Case("errcode", 2, {"errcode": -1, "errmsg": "system busy"}),
    "content": Case("errcode", 3, {"errcode": 430102, "errmsg": "unsuitable"}, dead=3),
    "nonsense": Case("errcode", 3, {"errcode": 987654, "errmsg": "what is this"}, dead=3),
    "toofast": Case("errcode", 1, {"errcode": 410100, "errmsg": "send too fast"}),
    "error": Case("status", 3, {"status": 500}),
    "gateway": Case("status", 3, {"status": 502}, unknown=3),
    "empty": Case("empty", 2, unknown=2),
    "lost": Case("lost", 3, unknown=3),
    "reset": Case("reset", 3, unknown=3),
    "slow": Case("slow", 2, {"delay_s": 3.0}, unknown=2),
}


def test_every_fault_in_turn(space: Space, figure: Figure) -> None:
    names = [*CASES, "calm"]
    with Fleet(lanes(space, {name: [name] for name in names}, limit=1000), oapi_url=space.oapi_url) as fleet:
        fleet.workers(2)
        for name, case in CASES.items():
            space.fault(case.fault, times=case.times, sender=name, **case.more)

        jobs = {
            name: fleet.client.send_many({"destination": name, "text": f"number {n}"} for n in range(50))
            for name in names
        }
        calm = fleet.wait_for_end(*jobs["calm"], within_s=15)
        ends = {name: fleet.wait_for_end(*jobs[name], within_s=60) for name in CASES}

        assert {status.state for status in calm} == {"delivered"}
        assert (
            max(status.ended_at.timestamp() - status.submitted_at.timestamp() for status in calm if status.ended_at)
            < 15
        )
        often, stats = copies(arrivals(space)), space.stats()["robots"]
        for name, case in CASES.items():
            states = Counter(status.state for status in ends[name])
            assert states == Counter({"delivered": 50 - case.dead, **({"dead": case.dead} if case.dead else {})}), name
            assert sum(status.unknowns for status in ends[name]) == case.unknown, name
            delivered = [status.job_id for status in ends[name] if status.state == "delivered"]
            assert all(often[job_id] for job_id in delivered), name
            # Each fault cost one request more, not a loop of them.
            assert stats[name]["attempts"] == 50 + case.times - case.dead, name
        twice = sum(times - 1 for times in often.values())
        figure(
            f"{len(CASES)} faults, 50 jobs each: as the table says; arrived twice {twice}, all of them unknown before"
        )


@pytest.mark.parametrize("fault", ["ban", "html", "redirect"])
def test_a_block_of_our_address_stops_everything_once(space: Space, fault: str) -> None:
    with Fleet(lanes(space, {"a": ["a"], "b": ["b"]}), oapi_url=space.oapi_url) as fleet:
        fleet.workers(2)
        space.fault(fault, times=1)

        first = fleet.client.send("a", "meets the block")
        fleet.wait_until(lambda: space.stats()["failed"] == 1, what="the block")
        fleet.wait_until(lambda: fleet.status(first).state == "waiting")
        second = fleet.client.send("b", "waits behind it")

        status = fleet.status(second)
        assert status.state == "waiting"
        assert "blocks this address" in status.reason
        assert status.expected_at is not None
        assert space.stats()["requests"] == 1
        assert fleet.status(first).attempts == 0, "waiting is not failing"


def test_a_broken_sender_waits_and_heals_when_its_configuration_is_corrected(space: Space) -> None:
    config = lanes(space, {"a": ["a"], "b": ["b"]})
    with Fleet(config.replace('"token-a"', '"token-wrong"'), oapi_url=space.oapi_url) as fleet:
        (worker,) = fleet.workers(1)

        job_ids = [fleet.client.send("a", f"number {n}") for n in range(3)]
        other = fleet.client.send("b", "unharmed")
        fleet.wait_for_end(other)
        fleet.wait_until(lambda: "sender is broken" in worker.log(), what="the alarm")

        refused = space.stats()["refused"]
        assert refused == 2, "two proofs, then nobody knocks any more"
        assert {fleet.status(job_id).state for job_id in job_ids} == {"waiting"}
        shown = fleet.command("lanes").stdout
        assert "a BROKEN until" in shown
        assert "robot.a is broken: correct its table in dingqueue.toml and restart the workers" in shown
        assert worker.log().count("sender is broken") == 1

        worker.terminate()
        fleet.config.write_text(config)
        worker.restart()
        statuses = fleet.wait_for_end(*job_ids, within_s=30)

        assert {status.state for status in statuses} == {"delivered"}
        assert "BROKEN" not in fleet.command("lanes").stdout
