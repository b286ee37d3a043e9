"""The client against a real server, and against servers that misbehave."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from dingqueue import Client, EnqueueFailed, InvalidJob, LaneFull, send_job
from dingqueue.routes import queue_name
from dingqueue_worker.embedded import Server, free_port
from support.blackhole import black_hole
from support.state import State, lane, sender


@pytest.fixture
def client(valkey: Server, state: State) -> Iterator[Client]:
    handle = Client(valkey.url, prefix=state.prefix)
    yield handle
    handle.close()


def messages(state: State) -> list[dict[str, object]]:
    return [json.loads(text) for text in state.redis.lrange(queue_name(state.prefix), 0, -1)]


def test_a_job_is_stored_and_its_call_carries_ids_only(client: Client, state: State) -> None:
    state.pace({"ops": lane("robot.ops")}, {"robot.ops": sender()})

    job_id = client.send("ops", "salary 123", mention=["13800000000"])

    [message] = messages(state)
    assert message["headers"]["task"] == "dingqueue.send"  # type: ignore[index]  # JSON of kombu's
    assert message["headers"]["id"] == job_id  # type: ignore[index]  # JSON of kombu's
    text = json.dumps(message)
    assert "salary" not in text
    assert "13800000000" not in text
    assert state.state_of(job_id) == "called"


def test_a_key_makes_the_same_call_the_same_job(client: Client, state: State) -> None:
    state.pace({"ops": lane("robot.ops"), "dev": lane("robot.dev")}, {"robot.ops": sender(), "robot.dev": sender()})

    ids = [client.send(name, "disk full", key=key) for name in ("ops", "dev") for key in ("k1", "k2", "k1")]

    assert len(set(ids)) == 4
    assert state.store.counts()["accepted:send:ops"] == 2
    assert client.send("ops", "same text") != client.send("ops", "same text")


def test_an_unknown_destination_is_refused_at_the_door(client: Client, state: State) -> None:
    state.pace({"ops-alerts": lane("robot.ops")}, {"robot.ops": sender()})

    with pytest.raises(InvalidJob, match=r"did you mean 'ops-alerts'") as caught:
        client.send("ops-alert", "hello")
    assert caught.value.field == "destination"


def test_a_full_lane_says_so(client: Client, state: State) -> None:
    state.pace({"ops": lane("robot.ops", max_waiting=1)}, {"robot.ops": sender(limit=1)})
    client.send("ops", "out")
    client.send("ops", "waits")

    with pytest.raises(LaneFull, match="1 jobs wait") as caught:
        client.send("ops", "no room")
    assert caught.value.job is not None


def test_many_jobs_go_in_order_and_once(client: Client, state: State) -> None:
    state.pace({"ops": lane("robot.ops")}, {"robot.ops": sender()})

    ids = client.send_many([send_job("ops", f"n {number}") for number in range(1200)])
    waiting = state.redis.zrange(state.key("lane:ops"), 0, -1)

    assert [ids[0], *waiting] == ids
    assert len(messages(state)) == 1


def test_one_bad_job_of_many_stores_none(client: Client, state: State) -> None:
    with pytest.raises(InvalidJob) as caught:
        client.send_many([{"destination": "ops", "text": "good"}, {"destination": "ops", "text": ""}])
    assert caught.value.field.startswith("[1].")
    with pytest.raises(InvalidJob, match="not the arguments of send"):
        client.send_many([{"destination": "ops", "txt": "typo"}])
    assert "submitted" not in state.store.counts()


def test_an_event_loop_is_not_blocked(client: Client, state: State) -> None:
    async def main() -> list[str]:
        return await asyncio.gather(
            *(client.asend("ops", f"n {number}") for number in range(20)),
            client.aassign("ops", "Review", to="alice"),
            client.ashare("ops", "https://example.com/report.pdf"),
        )

    ids = asyncio.run(main())

    assert len({state.state_of(job_id) for job_id in ids}) == 1


@pytest.mark.parametrize("drip", [b"", b"+"])
def test_a_redis_that_never_answers_is_bounded(drip: bytes) -> None:
    with black_hole(drip=drip) as port:
        client = Client(f"redis://127.0.0.1:{port}/0", enqueue_timeout_s=0.5)
        began_s = time.monotonic()
        with pytest.raises(EnqueueFailed) as caught:
            client.send("ops", "hello", key="once")
        took_s = time.monotonic() - began_s
        client.close()

    assert took_s < 1.5, took_s  # celery's own defaults block for over a minute here
    assert caught.value.job is not None


def test_an_event_loop_is_bounded_too() -> None:
    async def main(client: Client) -> float:
        began_s = time.monotonic()
        with pytest.raises(EnqueueFailed):
            await client.asend("ops", "hello")
        return time.monotonic() - began_s

    with black_hole() as port:
        client = Client(f"redis://127.0.0.1:{port}/0", enqueue_timeout_s=0.5)
        assert asyncio.run(main(client)) < 1.5
        client.close()


def test_a_refused_redis_fails_fast_and_the_same_job_works_later(state: State, valkey: Server) -> None:
    dead = Client(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(EnqueueFailed, match="could not be reached") as caught:
        dead.send("ops", "hello", key="once")
    dead.close()
    job = caught.value.job
    assert job is not None

    client = Client(valkey.url, prefix=state.prefix)
    assert client.enqueue(job) == client.send("ops", "hello", key="once")
    client.close()
    assert state.store.counts()["submitted"] == 1


def test_a_frozen_redis_that_thaws_has_one_job() -> None:
    with Server(durable=False) as server:
        client = Client(server.url, enqueue_timeout_s=0.5)
        client.send("ops", "warm")
        server.freeze()
        with pytest.raises(EnqueueFailed):
            client.send("ops", "hello", key="once")
        server.thaw()

        job_id = client.send("ops", "hello", key="once")

        status = client.status(job_id)
        client.close()
        assert status is not None
        assert status.place == 1


def test_a_full_redis_refuses_loudly_and_takes_jobs_again() -> None:
    with Server(durable=False, options={"maxmemory": "3mb"}) as server:
        client = Client(server.url)
        with pytest.raises(EnqueueFailed, match=r"refused.*maxmemory"):
            [client.send("ops", "x" * 15_000) for _ in range(500)]
        state = State(server.url, "dq:")
        state.redis.config_set("maxmemory", "100mb")

        assert client.send("ops", "room again")
        client.close()
        state.store.close()
        state.redis.close()


def test_an_accepted_job_is_accepted_even_when_the_broker_is_away(state: State, valkey: Server) -> None:
    state.pace({"ops": lane("robot.ops")}, {"robot.ops": sender()})
    with black_hole() as port:
        client = Client(f"redis://127.0.0.1:{port}/0", state_url=valkey.url, prefix=state.prefix, enqueue_timeout_s=1.0)
        began_s = time.monotonic()
        job_id = client.send("ops", "hello")
        ids = [client.send("ops", "more") for _ in range(5)]
        took_s = time.monotonic() - began_s
        client.close()

    assert took_s < 3.0, took_s
    assert state.state_of(job_id) == "called"
    assert len(ids) == 5


def test_threads_share_a_client(client: Client, state: State) -> None:
    with ThreadPoolExecutor(16) as threads:
        ids = list(threads.map(lambda number: client.send("ops", f"n {number}"), range(200)))

    assert len(set(ids)) == 200
    assert state.store.counts()["submitted"] == 200


def _in_child(client: Client, ids: multiprocessing.Queue[str]) -> None:
    ids.put(client.send("ops", f"child {os.getpid()}"))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_a_client_works_on_both_sides_of_a_fork(client: Client, state: State) -> None:
    mine = client.send("ops", "parent")
    fork = multiprocessing.get_context("fork")
    ids: multiprocessing.Queue[str] = fork.Queue()
    children = [fork.Process(target=_in_child, args=(client, ids)) for _ in range(3)]
    for child in children:
        child.start()
    theirs = [ids.get(timeout=20) for _ in children]
    for child in children:
        child.join(20)

    assert len({mine, client.send("ops", "parent again"), *theirs}) == 5
    assert state.store.counts()["submitted"] == 5
    assert {state.state_of(job_id) for job_id in theirs} == {"waiting"}


def test_sending_while_the_interpreter_ends_still_works(valkey: Server, state: State) -> None:
    import subprocess
    import sys

    code = (
        "import atexit, dingqueue\n"
        f"client = dingqueue.Client({valkey.url!r}, prefix={state.prefix!r})\n"
        "client.send('ops', 'warm')\n"
        "atexit.register(lambda: print(client.send('ops', 'bye')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)  # noqa: S603 - our own code

    assert done.returncode == 0, done.stderr
    assert state.state_of(done.stdout.strip()) == "waiting"


def test_cancel_and_status_of_nobody(client: Client) -> None:
    assert client.status("nobody") is None
    assert client.cancel("nobody") == "gone"


def test_a_client_says_which_url_is_missing() -> None:
    with pytest.raises(ValueError, match="state_url"):
        Client("amqp://guest@127.0.0.1//")
    with pytest.raises(ValueError, match="enqueue_timeout_s"):
        Client(enqueue_timeout_s=0)


def test_no_password_in_what_is_raised() -> None:
    client = Client(f"redis://user:PLANTED-PASSWORD@127.0.0.1:{free_port()}/0")
    with pytest.raises(EnqueueFailed) as caught:
        client.send("ops", "hello")
    client.close()

    shown = "".join(str(error) for error in (caught.value, caught.value.__cause__))
    assert "PLANTED" not in shown


def test_closing_lets_threads_go(client: Client) -> None:
    client.send("ops", "hello")
    before = {thread.name for thread in threading.enumerate()}
    assert any(name.startswith("dingqueue") for name in before)
    client.close()
    assert client.send("ops", "again")
