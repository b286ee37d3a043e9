"""A storm, end to end: people see two messages that tell of all, and each job says where it went."""

from __future__ import annotations

from dingqueue_worker.sandbox.client import Space
from support.fleet import Fleet
from support.load import assert_books_balance, wait_until_nothing_can_come

CONFIG = """
[robots.ops]
token = "token-ops"
window_s = 20
[destinations.ops]
robots = ["ops"]
overflow = "digest"
"""


def test_twenty_five_alarms_are_one_or_two_messages(space: Space) -> None:
    """B87, B89: count and names of all."""
    space.robot("token-ops", name="ops", window_s=20)
    with Fleet(CONFIG, oapi_url=space.oapi_url) as fleet:
        fleet.workers(2)

        job_ids = [
            fleet.client.send("ops", markdown=f"Disk full\n\ninstance a{n:02d}", title="Disk full")
            for n in range(1, 26)
        ]
        statuses = fleet.wait_for_end(*job_ids)

        came = space.messages(count=2)
        wait_until_nothing_can_come(fleet)
        assert space.messages(state="any") == came
        assert space.stats()["robots"]["ops"]["attempts"] == 2
        merged = [status for status in statuses if status.state == "merged"]
        assert len(merged) == 24
        assert {status.reason for status in merged} == {f"merged into {came[1].uuid}"}
        assert "24" in came[1].text
        assert all(f"a{n:02d}" in came[0].text + came[1].text for n in range(1, 26))
        assert_books_balance(fleet)


def test_an_urgent_one_is_not_held_back(space: Space) -> None:
    space.robot("token-ops", name="ops", window_s=20)
    with Fleet(CONFIG, oapi_url=space.oapi_url) as fleet:
        fleet.workers(1)
        first = fleet.client.send("ops", "one")
        fleet.wait_for_end(first)
        for number in range(5):
            fleet.client.send("ops", f"more {number}")

        urgent = fleet.client.send("ops", "database down", urgent=True)
        fleet.wait_for_end(urgent, within_s=1.5)

        assert [one.text for one in space.messages()] == ["one", "database down"]
