"""Which Redis and which broker are meant, by whose word, and what to say when one of them fails. Connects to nothing."""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Callable, Collection, Sequence
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
        for_good: It will never do what it was asked: asking again is no use.
    """

    said: str
    answered: bool = False
    for_good: bool = False

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


#: What Redis adds to what a script met: which script (Valkey 9 does not say that), and where in it.
_IN_SCRIPT = re.compile(r" script: (?:\S+, )?on @.*", re.DOTALL)

#: What no server says that can hold jobs. The second is a Sentinel's, to whom something was published.
_NO_SUCH_COMMAND = ("unknown command", "Only HELLO messages")

#: Redis's own refusals, by their first word or the class that redis-py makes of it: what each means here.
_MEANT = (
    (("WRONGTYPE",), (), "keys of another program stand under this prefix; give DINGQUEUE_PREFIX another one, here and for the fleet"),
    (("NOPERM", "ACL failure"), (redis.exceptions.NoPermissionError,), "its user may not do that; ops/redis.acl.template says who needs what, and ACL LOG on the server which command or key it was"),
    (("OOM",), (redis.exceptions.OutOfMemoryError,), "it is full; raise its maxmemory, or see what waits: dingqueue lanes"),
    (("READONLY",), (redis.exceptions.ReadOnlyError,), "it is a replica; name the primary"),
    (("LOADING",), (redis.exceptions.BusyLoadingError,), "it has just started; try again in a moment"),
    (_NO_SUCH_COMMAND, (), "it has no such command; if it is a Sentinel, its address is sentinel://host:26379/name/0"),
    (("MISCONF", "NOREPLICAS", "CLUSTERDOWN"), (), "it takes nothing in now; its log says more"),
)  # fmt: skip


class NoPrimary(redis.ConnectionError):
    """The Sentinels name no server that takes jobs; its text says why, and what to change.

    Attributes:
        why: The same, to stand behind Redis's name.
    """

    def __init__(self, why: Refusal) -> None:
        """With the reason alone: what the Sentinels said is not repeated."""
        super().__init__(str(why))
        self.why = why


#: What a Sentinel refuses: its own user is not the servers'.
_SENTINELS_MEANT = (
    (redis.AuthenticationError, "its Sentinels refused the user or password; theirs go after the ?, as sentinel_username=…&sentinel_password=…, and those before the @ are the servers'"),
    (redis.exceptions.NoPermissionError, "its Sentinels' user may not ask them; ops/REDIS.md says what it must be allowed"),
)  # fmt: skip


def no_primary(
    name: str, *, down: bool, known: Collection[str], answers: int, failures: Sequence[Exception], tls: bool
) -> NoPrimary:
    """Why the Sentinels named no primary, by the answer of theirs that says most.

    Args:
        name: What the address calls the primary.
        down: One of them knows it, and says that it is down.
        known: The other names that they know.
        answers: How many of them answered.
        failures: What happened with each of the others; at least one where none answered.
        tls: Were they asked over TLS?
    """
    if down:
        return NoPrimary(Refusal(said="has no primary now, say its Sentinels: try again in a moment; if it stays so, their logs say why they promote no replica", answered=True))  # fmt: skip
    if answers:
        only = f"know only {', '.join(sorted(known))}" if known else "watch no server yet (SENTINEL MONITOR)"
        return NoPrimary(Refusal(said=f"was not found: its Sentinels know no {name}, they {only}; the name stands after the hosts, sentinel://host:26379/name/0", answered=True))  # fmt: skip
    for kind, meaning in _SENTINELS_MEANT:
        if any(isinstance(failure, kind) for failure in failures):
            return NoPrimary(Refusal(said=f"was not found: {meaning}", answered=True))
    first = failures[0]
    if isinstance(first, redis.ResponseError):
        is_server = _said(first).startswith("unknown command")
        meaning = "the hosts are no Sentinels; name those, their port is usually 26379, or one server as redis://" if is_server else f"its Sentinels refused ({_said(first)})"  # fmt: skip
        return NoPrimary(Refusal(said=f"was not found: {meaning}", answered=True))
    # A server that speaks TLS hangs up on who does not, and one that does not waits for the end of a line.
    if isinstance(first, redis.TimeoutError):
        why = "no answer in time" + ("; without TLS they are sentinel://" if tls else "")
    else:
        why = _why(first) + ("; with TLS they are sentinels://" if _hung_up(first) and not tls else "")
    return NoPrimary(Refusal(said=f"was not found: none of its Sentinels could be reached ({why})"))


def refusal(error: Exception) -> Refusal:
    """What a failure means that redis-py, or a broker's library, raised."""
    if isinstance(error, NoPrimary):
        return error.why
    if isinstance(error, redis.AuthenticationError):
        return Refusal(said="refused the user or password")
    if isinstance(error, redis.TimeoutError):
        return Refusal(said="did not answer in time")
    said = _said(error)
    for words, kinds, meaning in _MEANT:
        if said.startswith(words) or isinstance(error, kinds):
            return Refusal(said=f"refused ({said}): {meaning}", answered=True, for_good=words is _NO_SUCH_COMMAND)
    if isinstance(error, redis.exceptions.ResponseError):
        return Refusal(said=f"refused: {said}", answered=True)
    return Refusal(said=f"could not be reached ({_why(error)})")


def _hung_up(error: Exception) -> bool:
    return isinstance(error.__context__, ConnectionResetError) or str(error).startswith("Connection closed")


def _why(error: Exception) -> str:
    """The operating system's word for it, where there was one."""
    for cause in filter(None, (error, error.__cause__, error.__context__)):
        if isinstance(cause, socket.gaierror):
            return "no such host"
        if isinstance(cause, ssl.SSLError):
            # Of a certificate that was refused it is said why; OpenSSL alone says that much.
            refused = str(getattr(cause, "verify_message", "")).removesuffix(".")
            return f"TLS failed ({refused or cause.reason or type(cause).__name__})"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror.lower()
    return type(error).__name__


def _said(error: Exception) -> str:
    said = _IN_SCRIPT.sub("", str(error))
    # A pipeline says which of its commands it was, with all of that command's arguments.
    if said.startswith("Command # ") and " caused error: " in said:
        said = said.rsplit(" caused error: ", 1)[1]
    # An unknown command is said with the first of its arguments, which may be a message's text.
    return said.split(", with args beginning with", 1)[0][:200]


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
