"""Workers killed in the middle of works: look-up, todo, message. Each work is one todo, whatever dies when."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from dingqueue_worker.sandbox.client import Sandbox
from support.fleet import Fleet
from support.organisation import CONFIG, furnish
from support.waiting import pass_s

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]

WORKS = 60
QUICK = """
connect_timeout_s = 1
read_timeout_s = 1
total_timeout_s = 1
call_lease_s = 1
fetch_timeout_s = 1
upload_timeout_s = 1
"""


def test_works_are_one_todo_each_however_many_workers_die(sandbox: Sandbox) -> None:
    space = sandbox.namespace()
    furnish(space)
    # Slow enough that a kill often meets a request on its way.
    space.fault("slow", delay_s=0.15, probability=0.7, seed=7)
    chance = random.Random(7)
    with Fleet(CONFIG + QUICK, oapi_url=space.oapi_url, api_url=space.api_url) as fleet:
        fleet.workers(2)
        works = [
            fleet.client.assign("project", f"work {at}", to=["alice", "bob"], url=f"https://example.com/{at}")
            for at in range(WORKS)
        ]
        messages = [fleet.client.send("staff", f"message {at}") for at in range(20)]

        for _ in range(6):
            pass_s(0.7)
            victim = chance.choice([one for one in fleet.processes if one.alive])
            victim.kill()
            victim.restart()
        ended = fleet.wait_for_end(*works, *messages, within_s=100)

        assert Counter(one.state for one in ended) == {"delivered": WORKS, "accepted": 20}
        todos = Counter(one.source_id for one in space.todos())
        assert todos == dict.fromkeys(works, 1)
        shown = Counter(one.uuid for one in space.messages(robot="ops"))
        assert set(shown) == set(works)
        unknown = sum(one.unknowns for one in ended)
        assert unknown > 0, "no kill met a request: this test proves nothing"
        counts = fleet.store.counts()
        accepted = sum(value for name, value in counts.items() if name.startswith("accepted:"))
        over = sum(value for name, value in counts.items() if name.startswith("ended:"))
        assert accepted == over == WORKS + 20
