"""How every part of the store speaks to Redis: one client, one base of keys, one way to fail."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import redis
from redis.backoff import EqualJitterBackoff
from redis.retry import Retry as RedisRetry

from dingqueue.connections import redis_client
from dingqueue.routes import key_base
from dingqueue.scripts import ClockMs, Reply, Script, prelude, source
from dingqueue.servers import Refusal, refusal

T = TypeVar("T")


class StoreUnavailable(Exception):
    """Redis did not answer, or refused: nothing is known to have changed.

    Attributes:
        why: What went wrong, without an address or a password.
    """

    def __init__(self, why: Refusal) -> None:
        super().__init__(str(why))
        self.why = why


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What a script asks for.

    A person should hear once that a job is ``dead`` or a sender ``broken``, and why; the log, that a job ``expired``
    (``why`` is its destination); or somebody should fold what waits in a lane (``digest``).
    """

    name: str
    subject: str
    why: str


class Door:
    """A connection to the fleet's state. Safe to share between threads.

    Args:
        url: Redis or Valkey.
        prefix: What the fleet's keys start with.
        clock_ms: A test's clock; None is the server's own.
    """

    def __init__(self, url: str, *, prefix: str, clock_ms: ClockMs = None) -> None:
        self._client = connect(url)
        self._base = key_base(prefix)
        self._prefix, self._clock_ms = prefix, clock_ms

    def _script(self, name: str, *before: str) -> Script:
        """A script of the fleet's own, with the rule `call` and the other files before it."""
        ours = [("dingqueue_worker.scripts", file) for file in (*before, name)]
        return Script(self._client, self._prefix, source(prelude(), *ours), self._clock_ms)

    def ping(self) -> None:
        """Ask for an answer.

        Raises:
            StoreUnavailable: There was none.
        """
        ask(lambda: [self._client.ping()])

    def now_ms(self) -> int:
        """The server's clock, milliseconds since 1970."""
        seconds, micros = ask(lambda: cast("Reply", self._client.time()))
        return int(seconds) * 1000 + int(micros) // 1000

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()


class Patience(RedisRetry):
    """Repeats a command until a time is over; also one that a server refused which was demoted and may only read."""

    def __init__(self, patience_s: float) -> None:
        errors = (redis.ConnectionError, redis.TimeoutError, TimeoutError, redis.ReadOnlyError)
        super().__init__(EqualJitterBackoff(cap=1.0, base=0.05), -1, errors)
        self._patience_s = patience_s

    def call_with_retry(
        self,
        do: Callable[[], T],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,
    ) -> T:
        """Redis-py's own, with an end that the clock sets: its count says nothing of how long the waits are."""
        ends_s = time.monotonic() + self._patience_s

        def goes_on(error: Exception) -> bool:
            return time.monotonic() < ends_s and (is_retryable is None or is_retryable(error))

        return super().call_with_retry(do, fail, goes_on, with_failure_count)


def connect(url: str) -> redis.Redis:
    """A Redis client with bounded waits that does not repeat a command by itself."""
    return redis_client(
        url,
        timeout_s=5.0,
        connect_timeout_s=2.0,
        decode_responses=True,
        health_check_interval=10,
        client_name="dingqueue-worker",
    )


def ask(question: Callable[[], T]) -> T:
    """Redis's answer; whatever goes wrong is ``StoreUnavailable``, without the URL."""
    try:
        return question()
    except redis.RedisError as error:
        raise StoreUnavailable(refusal(error)) from None


def events_from(flat: Sequence[str]) -> tuple[Event, ...]:
    """Read the events of a script's reply."""
    return tuple(Event(name=flat[i], subject=flat[i + 1], why=flat[i + 2]) for i in range(0, len(flat), 3))
