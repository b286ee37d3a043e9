"""What the fleet publishes about its pace: the configuration's numbers, and nothing secret."""

from __future__ import annotations

import dataclasses
import json

import pytest

from dingqueue_worker.pace import pace_of
from dingqueue_worker.settings import App, Destination, Fleet, Organisation, Robot, Secret, Settings

OPS = Robot(name="ops", token=Secret("planted-token"), secret=Secret("planted-secret"), keywords=("ops",))


def settings(*robots: Robot, destinations: tuple[Destination, ...] = (), apps: tuple[App, ...] = (), **fleet: float) -> Settings:  # fmt: skip
    return Settings(
        broker_url="redis://127.0.0.1:1/0",
        state_url="redis://127.0.0.1:1/0",
        robots={robot.name: robot for robot in robots},
        apps={app.name: app for app in apps},
        destinations={destination.name: destination for destination in destinations},
        fleet=Fleet(**fleet),  # type: ignore[arg-type]  # seconds only, in these tests
    )


def test_a_robots_limits_become_its_senders_windows_in_milliseconds() -> None:
    robot = Robot(name="ops", token=Secret("t"), limit=15, window_s=30.5, cooldown_s=400, urgent_reserve=3)

    pace = pace_of(settings(robot))

    sender = pace.senders["robot.ops"]
    assert sender == {
        "windows": [[15, 30_500]], "reserve": 3, "cooldown_ms": 400_000, "shared": False, "mark": sender["mark"],
    }  # fmt: skip
    assert pace.rest_ms == 30_500


def test_a_destinations_lane_has_its_senders_and_times() -> None:
    destination = Destination(name="ops", robots=("ops", "spare"), expires_s=60.5, max_waiting=7)

    pace = pace_of(settings(OPS, destinations=(destination,), call_lease_s=4, keep_ended_s=10, keep_dead_s=20))

    assert pace.lanes["ops"] == {
        "senders": ["robot.ops", "robot.spare"],
        "in_flight": 1,
        "expires_ms": 60_500,
        "max_waiting": 7,
        "call_lease_ms": 4_000,
        "keep_ms": 10_000,
        "keep_dead_ms": 20_000,
        "files": 0,
    }


@pytest.mark.parametrize(
    ("destination", "files_bytes"),
    [
        (Destination(name="x", robots=("ops",)), 0),
        (Destination(name="x", robots=("ops",), app="acme"), 0),
        (Destination(name="x", app="acme", conversation="cid", robots=("ops",)), 20 * 1024 * 1024),
        (Destination(name="x", app="acme", users=("alice",)), 20 * 1024 * 1024),
        (Destination(name="x", app="acme", users=("alice",), via="notice"), 10 * 1024 * 1024),
    ],
)
def test_a_lane_says_how_large_a_file_it_can_carry(destination: Destination, files_bytes: int) -> None:
    acme = App(name="acme", app_key="k", app_secret=Secret("s"), agent_id=1, robot_code="r")

    lane = pace_of(settings(OPS, apps=(acme,), destinations=(destination,))).lanes["x"]

    assert lane["files"] == files_bytes
    assert "zip" not in lane


def test_a_lane_says_that_the_fleet_packs_what_dingtalk_would_refuse() -> None:
    found = dataclasses.replace(
        settings(OPS, destinations=(Destination(name="ops", robots=("ops",)),)), fleet=Fleet(zip_files=True)
    )

    assert pace_of(found).lanes["ops"]["zip"] is True


def test_a_robot_of_two_destinations_is_shared() -> None:
    lanes = (Destination(name="a", robots=("ops",)), Destination(name="b", robots=("ops",)))

    assert pace_of(settings(OPS, destinations=lanes)).senders["robot.ops"]["shared"] is True
    assert pace_of(settings(OPS, destinations=lanes[:1])).senders["robot.ops"]["shared"] is False


def test_the_pace_holds_no_secret_and_goes_over_the_wire() -> None:
    app = App(name="acme", app_key="planted-key", app_secret=Secret("planted-app-secret"))

    pace = pace_of(settings(OPS, apps=(app,), destinations=(Destination(name="ops", robots=("ops",)),)))

    assert "planted" not in json.dumps(dataclasses.asdict(pace))


@pytest.mark.parametrize(
    "changed",
    [
        dataclasses.replace(OPS, token=Secret("other")),
        dataclasses.replace(OPS, secret=Secret("other")),
        dataclasses.replace(OPS, secret=None),
        dataclasses.replace(OPS, keywords=("ops", "dev")),
        dataclasses.replace(OPS, keywords=()),
    ],
)
def test_the_mark_changes_with_what_could_mend_a_broken_robot(changed: Robot) -> None:
    before = pace_of(settings(OPS)).senders["robot.ops"]["mark"]

    assert pace_of(settings(changed)).senders["robot.ops"]["mark"] != before
    assert pace_of(settings(dataclasses.replace(OPS))).senders["robot.ops"]["mark"] == before


def test_an_apps_calls_keep_dingtalks_20_a_second() -> None:
    app = App(name="acme", app_key="k", app_secret=Secret("s"))

    pace = pace_of(settings(apps=(app,), destinations=(Destination(name="team", app="acme", conversation="cid"),)))

    assert pace.senders["app.acme.group"]["windows"] == [[20, 1_000]]
    assert pace.lanes["team"]["routes"]["group"] == {"senders": ["app.acme.group"]}
    assert pace.lanes["team"]["in_flight"] > 1


def test_what_closes_an_app_closes_each_of_its_interfaces() -> None:
    app = App(name="acme", app_key="k", app_secret=Secret("s"))

    senders = pace_of(settings(apps=(app,))).senders

    assert senders.pop("app.acme")["windows"] == []
    assert {sender["of"] for sender in senders.values()} == {"app.acme"}
    assert {sender["mark"] for sender in senders.values()} == {
        pace_of(settings(apps=(app,))).senders["app.acme"]["mark"]
    }


def test_the_webhook_route_beside_an_app_keeps_its_order() -> None:
    team = Destination(name="team", app="acme", conversation="cid", robots=("ops",))

    lane = pace_of(settings(OPS, apps=(App(name="acme", app_key="k", app_secret=Secret("s")),), destinations=(team,))).lanes["team"]  # fmt: skip

    assert lane["routes"]["webhook"] == {"senders": ["robot.ops"], "in_flight": 1}
    assert lane["first"] == {
        "send": "group", "ring": "webhook", "assign": "todo", "share": "upload", "recall": "recall", "todo": "todo",
    }  # fmt: skip


def test_a_months_quota_is_the_organisations_and_not_a_senders() -> None:
    told = dataclasses.replace(
        settings(
            dataclasses.replace(OPS, organisation="acme"),
            apps=(App(name="acme", app_key="k", app_secret=Secret("s"), organisation="acme"),),
        ),
        organisations={"acme": Organisation(name="acme", api_calls=5_000, webhook_calls=3_000, urgent_reserve=100)},
    )

    senders = pace_of(told).senders

    api = {"quota": "organisation.acme.api", "month": 5_000, "month_reserve": 100}
    assert senders["app.acme.group"].items() >= api.items()
    assert senders["app.acme.todo"].items() >= api.items()
    assert senders["robot.ops"]["quota"] == "organisation.acme.webhook"
    assert "month" not in senders["app.acme.lookup"], "the address book is free"


@pytest.mark.parametrize(("users", "calls"), [(1, 1_500), (3, 500), (100, 15), (250, 15)])
def test_work_notifications_keep_their_recipients_a_minute(users: int, calls: int) -> None:
    everyone = tuple(f"p{number}" for number in range(users))
    notices = Destination(name="notices", app="acme", users=everyone, via="notice")

    senders = pace_of(settings(apps=(App(name="acme", app_key="k", app_secret=Secret("s")),), destinations=(notices,))).senders  # fmt: skip

    assert senders["app.acme.notice"]["windows"] == [[20, 1_000], [calls, 60_000]]


def test_without_senders_lanes_rest_a_minute() -> None:
    assert pace_of(settings()).rest_ms == 60_000
