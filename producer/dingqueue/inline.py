"""Redis in the caller's own thread: over a connection that is open, until a deadline. Knows sockets and no job.

Handing a call to another thread and waiting for it takes longer than Redis does. What makes another thread needed is
what nothing bounds: a name look-up, a handshake, an answer that drips in. So a thread that is bounded opens no
connection, and each of its reads and writes ends at the deadline.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import redis

T = TypeVar("T")


class NotOpen(Exception):
    """There is no open connection, and a bounded thread opens none: nothing was sent."""


class _Thread(threading.local):
    deadline_s: float | None = None


_this = _Thread()


def serves(url: str) -> bool:
    """Are connections to this URL of the kind below? Those with TLS and to a Unix socket are not."""
    return url.startswith("redis://") and ";" not in url


@contextmanager
def until(deadline_s: float) -> Iterator[None]:
    """Bound this thread's use of `Connection` by an instant of ``time.monotonic()``."""
    _this.deadline_s = deadline_s
    try:
        yield
    finally:
        _this.deadline_s = None


class _Socket(socket.socket):
    def recv(self, *args: Any) -> bytes:
        return self._bounded(super().recv, *args)

    def recv_into(self, *args: Any) -> int:
        return self._bounded(super().recv_into, *args)

    def sendall(self, *args: Any) -> None:
        return self._bounded(super().sendall, *args)

    def _bounded(self, action: Callable[..., T], *args: Any) -> T:
        if _this.deadline_s is None:
            return action(*args)
        left_s, own_s = _this.deadline_s - time.monotonic(), self.gettimeout()
        if left_s <= 0:
            raise TimeoutError("the call's time is over")
        if own_s is not None and own_s <= left_s:
            return action(*args)
        self.settimeout(left_s)
        try:
            return action(*args)
        finally:
            self.settimeout(own_s)


class Connection(redis.Connection):
    """A TCP connection to Redis, for threads that are bounded and for those that are not."""

    def _connect(self) -> socket.socket:
        if _this.deadline_s is not None:
            raise NotOpen
        made: socket.socket = super()._connect()  # type: ignore[no-untyped-call]  # it has no types
        timeout_s = made.gettimeout()
        ours = _Socket(made.family, made.type, made.proto, fileno=made.detach())
        ours.settimeout(timeout_s)
        return ours
