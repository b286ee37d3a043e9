"""The control API of a space: what tests and the command set up, and what they read back. JSON in and out."""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dingqueue_worker.sandbox import inbox, view
from dingqueue_worker.sandbox.calls import CHATS, Way
from dingqueue_worker.sandbox.model import STATES, Advance, App, Fault, Moment, Person, Robot, Rules, State, problem
from dingqueue_worker.sandbox.space import Conflict, Message, Sender, Space

#: The longest that one request waits; the client asks again.
MAX_WAIT_S = 60.0
#: The most messages in one answer.
MAX_PAGE = 10_000
#: Spaces at a time; more is a test run that never ends one.
MAX_SPACES = 10_000

_M = TypeVar("_M", bound=BaseModel)


class _NewSpace(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    rules: Rules = Rules()


def create_control(spaces: MutableMapping[str, Space]) -> Starlette:
    """The control API; the request's space stands in its scope."""

    async def add_space(request: Request) -> Response:
        new = await _read(request, _NewSpace)
        if new.name in spaces:
            raise HTTPException(409, f"name: there is a namespace {new.name!r} already")
        if len(spaces) >= MAX_SPACES:
            raise HTTPException(429, f"there are {MAX_SPACES:,} namespaces already: delete some")
        spaces[new.name] = Space(new.name, new.rules)
        return JSONResponse({"name": new.name, "path": f"/ns/{new.name}"}, 201)

    async def list_spaces(_: Request) -> Response:
        return JSONResponse([{"name": space.name, "messages": space.stats()["requests"]} for space in spaces.values()])

    async def delete_space(request: Request) -> Response:
        if not spaces.pop(request.path_params["name"], None):
            raise HTTPException(404, "there is no such namespace")
        return JSONResponse({})

    return Starlette(
        routes=[
            *inbox.routes(spaces),
            Route("/_sandbox/namespaces", list_spaces, methods=["GET"]),
            Route("/_sandbox/namespaces", add_space, methods=["POST"]),
            Route("/_sandbox/namespaces/{name}", delete_space, methods=["DELETE"]),
            Route("/_sandbox/rules", _get_rules, methods=["GET"]),
            Route("/_sandbox/rules", _put_rules, methods=["PUT"]),
            Route("/_sandbox/robots", _get_robots, methods=["GET"]),
            Route("/_sandbox/robots", _put_robot, methods=["PUT", "POST"]),
            Route("/_sandbox/apps", _get_apps, methods=["GET"]),
            Route("/_sandbox/apps", _put_app, methods=["PUT", "POST"]),
            Route("/_sandbox/people", _get_people, methods=["GET"]),
            Route("/_sandbox/people", _put_person, methods=["PUT", "POST"]),
            Route("/_sandbox/tokens/expire", _expire_tokens, methods=["POST"]),
            Route("/_sandbox/todos", _get_todos, methods=["GET"]),
            Route("/_sandbox/files", _get_files, methods=["GET"]),
            Route("/_sandbox/messages", _get_messages, methods=["GET"]),
            Route("/_sandbox/messages/{number:int}", _get_message, methods=["GET"]),
            Route("/_sandbox/stats", _get_stats, methods=["GET"]),
            Route("/_sandbox/clock", _get_clock, methods=["GET"]),
            Route("/_sandbox/clock", _put_clock, methods=["PUT"]),
            Route("/_sandbox/clock/advance", _advance_clock, methods=["POST"]),
            Route("/_sandbox/faults", _get_faults, methods=["GET"]),
            Route("/_sandbox/faults", _add_fault, methods=["POST"]),
            Route("/_sandbox/faults", _clear_faults, methods=["DELETE"]),
            Route("/_sandbox/reset", _reset, methods=["POST"]),
        ],
        exception_handlers={HTTPException: _error, Conflict: _conflict},
    )


def _space(request: Request) -> Space:
    space: Space = request.scope["space"]
    return space


async def _get_rules(request: Request) -> Response:
    return JSONResponse(_space(request).rules.model_dump())


async def _put_rules(request: Request) -> Response:
    space = _space(request)
    changes = await _json(request)
    if not isinstance(changes, dict):
        raise HTTPException(400, "body: expected a JSON object")
    rules = _checked(Rules, space.rules.model_dump() | changes)
    if rules.keep != space.rules.keep:
        raise HTTPException(400, "keep: can be chosen only when the namespace is made")
    space.rules = rules
    return JSONResponse(rules.model_dump())


async def _get_robots(request: Request) -> Response:
    return JSONResponse([view.robot(state) for state in _space(request).robots.values()])


async def _put_robot(request: Request) -> Response:
    space = _space(request)
    robot = await _read(request, Robot)
    space.put_robot(robot)
    return JSONResponse(view.robot(space.robots[robot.token]), 201)


async def _get_apps(request: Request) -> Response:
    return JSONResponse([view.app(state) for state in _space(request).organisation.apps.values()])


async def _put_app(request: Request) -> Response:
    space = _space(request)
    app = await _read(request, App)
    space.put_app(app)
    return JSONResponse(view.app(space.organisation.apps[app.key]), 201)


async def _get_people(request: Request) -> Response:
    return JSONResponse([person.model_dump() for person in _space(request).organisation.people.values()])


async def _put_person(request: Request) -> Response:
    person = await _read(request, Person)
    _space(request).organisation.put_person(person)
    return JSONResponse(person.model_dump(), 201)


async def _expire_tokens(request: Request) -> Response:
    await _json(request)
    space = _space(request)
    space.organisation.expire_tokens(space.clock.now_ms())
    return JSONResponse({})


async def _get_todos(request: Request) -> Response:
    space = _space(request)
    return JSONResponse([view.todo(one) for one in space.organisation.todos.values()])


async def _get_files(request: Request) -> Response:
    space = _space(request)
    return JSONResponse([view.file(one) for one in space.organisation.files.values()])


async def _get_messages(request: Request) -> Response:
    space, query = _space(request), request.query_params
    states = _states(query.get("state", "accepted"))
    sender, ways = _sender(space, query.get("robot")), _ways(query.get("ways", "chats"))
    count, limit = _whole(query, "count", 0), min(_whole(query, "limit", MAX_PAGE), MAX_PAGE)
    after = _whole(query, "after", 0)
    wait_s = min(_seconds(query, "wait_s"), MAX_WAIT_S)

    def fits(one: Message) -> bool:
        return (
            one.number > after and one.way in ways and one.state in states and (sender is None or one.sender is sender)
        )

    if count and wait_s:
        enough = space.count(states, sender, ways) + count - sum(map(fits, space.messages))
        await space.wait(enough, states, sender, wait_s, ways)
    found = list(filter(fits, space.messages))
    return JSONResponse({
        "messages": [view.message(one) for one in found[:limit]],
        "more": len(found) > limit,
        "forgotten": space.messages[0].number - 1 if space.messages else 0,
    })  # fmt: skip


async def _get_message(request: Request) -> Response:
    message = _space(request).find(request.path_params["number"])
    if message is None:
        raise HTTPException(404, "there is no message with this number, or it is forgotten")
    return JSONResponse(view.message(message))


async def _get_stats(request: Request) -> Response:
    return JSONResponse(_space(request).stats())


async def _get_clock(request: Request) -> Response:
    return _clock(_space(request))


async def _put_clock(request: Request) -> Response:
    space = _space(request)
    space.clock.set(await _read(request, Moment))
    return _clock(space)


async def _advance_clock(request: Request) -> Response:
    space = _space(request)
    space.clock.advance(round((await _read(request, Advance)).s * 1_000))
    return _clock(space)


def _clock(space: Space) -> Response:
    return JSONResponse({"now_ms": space.clock.now_ms(), "stands": space.clock.stands})


async def _get_faults(request: Request) -> Response:
    return JSONResponse(_space(request).faults())


async def _add_fault(request: Request) -> Response:
    space = _space(request)
    space.add_fault(await _read(request, Fault))
    return JSONResponse(space.faults(), 201)


async def _clear_faults(request: Request) -> Response:
    _space(request).clear_faults()
    return JSONResponse([])


async def _reset(request: Request) -> Response:
    await _json(request)
    _space(request).reset()
    return JSONResponse({})


# --- Input ------------------------------------------------------------------------------------------------------


async def _json(request: Request) -> Any:
    # A form of another web page cannot send this content type.
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "the content type must be application/json")
    try:
        return json.loads(await request.body() or b"{}")
    except ValueError as error:
        raise HTTPException(400, f"body: not JSON: {error}") from error


async def _read(request: Request, model: type[_M]) -> _M:
    return _checked(model, await _json(request))


def _checked(model: type[_M], data: Any) -> _M:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise HTTPException(400, problem(error)) from error


def _states(text: str) -> tuple[State, ...]:
    if text == "any":
        return STATES
    wanted = text.split(",")
    if not set(wanted) <= set(STATES):
        raise HTTPException(400, f"state: expected any, or some of {', '.join(STATES)}")
    return tuple(state for state in STATES if state in wanted)


def _sender(space: Space, name: str | None) -> Sender | None:
    if name is None:
        return None
    state = space.named(name)
    if state is None:
        known = ", ".join(
            [*(one.name for one in space.robots.values()), *(one.name for one in space.organisation.apps.values())]
        )
        raise HTTPException(404, f"robot: there is no sender {name!r} here, only: {known or 'none'}")
    return state


_WAYS: dict[str, frozenset[Way]] = {
    "chats": CHATS,
    "todos": frozenset({"todo"}),
    "uploads": frozenset({"upload"}),
    "calls": frozenset({"call", "upload", "todo", "group", "people", "notice"}),
}


def _ways(text: str) -> frozenset[Way]:
    if text not in _WAYS:
        raise HTTPException(400, f"ways: expected one of {', '.join(_WAYS)}")
    return _WAYS[text]


def _whole(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise HTTPException(400, f"{name}: expected a whole number")
    return int(text)


def _seconds(query: Mapping[str, str], name: str) -> float:
    try:
        seconds = float(query.get(name, "0"))
    except ValueError as error:
        raise HTTPException(400, f"{name}: expected seconds") from error
    if not 0 <= seconds < 86_400:
        raise HTTPException(400, f"{name}: expected seconds, at least 0")
    return seconds


async def _error(request: Request, error: Exception) -> Response:
    status, detail = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, "failed")
    if status in {404, 405} and request.method != "GET" and not request.url.path.startswith("/_sandbox"):
        # A call that DingTalk does not have, or a page that nobody posts to.
        return JSONResponse({"errcode": 404, "errmsg": "the requested resource is not found"})
    return JSONResponse({"error": detail}, status)


async def _conflict(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 409)
