"""The sandbox's HTTP side: finds the space, hands requests to it, and answers, or does not, as it says."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import Callable
from email.utils import formatdate

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from dingqueue_worker.sandbox.control import create_control
from dingqueue_worker.sandbox.model import Rules
from dingqueue_worker.sandbox.organisation import ApiRequest
from dingqueue_worker.sandbox.space import Reply, Space
from dingqueue_worker.sandbox.webhook import Request

#: The most of a body that is read; DingTalk itself takes far less (20,000 bytes, 20 MiB in an upload).
MAX_BODY_BYTES = 24 * 1024 * 1024
SPACE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

#: Every path of DingTalk's own that is not ``/robot/send``.
_API = ("/v1.0/", "/v2.0/", "/topapi/")
_CALLS = {"/gettoken", "/media/upload"}

#: Open connections by the far side's address: a fault may reset one.
_transports: dict[tuple[str, int], asyncio.Transport] = {}


class Protocol(HttpToolsProtocol):
    """uvicorn's own, which also says where the connection is."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Note it."""
        super().connection_made(transport)
        if self.client:
            _transports[self.client] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        if self.client:
            _transports.pop(self.client, None)
        super().connection_lost(exc)


class SandboxApp:
    """The ASGI application: every space, and the control API of each.

    Args:
        default: The space at the root.
        loopback_only: Whether a request must name this machine as its host, so that no web page can reach the sandbox
            under another name.
    """

    def __init__(self, default: Space, *, loopback_only: bool) -> None:
        self.spaces: dict[str, Space] = {"": default}
        self._loopback_only = loopback_only
        self._control = create_control(self.spaces)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            return await _lifespan(receive, send)
        if scope["type"] != "http":
            return None
        path: str = scope["path"]
        name = ""
        if path.startswith("/ns/"):
            name, _, path = path[4:].partition("/")
            path = f"/{path}"
        space = self.spaces.get(name)
        if space is None:
            return await _answer(send, _no_space(name), None)
        if path == "/robot/send":
            return await _robot_send(space, scope, receive, send)
        if path.startswith(_API) or path in _CALLS:
            return await _api(space, scope, receive, send)
        if self._loopback_only and not _names_loopback(scope):
            reply = Reply(status=421, body=b'{"error": "open the sandbox as 127.0.0.1 or localhost"}')
            return await _answer(send, reply, None)
        scope["root_path"] = f"/ns/{name}" if name else ""
        scope["space"] = space
        return await self._control(scope, receive, send)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _robot_send(space: Space, scope: Scope, receive: Receive, send: Send) -> None:
    body = await read_body(receive)
    if body is None:
        return
    content_type = b""
    for header, value in scope["headers"]:
        if header == b"content-type":
            content_type = value
    ip, port = scope["client"] or ("", 0)
    request = Request(
        method=scope["method"],
        query=scope["query_string"].decode("latin-1"),
        content_type=content_type.decode("latin-1"),
        body=body,
        ip=ip,
    )
    await _give(space, space.robot_send(request, f"{ip}:{port}"), scope, send)


async def _api(space: Space, scope: Scope, receive: Receive, send: Send) -> None:
    body = await read_body(receive)
    if body is None:
        return
    headers = dict(scope["headers"])
    # Not decoded: a part of the path may hold a slash of its own.
    path = scope["raw_path"].decode("latin-1")
    ip, port = scope["client"] or ("", 0)
    request = ApiRequest(
        method=scope["method"],
        path=path.removeprefix(f"/ns/{space.name}") if space.name else path,
        query=scope["query_string"].decode("latin-1"),
        content_type=headers.get(b"content-type", b"").decode("latin-1"),
        header_token=headers.get(b"x-acs-dingtalk-access-token", b"").decode("latin-1"),
        body=body,
    )
    await _give(space, space.api(request, f"{ip}:{port}"), scope, send)


async def _give(space: Space, reply: Reply, scope: Scope, send: Send) -> None:
    if reply.delay_s:
        await asyncio.sleep(reply.delay_s)
    if reply.reset:
        reset(scope["client"])
        return
    await _answer(send, reply, space)


async def read_body(receive: Receive) -> bytes | None:
    """The whole body; None where the far side went away or sends without end."""
    message = await receive()
    if message["type"] == "http.disconnect":
        return None
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return body
    parts, size_bytes = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        size_bytes += len(parts[-1])
        if size_bytes > MAX_BODY_BYTES:
            return b"".join(parts)
    return b"".join(parts)


async def _answer(send: Send, reply: Reply, space: Space | None) -> None:
    headers = [
        (b"content-type", reply.content_type.encode()),
        (b"content-length", str(len(reply.body)).encode()),
        *reply.headers,
    ]
    if space:
        headers.append((b"date", _date(space.clock.now_ms() // 1_000)))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


_dates: dict[int, bytes] = {}


def _date(now_s: int) -> bytes:
    """A ``Date`` header by the space's clock: it is what tells a sender that its own is wrong."""
    date = _dates.get(now_s)
    if date is None:
        if len(_dates) > 100:
            _dates.clear()
        date = _dates[now_s] = formatdate(now_s, usegmt=True).encode()
    return date


def reset(client: tuple[str, int] | None) -> None:
    """End a connection with RST, without another byte."""
    transport = _transports.get(client) if client else None
    if transport is None:
        return
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _no_space(name: str) -> Reply:
    shown = name if SPACE_NAME.fullmatch(name) else "?"
    return Reply(status=404, body=f'{{"errcode": 404, "errmsg": "the sandbox has no namespace {shown}"}}'.encode())


def _names_loopback(scope: Scope) -> bool:
    host = next((value.decode("latin-1") for header, value in scope["headers"] if header == b"host"), "")
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    return name in {"127.0.0.1", "localhost", "[::1]"}


def run(
    *,
    host: str,
    port: int,
    rules: Rules,
    prepare: Callable[[Space], None],
    ready: Callable[[str], None],
) -> None:
    """Serve until told to stop.

    Args:
        host: Address to listen on.
        port: Port; 0 takes a free one.
        rules: Of the space at the root.
        prepare: Fills that space.
        ready: Called with the base URL once connections are taken.

    Raises:
        OSError: The port is not free.
    """
    loopback = host in {"127.0.0.1", "localhost", "::1"}
    default = Space("", rules)
    prepare(default)
    with socket.create_server(
        (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2_048
    ) as listener:
        # Connections inherit it. asyncio sets it only on sockets made with the protocol's number; without it each answer,
        # two writes long, waits 40 ms for the far side's delayed acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        shown = f"[{host}]" if ":" in host else host
        ready_url = f"http://{shown}:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            SandboxApp(default, loopback_only=loopback),
            http=Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            # A sender's kept connection is its own affair; DingTalk's edge keeps one for a minute or so.
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
        )
        asyncio.run(_serve(uvicorn.Server(config), listener, lambda: ready(ready_url)))


async def _serve(server: uvicorn.Server, listener: socket.socket, ready: Callable[[], None]) -> None:
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.005)
    if server.started:
        ready()
    await serving
