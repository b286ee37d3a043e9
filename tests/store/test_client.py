"""The client against a real server, and against servers that misbehave."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from celery import signals

from dingqueue import EVERYONE, Client, EnqueueFailed, InvalidJob, LaneFull, SendJob, Text, send_job
from dingqueue.routes import queue_name
from dingqueue_worker.embedded import Server, free_port
from dingqueue_worker.pace import pace_of
from dingqueue_worker.routing import Route
from dingqueue_worker.settings import App, Destination, Fleet, Robot, Secret, Settings
from support.blackhole import black_hole
from support.state import State, lane, sender
from support.waiting import wait_for


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


def routed(main: Route, *, robot: bool) -> dict[str, Any]:
    """A lane as a worker publishes it for a destination with an app."""
    destination = Destination(
        name="x", app="acme", robots=("ops",) if robot else (),
        conversation="cid" if main == "group" else None, users=() if main == "group" else ("alice",),
        via="notice" if main == "notice" else "robot",
    )  # fmt: skip
    app = App(name="acme", app_key="k", app_secret=Secret("s"))
    robots = {"ops": Robot(name="ops", token=Secret("t"))}
    settings = Settings(
        broker_url="", state_url="", robots=robots, apps={"acme": app}, destinations={"x": destination}, fleet=Fleet()
    )
    return pace_of(settings).lanes["x"]


FEED = {"feed": {"items": [{"title": "t", "url": "https://e.com", "picture_url": "https://e.com/p"}]}}
RING: dict[str, Any] = {"text": "come", "mention": ["alice"]}


@pytest.mark.parametrize(
    ("main", "robot", "parts", "says"),
    [
        ("group", False, RING, "mention: x: an app's robot rings nobody in a group; give the destination a webhook robot"),
        ("group", False, {"text": "come", "mention": EVERYONE}, "mention: x: an app's robot rings nobody in a group"),
        ("group", False, FEED, "feed: x: an app's robot has no feed cards"),
        ("people", True, FEED, "feed: x: an app's robot has no feed cards"),
        ("notice", True, FEED, "feed: x: work notifications have no feed cards"),
        ("group", True, RING, ""), ("group", True, FEED, ""), ("group", False, {"text": "plain"}, ""),
        # Whoever gets it is rung by it, and a worker knows who does.
        ("people", False, RING, ""), ("notice", False, RING, ""),
    ],
)  # fmt: skip
def test_what_no_route_of_a_destination_can_carry_is_refused_at_the_door(
    client: Client, state: State, main: Route, robot: bool, parts: dict[str, Any], says: str
) -> None:
    state.pace({"x": routed(main, robot=robot), "ops": lane("robot.ops")}, {"robot.ops": sender()})

    if not says:
        assert state.state_of(client.send("x", **parts)) in {"waiting", "called"}
        return
    with pytest.raises(InvalidJob) as caught:
        client.send("x", **parts)
    with pytest.raises(EnqueueFailed, match="1 of 2 jobs were not taken") as several:
        client.send_many([{"destination": "ops", "text": "fine"}, {"destination": "x", **parts}])

    assert str(caught.value).startswith(says)
    assert caught.value.field == says.partition(":")[0]
    assert says in str(several.value)
    assert "accepted:send:x" not in state.store.counts()


def test_before_any_worker_ever_ran_a_mention_is_taken_as_everything_is(client: Client, state: State) -> None:
    job_id = client.send("x", **RING, key="k")
    state.pace({"x": routed("group", robot=False)}, {})

    assert client.send("x", **RING, key="k") == job_id, "it is accepted: a worker will say what to change"
    assert state.state_of(job_id) == "waiting"


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
    with pytest.raises(InvalidJob, match="send has no argument"):
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


def _in_child(client: Client, destination: str, ids: multiprocessing.Queue[list[str]]) -> None:
    ids.put([client.send(destination, f"child {os.getpid()} {number}") for number in range(5)])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_a_client_works_and_publishes_on_both_sides_of_a_fork(client: Client, state: State) -> None:
    """Each lane may have many out, so that every job is published: what a child shares with its parent would show."""
    names = ["mine", "one", "two", "three"]
    state.pace(
        {name: lane(f"robot.{name}", in_flight=100) for name in names}, {f"robot.{name}": sender() for name in names}
    )
    client.send("mine", "parent")
    fork = multiprocessing.get_context("fork")
    ids: multiprocessing.Queue[list[str]] = fork.Queue()
    children = [fork.Process(target=_in_child, args=(client, name, ids)) for name in names[1:]]
    for child in children:
        child.start()
    for number in range(5):
        client.send("mine", f"parent {number}")
    theirs = [job_id for _ in children for job_id in ids.get(timeout=20)]
    for child in children:
        child.join(20)

    assert [child.exitcode for child in children] == [0, 0, 0]
    assert len(set(theirs)) == 15
    assert state.store.counts()["submitted"] == 21
    published = {message["headers"]["id"] for message in messages(state)}  # type: ignore[index]  # JSON of kombu's
    assert len(published) == 21
    assert set(theirs) <= published


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_a_bare_fork_shares_no_broker_connection(client: Client, state: State) -> None:
    """As servers fork, which tell multiprocessing nothing."""
    state.pace({"ops": lane("robot.ops", in_flight=100)}, {"robot.ops": sender()})
    client.send("ops", "parent")
    before = broker_connections(state)

    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writing, client.send("ops", "child").encode())
            os.write(writing, f" {len(broker_connections(state, fresh=True) - before)}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        job_id, new = pipe.read().split()
    os.waitpid(child, 0)

    assert state.state_of(job_id) == "called"
    assert len(messages(state)) == 2
    assert int(new) >= 2  # one for the lanes and one for the broker


def broker_connections(state: State, *, fresh: bool = False) -> set[str]:
    """Ids of the connections that the server has."""
    if not fresh:
        return {one["id"] for one in state.redis.client_list()}
    options = state.redis.connection_pool.connection_kwargs
    with redis.Redis(host=options["host"], port=options["port"], decode_responses=True) as other:
        return {one["id"] for one in other.client_list()} - {str(other.client_id())}


def test_closing_in_a_child_leaves_the_parents_connections(client: Client, state: State) -> None:
    client.send("ops", "parent")
    child = os.fork()
    if not child:
        client.close()
        os._exit(0)
    os.waitpid(child, 0)

    assert client.send("ops", "parent again")


def run(code: str, *, timeout_s: float = 30, **environment: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_sending_while_the_interpreter_ends_still_works(valkey: Server, state: State) -> None:
    job_id = run(
        "import atexit, dingqueue\n"
        f"client = dingqueue.Client({valkey.url!r}, prefix={state.prefix!r})\n"
        "client.send('ops', 'warm')\n"
        "atexit.register(lambda: print(client.send('ops', 'bye')))\n"
    )

    assert state.state_of(job_id) == "waiting"


def test_a_first_call_while_the_interpreter_ends_works_too(valkey: Server, state: State) -> None:
    job_id = run(
        "import atexit, dingqueue\n"
        "from dingqueue import Client\n"
        f"atexit.register(lambda: print(Client({valkey.url!r}, prefix={state.prefix!r}).send('ops', 'bye')))\n"
    )

    assert state.state_of(job_id) == "waiting"


def test_a_thread_that_is_stuck_does_not_keep_the_process_from_ending() -> None:
    with black_hole(drip=b"+") as port:  # each byte starts the socket's own timeout again
        began_s = time.monotonic()
        said = run(
            "import dingqueue\n"
            f"client = dingqueue.Client('redis://127.0.0.1:{port}/0', enqueue_timeout_s=0.5)\n"
            "try:\n    client.send('ops', 'hello')\nexcept dingqueue.EnqueueFailed:\n    print('bounded')\n"
        )

    assert said == "bounded"
    assert time.monotonic() - began_s < 15


def test_the_applications_celery_is_left_alone(valkey: Server, state: State) -> None:
    """Its broker's address in the environment, its pool and its current app are its own."""
    state.pace({"ops": lane("robot.ops", in_flight=100)}, {"robot.ops": sender()})
    with black_hole() as port:
        said = run(
            "import celery, dingqueue, kombu.pools\n"
            "theirs = celery.Celery('theirs')\n"
            "theirs.conf.broker_pool_limit = 3\n"
            "theirs.pool\n"
            f"client = dingqueue.Client({valkey.url!r}, prefix={state.prefix!r})\n"
            "client.send('ops', 'hello')\n"
            "print(kombu.pools.get_limit(), celery.current_app.main)\n",
            CELERY_BROKER_URL=f"redis://127.0.0.1:{port}/0",
        )

    assert said == "3 theirs"
    assert len(messages(state)) == 1


def test_celerys_signals_of_publishing_tell_nobody_of_a_job(client: Client, state: State) -> None:
    state.pace({"ops": lane("robot.ops", in_flight=100)}, {"robot.ops": sender()})
    heard: list[object] = []

    def hear(sender: object = None, **_: object) -> None:
        heard.append(sender)

    about_publishing = (signals.before_task_publish, signals.after_task_publish)
    for signal in about_publishing:
        signal.connect(hear)
    try:
        client.send("ops", "hello")
        client.send_many([send_job("ops", f"n {number}") for number in range(3)])
    finally:
        for signal in about_publishing:
            signal.disconnect(hear)

    assert len(messages(state)) == 4
    assert heard == []


def test_cancel_and_status_of_nobody(client: Client) -> None:
    assert client.status("nobody") is None
    assert client.cancel("nobody") == "gone"


def test_a_cancelled_job_gives_its_turn_to_the_next(client: Client, state: State) -> None:
    state.pace({"ops": lane("robot.ops")}, {"robot.ops": sender()})
    first, second = client.send("ops", "a"), client.send("ops", "b")

    assert client.cancel(first) == "cancelled"
    assert client.cancel(first) == "cancelled"
    assert state.state_of(second) == "called"
    assert [message["headers"]["id"] for message in messages(state)] == [second, first]  # type: ignore[index]  # JSON of kombu's


def test_an_event_loop_can_do_all_of_it(client: Client, state: State) -> None:
    state.pace({"ops": lane("robot.ops")}, {"robot.ops": sender()})

    async def main() -> tuple[str, str | None, str]:
        job_id = await client.aenqueue(send_job("ops", "hello"))
        assert await client.asend_many([{"destination": "ops", "text": "many"}]) != []
        other_id = await client.asend("ops", markdown="# x", title="x", mention="alice", urgent=True, key="k")
        status = await client.astatus(other_id)
        for change in (client.acomplete(job_id), client.acheck(job_id), client.areassign(job_id, to="bob")):
            with pytest.raises(InvalidJob):
                await change
        return await client.acancel(job_id), status.state if status else None, await client.acancel("nobody")

    assert asyncio.run(main()) == ("cancelled", "waiting", "gone")
    with pytest.raises(InvalidJob):
        asyncio.run(client.aenqueue("hello"))  # type: ignore[arg-type]  # the mistake that is meant


def test_a_loop_is_never_late_while_redis_is_frozen() -> None:
    async def main(client: Client) -> tuple[float, set[type]]:
        loop = asyncio.get_running_loop()
        late_s = 0.0
        calls = asyncio.gather(*(client.asend("ops", "x") for _ in range(40)), return_exceptions=True)
        while not calls.done():
            asleep_s = loop.time()
            await asyncio.wait([calls], timeout=0.02)
            late_s = max(late_s, loop.time() - asleep_s - 0.02)
        return late_s, {type(result) for result in calls.result()}

    with Server(durable=False) as server, Client(server.url, enqueue_timeout_s=0.5) as client:
        client.send("ops", "warm")
        server.freeze()
        began_s = time.monotonic()
        late_s, kinds = asyncio.run(main(client))
        took_s = time.monotonic() - began_s
        server.thaw()

    assert kinds == {EnqueueFailed}
    assert took_s < 2.5, took_s  # 40 callers share 8 threads, and each has its own bound
    assert late_s < 0.5, late_s


def test_a_task_that_is_cancelled_says_so_and_nothing_else() -> None:
    async def main(client: Client) -> None:
        task = asyncio.create_task(client.asend("ops", "x"))
        await asyncio.wait([task], timeout=0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with black_hole() as port, Client(f"redis://127.0.0.1:{port}/0") as client:
        asyncio.run(main(client))


# What is raised


@pytest.mark.parametrize(
    ("arguments", "options", "problem"),
    [
        (["amqp://guest@127.0.0.1//"], {}, "state_url: the lanes stand in Redis"),
        ([], {"enqueue_timeout_s": 0}, "enqueue_timeout_s: a number of seconds above 0"),
        ([], {"enqueue_timeout_s": float("nan")}, "enqueue_timeout_s: a number of seconds above 0"),
        ([], {"enqueue_timeout_s": float("inf")}, "enqueue_timeout_s: a number of seconds above 0"),
        (["redis://:p#PLANTED@h:6379/0"], {}, "broker_url: expected a /, . or # of the password as %2F, %3F or %23"),
        (["redis://u:PLANTED/x@h:6379/0"], {}, "broker_url: expected a /, . or # of the password as %2F, %3F or %23"),
        (["redis://h/0?PLANTED=1"], {}, "broker_url: expected no other options than db, protocol, ssl_ca_certs"),
        (["amqp://u:PLANTED/x@h//"], {"state_url": "redis://h"}, "broker_url: expected amqp://user:password@host:5672"),
        (["redis://h"], {"state_url": "redis+cluster://PLANTED"}, "state_url: expected .* take one server, or Sentinel"),
        (["redis://h"], {"state_url": "amqp://PLANTED"}, "state_url: expected redis://, .* found a amqp:// URL"),
    ],
)  # fmt: skip
def test_a_wrong_address_is_refused_at_once_and_not_shown(
    arguments: list[str], options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        Client(*arguments, **options)
    assert "PLANTED" not in "".join(traceback.format_exception(caught.value))


def test_several_brokers_may_be_named() -> None:
    Client("amqp://a:5672;amqp://b:5672", state_url="redis://h").close()


def test_no_password_in_what_is_raised() -> None:
    client = Client(f"redis://user:PLANTED-PASSWORD@127.0.0.1:{free_port()}/0")
    with pytest.raises(EnqueueFailed) as caught:
        client.send("ops", "hello")
    client.close()

    shown = "".join(traceback.format_exception(caught.value))
    assert "PLANTED" not in shown.replace(traceback.format_tb(caught.value.__traceback__)[0], "")
    assert "PLANTED" not in repr(client)


def test_a_refused_password_is_called_so(valkey: Server) -> None:
    with (
        Client(valkey.url.replace("redis://", "redis://user:PLANTED@")) as client,
        pytest.raises(EnqueueFailed, match="refused the user or password"),
    ):
        client.send("ops", "hello")


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (["~*", "+@all", "-hset"], "refused (ACL failure in script: User lame has no permissions to run the 'hset' command)"),
        (["~*:pace", "~*:clock", "+@all"], "refused (ACL failure in script: No permissions to access a key)"),
        (["~*", "+@all", "-@scripting"], "refused (User lame has no permissions to run the 'evalsha' command)"),
    ],
)  # fmt: skip
def test_what_an_acl_refuses_is_told_to_the_end_and_where_it_is_changed(
    valkey: Server, state: State, rules: list[str], words: str
) -> None:
    admin: Any = state.redis
    admin.execute_command("ACL", "SETUSER", "lame", "reset", "on", ">PLANTED", *rules)

    with (
        Client(valkey.url.replace("redis://", "redis://lame:PLANTED@"), prefix=state.prefix) as client,
        pytest.raises(EnqueueFailed) as caught,
    ):
        client.send("ops", "PLANTED too")
    admin.acl_deluser("lame")

    assert f"{words}: its user may not do that; ops/redis.acl.template says who needs what" in str(caught.value)
    assert "ACL LOG on the server" in str(caught.value)
    assert "PLANTED" not in str(caught.value)


@pytest.mark.parametrize("verb", ["status", "cancel", "wait", "astatus", "acancel", "await_end"])
def test_every_verb_is_bounded_and_raises_the_same(verb: str) -> None:
    def call(client: Client) -> Any:
        if verb == "wait":
            return client.wait("j", timeout_s=30)
        if verb == "await_end":
            return asyncio.run(client.await_end("j", timeout_s=30))
        called = getattr(client, verb)("j")
        return asyncio.run(called) if verb.startswith("a") else called

    with black_hole() as port, Client(f"redis://127.0.0.1:{port}/0", enqueue_timeout_s=0.5) as frozen:
        began_s = time.monotonic()
        with pytest.raises(EnqueueFailed, match="in time"):
            call(frozen)
        assert time.monotonic() - began_s < 1.5
    with (
        Client(f"redis://127.0.0.1:{free_port()}/0") as refused,
        pytest.raises(EnqueueFailed, match="could not be reached"),
    ):
        call(refused)


def test_a_job_built_by_hand_is_checked_before_it_is_stored(client: Client, state: State) -> None:
    with pytest.raises(InvalidJob) as caught:
        client.enqueue(SendJob(job_id="j", destination="ops", content=Text(text="")))
    assert caught.value.field == "text"
    with pytest.raises(InvalidJob) as caught:
        client.send_many([send_job("ops", "x"), "hello"])  # type: ignore[list-item]  # the mistake that is meant
    assert caught.value.field == "[1].job"
    assert "submitted" not in state.store.counts()


# Many at once


def test_none_at_all_is_nothing(client: Client) -> None:
    assert client.send_many([]) == []


def test_of_many_those_that_were_not_taken_are_handed_back(client: Client, state: State) -> None:
    state.pace({"ops": lane("robot.ops", max_waiting=2), "dev": lane("robot.ops")}, {"robot.ops": sender(limit=1)})
    jobs = [send_job("ops", f"n {number}") for number in range(5)]

    with pytest.raises(LaneFull, match="2 of 5 jobs were not taken, the first: ops: 2 jobs wait") as caught:
        client.send_many(jobs)
    assert caught.value.jobs == (jobs[3], jobs[4])
    assert caught.value.job is None

    with pytest.raises(
        EnqueueFailed, match="1 of 2 jobs were not taken, the first: destination: no destination"
    ) as other:
        client.send_many([send_job("dev", "x"), send_job("devv", "y")])
    assert other.value.job is not None
    assert other.value.job.destination == "devv"
    assert isinstance(other.value.__cause__, InvalidJob)

    with pytest.raises(LaneFull, match="jobs wait there already"):
        client.send_many([send_job("ops", "x")])


def test_when_nothing_was_stored_for_a_mistake_it_is_a_mistake(client: Client, state: State) -> None:
    state.pace({"ops": lane("robot.ops")}, {"robot.ops": sender()})

    with pytest.raises(InvalidJob, match="did you mean 'ops'") as caught:
        client.send_many([send_job("opss", "x"), send_job("opss", "y")])
    assert caught.value.field == "[0].destination"


def test_many_to_a_redis_that_is_away_come_back_as_they_went() -> None:
    jobs = [send_job("ops", f"n {number}") for number in range(1200)]
    with (
        Client(f"redis://127.0.0.1:{free_port()}/0") as client,
        pytest.raises(EnqueueFailed, match="1200 of 1200") as caught,
    ):
        client.send_many(jobs)
    assert caught.value.jobs == tuple(jobs)

    with black_hole() as port, Client(f"redis://127.0.0.1:{port}/0", enqueue_timeout_s=0.5) as client:
        began_s = time.monotonic()
        with pytest.raises(EnqueueFailed):
            client.send_many(jobs)
        assert time.monotonic() - began_s < 2.0


def test_many_that_run_out_of_time_are_not_all_taken_and_the_rest_comes_back(state: State) -> None:
    """The connections are asked directly: at the client only a race would show it."""
    jobs = [send_job("ops", f"n {number}") for number in range(1200)]
    with Client(state.url, prefix=state.prefix) as client:
        problem, _ = client._handover.here().submit_many(jobs, deadline_s=0.0)

    assert isinstance(problem, EnqueueFailed)
    assert str(problem).startswith("700 of 1200 jobs were not taken")
    assert problem.jobs == tuple(jobs[500:])
    assert state.store.counts()["submitted"] == 500


# Connections


def test_a_connection_that_the_server_closed_is_opened_again(client: Client, state: State) -> None:
    client.send("ops", "warm")
    state.redis.client_kill_filter(_type="normal", skipme=True)

    assert client.send("ops", "again")


def test_a_server_that_came_back_is_found_at_once() -> None:
    with Server() as server, Client(server.url) as client:
        client.send("ops", "warm")
        server.kill()
        with pytest.raises(EnqueueFailed):
            client.send("ops", "away")
        server.start()

        assert client.send("ops", "back")


def test_a_broker_that_never_answers_costs_the_call_nothing_but_its_time(state: State, valkey: Server) -> None:
    """Its connection drips, so that no socket's timeout ends it: the job is accepted all the same."""
    state.pace({"ops": lane("robot.ops", in_flight=100)}, {"robot.ops": sender()})
    with black_hole(drip=b"+") as port:
        client = Client(f"redis://127.0.0.1:{port}/0", state_url=valkey.url, prefix=state.prefix, enqueue_timeout_s=0.6)
        began_s = time.monotonic()
        job_id = client.send("ops", "hello")
        other_id = asyncio.run(client.asend("ops", "hello"))
        [third_id] = client.send_many([send_job("ops", "hello")])
        took_s = time.monotonic() - began_s
        client.close()

    assert took_s < 3.0, took_s
    assert {state.state_of(one) for one in (job_id, other_id, third_id)} == {"called"}


def test_a_broker_that_fails_rests_and_says_so_once(
    state: State, valkey: Server, caplog: pytest.LogCaptureFixture
) -> None:
    state.pace({"ops": lane("robot.ops", in_flight=100)}, {"robot.ops": sender()})
    with Client(f"redis://127.0.0.1:{free_port()}/0", state_url=valkey.url, prefix=state.prefix) as client:
        ids = [client.send("ops", "salary 123") for _ in range(5)]

    assert {state.state_of(job_id) for job_id in ids} == {"called"}
    said = [record for record in caplog.records if record.name == "dingqueue"]
    assert [record.message for record in said] == [
        "1 calls not published (OperationalError): their jobs are safe, and workers call them again"
    ]
    assert "salary" not in caplog.text


def threads_of_clients() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("dingqueue")]


def test_closing_lets_threads_and_sockets_go(state: State, valkey: Server) -> None:
    state.pace({"ops": lane("robot.ops", in_flight=100)}, {"robot.ops": sender()})
    before = broker_connections(state)
    threads = len(threads_of_clients())
    client = Client(valkey.url, prefix=state.prefix)
    client.send("ops", "hello")
    assert len(broker_connections(state) - before) >= 2
    assert len(threads_of_clients()) > threads

    client.close()

    wait_for(lambda: len(threads_of_clients()) <= threads, what="threads ended")
    wait_for(lambda: not broker_connections(state) - before, what="connections closed")
    client.close()
    assert client.send("ops", "again")
    client.close()


def test_a_client_that_is_closed_while_others_call_refuses_nothing(valkey: Server, state: State) -> None:
    """Whoever calls meanwhile is served by new connections, or is told that it may call again."""
    client = Client(valkey.url, prefix=state.prefix)
    stop = threading.Event()

    def close() -> None:
        while not stop.wait(0.003):
            client.close()

    closer = threading.Thread(target=close)
    closer.start()

    def send(number: int) -> str:
        while True:
            try:
                return client.send("ops", f"n {number}", key=str(number))
            except EnqueueFailed:
                continue

    with ThreadPoolExecutor(8) as threads:
        ids = list(threads.map(send, range(200)))
    stop.set()
    closer.join()
    client.close()

    assert len(set(ids)) == 200
    assert state.store.counts()["submitted"] == 200


def test_a_task_whose_client_is_closed_is_told_so() -> None:
    async def main(client: Client) -> list[BaseException]:
        calls = [asyncio.create_task(client.asend("ops", "x")) for _ in range(12)]
        await asyncio.wait(calls, timeout=0.2)
        client.close()
        return [
            error for error in await asyncio.gather(*calls, return_exceptions=True) if isinstance(error, BaseException)
        ]

    with black_hole() as port:
        failures = asyncio.run(main(Client(f"redis://127.0.0.1:{port}/0", enqueue_timeout_s=2)))

    assert [type(failure) for failure in failures] == [EnqueueFailed] * 12
    assert sum(str(failure) == "the client was closed meanwhile" for failure in failures) == 4


def test_a_caller_whose_client_is_closed_is_told_so() -> None:
    with black_hole() as port:
        client = Client(f"redis://127.0.0.1:{port}/0", enqueue_timeout_s=2)
        with ThreadPoolExecutor(12) as threads:
            futures = [threads.submit(client.send, "ops", "x") for _ in range(12)]
            hands = client._handover.here().hands
            wait_for(lambda: hands._pending == 12, what="all threads busy, and four calls behind them")
            client.close()
            failures = [future.exception(timeout=60) for future in futures]

    assert {type(failure) for failure in failures} == {EnqueueFailed}
    assert "the client was closed meanwhile" in {str(failure) for failure in failures}


@pytest.mark.parametrize("prefix", ["a{b}:", "two words", ":", "dq::"])
def test_a_prefix_that_no_fleet_can_have_is_refused(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"^prefix: a word like dq:"):
        Client("redis://127.0.0.1:1", prefix=prefix)
    monkeypatch.setenv("DINGQUEUE_PREFIX", prefix)
    with pytest.raises(ValueError, match=r"^prefix: a word like dq:"):
        Client("redis://127.0.0.1:1")
