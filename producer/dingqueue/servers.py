"""Which Redis and which broker are meant, by whose word, and what to say when one of them fails. Connects to nothing."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import redis

from dingqueue.addresses import check_broker, is_redis, redis_address
from dingqueue.environment import resolved
from dingqueue.routes import DEFAULT_BROKER_URL


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """The two URLs.

    Attributes:
        broker_url: Celery's broker.
        state_url: The Redis that holds the lanes.
        variable: The environment variable that says where the lanes are; "" when it was given.
        given: What was given, and not left to the environment.
    """

    broker_url: str
    state_url: str
    variable: str
    given: tuple[str | None, str | None]

    def __repr__(self) -> str:
        """Without the URLs: they may hold a password."""
        return f"Servers(broker={place(self.broker_url)!r}, state={place(self.state_url)!r})"

    def failed(self, why: Refusal) -> str:
        """What to say when the lanes' Redis did not do what it was asked: where it is, why, what to look at."""
        said = f"Redis at {place(self.state_url)} {why.said}"
        if why.answered:
            return said
        if self.variable and self.variable not in os.environ:
            return f"{said}; is it running? {self.variable} names another one"
        return f"{said}; is it running, and is {self.variable or 'the URL'} right?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What went wrong at Redis. Never an address or a password.

    Attributes:
        said: To stand behind Redis's name: "did not answer in time".
        answered: Redis spoke, and its words say what to do; else it may be down, or another one is meant.
    """

    said: str
    answered: bool = False

    def __str__(self) -> str:
        """A sentence for a log."""
        return f"Redis {self.said}"


def servers(
    broker_url: str | None = None,
    state_url: str | None = None,
    *,
    names: tuple[str, str] = ("broker_url", "state_url"),
    state_beside: bool = False,
) -> Servers:
    """What was given, else the environment's, else Redis on this machine.

    Args:
        broker_url: Celery's broker.
        state_url: The Redis that holds the lanes; default is the broker.
        names: What the two are called where they are given.
        state_beside: The environment's Redis goes with a broker that was given, too.

    Raises:
        ValueError: What would fail at the first call, in words that name whose mistake it is, without the address.
    """
    broker_name = names[0] if broker_url else "DINGQUEUE_BROKER_URL"
    broker = _read(broker_name, broker_url or os.environ.get("DINGQUEUE_BROKER_URL") or DEFAULT_BROKER_URL)
    from_environment = os.environ.get("DINGQUEUE_STATE_URL") if state_beside or not broker_url else None
    stated = state_url or from_environment
    state_name = (names[1] if state_url else "DINGQUEUE_STATE_URL") if stated else broker_name
    state = _read(state_name, stated) if stated else broker
    _check(broker_name, check_broker, broker)
    if not stated and not is_redis(state):
        asked = names[1] if broker_url else "DINGQUEUE_STATE_URL"
        raise ValueError(f"{asked}: the lanes stand in Redis, and the broker is another: name it, as redis://…")
    _check(state_name, redis_address, state)
    given = state_url or (from_environment if broker_url else None)
    return Servers(
        broker_url=broker,
        state_url=state,
        variable="" if state_name in names else state_name,
        given=(broker_url, given),
    )


def place(url: str) -> str:
    """Where it is, without user or password."""
    if is_redis(url):
        try:
            return str(redis_address(url))
        except ValueError:
            return "an address that cannot be read"
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname or "this machine"


#: Redis's own refusals, by their first word or the class that redis-py makes of it: what each means here.
_MEANT = (
    (("WRONGTYPE",), (), "keys of another program stand under this prefix; give DINGQUEUE_PREFIX another one, here and for the fleet"),
    (("NOPERM",), (redis.exceptions.NoPermissionError,), "its user may not do that; ops/redis.acl.template says who needs what"),
    (("OOM",), (redis.exceptions.OutOfMemoryError,), "it is full; raise its maxmemory, or see what waits: dingqueue lanes"),
    (("READONLY",), (redis.exceptions.ReadOnlyError,), "it is a replica; name the primary"),
    (("LOADING",), (redis.exceptions.BusyLoadingError,), "it has just started; try again in a moment"),
    (("MISCONF", "NOREPLICAS", "CLUSTERDOWN"), (), "it takes nothing in now; its log says more"),
)  # fmt: skip


def refusal(error: Exception) -> Refusal:
    """What a failure means that redis-py, or a broker's library, raised."""
    if isinstance(error, redis.AuthenticationError):
        return Refusal(said="refused the user or password")
    if isinstance(error, redis.TimeoutError):
        return Refusal(said="did not answer in time")
    said = _said(error)
    for words, kinds, meaning in _MEANT:
        if said.startswith(words) or isinstance(error, kinds):
            return Refusal(said=f"refused ({said}): {meaning}", answered=True)
    if isinstance(error, redis.exceptions.ResponseError):
        return Refusal(said=f"refused: {said}", answered=True)
    return Refusal(said=f"could not be reached ({_why(error)})")


def _why(error: Exception) -> str:
    """The operating system's word for it, where there was one."""
    for cause in filter(None, (error, error.__cause__, error.__context__)):
        if isinstance(cause, socket.gaierror):
            return "no such host"
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed ({cause.reason or type(cause).__name__})"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror.lower()
    return type(error).__name__


def _said(error: Exception) -> str:
    said = str(error).split(" script: ", 1)[0]
    # A pipeline says which of its commands it was, with all of that command's arguments.
    if said.startswith("Command # ") and " caused error: " in said:
        said = said.rsplit(" caused error: ", 1)[1]
    return said[:200]


def _read(name: str, text: str) -> str:
    try:
        return resolved(text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _check(name: str, read: Callable[[str], object], url: str) -> None:
    try:
        read(url)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
