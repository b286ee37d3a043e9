"""What a fleet costs that has nothing to do."""

from __future__ import annotations

from typing import Any

import redis

from dingqueue_worker.sandbox.client import Space
from support.figures import Figure
from support.fleet import Fleet
from support.waiting import pass_s

CONFIG = """
[robots.ops]
token = "token-ops"
[destinations]
ops.robots = ["ops"]
"""
WORKERS = 2
SECONDS = 10.0


def scripts_run(raw: Any) -> int:
    stats = raw.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval", "fcall"))


def test_an_idle_worker_asks_less_than_once_a_second(space: Space, figure: Figure) -> None:
    space.robot("token-ops", name="ops")
    with Fleet(CONFIG, oapi_url=space.oapi_url) as fleet:
        fleet.workers(WORKERS)
        fleet.wait_for_end(fleet.client.send("ops", "the last one for today"))
        pass_s(2.0)
        raw = redis.Redis.from_url(fleet.server.url)

        before = scripts_run(raw)
        pass_s(SECONDS)
        each = (scripts_run(raw) - before) / SECONDS / WORKERS

        figure(f"an idle worker runs {each:.2f} scripts a second")
        assert each < 1.0
