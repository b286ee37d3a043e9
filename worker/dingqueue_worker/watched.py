"""HTTP connections that keep one deadline for a whole exchange, and know whether it has left. Knows no DingTalk.

The libraries' exceptions cannot say whether a request left: a TLS error, a timeout and a reset look alike before and
after. And their timeouts restart with every byte that drips in. So the connection itself notes the moment of the first
byte, and reads and writes against one deadline.
"""

from __future__ import annotations

import http.client
import io
import logging
import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeGuard, TypeVar

from urllib3 import PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, ProxyError

#: A connection that idled longer is not used again: the far side, or a NAT between, may have dropped it without our
#: seeing it, and then nobody could tell whether the request was taken. A new handshake is cheaper than that doubt.
MAX_IDLE_S = 10.0

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
        self._sock.settimeout(left_s if self._silence_s is None else min(self._silence_s, left_s))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


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
        super().request(*args, **kwargs)

    def send(self, data: Any) -> None:
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


class Pool(HTTPConnectionPool):
    """Watched connections to one host."""

    ConnectionCls = Watched


class TlsPool(HTTPSConnectionPool):
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
