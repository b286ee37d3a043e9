"""Kombu's Redis transport for messages that may be lost: nothing is acknowledged in Redis, and many are taken at once.

A call is disposable: its job stands in a lane, and its lease calls it again. Knows nothing of jobs. It reaches into
kombu 5.7, which `pyproject.toml` pins: look at both when moving it.
"""

from __future__ import annotations

import json
import logging
from queue import Empty
from time import monotonic
from typing import Any

from kombu.asynchronous import get_event_loop
from kombu.transport import virtual

from dingqueue import transport
from dingqueue_worker.telemetry import event

#: Messages taken in one turn of the loop, behind the first. Threads go on with their lanes: what one worker takes at once
#: it keeps for a while, and another stands idle.
_MOST = 8


class InMemory(virtual.QoS):
    """Counts what was taken and not begun, for the prefetch limit. Redis hears nothing of it."""

    _starved = False

    def can_consume(self) -> bool:
        """Is there room for one more?"""
        if super().can_consume():
            return True
        self._starved = True
        # Room that came before the flag was set is seen here; room that comes after it sees the flag.
        return bool(super().can_consume())

    def ack(self, delivery_tag: str) -> None:
        """Make room. Called in a pool's thread, while the loop may sleep because there was none."""
        super().ack(delivery_tag)
        if self._starved:
            self._starved = False
            if loop := get_event_loop():
                loop.call_soon(_come_round)


def _come_round() -> None:
    pass


def _message(item: bytes | str) -> dict[str, Any] | None:
    """A message as kombu wrote it; None for anything else, at which kombu would end the worker."""
    try:
        message = json.loads(item)
        if "delivery_tag" in message["properties"]:
            return dict(message)
    except (ValueError, TypeError, KeyError):
        pass
    # Its content may be anybody's, so only its size is told.
    event("dropped from the queue: no message of Celery's", level=logging.WARNING, size_bytes=len(item))
    return None


_Base: Any = object


class Many(_Base):  # type: ignore[misc]  # a part of a channel
    """For a channel: asks for many messages in one round trip, and keeps no account in Redis."""

    #: Priorities would be three more lists to look at; nothing here has one.
    priority_steps = (0,)
    ack_emulation = False
    #: The queue that was asked, and whether for more than one message.
    _asked: tuple[str, bool] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As kombu's, without its account in Redis."""
        super().__init__(*args, **kwargs)
        self.QoS = InMemory

    def _brpop_start(self, timeout: float | None = None) -> None:
        """Wait for a message and, in the same packet, take as many more behind it as there is room for."""
        room = min((self.qos.can_consume_max_estimate() or 1) - 1, _MOST)
        queues = tuple(self.active_queues)
        if len(queues) != 1 or self.global_keyprefix:
            self._asked = None
            super()._brpop_start(timeout)
            return
        (queue,) = queues
        self._asked, self._in_poll, self._brpop_sent_at = (queue, room > 0), self.client.connection, monotonic()
        commands: list[tuple[Any, ...]] = [("BRPOP", queue, timeout or self.brpop_timeout)]
        if room > 0:
            commands.append(("RPOP", queue, room))
        self._in_poll.send_packed_command(self._in_poll.pack_commands(commands))

    def _brpop_read(self, **options: Any) -> bool:
        asked, self._asked = self._asked, None
        if asked is None:
            return bool(super()._brpop_read(**options))
        queue, many = asked
        connection = self.client.connection
        try:
            first = self.client.parse_response(connection, "BRPOP", **options)
            more = self.client.parse_response(connection, "RPOP", **options) if many else None
        except Exception:
            # Two answers may be due: what is left on this connection answers no later question.
            connection.disconnect()
            raise
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()
        items = [*(first[1:] if first else ()), *(more or ())]
        if not items:
            raise Empty
        for item in items:
            if (message := _message(item)) is not None:
                self.connection._deliver(message, queue)
        return True


class Channel(Many, transport.Channel):
    """To one server."""


class SentinelChannel(Many, transport.SentinelChannel):
    """To whoever is primary."""


class Transport(transport.Transport):
    """Named by ``broker_transport`` where the broker is one server."""

    Channel = Channel


class SentinelTransport(transport.SentinelTransport):
    """Named by ``broker_transport`` where Sentinels say which server it is."""

    Channel = SentinelChannel
