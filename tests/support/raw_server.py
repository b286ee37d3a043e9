"""A server that says exactly the bytes it is told to, over plain TCP or TLS: what no HTTP library would send."""

from __future__ import annotations

import json
import select
import socket
import ssl
import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

#: A self-signed certificate for localhost and 127.0.0.1 and its key, made for these tests and good for nothing else.
CERTIFICATE = Path(__file__).with_name("localhost.pem")


@dataclass(frozen=True, slots=True)
class Say:
    """Send these bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Drip:
    """Send these bytes one by one."""

    data: bytes
    every_s: float


@dataclass(frozen=True, slots=True)
class Take:
    """Read this many bytes of what comes, and no more."""

    count: int


@dataclass(frozen=True, slots=True)
class Hang:
    """Say nothing more, until the server ends."""


@dataclass(frozen=True, slots=True)
class Reset:
    """End the connection with a reset."""


@dataclass(frozen=True, slots=True)
class Close:
    """End the connection in order."""


@dataclass(frozen=True, slots=True)
class Tunnel:
    """Be a proxy that has connected: carry bytes to and from this port."""

    port: int


Move: TypeAlias = Say | Drip | Take | Hang | Reset | Close | Tunnel
Moves: TypeAlias = Sequence[Move]


@dataclass(frozen=True, slots=True)
class RawRequest:
    """A request as it came."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def target(self) -> str:
        """What stands between the method and the version."""
        return self.line.split(" ")[1]

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def reply(
    body: bytes | str | dict[str, Any] = b'{"errcode":0,"errmsg":"ok"}',
    *,
    status: str = "200 OK",
    content_type: str = "application/json",
    headers: Sequence[str] = (),
) -> Say:
    """A whole and proper answer that keeps the connection."""
    data = json.dumps(body).encode() if isinstance(body, dict) else body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {content_type}", f"Content-Length: {len(data)}", *headers]
    return Say("\r\n".join([*lines, "", ""]).encode() + data)


@dataclass(slots=True)
class RawServer:
    """Makes the first moves on each connection, then answers request after request; the last answer is repeated.

    Args:
        answers: For each request, of whatever connection, what to do when it has been read whole.
        first: What to do with a connection before anything is read from it.
        tls: Speak TLS with the tests' own certificate.
    """

    answers: Sequence[Moves | Move] | Move = ()
    first: Moves = ()
    tls: bool = False
    #: What came, how many connections there were, and how many of them are over.
    requests: list[RawRequest] = field(default_factory=list)
    connections: int = 0
    ended: int = 0
    port: int = 0
    _listener: socket.socket = field(init=False)
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _threads: list[threading.Thread] = field(default_factory=list)
    _open: list[socket.socket] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        """Listen."""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for connection in self._open:
            connection.close()

    def _start(self, target: Any, *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        while not self._stop.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            self._start(self._serve, connection, context)

    def _serve(self, connection: socket.socket, context: ssl.SSLContext) -> None:
        # OSError is the other side's end, or ours; ValueError is a request cut off in its headers.
        with suppress(OSError, ValueError):
            if self._go(connection, self.first):
                if self.tls:
                    self._open.remove(connection)
                    connection = context.wrap_socket(connection, server_side=True)
                    self._open.append(connection)
                self._answer_each(connection)
        self.ended += 1

    def _answer_each(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            while request := _read(stream):
                with self._lock:
                    self.requests.append(request)
                    moves = self._answer(len(self.requests))
                if not self._go(connection, moves):
                    return

    def _answer(self, number: int) -> Moves:
        answers = self.answers if isinstance(self.answers, Sequence) else (self.answers,)
        answer = answers[min(number, len(answers)) - 1]
        return answer if isinstance(answer, Sequence) else (answer,)

    def _go(self, connection: socket.socket, moves: Moves) -> bool:
        """Make the moves; False when the connection is over."""
        for move in moves:
            match move:
                case Say(data):
                    connection.sendall(data)
                case Drip(data, every_s):
                    for byte in data:
                        connection.sendall(bytes([byte]))
                        if self._stop.wait(every_s):
                            return False
                case Take(count):
                    while count > 0 and (got := connection.recv(count)):
                        count -= len(got)
                case Hang():
                    self._stop.wait()
                    return False
                case Reset():
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    # Readers made from the socket keep it open; the descriptor goes now, and with it a reset.
                    socket.close(connection.detach())
                    return False
                case Close():
                    connection.shutdown(socket.SHUT_RDWR)
                    return False
                case Tunnel(port):
                    connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    self._carry(connection, port)
                    return False
        return True

    def _carry(self, connection: socket.socket, port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as far:
            other = {connection: far, far: connection}
            while not self._stop.is_set():
                for ready in select.select(list(other), [], [], 0.05)[0]:
                    data = ready.recv(65_536)
                    if not data:
                        return
                    other[ready].sendall(data)


def _read(stream: Any) -> RawRequest | None:
    line = stream.readline().decode("latin-1").strip()
    headers: dict[str, str] = {}
    while header := stream.readline().decode("latin-1").strip():
        name, value = header.split(":", 1)
        headers[name.lower()] = value.strip()
    body = stream.read(int(headers.get("content-length", 0)))
    return RawRequest(line, headers, body) if line else None
