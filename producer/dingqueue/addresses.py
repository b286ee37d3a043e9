"""The addresses of Redis and of Celery's broker: their forms, taken apart, and what is wrong with others. Pure.

    redis://[user:password@]host[:6379][/0]                          a server
    rediss://…                                                       the same over TLS
    unix://[user:password@]/run/redis.sock[?db=0]                    a socket of this machine
    sentinel://[user:password@]host[:26379],host2[:26379]/name[/0]   whoever is primary of `name`, by its Sentinels
    sentinels://…                                                    the same over TLS, Sentinels and servers

Whatever is wrong is said without a piece of the address: it may be a piece of a password.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote

REDIS_SCHEMES = ("redis", "rediss", "unix", "sentinel", "sentinels")
_AMQP_SCHEMES = ("amqp", "amqps", "pyamqp")
_REDIS_FORMS = "redis://, rediss://, unix:// or sentinel://"
_BROKER_FORMS = "redis://, rediss://, unix://, sentinel:// or amqp://"
_ESCAPED = "is a / ? or # of a password written as %2F %3F or %23?"
_PORTS = {"redis": 6379, "rediss": 6379, "sentinel": 26379, "sentinels": 26379}
_PARTS = re.compile(r"([^/?#]*)([^?#]*)(?:\?([^#]*))?(#.*)?", re.DOTALL)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\s:\[\]@]+)(?::([0-9]{1,5}))?")
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_TLS_OPTIONS = {
    "ssl_ca_certs": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
    "ssl_password": str,
    "ssl_cert_reqs": {"required": "required", "none": "none"}.__getitem__,
    "ssl_check_hostname": lambda text: _TRUTHS[text.lower()],
}
_SENTINEL_OPTIONS = {"sentinel_username": str, "sentinel_password": str}
_OPTIONS = {"db": int, "protocol": {"2": 2, "3": 3}.__getitem__}


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """Where a Redis is.

    Attributes:
        kind: ``server``, ``socket`` or ``sentinel``.
        hosts: The server, or the Sentinels; none for a socket.
        path: The socket.
        name: What the Sentinels call the primary.
        tls: What redis-py takes as ``ssl_…``; None where the connection is plain.
        protocol: RESP 2 or 3; None is the library's choice. Some proxies speak only 2.
    """

    kind: Literal["server", "socket", "sentinel"]
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    name: str = ""
    db: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    sentinel_username: str | None = field(default=None, repr=False)
    sentinel_password: str | None = field(default=None, repr=False)
    tls: Mapping[str, Any] | None = field(default=None, repr=False)
    protocol: int | None = None

    def __str__(self) -> str:
        """Where it is, without user or password: ``r:6379``, ``/run/redis.sock``, ``mymaster by a:26379, b:26379``."""
        hosts = ", ".join(f"{f'[{host}]' if ':' in host else host}:{port}" for host, port in self.hosts)
        return {"server": hosts, "socket": self.path, "sentinel": f"{self.name} by {hosts}"}[self.kind]


def is_redis(url: str) -> bool:
    """Has it the form of a Redis address, right or wrong?"""
    return scheme_of(url) in REDIS_SCHEMES


def scheme_of(url: str) -> str:
    """What stands before ``://``, "" where nothing does."""
    scheme, found, _ = url.partition("://")
    return scheme if found and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme) else ""


def redis_address(url: str) -> RedisAddress:
    """Take the address of a Redis apart.

    Raises:
        ValueError: What was expected and what was found; the text holds nothing of the address but its scheme.
    """
    scheme = scheme_of(url)
    if not scheme or not url.isprintable() or " " in url:
        raise ValueError(f"expected {_REDIS_FORMS}, found no URL ({_ESCAPED})")
    if scheme not in REDIS_SCHEMES:
        raise ValueError(f"expected {_REDIS_FORMS}, found {_other(scheme)}")
    return _redis_address(scheme, url.removeprefix(f"{scheme}://"))


def check_broker(url: str) -> None:
    """Refuse a broker that cannot carry the calls.

    Raises:
        ValueError: As ``redis_address``.
    """
    scheme = scheme_of(url)
    if not scheme or not url.isprintable() or " " in url:
        raise ValueError(f"expected {_BROKER_FORMS}, found no URL ({_ESCAPED})")
    if scheme in REDIS_SCHEMES:
        redis_address(url)
        return
    if scheme not in _AMQP_SCHEMES:
        raise ValueError(f"expected {_BROKER_FORMS}, found {_other(scheme)}")
    for one in url.split(";"):  # RabbitMQ's nodes, one after the other
        authority = one.partition("://")[2].partition("/")[0].rpartition("@")[2]
        if scheme_of(one) not in _AMQP_SCHEMES or not (authority == "" or _HOST.fullmatch(authority)):
            raise ValueError(f"expected amqp://user:password@host:5672/vhost, found another form ({_ESCAPED})")


def _other(scheme: str) -> str:
    found = f"a {scheme}:// URL"
    if "cluster" in scheme:
        return f"{found}: Celery cannot use a Redis Cluster; take one server, or Sentinel"
    if "sentinel" in scheme:
        return f"{found}: write sentinel://host:26379,host2:26379/name/0"
    if "socket" in scheme:
        return f"{found}: write unix:///run/redis.sock?db=0"
    return found


def _redis_address(scheme: str, rest: str) -> RedisAddress:
    parts = _PARTS.fullmatch(rest)
    authority, path, query, fragment = parts.groups() if parts else ("", "", "", "")
    if fragment or "@" in (query or "") or "@" in path:
        raise ValueError("expected a /, ? or # of the password as %2F, %3F or %23, found it bare")
    login, _, place = authority.rpartition("@")
    username, _, password = login.partition(":")
    options = _options(scheme, query or "")
    common: dict[str, Any] = {
        "username": unquote(username) or None,
        "password": unquote(password) or None,
        "protocol": options.pop("protocol", None),
    }
    if scheme == "unix":
        if place or not path.startswith("/"):
            raise ValueError("expected a whole path with three slashes, unix:///run/redis.sock, found another form")
        return RedisAddress(kind="socket", path=unquote(path), db=options.pop("db", 0), **common)
    if ";" in rest:
        raise ValueError(
            "expected one URL with its Sentinels separated by commas, sentinel://host:26379,host2:26379/name/0, "
            "found a semicolon"
            if "sentinel" in scheme
            else "expected one server (for several take Sentinel), found a semicolon"
        )
    hosts = _hosts(scheme, place)
    tls = {name: options.pop(name) for name in _TLS_OPTIONS if name in options}
    if scheme in {"rediss", "sentinels"}:
        common["tls"] = MappingProxyType({"ssl_cert_reqs": "required", "ssl_check_hostname": True} | _honest(tls))
    if scheme.startswith("sentinel"):
        name, _, path = path.removeprefix("/").partition("/")
        if not re.fullmatch(r"[A-Za-z0-9._-]+", name) or name.isdigit():
            raise ValueError(
                "expected the primary's name after the Sentinels, sentinel://host:26379/name/0, found something else"
            )
        logins = {option: options.pop(option, None) for option in _SENTINEL_OPTIONS}
        return RedisAddress(kind="sentinel", hosts=hosts, name=name, db=_db(path, options), **logins, **common)
    return RedisAddress(kind="server", hosts=hosts, db=_db(path.removeprefix("/"), options), **common)


def _hosts(scheme: str, place: str) -> tuple[tuple[str, int], ...]:
    found = [_HOST.fullmatch(one) for one in place.split(",")]
    if scheme.startswith("redis") and len(found) > 1:
        raise ValueError("expected one server (for several take Sentinel), found several")
    hosts = []
    for one in found:
        if one is None:
            raise ValueError(f"expected {scheme}://host:{_PORTS[scheme]}/…, found another form ({_ESCAPED})")
        host, port = one[1].strip("[]"), int(one[2] or _PORTS[scheme])
        if not 0 < port < 65536:
            raise ValueError("expected a port from 1 to 65535, found another number")
        hosts.append((unquote(host), port))
    return tuple(hosts)


def _db(path: str, options: dict[str, Any]) -> int:
    number = path.rstrip("/")
    if not re.fullmatch(r"[0-9]{0,4}", number):
        raise ValueError("expected a database number after the host, found something else")
    asked: int | None = options.pop("db", None)
    if number and asked is not None and int(number) != asked:
        raise ValueError("expected one database number, found two")
    return int(number) if number else asked or 0


def _options(scheme: str, query: str) -> dict[str, Any]:
    readers: dict[str, Any] = dict(_OPTIONS)
    if scheme != "unix":
        readers |= _TLS_OPTIONS
    if scheme.startswith("sentinel"):
        readers |= _SENTINEL_OPTIONS
    found: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in readers:
            raise ValueError(f"expected no other options than {', '.join(readers)}, found another after the ?")
        if name in _TLS_OPTIONS and scheme not in {"rediss", "sentinels"}:
            raise ValueError(f"expected {'sentinels' if 'sentinel' in scheme else 'rediss'}:// where {name} is given, found {scheme}://")  # fmt: skip
        try:
            found[name] = readers[name](text)
        except (KeyError, ValueError):
            raise ValueError(f"expected {_SAYS[name]} for {name}, found something else") from None
    return found


_SAYS = {
    "db": "a number", "protocol": "2 or 3", "ssl_cert_reqs": "required or none", "ssl_check_hostname": "true or false",
}  # fmt: skip


def _honest(tls: Mapping[str, Any]) -> dict[str, Any]:
    """A name is checked against a certificate, so nothing is checked where none is required."""
    if tls.get("ssl_cert_reqs") == "none":
        if tls.get("ssl_check_hostname"):
            raise ValueError("expected ssl_cert_reqs=required where ssl_check_hostname is true, found none")
        return {**tls, "ssl_check_hostname": False}
    return dict(tls)
