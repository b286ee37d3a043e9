"""Lanes and robots for tests under load, and what must be true when it is over."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from dingqueue.status import Status
from dingqueue_worker.sandbox.client import Message, Space
from support.fleet import Fleet

#: Short bounds, so that a lost worker's lease ends within 2 x 1.5 + 3 s.
QUICK = """
[fleet]
connect_timeout_s = 1.0
read_timeout_s = 1.0
total_timeout_s = 1.5
call_lease_s = 1.0
backoff_base_s = 0.2
backoff_cap_s = 2.0
"""
LEASE_S = 6.0


def lanes(
    space: Space,
    destinations: Mapping[str, Sequence[str]],
    *,
    limit: int = 20,
    window_s: float = 3.0,
    fleet: str = QUICK,
) -> str:
    """Robots in the space and the fleet's configuration for them: destination -> its robots' names.

    A mute lasts one window, so that a test need not wait ten minutes for its end.
    """
    tables = []
    for name in sorted({robot for robots in destinations.values() for robot in robots}):
        space.robot(f"token-{name}", name=name, limit=limit, window_s=window_s, cooldown_s=window_s)
        tables.append(
            f'[robots.{name}]\ntoken = "token-{name}"\nlimit = {limit}\nwindow_s = {window_s}\ncooldown_s = {window_s}'
        )
    for destination, robots in destinations.items():
        tables.append(f"[destinations.{destination}]\nrobots = {json.dumps(list(robots))}")
    return "\n".join([*tables, fleet])


def arrivals(space: Space) -> list[Message]:
    """Every message that DingTalk took, doubles too, in order."""
    return space.messages(state="accepted,double")


def copies(came: Iterable[Message]) -> Counter[str]:
    """How often each job arrived."""
    return Counter(one.uuid or "" for one in came)


def assert_all_delivered(statuses: Iterable[Status]) -> None:
    states = Counter(status.state for status in statuses)
    assert set(states) == {"delivered"}, states


def assert_in_order(came: Iterable[Message], lanes_of: Mapping[str, Sequence[str]]) -> None:
    """Each lane's jobs arrived in the order in which they were submitted; a double counts where it came first."""
    place = {job_id: number for number, job_id in enumerate(dict.fromkeys(one.uuid or "" for one in came))}
    for destination, job_ids in lanes_of.items():
        places = [place[job_id] for job_id in job_ids]
        turned = sum(earlier > later for earlier, later in itertools.pairwise(places))
        assert not turned, f"{destination}: {turned} jobs before their turn"


def assert_never_over(space: Space, limit: int = 20) -> None:
    """As DingTalk counted: no robot over its limit in any window, and nothing refused."""
    stats = space.stats()
    assert stats["refused"] == 0, stats
    for name, robot in stats["robots"].items():
        assert robot["max_in_window"] <= limit, f"{name}: {robot}"


def wait_until_nothing_can_come(fleet: Fleet) -> None:
    """No job waits, is out or has its time still to come, digests too: what DingTalk has had by then is all."""
    fleet.wait_until(lambda: fleet.store.figures().open_jobs == 0, what="every job has ended")


def assert_books_balance(fleet: Fleet) -> None:
    """accepted = ended, when nothing waits and nothing is out."""
    counts = fleet.store.counts()
    accepted = sum(number for name, number in counts.items() if name.startswith("accepted:"))
    ended = sum(number for name, number in counts.items() if name.startswith("ended:"))
    assert accepted + counts.get("replayed", 0) == ended, counts
    _, views = fleet.store.overview()
    assert not [view for view in views if view.waiting or view.out]
