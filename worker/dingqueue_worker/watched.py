"""HTTP connections that keep one deadline for a whole exchange, and know whether it has left. Knows no DingTalk.

The libraries' exceptions cannot say whether a request left: a TLS error, a timeout and a reset look alike before and
after. And their timeouts restart with every byte that drips in. So the connection itself notes the moment of the first
byte, and reads and writes against one deadline.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import logging
import re
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeGuard, TypeVar

from urllib3 import HTTPHeaderDict, HTTPResponse, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, ProxyError

#: A connection that idled longer is not used again: the far side, or a NAT between, may have dropped it without our
#: seeing it, and then nobody could tell whether the request was taken. A new handshake is cheaper than that doubt.
MAX_IDLE_S = 10.0

#: A request of more bytes leaves in pieces.
MAX_GATHERED_BYTES = 64 * 1024

#: What the libraries raise when a connection fails, some of it through their own wrappers.
NETWORK_ERRORS = (OSError, HTTPError, http.client.HTTPException)


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request and its answer: until when, whether its connection stands, and whether a byte of it has left."""

    deadline: float
    asked: bool = False
    left: bool = False

    def left_s(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()


@contextmanager
def exchange(total_s: float) -> Iterator[Exchange]:
    """Let every watched connection that this thread uses meanwhile keep one deadline."""
    one = Exchange(deadline=time.monotonic() + total_s)
    reset = _current.set(one)
    try:
        with _unseen_by_others():
            yield one
    finally:
        _current.reset(reset)


def _unseen_by_others() -> AbstractContextManager[None]:
    """Keep OpenTelemetry's instrumentations of HTTP libraries off: a span of theirs has the whole query, token and all."""
    loaded: Any = sys.modules.get("opentelemetry.instrumentation.utils")
    return loaded.suppress_http_instrumentation() if loaded else nullcontext()


_current: ContextVar[Exchange] = ContextVar("dingqueue_exchange")


class _DeadlineReader(io.RawIOBase):
    """A socket's raw reader that waits for no byte past the deadline."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, exchange: Exchange) -> None:
        self._raw = raw
        self._sock = sock
        self._silence_s = sock.gettimeout()
        self._exchange = exchange

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        left_s = self._exchange.left_s()
        if left_s <= 0:
            raise TimeoutError("the request's total time is over")
        _bound(self._sock, left_s if self._silence_s is None else min(self._silence_s, left_s))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _bound(sock: socket.socket, timeout_s: float) -> None:
    """Set a socket's timeout, unless it is that: it is a system call, and lets another thread take over."""
    if sock.gettimeout() != timeout_s:
        sock.settimeout(timeout_s)


class _DeadlineResponse(http.client.HTTPResponse):
    def __init__(
        self, sock: socket.socket, debuglevel: int = 0, method: str | None = None, url: str | None = None
    ) -> None:
        super().__init__(sock, debuglevel, method, url)
        raw = self.fp.detach()
        self.fp = io.BufferedReader(_DeadlineReader(raw, sock, _current.get()))


class Watched(HTTPConnection):
    """A connection that notes when a request leaves, and is not used again after a long idle time."""

    response_class = _DeadlineResponse
    _used_at = 0.0
    #: What is written while a request is put together: its head and a body that is whole leave in one packet.
    _gathered: bytearray | None = None

    @property
    def is_connected(self) -> bool:
        """The pool asks this before it hands a kept connection out."""
        return time.monotonic() - self._used_at < MAX_IDLE_S and super().is_connected

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is None:
            self.connect()
        exchange = _current.get()
        if exchange.left_s() <= 0:
            raise ConnectTimeoutError(self, "the request's total time is over before it left")
        self._used_at = time.monotonic()
        exchange.asked = True  # what was sent before, to a proxy, was not the request
        self._gathered = bytearray()
        try:
            super().request(*args, **kwargs)
            self._let_go()
        finally:
            self._gathered = None

    def send(self, data: Any) -> None:
        if self._gathered is not None:
            if isinstance(data, bytes) and len(self._gathered) + len(data) <= MAX_GATHERED_BYTES:
                self._gathered += data
                return
            self._let_go()
        self._send(data)

    def _let_go(self) -> None:
        gathered, self._gathered = self._gathered, None
        if gathered:
            self._send(bytes(gathered))

    def _send(self, data: Any) -> None:
        exchange = _current.get()
        exchange.left = exchange.asked
        if self.sock is not None:
            left_s = exchange.left_s()
            if left_s <= 0:
                raise TimeoutError("the request's total time is over")
            self.sock.settimeout(left_s)
        super().send(data)


class WatchedTls(Watched, HTTPSConnection):
    """The same over TLS."""


class Reply(NamedTuple):
    """What came back: the head whole, of the body no more than was asked for."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


def _read(response: http.client.HTTPResponse, most_bytes: int) -> bytes:
    head = response.headers
    if "Content-Encoding" not in head and len(head.get_all("Content-Length", ())) < 2:
        return response.read(most_bytes)
    # Nobody asked for it compressed, or its lengths differ: urllib3 knows what may be read of that.
    wrapped = HTTPResponse(body=response, headers=HTTPHeaderDict(head.items()), status=200, preload_content=False)
    return wrapped.read(most_bytes)


class _Once(HTTPConnectionPool):
    """Asks once. The pool's own `urlopen` is ready for redirects, repeats and streams, and that costs as much as the rest."""

    def once(
        self,
        method: str,
        target: str,
        *,
        body: Any,
        headers: Mapping[str, str],
        connect_timeout_s: float,
        read_timeout_s: float,
        most_bytes: int,
    ) -> Reply:
        """Send one request over a kept or a new connection and read its answer.

        Args:
            method: Of HTTP.
            target: Encoded; through a proxy that sees the request, the whole address.
            body: Bytes, or something to read them from; None for none.
            headers: All but the host and the body's length.
            connect_timeout_s: For a new connection.
            read_timeout_s: Longest silence of the far side.
            most_bytes: What is longer is cut here, and its connection not used again.

        Raises:
            NETWORK_ERRORS: Those of the connection, as they are; ``ProxyError`` where a proxy did not connect us.
        """
        connection: Any = self._get_conn()
        kept: Any = None
        try:
            connection.timeout = connect_timeout_s
            if self.proxy is not None:
                headers = self._through_proxy(connection, headers)
            self._validate_conn(connection)
            # Who hangs up early may have answered first.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, target, body=body, headers=headers)
            connection.timeout = read_timeout_s
            if connection.sock is not None:
                _bound(connection.sock, read_timeout_s)
            response = http.client.HTTPConnection.getresponse(connection)
            found = _read(response, most_bytes)
            if response.isclosed():
                kept = connection
            elif response.length and len(found) < most_bytes:
                raise http.client.IncompleteRead(found, response.length)
            return Reply(response.status, response.headers, found)
        except (OSError, HTTPError, http.client.HTTPException) as error:
            if connection.proxy and not connection.has_connected_to_proxy and not isinstance(error, ProxyError):
                raise ProxyError("no way through the proxy", error) from error
            raise
        finally:
            if kept is None:
                connection.close()
            self._put_conn(kept)

    def _through_proxy(self, connection: Any, headers: Mapping[str, str]) -> Mapping[str, str]:
        if self.scheme == "http":
            return {**headers, **self.proxy_headers}
        if connection.is_closed:
            self._prepare_proxy(connection)
        return headers


class Pool(_Once):
    """Watched connections to one host."""

    ConnectionCls = Watched


class TlsPool(_Once, HTTPSConnectionPool):
    """The same over TLS."""

    ConnectionCls = WatchedTls


_Manager = TypeVar("_Manager", bound=PoolManager)


def watch(manager: _Manager) -> _Manager:
    """Let a manager make watched connections only."""
    manager.pool_classes_by_scheme = {"http": Pool, "https": TlsPool}
    return manager


# --- Words without secrets --------------------------------------------------------------------------------------

FAILED = "the connection failed"
NOT_SENT = {
    "NameResolutionError": "the host's name was not found",
    "gaierror": "the host's name was not found",
    "ConnectionRefusedError": "connection refused",
    "ConnectionResetError": "the connection was reset at once",
    "ConnectTimeoutError": "no connection in time",
    "TimeoutError": "no connection in time",
    "ReadTimeoutError": "no connection in time",
    "ProxyError": "the proxy did not connect us",
    "SSLError": "the TLS handshake failed",
    "SSLCertVerificationError": "the server's certificate was not accepted",
    "CertificateError": "the server's certificate was not accepted",
}
UNANSWERED = {
    "ReadTimeoutError": "no answer in time",
    "TimeoutError": "no answer in time",
    "RemoteDisconnected": "the connection ended before an answer",
    "ConnectionResetError": "the connection was reset before an answer",
    "BrokenPipeError": "the connection was reset before an answer",
    "IncompleteRead": "the answer was cut short",
    "InvalidChunkLength": "the answer was cut short",
    "BadStatusLine": "what came back was not HTTP",
}


def bottom(error: BaseException) -> BaseException:
    """The error that the libraries wrapped, as far down as it still names what happened."""
    while not isinstance(error, ProxyError):
        inside = (getattr(error, "reason", None), *error.args, error.__cause__)
        inner = next((part for part in inside if _is_network(part)), None)
        if inner is None:
            break
        error = inner
    return error


def _is_network(part: object) -> TypeGuard[BaseException]:
    return isinstance(part, OSError | HTTPError | http.client.HTTPException)


#: Whatever urllib3 logs with a URL in it (every request, at DEBUG) holds the token and the signature.
_LIBRARY_LOGGERS = ("connection", "connectionpool", "poolmanager", "response", "util.retry")
_QUERY = re.compile(r"\?[^\s'\"]*")


class _MaskQueries(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = _QUERY.sub("?***", record.getMessage())
        record.args = ()
        return True


_MASK_QUERIES = _MaskQueries()


def mask_library_logs() -> None:
    """Cut the queries out of what urllib3 logs; doing it again changes nothing."""
    for name in _LIBRARY_LOGGERS:
        logging.getLogger(f"urllib3.{name}").addFilter(_MASK_QUERIES)
