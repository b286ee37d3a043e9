"""The inbox: messages as people would see them, and why the others were refused. Works without scripts, better with."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator, MutableMapping
from datetime import UTC, datetime
from importlib import resources
from typing import Any
from urllib.parse import quote

import jinja2
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from dingqueue_worker.sandbox import explain, render, search, view
from dingqueue_worker.sandbox.organisation import AppState
from dingqueue_worker.sandbox.space import Message, RobotState, Space

#: Messages on a page.
PAGE = 50
#: The most that one search looks at: somebody waits for it, and so does every sender.
MAX_SEARCHED = 5_000
#: A poll that nothing happens in ends after this, so that proxies do not end it.
POLL_S = 25.0
_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_SPACES_SHOWN = 50


def routes(spaces: MutableMapping[str, Space]) -> list[Route]:
    """The pages; the request's space stands in its scope."""
    pages = _Pages(spaces)
    return [
        Route("/", pages.inbox),
        Route("/stream", pages.stream),
        Route("/message/{number:int}", pages.message),
        Route("/message/{number:int}.json", pages.raw),
        Route("/file/{media_id}", pages.file),
        Route("/assets/{name}", pages.asset),
    ]


class _Pages:
    def __init__(self, spaces: MutableMapping[str, Space]) -> None:
        self._spaces = spaces
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("dingqueue_worker.sandbox", "pages"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters["clock"] = explain.instant
        self._templates.filters["iso"] = _iso
        self._templates.filters["hue"] = _hue
        folder = resources.files("dingqueue_worker.sandbox") / "pages"
        self._assets = {one.name: one.read_bytes() for one in folder.iterdir() if one.name.rpartition(".")[2] in _TYPES}

    async def inbox(self, request: Request) -> Response:
        space, text = _space(request), request.query_params.get("q", "")
        before = _number(request, "before")
        found, more = await _newest(space, search.parse(text), before=before)
        return self._page(
            request,
            "inbox.html",
            messages=[card(space, one, pictures=_pictures(request)) for one in found],
            more=more,
            first=found[0].number if found else 0,
            last=space.last,
            live=before == 0,
            q=text,
            **self._around(space, text),
        )

    async def stream(self, request: Request) -> Response:
        """What is new after a number, as pieces of the page; waits for it."""
        space, query = _space(request), search.parse(request.query_params.get("q", ""))
        after = _number(request, "after")
        if request.query_params.get("wait") and space.last <= after and space.last >= 0:
            with space.watch() as watcher, contextlib.suppress(TimeoutError):
                await asyncio.wait_for(watcher.wait(), POLL_S)
            # A burst comes as one piece.
            await asyncio.sleep(0.1)
        anew = space.last < after  # it has been reset
        found, _ = await _newest(space, query, after=0 if anew else after)
        around = self._around(space, request.query_params.get("q", ""))
        base = self._base(request)
        pieces = {
            name: self._templates.get_template(f"{name}.html").render(base | around) for name in ("robots", "status")
        }
        cards = self._templates.get_template("messages.html").render(
            base, messages=[card(space, one, pictures=base["pictures"]) for one in found]
        )
        return JSONResponse(
            {"last": space.last, "anew": anew, "count": len(found), "messages": cards, **pieces}, headers=_headers(base)
        )

    async def message(self, request: Request) -> Response:
        one = _message(request)
        base_url = f"{request.url.scheme}://{request.url.netloc}{request.scope['root_path']}"
        return self._page(
            request,
            "explain.html",
            panel="panel" in request.query_params,
            one=card(_space(request), one, pictures=_pictures(request)),
            steps=explain.steps(one),
            places=explain.places(one),
            curl=explain.curl(one, base_url),
            answer=explain.answer(one),
            pretty=_pretty(one),
            method=one.method,
            path=one.path,
            query=view.masked_query(one.query),
            content_type=one.content_type,
            used=min(100.0, one.size_bytes / 200),
            q="",
        )

    async def raw(self, request: Request) -> Response:
        shown = json.dumps(view.message(_message(request)), ensure_ascii=False, indent=2)
        return Response(shown, media_type="application/json", headers={"X-Content-Type-Options": "nosniff"})

    async def file(self, request: Request) -> Response:
        """An uploaded file, to be saved and never shown: it may be anything."""
        found = _space(request).organisation.files.get(request.path_params["media_id"])
        if found is None:
            raise HTTPException(404, "there is no such file, or it is forgotten")
        headers = {
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(found.name, safe='')}",
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "X-Content-Type-Options": "nosniff",
        }
        return Response(found.content, media_type="application/octet-stream", headers=headers)

    async def asset(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._assets:
            raise HTTPException(404, "there is no such asset")
        kind = _TYPES[name.rpartition(".")[2]]
        return Response(
            self._assets[name],
            media_type=kind,
            headers={"X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"},
        )

    def _page(self, request: Request, template: str, **values: Any) -> Response:
        base = self._base(request)
        return HTMLResponse(self._templates.get_template(template).render(base, **values), headers=_headers(base))

    def _base(self, request: Request) -> dict[str, Any]:
        return {
            "root": request.scope["root_path"],
            "space": _space(request),
            "pictures": _pictures(request),
            "base_url": f"{request.url.scheme}://{request.url.netloc}{request.scope['root_path']}",
        }

    def _around(self, space: Space, text: str) -> dict[str, Any]:
        now_ms = space.clock.now_ms()
        others = [name for name in self._spaces if name != space.name][-_SPACES_SHOWN:]
        return {
            "robots": [
                _robot(state, now_ms) for state in space.robots.values() if state.attempts or not space.rules.any_token
            ],
            "apps": [_app(state) for state in space.organisation.apps.values()],
            "chosen": search.parse(text).value("robot"),
            "others": others,
            "stats": space.stats(),
            "clock_off_s": space.clock.shift_s,
            "clock_stands": space.clock.stands,
            "now_ms": now_ms,
        }


def _headers(base: dict[str, Any]) -> dict[str, str]:
    pictures = " https: http:" if base["pictures"] else ""
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        f"img-src 'self'{pictures}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cache-Control": "no-store",
    }


async def _newest(space: Space, query: search.Query, *, before: int = 0, after: int = 0) -> tuple[list[Message], bool]:
    """The newest that fit, oldest first, and whether there are more before them."""
    found: list[Message] = []
    for searched, one in enumerate(list(_backwards(space, before, after))):
        if len(found) == PAGE or searched == MAX_SEARCHED:
            return found[::-1], True
        if query.fits(one):
            found.append(one)
        if searched % 100 == 99:
            await asyncio.sleep(0)
    return found[::-1], False


def _backwards(space: Space, before: int, after: int) -> Iterator[Message]:
    for one in reversed(space.messages):
        if one.number <= after:
            return
        if not before or one.number < before:
            yield one


def card(space: Space, one: Message, *, pictures: bool) -> dict[str, Any]:
    """A message with all that its card on a page shows."""
    shown = view.message(one)
    return shown | {
        "look": render.show(shown["content"], shown["raw"], shown["rings"], pictures=pictures),
        "robot": shown["robot"] or "unknown token",
        "known": one.sender is not None,
        "who": {"webhook": "robot", "group": "app robot", "people": "app robot", "notice": "work notification"}.get(
            one.way, "app"
        ),
        "record": _todo(one, space),
        "file": _file(one, space),
    }


def _todo(one: Message, space: Space) -> dict[str, Any] | None:
    """A todo as it stands, its people by name."""
    if one.way != "todo" or one.done is None:
        return None
    names = {person.union_id: person.name for person in space.organisation.people.values()}
    shown = view.todo(one.done.record)
    return shown | {"people": [names.get(union_id, union_id) for union_id in shown["executors"]]}


def _file(one: Message, space: Space) -> dict[str, Any] | None:
    """The file that a message carries or an upload left, None without one or when it is forgotten."""
    seen = view.content(one)
    inner = seen.get("file") if view.kind(seen) == "file" else None
    media_id = inner.get("mediaId") if isinstance(inner, dict) else None
    if one.way == "upload" and one.done:
        media_id = one.done.key
    found = space.organisation.files.get(media_id) if isinstance(media_id, str) else None
    return view.file(found) if found else None


def _pretty(one: Message) -> str:
    body = view.parsed(one.body)
    return one.body.decode(errors="replace") if body is None else json.dumps(body, ensure_ascii=False, indent=2)


def _robot(state: RobotState, now_ms: int) -> dict[str, Any]:
    robot, window = state.robot, state.window
    return {
        "name": robot.name,
        "group": robot.group,
        "state": robot.state,
        "signs": robot.secret is not None,
        "keywords": robot.keywords,
        "token": view.robot(state)["token"],
        "used": len(window.taken_ms(now_ms)),
        "limit": robot.limit,
        "window_s": robot.window_s,
        "muted_s": max(0, window.muted_until_ms - now_ms) // 1_000,
        "accepted": state.states["accepted"],
        "refused": state.states["refused"],
        "search": f'robot:"{robot.name}"' if " " in robot.name else f"robot:{robot.name}",
    }


def _app(state: AppState) -> dict[str, Any]:
    return {
        "name": state.name,
        "calls": sum(state.calls.values()),
        "accepted": state.states["accepted"],
        "refused": state.states["refused"],
        "search": f'robot:"{state.name}"' if " " in state.name else f"robot:{state.name}",
    }


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1_000, UTC).isoformat()


def _hue(name: str) -> int:
    """One of twelve colours, the same for the same name."""
    return sum(name.encode()) % 12


def _space(request: Request) -> Space:
    space: Space = request.scope["space"]
    return space


def _pictures(request: Request) -> bool:
    return request.cookies.get("pictures") == "1"


def _message(request: Request) -> Message:
    one = _space(request).find(request.path_params["number"])
    if one is None:
        raise HTTPException(404, "there is no message with this number, or it is forgotten")
    return one


def _number(request: Request, name: str) -> int:
    text = request.query_params.get(name, "0")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 13 else 0
