"""What the fleet publishes about itself: how fast each lane and sender may go. No secrets. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from dingqueue.routes import robot_sender
from dingqueue_worker.settings import Destination, Fleet, Robot, Settings

#: Webhook robots speak one at a time: order is kept, and a mute costs one refusal.
ROBOT_IN_FLIGHT = 1
#: Calls a second of one app to one interface, standard edition: [limit, ms].
#: https://open.dingtalk.com/document/development/how-to-process-api-throttling-on-the-dingtalk-server
APP_WINDOW = [20, 1000]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """JSON-ready: destination -> lane, sender -> sender, as ``call.lua`` describes them."""

    lanes: dict[str, dict[str, Any]]
    senders: dict[str, dict[str, Any]]
    #: The longest window: how long lanes rest when nobody knows what was sent.
    rest_ms: int


def pace_of(settings: Settings) -> Pace:
    """The pace of every destination and sender of a configuration."""
    used = [robot for destination in settings.destinations.values() for robot in destination.robots]
    senders = {
        robot_sender(robot.name): _robot(robot, shared=used.count(robot.name) > 1) for robot in settings.robots.values()
    }
    senders |= {
        f"app.{app.name}": {"windows": [APP_WINDOW], "reserve": 0, "cooldown_ms": 60_000, "shared": True, "mark": ""}
        for app in settings.apps.values()
    }
    return Pace(
        lanes={destination.name: _lane(destination, settings.fleet) for destination in settings.destinations.values()},
        senders=senders,
        rest_ms=max((window_ms for sender in senders.values() for _, window_ms in sender["windows"]), default=60_000),
    )


def _lane(destination: Destination, fleet: Fleet) -> dict[str, Any]:
    return {
        "senders": [robot_sender(name) for name in destination.robots] or [f"app.{destination.app}"],
        "in_flight": ROBOT_IN_FLIGHT,
        "expires_ms": _ms(destination.expires_s),
        "max_waiting": destination.max_waiting,
        "call_lease_ms": _ms(fleet.call_lease_s),
        "keep_ms": _ms(fleet.keep_ended_s),
        "keep_dead_ms": _ms(fleet.keep_dead_s),
    }


def _robot(robot: Robot, *, shared: bool) -> dict[str, Any]:
    return {
        "windows": [[robot.limit, _ms(robot.window_s)]],
        "reserve": robot.urgent_reserve,
        "cooldown_ms": _ms(robot.cooldown_s),
        "shared": shared,
        "mark": _mark(robot),
    }


def _mark(robot: Robot) -> str:
    """A fingerprint that changes with the robot's configuration and gives nothing of it away."""
    secret = robot.secret.reveal() if robot.secret else ""
    said = "\0".join((robot.token.reveal(), secret, *robot.keywords))
    return hashlib.sha256(said.encode()).hexdigest()[:12]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
