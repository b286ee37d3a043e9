"""Kombu's Redis transport, publishing at half the cost. Knows Celery's broker and nothing of jobs.

It reaches into kombu 5.7: look at it when moving to another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import kombu
from celery.app.amqp import AMQP
from kombu.transport import redis
from kombu.utils.url import maybe_sanitize_url

from dingqueue import inline
from dingqueue.connections import sentinel_pool

#: Their type stubs know little of what is used here.
_Channel: Any = redis.Channel
_SentinelChannel: Any = redis.SentinelChannel
_Transport: Any = redis.Transport
_SentinelTransport: Any = redis.SentinelTransport


class OneClient:
    """For a channel: keeps one client. It is a thin, thread-safe handle on the pool, and kombu makes one for every command."""

    protocol: int | None = None
    _held: Any = None

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        """The client to send commands with."""
        if client is None:
            here: Any = self
            client = self._held
            if client is None or client.connection_pool is not here.pool:
                client = self._held = here._create_client()
        yield client

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        above: Any = super()
        told: dict[str, Any] = above._connparams(asynchronous)
        return told | ({"protocol": self.protocol} if self.protocol else {})


class ByName(OneClient):
    """For a channel to whoever the Sentinels call the primary: all of them are in one list that every connection asks.

    kombu's own takes the list from several URLs, and on a failure goes on to the next of those, with other options.
    """

    sentinels: Sequence[tuple[str, int]] = ()
    master_name = ""
    sentinel_kwargs: dict[str, Any] | None = None

    def _sentinel_managed_pool(self, asynchronous: bool = False) -> Any:
        told = self._connparams(asynchronous)
        for name in ("host", "port"):
            told.pop(name, None)
        manager, pool = sentinel_pool(self.sentinels, self.master_name, self.sentinel_kwargs or {}, **told)
        # Where kombu looks for what to close.
        setattr(self, "_async_sentinel_manager" if asynchronous else "_sentinel_manager", manager)
        return pool


class Channel(OneClient, _Channel):  # type: ignore[misc]  # see above
    """To one server."""

    connection_class = inline.Connection
    from_transport_options = (*_Channel.from_transport_options, "protocol")


class SentinelChannel(ByName, _SentinelChannel):  # type: ignore[misc]  # see above
    """To whoever is primary."""

    from_transport_options = (*_SentinelChannel.from_transport_options, "protocol", "sentinels")


class Transport(_Transport):  # type: ignore[misc]  # see above
    """Named by ``broker_transport`` where the broker is one server."""

    Channel = Channel


class SentinelTransport(_SentinelTransport):  # type: ignore[misc]  # see above
    """Named by ``broker_transport`` where Sentinels say which server it is."""

    Channel = SentinelChannel


_SHOWN = dict(kombu.Connection.resolve_aliases) | {
    f"{room}.transport:{name}": scheme
    for room in ("dingqueue", "dingqueue_worker")
    for name, scheme in (("Transport", "redis"), ("SentinelTransport", "sentinel"))
}


class Connection(kombu.Connection):
    """kombu's, which shows a broker by its scheme and not by the Python path of its transport."""

    resolve_aliases = _SHOWN

    def info(self) -> dict[str, Any]:
        """What a worker tells whoever asks it, Flower among them: Celery takes out the password, and misses these."""
        found: dict[str, Any] = super().info()
        found["hostname"] = maybe_sanitize_url(found["hostname"])
        for name in ("transport_options", "ssl"):
            found[name] = _without_passwords(found[name])
        return found


def _without_passwords(told: Any) -> Any:
    if isinstance(told, dict):
        return {
            name: "***" if "password" in name and value else _without_passwords(value) for name, value in told.items()
        }
    return told


class Amqp(AMQP):
    """Celery's, with that connection."""

    Connection = Connection
    BrokerConnection = Connection
