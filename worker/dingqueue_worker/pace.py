"""What the fleet publishes about itself: how fast each lane and sender may go. No secrets. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from dingqueue.files.limits import MAX_FILE_BYTES, MAX_NOTICE_BYTES
from dingqueue.routes import app_closing, app_sender, robot_sender
from dingqueue_worker.routing import RESULT, Route, first_routes, message_route, routes_of
from dingqueue_worker.settings import App, Destination, Fleet, Organisation, Robot, Settings

#: Webhook robots speak one at a time: order is kept, and a mute costs one refusal.
ROBOT_IN_FLIGHT = 1
#: Jobs of one destination with an app that are out at a time: enough to fill 20 calls a second at 400 ms each.
APP_IN_FLIGHT = 8
#: Recipients of one app's work notifications in a minute. The page names 5,000, the error's text 1,500; past the limit
#: DingTalk answers with success and drops the message, so it is the lower one that we keep.
#: https://open.dingtalk.com/document/development/asynchronous-sending-of-enterprise-session-messages
NOTICES_PER_MINUTE = 1_500
NOTICE_USERS = 100


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
    for robot in settings.robots.values():
        senders[robot_sender(robot.name)] |= _quota(settings, robot.organisation, "webhook")
    for app in settings.apps.values():
        senders |= _app(app, settings)
    return Pace(
        lanes={
            destination.name: _lane(destination, settings.fleet) | _digest(destination, senders)
            for destination in settings.destinations.values()
        },
        senders=senders,
        rest_ms=max((window_ms for sender in senders.values() for _, window_ms in sender["windows"]), default=60_000),
    )


def _digest(destination: Destination, senders: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """How long a lane that collects rests after each message: at half the lawful pace it never meets the limit."""
    if destination.overflow != "digest":
        return {}
    windows = [senders[robot_sender(name)]["windows"][0] for name in destination.robots] or [[20, 60_000]]
    return {"digest_ms": round(2.0 / sum(limit / window_ms for limit, window_ms in windows))}


def _lane(destination: Destination, fleet: Fleet) -> dict[str, Any]:
    routes = routes_of(destination)
    lane = _plain_lane(destination, fleet)
    if not routes:
        return lane
    alone = {"webhook": ROBOT_IN_FLIGHT}
    return lane | {
        "senders": [sender for senders in routes.values() for sender in senders],
        "in_flight": APP_IN_FLIGHT,
        "routes": {
            route: {"senders": list(senders)} | ({"in_flight": alone[route]} if route in alone else {})
            for route, senders in routes.items()
        },
        "first": dict(first_routes(destination)),
    }


def _plain_lane(destination: Destination, fleet: Fleet) -> dict[str, Any]:
    return {
        "senders": [robot_sender(name) for name in destination.robots],
        "in_flight": ROBOT_IN_FLIGHT,
        "expires_ms": _ms(destination.expires_s),
        "max_waiting": destination.max_waiting,
        "call_lease_ms": _ms(fleet.call_lease_s),
        "keep_ms": _ms(fleet.keep_ended_s),
        "keep_dead_ms": _ms(fleet.keep_dead_s),
        "files": files_bytes(destination),
    } | ({"zip": True} if fleet.zip_files else {})


def files_bytes(destination: Destination) -> int:
    """The largest file that the destination can carry; 0 where only a webhook robot speaks, which carries none."""
    match message_route(destination):
        case "webhook":
            return 0
        case "notice":
            return MAX_NOTICE_BYTES
        case _:
            return MAX_FILE_BYTES


def uploads_to(settings: Settings) -> frozenset[str]:
    """The destinations to which files are uploaded."""
    return frozenset(name for name, destination in settings.destinations.items() if files_bytes(destination))


def _robot(robot: Robot, *, shared: bool) -> dict[str, Any]:
    return {
        "windows": [[robot.limit, _ms(robot.window_s)]],
        "reserve": robot.urgent_reserve,
        "cooldown_ms": _ms(robot.cooldown_s),
        "shared": shared,
        "mark": _mark(robot),
    }


def _app(app: App, settings: Settings) -> dict[str, dict[str, Any]]:
    """A sender for each interface of an app, and the entry that closes them all at once."""
    usual = {"reserve": 0, "cooldown_ms": 60_000, "mark": app_mark(app)}
    second = [app.calls_per_s, 1_000]
    found: dict[str, dict[str, Any]] = {app_closing(app.name): usual | {"windows": [], "shared": False}}
    for interface in (*get_args(Route), RESULT):
        if interface == "webhook":
            continue
        windows = [second, _notices(app, settings)] if interface == "notice" else [second]
        sender = usual | {"windows": windows, "shared": True, "of": app_closing(app.name)}
        # The address book is free of the monthly quota.
        # https://open.dingtalk.com/document/development/basic-interfaces-such-as-log-off-and-address-book
        found[app_sender(app.name, interface)] = sender | (
            {} if interface == "lookup" else _quota(settings, app.organisation, "api")
        )
    return found


def _notices(app: App, settings: Settings) -> list[int]:
    """Calls a minute, so that their recipients stay within the limit, whichever destinations the calls are for."""
    notices = [one for one in settings.destinations.values() if one.app == app.name and one.via == "notice"]
    most = max((NOTICE_USERS if one.departments else min(len(one.users), NOTICE_USERS) for one in notices), default=1)
    return [NOTICES_PER_MINUTE // max(most, 1), 60_000]


def quotas_of(settings: Settings) -> dict[str, int]:
    """The calls that each organisation has in a month, by the quota's name, where the configuration says it."""
    found = {}
    for organisation in settings.organisations.values():
        for kind, most in (("api", organisation.api_calls), ("webhook", organisation.webhook_calls)):
            if most is not None:
                found[_quota_name(organisation, kind)] = most
    return found


def _quota_name(organisation: Organisation, kind: str) -> str:
    return f"organisation.{organisation.name}.{kind}"


def _quota(settings: Settings, organisation: str | None, kind: str) -> dict[str, Any]:
    """Whose month a sender's calls count in, and how many it has."""
    found = settings.organisations.get(organisation or "")
    if found is None:
        return {}
    month = found.api_calls if kind == "api" else found.webhook_calls
    quota = {"quota": _quota_name(found, kind)}
    return quota if month is None else quota | {"month": month, "month_reserve": found.urgent_reserve}


def _mark(robot: Robot) -> str:
    """A fingerprint that changes with the robot's configuration and gives nothing of it away."""
    secret = robot.secret.reveal() if robot.secret else ""
    return _fingerprint(robot.token.reveal(), secret, *robot.keywords)


def app_mark(app: App) -> str:
    """The same for an app: what could mend it is its credentials, its agent and its robot."""
    return _fingerprint(
        app.app_key, app.app_secret.reveal(), app.token_by, str(app.agent_id or ""), app.robot_code or ""
    )


def _fingerprint(*said: str) -> str:
    return hashlib.sha256("\0".join(said).encode()).hexdigest()[:12]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
