"""The logging handler on a real server: what is sent, what is not, and that nobody waits for it."""

from __future__ import annotations

import json
import logging
import logging.config
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

import dingqueue.logging
from dingqueue import Client, EnqueueFailed, InvalidJob
from dingqueue.logging import DingTalkHandler
from dingqueue.testing import Outbox
from dingqueue_worker.embedded import Server, free_port
from support.blackhole import black_hole
from support.state import State, lane, sender
from support.waiting import wait_for


@pytest.fixture
def ops(state: State) -> State:
    state.pace({"ops": lane("robot.ops")}, {"robot.ops": sender()})
    return state


@pytest.fixture
def client(valkey: Server, ops: State) -> Iterator[Client]:
    with Client(valkey.url, prefix=ops.prefix) as client:
        yield client


@pytest.fixture
def log(request: pytest.FixtureRequest) -> Iterator[logging.Logger]:
    logger = logging.getLogger(f"shop.{request.node.name}")
    logger.propagate = False
    yield logger
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        handler.close()


def texts(ops: State) -> list[str]:
    bodies = [json.loads(str(ops.redis.get(key))) for key in ops.redis.keys(ops.key("body:*"))]
    return [body["content"]["text"] for body in bodies]


def arrived(ops: State, count: int) -> list[str]:
    wait_for(lambda: len(texts(ops)) == count, within_s=10, what=f"{count} messages")
    return texts(ops)


def test_an_error_arrives_with_where_and_why(ops: State, client: Client, log: logging.Logger) -> None:
    log.addHandler(DingTalkHandler("ops", client=client, mention="alice", urgent=True))

    prices: dict[str, int] = {}
    log.warning("not this")
    try:
        prices["price"]
    except KeyError:
        log.exception("no price for %s", "tea")

    (text,) = arrived(ops, 1)
    first, second, third, *_, last = text.splitlines()
    assert first.startswith(f"ERROR {log.name} on ")
    assert second == "no price for tea"
    assert third == last == "KeyError: 'price'"
    assert "test_logging.py" in text


def test_a_formatter_of_ones_own_is_used(ops: State, client: Client, log: logging.Logger) -> None:
    handler = DingTalkHandler("ops", client=client)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    log.addHandler(handler)

    log.error("short")

    assert arrived(ops, 1) == ["ERROR: short"]


def test_identical_records_are_one_message_for_the_whole_fleet(ops: State, client: Client, log: logging.Logger) -> None:
    # As two processes would: neither knows what the other has said.
    for _ in range(2):
        log.addHandler(DingTalkHandler("ops", client=client, same_s=1e9))

    for _ in range(50):
        log.error("the database is away")
    log.error("something else")

    for handler in log.handlers:
        handler.flush()
    assert len(texts(ops)) == 2
    assert sum("49 more records since the last message" in text for text in texts(ops)) == 1


def test_no_more_than_so_many_a_minute(ops: State, client: Client, log: logging.Logger) -> None:
    handler = DingTalkHandler("ops", client=client, per_minute=3)
    log.addHandler(handler)

    for number in range(100):
        log.error("number %d", number)

    handler.flush()
    assert len(texts(ops)) == 3


def test_it_never_speaks_of_itself(ops: State, client: Client, log: logging.Logger) -> None:
    handler = DingTalkHandler("ops", logging.DEBUG, client=client)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        logging.getLogger("dingqueue").error("ours")
        logging.getLogger("dingqueue.worker").error("ours too")
        root.error("an application's")
        handler.flush()
        handler.flush()
    finally:
        root.setLevel(level)
        root.removeHandler(handler)

    (text,) = texts(ops)
    assert "an application's" in text, "and nothing of what sending it logged"


def test_nobody_waits_for_it_and_nothing_is_raised() -> None:
    records = [logging.makeLogRecord({"name": "shop", "msg": "number %d", "args": (n,)}) for n in range(3_000)]
    broken = logging.makeLogRecord({"name": "shop", "msg": "%d is no number", "args": ("this",)})
    with black_hole() as port, Client(f"redis://127.0.0.1:{port}/0", enqueue_timeout_s=0.3) as frozen:
        handler = DingTalkHandler("ops", client=frozen, flush_s=1.0)

        began_s = time.monotonic()
        for record in [*records, broken]:
            handler.handle(record)
        took_s = time.monotonic() - began_s

        handler.close()
    assert took_s < 2.0, "3,000 records"


def test_what_is_not_handed_over_is_said_on_stderr_once(
    log: logging.Logger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dingqueue.logging, "_AGAIN_S", 0.05)
    with Client(f"redis://127.0.0.1:{free_port()}/0") as away:
        handler = DingTalkHandler("ops", client=away, flush_s=0.5)
        log.addHandler(handler)

        log.error("one")
        log.error("two")
        handler.close()
        log.removeHandler(handler)

    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "dingqueue: log records for ops are not handed over: Redis at 127.0.0.1:" in said
    assert "one" not in said


def test_when_redis_comes_back_the_record_is_sent(
    ops: State, valkey: Server, log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dingqueue.logging, "_AGAIN_S", 0.05)
    with Client(valkey.url, prefix=ops.prefix) as client:
        handler = DingTalkHandler("ops", client=client)
        real, failures = client.send, [EnqueueFailed("away"), EnqueueFailed("away")]

        def away_at_first(*args: Any, **options: Any) -> str:
            if failures:
                raise failures.pop()
            return real(*args, **options)

        monkeypatch.setattr(client, "send", away_at_first)
        log.addHandler(handler)

        log.error("still worth it")

        (text,) = arrived(ops, 1)
    assert "still worth it" in text


def test_a_forked_child_sends_its_own_records_and_not_its_parents(
    ops: State, client: Client, log: logging.Logger
) -> None:
    handler = DingTalkHandler("ops", client=client)
    log.addHandler(handler)
    log.error("parent")
    handler.flush()

    child = os.fork()
    if child == 0:
        log.error("child")
        handler.flush()
        os._exit(0)
    os.waitpid(child, 0)

    assert sorted(text.splitlines()[1] for text in arrived(ops, 2)) == ["child", "parent"]


def test_the_last_words_of_a_process_arrive(ops: State, valkey: Server) -> None:
    config = {
        "version": 1,
        "handlers": {"ding": {"class": "dingqueue.logging.DingTalkHandler", "level": "ERROR", "destination": "ops"}},
        "root": {"handlers": ["ding"]},
    }
    lines = f"import logging, logging.config; logging.config.dictConfig({config!r}); logging.error('the last words')"

    subprocess.run(  # noqa: S603  # our own
        [sys.executable, "-c", lines], check=True, timeout=30,
        env={**os.environ, "DINGQUEUE_BROKER_URL": valkey.url, "DINGQUEUE_PREFIX": ops.prefix},
    )  # fmt: skip

    (text,) = texts(ops)
    assert "the last words" in text


def test_a_process_ends_in_time_whatever_redis_does() -> None:
    lines = (
        "import logging; from dingqueue.logging import DingTalkHandler\n"
        "logging.getLogger().addHandler(DingTalkHandler('ops')); logging.error('x')\n"
    )
    with black_hole() as port:
        began_s = time.monotonic()
        subprocess.run(  # noqa: S603  # our own
            [sys.executable, "-c", lines], check=True, timeout=30, capture_output=True,
            env={**os.environ, "DINGQUEUE_BROKER_URL": f"redis://127.0.0.1:{port}/0"},
        )  # fmt: skip
    assert time.monotonic() - began_s < 15, "two seconds, and what starting takes on a busy machine"


def test_a_mistake_shows_where_it_is_made(client: Client) -> None:
    with pytest.raises(InvalidJob):
        DingTalkHandler("", client=client)
    with pytest.raises(InvalidJob):
        DingTalkHandler("ops", client=client, expires_s=-1)
    with pytest.raises(ValueError, match="per_minute"):
        DingTalkHandler("ops", client=client, per_minute=0)
    with pytest.raises(ValueError, match="Unknown level"):
        DingTalkHandler("ops", "LOUD", client=client)
    with pytest.raises(ValueError, match="broker_url"):
        DingTalkHandler("ops", client=Client("nonsense"))


def test_in_a_test_of_ones_own_it_is_there_at_once(ding_outbox: Outbox, client: Client, log: logging.Logger) -> None:
    log.addHandler(DingTalkHandler("ops", client=client))

    log.error("the till is on fire")

    ding_outbox.assert_enqueued(destination="ops", text_contains="the till is on fire", count=1)
