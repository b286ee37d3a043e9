"""The primary dies, or is demoted, under load: Sentinels promote its replica, and the fleet goes on by itself."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import pytest
import redis

from dingqueue import EnqueueFailed
from dingqueue_worker.embedded import Server
from dingqueue_worker.sandbox.client import Space
from support.figures import Figure
from support.fleet import Fleet
from support.front import Authority, Front
from support.load import arrivals, assert_never_over, copies, lanes
from support.pressure import Pressure
from support.sentinels import Sentinels
from support.waiting import wait_for

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

LANES = [f"lane{number}" for number in range(6)]
#: What issue and README promise.
WITHIN_S = 60.0


def config(space: Space) -> str:
    return lanes(space, {name: [name] for name in LANES}, limit=1000)


def test_the_primary_is_killed_under_load_and_again(space: Space, figure: Figure) -> None:
    with (
        Sentinels() as sentinels,
        Server() as unused,
        Fleet(config(space), oapi_url=space.oapi_url, server=unused, state_url=sentinels.url) as fleet,
    ):
        workers = fleet.workers(2)
        fleet.beat()
        silences: list[float] = []
        with Pressure(fleet, LANES, count=500, every_s=0.05) as pressure:
            for _ in range(2):
                wait_for(
                    lambda: sentinels.in_step() and len(arrivals(space)) > 20, within_s=40, what="a replica in step"
                )
                old, began_s = sentinels.primary, time.monotonic()
                old.kill()
                wait_for_another(fleet, sentinels, old)
                wait_for_more(fleet, space)
                silences.append(time.monotonic() - began_s)
                old.start()  # the Sentinels make it a replica
        known = [job_id for job_id in pressure.accepted if fleet.client.status(job_id)]
        statuses = fleet.wait_for_end(*known, within_s=60)

        often = copies(arrivals(space))
        doubles = {job_id for job_id, times in often.items() if times > 1}
        forgotten = set(pressure.accepted) - set(known)
        lost = forgotten - set(often)
        figure(
            f"500 jobs, primary killed twice: messages again {max(silences):.1f} s after at most, "
            f"forgotten by the new primary {len(forgotten)} (never sent {len(lost)}), arrived twice {len(doubles)}, "
            f"the door refused {pressure.refusals} times"
        )
        assert len(pressure.accepted) == 500
        assert all(worker.alive for worker in workers), "nobody restarted them"
        assert Counter(status.state for status in statuses) == {"delivered": len(known)}
        # Replication lags by what is on its way when the primary dies: a few, never a stretch of time.
        assert len(lost) <= 5
        assert len(doubles) <= 20
        assert_books_balance_of_those_known(fleet, len(known))


def test_over_tls_the_primary_is_killed_and_what_waited_and_what_comes_is_delivered(
    space: Space, figure: Figure, tmp_path: Path
) -> None:
    """Everybody shows a certificate to everybody, and there are passwords of both kinds: the longest form of address."""
    waits = lanes(space, {name: [name] for name in LANES[:2]}, limit=5, window_s=3.0)
    with (
        Sentinels(
            tls=Authority(tmp_path), password="planted-server", own_password="planted-sentinel", down_after_ms=1_000
        ) as sentinels,
        Server() as unused,
        Fleet(waits, oapi_url=space.oapi_url, server=unused, state_url=sentinels.url) as fleet,
    ):
        (worker,) = fleet.workers(1)
        before = [fleet.client.send(name, f"before {number}") for number in range(7) for name in LANES[:2]]
        wait_for(lambda: len(arrivals(space)) >= 10, what="each robot's first five")
        old = sentinels.primary
        sentinels.wait_until_replicated()
        assert len(arrivals(space)) < len(before), "some must wait when the primary dies"

        old.kill()
        killed_s = time.monotonic()
        calls: list[float] = []

        def accepted() -> str | None:
            began_s = time.monotonic()
            try:
                return fleet.client.send("lane0", "first after", key="first after")
            except EnqueueFailed:
                return None
            finally:
                calls.append(time.monotonic() - began_s)

        first = wait_for(accepted, within_s=20, what="a producer's send is accepted again")
        accepted_s = time.monotonic() - killed_s
        assert first
        after = [first, *(fleet.client.send(name, f"after {number}") for number in range(2) for name in LANES[:2])]
        statuses = fleet.wait_for_end(*before, *after)

        assert sentinels.primary is not old
        often = copies(arrivals(space))
        doubles = sum(times - 1 for times in often.values())
        figure(
            f"over TLS: sends accepted again {accepted_s:.1f} s after the kill, {len(calls) - 1} refused, "
            f"the longest call {max(calls):.1f} s, arrived twice {doubles}"
        )
        assert worker.alive
        assert {status.state for status in statuses} == {"delivered"}
        assert set(often) == {*before, *after}
        # A lane has one job out, and only the end of what was out may not be replicated.
        assert doubles <= 2
        assert max(calls) < 3.0, "enqueue_timeout_s is 2"
        checked = {one["check"]: one for one in json.loads(fleet.command("doctor", "--json").stdout)["checks"]}
        assert {checked[name]["state"] for name in ("redis", "broker", "workers")} == {"ok"}, checked
        assert "planted" not in fleet.logs()


def wait_for_another(fleet: Fleet, sentinels: Sentinels, old: Server) -> None:
    fleet.wait_until(lambda: sentinels.primary is not old, within_s=WITHIN_S, what="a new primary")


def wait_for_more(fleet: Fleet, space: Space) -> None:
    """What was in a worker's hands may still arrive; some more shows that jobs go the whole way again."""
    came = len(arrivals(space))
    fleet.wait_until(lambda: len(arrivals(space)) > came + 20, within_s=WITHIN_S, what="messages again")


def assert_books_balance_of_those_known(fleet: Fleet, known: int) -> None:
    """Each script is one write that a replica has or has not: what it has is in balance in itself."""
    counts = fleet.store.counts()
    accepted = sum(number for name, number in counts.items() if name.startswith("accepted:"))
    ended = sum(number for name, number in counts.items() if name.startswith("ended:"))
    assert accepted == ended == known, counts
    _, views = fleet.store.overview()
    assert not [view for view in views if view.waiting or view.out]


def test_a_coordinated_failover_loses_and_doubles_nothing(space: Space, figure: Figure) -> None:
    """As before maintenance. Without COORDINATED (Valkey 9) the old primary takes jobs for ten seconds more and forgets them."""
    with (
        Sentinels() as sentinels,
        Server() as unused,
        Fleet(config(space), oapi_url=space.oapi_url, server=unused, state_url=sentinels.url) as fleet,
    ):
        workers = fleet.workers(2)
        with Pressure(fleet, LANES, count=300, every_s=0.05) as pressure:
            wait_for(lambda: len(arrivals(space)) > 20)
            old = sentinels.primary
            with redis.Redis(port=sentinels.ports[0]) as one:
                one.execute_command("SENTINEL", "FAILOVER", "mymaster", "COORDINATED")
            began_s = time.monotonic()
            wait_for_another(fleet, sentinels, old)
            wait_for_more(fleet, space)
            silence_s = time.monotonic() - began_s
        known = [job_id for job_id in pressure.accepted if fleet.client.status(job_id)]
        statuses = fleet.wait_for_end(*known, within_s=60)

        often = copies(arrivals(space))
        forgotten = len(pressure.accepted) - len(known)
        doubles = {job_id for job_id, times in often.items() if times > 1}
        figure(
            f"300 jobs, coordinated failover: messages again {silence_s:.1f} s after, forgotten {forgotten}, "
            f"arrived twice {len(doubles)}, the door refused {pressure.refusals} times"
        )
        assert all(worker.alive for worker in workers)
        assert {status.state for status in statuses} == {"delivered"}
        assert set(pressure.accepted) == set(often)
        assert forgotten == 0
        assert not doubles


def test_a_name_that_leads_to_another_server_is_followed(space: Space, figure: Figure) -> None:
    """Without Sentinels, as many hosted services do it: the old primary lives on read-only, connections and all."""
    with Server() as first, Server() as second, Front(first.port) as front:
        url = f"redis://127.0.0.1:{front.port}/0"
        with (
            redis.Redis(port=first.port) as old,
            redis.Redis(port=second.port) as new,
            Fleet(config(space), oapi_url=space.oapi_url, server=first, state_url=url) as fleet,
        ):
            new.replicaof("127.0.0.1", str(first.port))
            wait_for(lambda: new.info("replication")["master_link_status"] == "up")
            workers = fleet.workers(2)
            with Pressure(fleet, LANES, count=300, every_s=0.05) as pressure:
                wait_for(lambda: len(arrivals(space)) > 20)
                old.execute_command("FAILOVER", "TO", "127.0.0.1", str(second.port))
                wait_for(lambda: new.info("replication")["role"] == "master", within_s=20)
                front.to_port = second.port
                began_s = time.monotonic()
                wait_for_more(fleet, space)
                silence_s = time.monotonic() - began_s
            statuses = fleet.wait_for_end(*pressure.accepted, within_s=60)

            figure(f"300 jobs, the name led to another server: messages again {silence_s:.1f} s after")
            assert all(worker.alive for worker in workers)
            assert {status.state for status in statuses} == {"delivered"}
            assert set(copies(arrivals(space))) == set(pressure.accepted)
            assert_never_over(space, limit=1000)
