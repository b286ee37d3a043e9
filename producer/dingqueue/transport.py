"""Kombu's Redis transport, publishing at half the cost. Knows Celery's broker and nothing of jobs.

It reaches into kombu 5.7: look at it when moving to another.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kombu.transport import redis

from dingqueue import inline

#: Their type stubs know little of what is used here.
_Channel: Any = redis.Channel
_Transport: Any = redis.Transport


class Channel(_Channel):  # type: ignore[misc]  # see above
    """Keeps one client. It is a thin, thread-safe handle on the pool, and kombu makes one for every command."""

    connection_class = inline.Connection
    _held: Any = None

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        """The client to send commands with."""
        if client is None:
            client = self._held
            if client is None or client.connection_pool is not self.pool:
                client = self._held = self._create_client()
        yield client


class Transport(_Transport):  # type: ignore[misc]  # see above
    """Named by ``broker_transport`` where the broker is Redis."""

    Channel = Channel


def serves(broker_url: str) -> bool:
    """Can it speak to this broker? What has a transport of its own in kombu (Sentinel, sockets) keeps it."""
    return broker_url.startswith(("redis://", "rediss://"))
