"""Addresses of Redis and of the broker: taken apart, told to redis-py and kombu, refused in words that help."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
import redis
from kombu import Connection as KombuConnection

from dingqueue.addresses import RedisAddress, check_broker, redis_address
from dingqueue.connections import celery_broker, redis_client
from dingqueue.transport import Connection

HARD = "p%40%3A%2F%3F%23w"
PASSWORD = "p@:/?#w"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h", RedisAddress(kind="server", hosts=(("h", 6379),))),
        ("redis://h:7000/3", RedisAddress(kind="server", hosts=(("h", 7000),), db=3)),
        ("redis://h/?db=3", RedisAddress(kind="server", hosts=(("h", 6379),), db=3)),
        ("redis://[::1]:7000/", RedisAddress(kind="server", hosts=(("::1", 7000),))),
        (f"redis://u:{HARD}@h", RedisAddress(kind="server", hosts=(("h", 6379),), username="u", password=PASSWORD)),
        (f"redis://:{HARD}@h", RedisAddress(kind="server", hosts=(("h", 6379),), password=PASSWORD)),
        ("redis://h?protocol=2", RedisAddress(kind="server", hosts=(("h", 6379),), protocol=2)),
        ("unix:///run/Redis%20x.sock", RedisAddress(kind="socket", path="/run/Redis x.sock")),
        (f"unix://u:{HARD}@/r?db=2", RedisAddress(kind="socket", path="/r", db=2, username="u", password=PASSWORD)),
        ("sentinel://a/main", RedisAddress(kind="sentinel", hosts=(("a", 26379),), name="main")),
        (
            f"sentinel://u:{HARD}@a,b:1,[::1]:2/main/4?sentinel_username=s&sentinel_password={HARD}",
            RedisAddress(
                kind="sentinel", hosts=(("a", 26379), ("b", 1), ("::1", 2)), name="main", db=4, username="u",
                password=PASSWORD, sentinel_username="s", sentinel_password=PASSWORD,
            ),
        ),
    ],
)  # fmt: skip
def test_an_address_is_taken_apart(url: str, address: RedisAddress) -> None:
    check_broker(url)

    assert redis_address(url) == address


@pytest.mark.parametrize(
    ("query", "tls"),
    [
        ("", {"ssl_cert_reqs": "required", "ssl_check_hostname": True}),
        ("?ssl_check_hostname=false", {"ssl_cert_reqs": "required", "ssl_check_hostname": False}),
        ("?ssl_cert_reqs=none", {"ssl_cert_reqs": "none", "ssl_check_hostname": False}),
        (
            "?ssl_ca_certs=/ca.pem&ssl_certfile=/c.pem&ssl_keyfile=/k.pem",
            {"ssl_cert_reqs": "required", "ssl_check_hostname": True, "ssl_ca_certs": "/ca.pem",
             "ssl_certfile": "/c.pem", "ssl_keyfile": "/k.pem"},
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("base", ["rediss://h/1", "sentinels://h/main/1"])
def test_a_certificate_is_checked_unless_that_is_said(base: str, query: str, tls: dict[str, Any]) -> None:
    assert redis_address(base + query).tls == tls


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("h:6379", "expected redis://, rediss://, unix:// or sentinel://, found no URL"),
        ("redis://h /0", "found no URL"),
        ("http://h", "found a http:// URL"),
        ("redis+cluster://h", "Celery cannot use a Redis Cluster; take one server, or Sentinel"),
        ("redis+sentinel://h", "write sentinel://host:26379,host2:26379/name/0"),
        ("redis+socket:///run/x", r"write unix:///run/redis.sock\?db=0"),
        ("redis://", "expected redis://host:6379"),
        ("redis:///1", "expected redis://host:6379"),
        ("redis://h:port", "expected redis://host:6379"),
        ("redis://h:0", "expected a port from 1 to 65535"),
        ("redis://h:65536", "expected a port from 1 to 65535"),
        ("redis://h/one", "expected a database number"),
        ("redis://h/1/2", "expected a database number"),
        ("redis://h/1?db=2", "expected one database number, found two"),
        ("redis://h/?db=one", "expected a number for db, found something else"),
        ("redis://:planted#x@h", "as %2F, %3F or %23, found it bare"),
        ("redis://:planted/x@h", "as %2F, %3F or %23, found it bare"),
        ("redis://:planted?x@h", "as %2F, %3F or %23, found it bare"),
        ("redis://h?planted=1", "expected no other options than db, protocol, ssl_ca_certs"),
        ("redis://h?protocol=4", "expected 2 or 3 for protocol"),
        ("redis://h?ssl_ca_certs=/planted", "expected rediss:// where ssl_ca_certs is given, found redis://"),
        ("sentinel://h/m?ssl_cert_reqs=none", "expected sentinels:// where ssl_cert_reqs is given"),
        ("rediss://h?ssl_cert_reqs=planted", "expected required or none for ssl_cert_reqs"),
        ("rediss://h?ssl_check_hostname=planted", "expected true or false for ssl_check_hostname"),
        ("rediss://h?ssl_cert_reqs=none&ssl_check_hostname=true", "expected ssl_cert_reqs=required where"),
        ("redis://a,b", r"expected one server \(for several take Sentinel\), found several"),
        ("redis://a;redis://b", r"expected one server \(for several take Sentinel\), found a semicolon"),
        ("redis://h?sentinel_password=planted", "expected no other options than"),
        ("sentinel://a:1/planted;sentinel://b:1", "separated by commas, sentinel://host:26379,host2:26379/name/0"),
        ("sentinel://a", "expected the primary's name after the Sentinels"),
        ("sentinel://a/0", "expected the primary's name after the Sentinels"),
        ("sentinel://a,/m", "expected sentinel://host:26379"),
        ("unix://run/redis.sock", "three slashes, unix:///run/redis.sock"),
        ("unix:///run/redis.sock?ssl_ca_certs=planted", "expected no other options than db, protocol, found another"),
    ],
)
def test_what_is_wrong_is_said_without_a_piece_of_it(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as told:
        redis_address(url)

    assert "planted" not in str(told.value)


@pytest.mark.parametrize(
    "url", ["amqp://", "amqp://u:p@h//", "amqps://u@h:5671/v", "pyamqp://h", "amqp://a//;amqp://b//"]
)
def test_rabbitmq_may_be_the_broker_and_not_the_state(url: str) -> None:
    check_broker(url)

    with pytest.raises(ValueError, match=r"found a (py)?amqps?:// URL"):
        redis_address(url)


@pytest.mark.parametrize(
    "url",
    ["memory://", "sqs://planted@", "redis+cluster://planted", "amqp://u:planted/x@h", "amqp://a;redis://planted"],
)
def test_other_brokers_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected") as told:
        check_broker(url)

    assert "planted" not in str(told.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://u:planted@h/1", "h:6379"),
        ("redis://[::1]", "[::1]:6379"),
        ("unix://u:planted@/run/r", "/run/r"),
        ("sentinel://u:planted@a,b:1/main?sentinel_password=planted", "main by a:26379, b:1"),
    ],
)
def test_what_is_shown_of_it_holds_no_password(url: str, shown: str) -> None:
    address = redis_address(url)

    assert str(address) == shown
    assert "planted" not in repr(address)


def told(url: str) -> KombuConnection:
    """What kombu makes of our settings, by the way Celery goes."""
    conf = celery_broker(url, options={"socket_connect_timeout": 2.0})
    return Connection(
        conf["broker_url"],
        transport=conf["broker_transport"],
        ssl=conf["broker_use_ssl"],
        transport_options=conf["broker_transport_options"],
    )


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"redis://u:{HARD}@h:1/2", "redis://u:**@h:1/2"),
        (f"redis://:{HARD}@[::1]:1/2", "redis://:**@%3A%3A1:1/2"),
        (f"rediss://u:{HARD}@h:1/2", "redis://u:**@h:1/2"),
        (f"sentinel://u:{HARD}@h:1,b:2/main/2?sentinel_password={HARD}", "sentinel://u:**@h:1/2"),
    ],
)
def test_kombu_is_told_the_same_as_redis_py(url: str, shown: str) -> None:
    ours, kombus = redis_client(url, timeout_s=1.0), told(url)
    kwargs = ours.connection_pool.connection_kwargs

    assert (kombus.userid, kombus.password) == (kwargs["username"], PASSWORD)
    assert int(kombus.virtual_host or 0) == kwargs["db"] == 2
    assert kombus.as_uri() == shown
    assert not kombus.alt, "it would go from one to the next by itself"
    assert PASSWORD not in repr(kombus.info() | {"password": ""})
    ours.close()


def test_a_socket_is_left_to_kombus_own_transport() -> None:
    kombus = told(f"unix://u:{HARD}@/run/Redis.sock?db=2")

    assert kombus.as_uri() == "redis+socket://u:**@/run/Redis.sock"
    assert PASSWORD not in repr(kombus.info())
    assert HARD not in repr(kombus.info())


def test_tls_is_verified_where_kombu_by_itself_would_not() -> None:
    kombus = told("rediss://h/0?ssl_ca_certs=/ca.pem")

    assert kombus.ssl == {"ssl_cert_reqs": "required", "ssl_check_hostname": True, "ssl_ca_certs": "/ca.pem"}
    client = redis_client("rediss://h/0?ssl_ca_certs=/ca.pem", timeout_s=1.0)
    connection: Any = client.connection_pool.make_connection()
    assert isinstance(connection, redis.SSLConnection)
    assert (connection.cert_reqs, connection.ca_certs) == (ssl.CERT_REQUIRED, "/ca.pem")
    client.close()
