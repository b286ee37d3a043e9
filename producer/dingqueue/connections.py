"""What redis-py and kombu are told to reach an address. Connects to nothing; knows no job and no lane."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from dingqueue.addresses import RedisAddress, is_redis, redis_address
from dingqueue.servers import no_primary

#: Of several Sentinels one may be a host that is gone: the longest that it may hold up the question, and its share of
#: what a whole connection may take.
_MOST_SENTINEL_S, _SENTINEL_SHARE = 1.0, 0.25


#: Its methods have no types.
_Sentinel: Any = Sentinel


class Sentinels(_Sentinel):  # type: ignore[misc]  # see above
    """redis-py's, for threads, with words for what goes wrong.

    redis-py moves the Sentinel that answered to the front of its list; two threads that do so at once drop another one
    from it. And it says of all failures only that there is no primary.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As redis-py's."""
        super().__init__(*args, **kwargs)
        self._asking = threading.Lock()

    def discover_master(self, service_name: str) -> Any:
        """Host and port of the primary.

        Raises:
            NoPrimary: None of the Sentinels named one.
        """
        with self._asking:
            return self._discovered(service_name)

    def _discovered(self, name: str) -> tuple[str, int]:
        failures: list[Exception] = []
        known: set[str] = set()
        down = False
        for place, sentinel in enumerate(self.sentinels):
            try:
                said = sentinel.sentinel_masters()
            except (redis.ConnectionError, redis.TimeoutError, redis.ResponseError) as error:
                failures.append(error)
                continue
            known |= set(said)
            if name not in said:
                continue
            if self.check_master_state(said[name], name):
                # Whoever asks next does not wait for those that did not answer.
                self.sentinels.insert(0, self.sentinels.pop(place))
                return said[name]["ip"], said[name]["port"]
            down = True
        raise no_primary(
            name,
            down=down,
            known=known,
            answers=len(self.sentinels) - len(failures),
            failures=failures,
            tls=bool(self.sentinel_kwargs.get("ssl")),
        )


class _Client(redis.Redis):
    """A client that does not stay with a server which was demoted: its name may lead to another one by now.

    Such a server may only read; or it does not know yet, and its replicas have left it.
    """

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run a command; who refuses to write is looked up anew the next time."""
        try:
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # it has none
        except redis.ResponseError as error:
            if isinstance(error, redis.ReadOnlyError) or str(error).startswith("NOREPLICAS"):
                self.connection_pool.disconnect(inuse_connections=False)
                if self.connection is not None:
                    self.connection.disconnect()  # type: ignore[no-untyped-call]  # it has none
            raise


class _ByName(_Client):
    """A client of whoever is primary; lets go of the Sentinels too."""

    def close(self) -> None:
        """Let go of all connections."""
        super().close()
        self.connection_pool.sentinel_manager.close()  # type: ignore[attr-defined]  # a Sentinel's pool has it


def redis_client(
    url: str,
    *,
    timeout_s: float,
    connect_timeout_s: float | None = None,
    plain: type[redis.Connection] | None = None,
    **more: Any,
) -> redis.Redis:
    """A client of the Redis at an address; it repeats no command by itself.

    Args:
        url: A form of ``dingqueue.addresses``.
        timeout_s: Longest silence of Redis.
        connect_timeout_s: Longest wait for a connection; default the same.
        plain: The kind of connection where there is neither TLS nor a socket nor a Sentinel; default redis-py's.
        more: Other arguments of ``redis.Redis``.

    Raises:
        ValueError: As ``redis_address``.
    """
    at = redis_address(url)
    connect_s = timeout_s if connect_timeout_s is None else connect_timeout_s
    common: dict[str, Any] = {
        "db": at.db,
        "username": at.username,
        "password": at.password,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": connect_s,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
        **({"ssl": True, **at.tls} if at.tls else {}),
        **({"protocol": at.protocol} if at.protocol else {}),
        **more,
    }
    if at.kind == "sentinel":
        told = sentinel_options(at, connect_s) | {"retry": Retry(NoBackoff(), 0)}
        client: redis.Redis = Sentinels(at.hosts, sentinel_kwargs=told, **common).master_for(at.name, _ByName)
        return client
    if at.kind == "socket":
        return _Client(unix_socket_path=at.path, **common)
    ((host, port),) = at.hosts
    if plain and not at.tls:
        return _Client.from_pool(redis.ConnectionPool(connection_class=plain, host=host, port=port, **common))
    return _Client(host, port, **common)


def sentinel_options(at: RedisAddress, connect_timeout_s: float) -> dict[str, Any]:
    """How the Sentinels themselves are spoken to."""
    wait_s = min(connect_timeout_s * _SENTINEL_SHARE, _MOST_SENTINEL_S)
    return {
        "username": at.sentinel_username,
        "password": at.sentinel_password,
        "socket_timeout": wait_s,
        "socket_connect_timeout": wait_s,
        **({"ssl": True, **at.tls} if at.tls else {}),
        **({"protocol": at.protocol} if at.protocol else {}),
    }


def celery_broker(url: str, *, options: Mapping[str, Any], transports: str = "dingqueue.transport") -> dict[str, Any]:
    """Celery's settings for a broker.

    Args:
        url: A form of ``dingqueue.addresses``, or RabbitMQ's.
        options: The transport's, beside what the address says.
        transports: The module whose ``Transport`` and ``SentinelTransport`` serve Redis. A socket is left to kombu's
            own: a scheme with a plus names its transport itself.

    Raises:
        ValueError: As ``redis_address``.
    """
    if not is_redis(url):
        return _settings(url, None, None, options)
    at = redis_address(url)
    login = (
        f"{quote(at.username or '', safe='')}:{quote(at.password or '', safe='')}@"
        if at.password or at.username
        else ""
    )
    options = {**options, **({"protocol": at.protocol} if at.protocol else {})}
    tls = dict(at.tls) if at.tls else None
    if at.kind == "socket":
        protocol = f"&protocol={at.protocol}" if at.protocol else ""
        return _settings(f"redis+socket://{login}{quote(at.path)}?virtual_host={at.db}{protocol}", None, None, options)
    host, port = at.hosts[0]
    place = f"{login}{f'[{host}]' if ':' in host else host}:{port}/{at.db}"
    if at.kind == "server":
        return _settings(f"{'rediss' if at.tls else 'redis'}://{place}", f"{transports}:Transport", tls, options)
    # One URL. With several kombu goes from one to the next by itself, and with the second to its own transport.
    options |= {
        "master_name": at.name,
        "sentinels": list(at.hosts),
        "sentinel_kwargs": sentinel_options(at, float(options.get("socket_connect_timeout", _MOST_SENTINEL_S))),
    }
    return _settings(f"sentinel://{place}", f"{transports}:SentinelTransport", tls, options)


def _settings(url: str, transport: str | None, tls: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        # Said thrice, for CELERY_BROKER_URL in the environment (another application's) outdoes the first.
        "broker_url": url,
        "broker_read_url": url,
        "broker_write_url": url,
        "broker_transport": transport,
        "broker_use_ssl": tls,
        "broker_transport_options": dict(options),
    }


def sentinel_pool(
    sentinels: Sequence[tuple[str, int]], name: str, told: Mapping[str, Any], **connection: Any
) -> tuple[Sentinels, redis.ConnectionPool]:
    """Connections to whoever is primary, and the Sentinels that are asked who that is."""
    manager = Sentinels(
        list(map(tuple, sentinels)), sentinel_kwargs={**told, "retry": Retry(NoBackoff(), 0)}, **connection
    )
    client: redis.Redis = manager.master_for(name)
    return manager, client.connection_pool
