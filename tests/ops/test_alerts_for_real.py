"""Every alert, provoked once for real: a fleet under fire, its exporter, and a Prometheus with the rules as shipped.

Only their patience is shortened: a minute of `for` or of a window is a second here.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from dingqueue_worker.sandbox.client import Sandbox, Space
from dingqueue_worker.store import Fetch
from support.fleet import Fleet, Process
from support.ops import OPS, tool
from support.prometheus import Prometheus, exporter
from support.waiting import wait_for

SLOW = [f"slow{number}" for number in range(24)]
NAMES = ["ops", "keyword", "muted", "gone", "lost", "long", "late", *SLOW]
TOKENS = {name: f"{number:064x}" for number, name in enumerate(NAMES, 1)}
CONFIG = (
    "[organisations.acme]\nwebhook_calls = 5000\n"
    + "".join(f'[robots.{name}]\ntoken = "{token}"\norganisation = "acme"\n' for name, token in TOKENS.items())
    + "".join(f'[destinations.{name}]\nrobots = ["{name}"]\n' for name in NAMES)
)
ALERTS = set(re.findall(r"- alert: (\w+)", (OPS / "prometheus/alerts.yml").read_text()))


def impatient(rules: str) -> str:
    """The rules with seconds for minutes, hours and quarters; thresholds stay what they are."""
    rules = re.sub(r"\bfor: (\d+)m", r"for: \1s", rules).replace("for: 1h", "for: 1s")
    return re.sub(r"\[(\d+)m\]", r"[\1s]", rules).replace("offset 15m", "offset 15s")


class Drill:
    """The fleet, and what is done to it."""

    def __init__(self, fleet: Fleet, space: Space) -> None:
        self.fleet, self.space = fleet, space
        self.redis = redis.Redis.from_url(fleet.server.url, decode_responses=True)
        self.worker: Process = fleet.workers(1, concurrency=32)[0]
        self.beat = fleet.beat()
        wait_for(lambda: len(fleet.store.figures().alive) == 2, within_s=30, what="worker and beat are there")

    def refused(self) -> None:
        """A keyword that is missing, a robot that is gone, one that is muted, an answer that is lost."""
        self.space.fault("errcode", errcode=130101, errmsg="send too fast", sender="muted", times=1)
        self.space.fault("lost", sender="lost", times=1)
        for name in ("keyword", "gone", "muted", "lost"):
            self.fleet.client.send(name, "a message")

    def storm(self) -> None:
        """More than half an hour's worth."""
        self.fleet.client.send_many([{"destination": "long", "text": f"line {number}"} for number in range(700)])

    def slowness(self) -> None:
        for name in SLOW:
            self.space.fault("slow", sender=name, delay_s=6, times=1)
        self.fleet.client.send_many([{"destination": name, "text": "slow"} for name in SLOW])

    def late(self) -> None:
        """Jobs that have waited longer than their lane ever needed; nobody waits for it here, so they are made old."""
        jobs = [self.fleet.client.send("late", f"message {number}") for number in range(22)]
        wait_for(lambda: self.redis.zcard("dq:{dq}:lane:late") == 2, within_s=20, what="two wait for the limit")
        for job_id in jobs[20:]:
            self.redis.hset(f"dq:{{dq}}:job:{job_id}", "submitted_ms", str(round((time.time() - 1_000) * 1000)))

    def figures(self) -> None:
        """What only time brings: a token near its end, a month used up, a letter nobody reads; books cooked by hand."""
        leave = self.fleet.store.token_ask("acme", "m1", lease_ms=20_000, eager=False)
        assert isinstance(leave, Fetch)
        self.fleet.store.token_keep("acme", "m1", leave.lease, "t", refresh_ms=10**6, late_ms=10**6, usable_ms=300_000)
        month = time.strftime("%Y%m", time.gmtime(time.time() + 8 * 3600))
        self.redis.incrby(f"dq:{{dq}}:sender:organisation.acme.webhook:{month}", 4_500)
        self.redis.zadd("dq:{dq}:dead", {"nobody": (time.time() - 8 * 86_400) * 1000})
        self.redis.hincrby("dq:{dq}:counts", "accepted:send:ops", 1)
        self.redis.config_set("maxmemory", int(self.redis.info("memory")["used_memory"] * 1.3))

    def ban(self) -> None:
        self.redis.config_set("maxmemory", 0)
        self.space.fault("ban", sender="ops", times=1)
        self.fleet.client.send("ops", "one too many")

    def frozen(self) -> None:
        """The worker holds its connections and does nothing: what is called is not taken."""
        self.redis.delete("dq:{dq}:sender:*:closed")
        self.worker.freeze()
        self.beat.kill()
        for name in SLOW[:4]:
            self.fleet.client.send(name, "called in vain")


@contextmanager
def drill(folder: Path) -> Iterator[tuple[Drill, Prometheus, Process]]:
    tool("prometheus")
    with Sandbox() as sandbox:
        space = sandbox.namespace()
        for name, token in TOKENS.items():
            space.robot(
                token,
                name=name,
                keywords=["never"] if name == "keyword" else [],
                state="removed" if name == "gone" else "on",
            )
        with Fleet(CONFIG, oapi_url=space.oapi_url) as fleet:
            port = exporter(fleet)
            prometheus = Prometheus(folder, port, rules=impatient((OPS / "prometheus/alerts.yml").read_text()))
            try:
                yield Drill(fleet, space), prometheus, fleet.processes[0]
            finally:
                prometheus.stop()


@pytest.mark.timeout(400)
def test_every_alert_fires_for_what_it_is_there_for(tmp_path: Path) -> None:
    seen: dict[str, str] = {}
    with drill(tmp_path) as (fire, prometheus, metrics):
        wait_for(lambda: prometheus.ask("dingqueue_up == 1"), within_s=30, every_s=0.2, what="the first scrape")
        # Prometheus itself began before there was anything to scrape.
        wait_for(lambda: not prometheus.firing(), within_s=30, every_s=0.5, what="a fleet at rest alarms nobody")

        def provoke(what: str, action: Callable[[], object], *expected: str, within_s: float = 60.0) -> None:
            action()

            def all_fire() -> bool:
                firing = prometheus.firing()
                seen.update({name: what for name in firing if name not in seen})
                return set(expected) <= set(seen)

            try:
                wait_for(all_fire, within_s=within_s, every_s=0.5)
            except AssertionError:
                missing = set(expected) - set(seen)
                raise AssertionError(f"{what}: {missing} did not fire\n{fire.fleet.logs()[-2000:]}") from None

        provoke("slow answers", fire.slowness, "DingqueueSlow")
        provoke(
            "refusals",
            fire.refused,
            "DingqueueDeadLetters",
            "DingqueueSenderMuted",
            "DingqueueUnknownEnds",
            "DingqueueSenderBroken",
            "DingqueueLaneStuck",
        )
        provoke("a storm", fire.storm, "DingqueueLaneLong")
        provoke("a lane that lags", fire.late, "DingqueueLaneLate")
        provoke(
            "time and hands",
            fire.figures,
            "DingqueueTokenEnds",
            "DingqueueQuota",
            "DingqueueDeadLettersForgotten",
            "DingqueueBooksDiffer",
            "DingqueueRedisMemory",
        )
        provoke("a ban", fire.ban, "DingqueueSenderClosed")
        provoke(
            "a frozen worker, a killed beat",
            fire.frozen,
            "DingqueueCallsNotTaken",
            "DingqueueNoWorker",
            "DingqueueBeatSilent",
            within_s=90,
        )
        provoke("Redis killed", fire.fleet.server.kill, "DingqueueRedisAway")
        provoke("the exporter killed", metrics.kill, "DingqueueUnseen")

    assert set(seen) == ALERTS
