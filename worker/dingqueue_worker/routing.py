"""Which ways a destination has, and which of them a job takes first. Pure: knows no rate and no DingTalk call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from dingqueue.routes import app_sender, robot_sender
from dingqueue_worker.settings import Destination

#: ``webhook``: a robot of the group. The others are calls of an app: a message by its robot to a ``group`` or to
#: ``people``, a work ``notice``, an ``upload``, a ``todo``, the ``lookup`` of a person, the ``recall`` of a message.
Route: TypeAlias = Literal["webhook", "group", "people", "notice", "upload", "todo", "lookup", "recall"]
#: Asked by beat and not through a lane: what became of a work notification.
RESULT = "result"


def message_route(destination: Destination) -> Route:
    """How a plain message reaches the people of a destination."""
    if destination.app and destination.conversation:
        return "group"
    if destination.app and (destination.users or destination.departments):
        return "notice" if destination.via == "notice" else "people"
    return "webhook"


def ringing_route(destination: Destination) -> Route:
    """How a message that rings people, or a feed, reaches them: an app's robot can do neither in a group."""
    route = message_route(destination)
    return "webhook" if route == "group" and destination.robots else route


def routes_of(destination: Destination) -> Mapping[Route, tuple[str, ...]]:
    """Every route of a destination with an app, and who speaks for it; empty without an app."""
    if not destination.app:
        return {}
    main = message_route(destination)
    routes: dict[Route, tuple[str, ...]] = {}
    interfaces: tuple[Route, ...] = (
        ("todo", "lookup", "recall") if main == "webhook" else (main, "upload", "todo", "lookup", "recall")
    )
    for route in interfaces:
        routes[route] = (app_sender(destination.app, route),)
    if destination.robots:
        routes["webhook"] = tuple(robot_sender(name) for name in destination.robots)
    return routes


def first_routes(destination: Destination) -> Mapping[str, Route]:
    """By what a job needs (as ``submit`` is told): the route of its first step."""
    main = message_route(destination)
    return {
        "send": main,
        "ring": ringing_route(destination),
        "assign": "todo",
        "share": main if main == "webhook" else "upload",
        "recall": "recall",
        "todo": "todo",
    }
