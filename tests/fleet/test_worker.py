"""Workers as processes: what Celery shows of a job, pools, servers, kills, beat."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from celery import Celery

from dingqueue import send_job
from dingqueue_worker.embedded import Server
from dingqueue_worker.sandbox.client import Space
from support.events import Events
from support.fleet import Fleet
from support.sentinels import lone_sentinel
from support.waiting import pass_s, wait_for

CONFIG = """
[robots]
ops.token = "token-ops"
dev.token = "token-dev"
[destinations]
ops.robots = ["ops"]
dev.robots = ["dev"]
[fleet]
backoff_base_s = 0.2
connect_timeout_s = 1.0
read_timeout_s = 1.0
total_timeout_s = 1.5
call_lease_s = 1.0
max_attempts = 3
"""
#: Of an attempt: two whole requests and three seconds.
LEASE_S = 6.0


@pytest.fixture
def fleet(space: Space) -> Iterator[Fleet]:
    space.robot("token-ops", name="ops")
    space.robot("token-dev", name="dev")
    with Fleet(CONFIG, oapi_url=space.oapi_url) as fleet:
        yield fleet


def test_celery_tells_the_truth_about_a_job(fleet: Fleet, space: Space) -> None:
    with Events(fleet.broker_url) as events:
        fleet.workers(1)
        good = fleet.client.send("ops", "good")
        events.wait_for(good, "received", "started", "succeeded")

        space.fault("status", status=500, times=1, sender="ops")
        again = fleet.client.send("ops", "again")
        events.wait_for(again, "received", "started", "retried", "received", "started", "succeeded")
        retried = next(one for one in events.heard if one["type"] == "task-retried")
        assert "the server failed" in retried["exception"]

        space.fault("errcode", errcode=430102, errmsg="不合适", times=1, sender="ops")
        bad = fleet.client.send("ops", "bad")
        events.wait_for(bad, "received", "started", "failed")
        failed = events.last(bad)
        assert "DingTalk finds the text unsuitable" in failed["exception"]
        assert "Traceback" not in fleet.logs()
        assert not any("eta" in one and one["eta"] for one in events.heard)


def test_events_of_many_jobs_share_messages_and_a_call_is_not_acknowledged_in_redis(fleet: Fleet, space: Space) -> None:
    with Events(fleet.broker_url) as events, redis.Redis(port=fleet.server.port, decode_responses=True) as server:
        fleet.workers(1)
        job_ids = [fleet.client.send(name, f"message {number}") for number in range(15) for name in ("ops", "dev")]

        fleet.wait_for_end(*job_ids)

        for job_id in job_ids:
            events.wait_for(job_id, "received", "started", "succeeded")
        published = server.info("commandstats")["cmdstat_publish"]["calls"]
        assert published < len(job_ids), f"{published} messages for {3 * len(job_ids)} events"
        assert not server.exists("unacked", "unacked_index"), "the lease is the acknowledgement"


def test_a_thread_goes_on_with_its_lane_and_celery_tells_of_every_job(fleet: Fleet, space: Space) -> None:
    job_ids = fleet.client.send_many([send_job("ops", f"message {number}") for number in range(15)])
    with Events(fleet.broker_url) as events, redis.Redis(port=fleet.server.port, decode_responses=True) as server:
        fleet.workers(1)

        fleet.wait_for_end(*job_ids)

        for job_id in job_ids:
            events.wait_for(job_id, "received", "started", "succeeded")
        pushed = server.info("commandstats")["cmdstat_lpush"]["calls"]
    assert pushed < len(job_ids) / 2, f"{pushed} messages for {len(job_ids)} jobs"
    assert [message.text for message in space.messages(15)] == [f"message {number}" for number in range(15)]
    ran = {one["uuid"]: one["runtime"] for one in events.heard if one["type"] == "task-succeeded"}
    assert max(ran.values()) < sum(ran.values()) / 2, "each job's run is its own, not the shift's"


def test_a_thread_that_goes_on_keeps_no_other_lane_waiting(fleet: Fleet, space: Space) -> None:
    space.fault("slow", delay_s=0.1, sender="ops")
    fleet.client.send_many([send_job("ops", f"message {number}") for number in range(15)])
    fleet.client.send("dev", "of another lane")

    fleet.workers(1, concurrency=1)

    texts = [message.text for message in space.messages(16, wait_s=30.0)]
    assert texts.index("of another lane") < 10


def test_a_worker_that_ends_finishes_what_it_sends_and_leaves_the_lane_to_others(fleet: Fleet, space: Space) -> None:
    space.fault("slow", delay_s=0.1, sender="ops")
    job_ids = fleet.client.send_many([send_job("ops", f"message {number}") for number in range(15)])
    (first,) = fleet.workers(1)
    space.messages(3)

    assert first.terminate() == 0

    begun = len(space.messages())
    assert begun < 15
    fleet.workers(1)
    fleet.wait_for_end(*job_ids)
    assert [message.text for message in space.messages(15)] == [f"message {number}" for number in range(15)]


def test_a_job_that_somebody_revoked_goes_back_to_its_lane_and_spends_nothing(fleet: Fleet, space: Space) -> None:
    space.fault("slow", delay_s=1.0, times=1, sender="ops")
    fleet.workers(1)
    job_ids = fleet.client.send_many([send_job("ops", f"message {number}") for number in range(3)])
    space.messages(1)
    with Celery("operator", broker=fleet.broker_url, set_as_current=False, fixups=[]) as celery:
        celery.control.revoke(job_ids[1], reply=True, timeout=5.0)

    def given_back() -> bool:
        status = fleet.client.status(job_ids[1])
        return status is not None and status.reason == "this worker did not carry it out"

    wait_for(given_back, within_s=15, what="the job is given back")
    status = fleet.client.status(job_ids[1])
    assert status is not None
    assert (status.attempts, status.state in {"waiting", "called"}) == (0, True)
    fleet.client.cancel(job_ids[1])
    fleet.wait_for_end(*job_ids)
    assert [message.text for message in space.messages(2)] == ["message 0", "message 2"]


def test_a_kill_in_mid_request_is_an_unknown_end_and_the_job_arrives(fleet: Fleet, space: Space) -> None:
    # At DEBUG they say what they have begun.
    workers = [fleet.worker(loglevel="DEBUG") for _ in range(2)]
    for one in workers:
        one.wait_until_says("ready.")
    space.fault("slow", times=1, sender="ops", delay_s=60.0)
    job_id = fleet.client.send("ops", "once more")
    space.messages(count=1, robot="ops")
    (busy,) = [one for one in workers if job_id in one.log()]

    busy.kill()
    (status,) = fleet.wait_for_end(job_id, within_s=40)

    assert status.state == "delivered"
    assert status.unknowns == 1
    came = space.messages(robot="ops", state="any")
    assert [one.uuid for one in came] == [job_id, job_id]
    assert [one.state for one in came] == ["accepted", "double"], "DingTalk is given the same id to drop the double"


def killed_before(fleet: Fleet, job_id: str) -> None:
    """A worker that is gone between the end of one request and the next, which is this job's."""
    worker = fleet.worker(
        app="support.killed_between",
        env={"PYTHONPATH": str(Path(__file__).parents[1]), "DIES_BEFORE": job_id},
    )
    assert worker.child.wait(30) == -signal.SIGKILL


def test_a_kill_before_a_begun_attempt_sends_is_an_unknown_end_after_its_lease(fleet: Fleet, space: Space) -> None:
    job_ids = fleet.client.send_many([send_job("ops", f"message {number}") for number in range(3)])

    killed_before(fleet, job_ids[1])

    assert [fleet.status(job_id).state for job_id in job_ids] == ["delivered", "sending", "waiting"]
    assert (fleet.status(job_ids[1]).attempts, fleet.status(job_ids[1]).unknowns) == (0, 0)
    assert [message.text for message in space.messages(1)] == ["message 0"]

    fleet.workers(1)
    statuses = fleet.wait_for_end(*job_ids)

    assert [(one.state, one.attempts, one.unknowns) for one in statuses] == [
        ("delivered", 1, 0), ("delivered", 2, 1), ("delivered", 1, 0),
    ]  # fmt: skip
    assert [message.text for message in space.messages(3, state="any")] == [f"message {number}" for number in range(3)]
    # Longer than a call's lease: the lane waited for the end of an attempt's.
    assert statuses[1].ended_at
    assert statuses[0].ended_at
    assert (statuses[1].ended_at - statuses[0].ended_at).total_seconds() >= LEASE_S


def test_what_may_not_wonder_is_never_begun_so_and_a_kill_loses_only_its_call(fleet: Fleet, space: Space) -> None:
    job_ids = fleet.client.send_many([send_job("ops", f"message {number}", on_unknown="hold") for number in range(3)])

    killed_before(fleet, job_ids[1])

    assert [fleet.status(job_id).state for job_id in job_ids] == ["delivered", "called", "waiting"]

    fleet.workers(1)
    statuses = fleet.wait_for_end(*job_ids)

    assert [(one.state, one.attempts, one.unknowns) for one in statuses] == [("delivered", 1, 0)] * 3
    assert [message.text for message in space.messages(3, state="any")] == [f"message {number}" for number in range(3)]
    assert fleet.store.counts()["lost_calls:ops"] >= 1


def test_a_thread_does_not_go_on_while_the_broker_is_away_and_goes_on_again(space: Space) -> None:
    """Nobody would hear of it meanwhile: Flower's events go through the broker."""
    space.robot("token-ops", name="ops")
    space.robot("token-dev", name="dev")
    space.fault("slow", delay_s=0.2, sender="ops")
    with Server(durable=False) as broker, Fleet(CONFIG, oapi_url=space.oapi_url, broker_url=broker.url) as fleet:
        job_ids = fleet.client.send_many([send_job("ops", f"message {number}") for number in range(15)])
        (worker,) = fleet.workers(1)
        space.messages(2)

        broker.kill()
        worker.wait_until_says("Connection to broker lost")
        begun = len(space.messages(state="any"))
        pass_s(1.5)
        left = 15 - len(space.messages(state="any"))
        assert left >= 15 - begun - 2, "only what was in the air when it was noticed"

        broker.start()
        assert {status.state for status in fleet.wait_for_end(*job_ids)} == {"delivered"}
        assert [message.text for message in space.messages(15, state="any")] == [f"message {n}" for n in range(15)]
        with redis.Redis(port=broker.port, decode_responses=True) as server:
            pushed = server.info("commandstats")["cmdstat_lpush"]["calls"]
        assert pushed <= left / 2, f"{pushed} messages for {left} jobs"


def test_gevent_is_refused_with_a_reason(fleet: Fleet) -> None:
    worker = fleet.worker("-P", "gevent")

    assert worker.child.wait(30) != 0
    assert "dingqueue does not run on the gevent or eventlet pool: leave --pool out" in worker.log()


def test_prefork_works_too(fleet: Fleet) -> None:
    worker = fleet.worker("-P", "prefork", concurrency=2)
    worker.wait_until_says("ready.")

    job_ids = fleet.client.send_many({"destination": "ops", "text": f"number {n}"} for n in range(10))

    assert {status.state for status in fleet.wait_for_end(*job_ids)} == {"delivered"}


def test_a_server_that_evicts_is_refused(space: Space) -> None:
    evicting = Server(durable=False, options={"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}).start()
    try:
        with Fleet(CONFIG, oapi_url=space.oapi_url, server=evicting) as fleet:
            worker = fleet.worker()
            assert worker.child.wait(30) != 0
            assert "may evict jobs (maxmemory-policy allkeys-lru)" in worker.log()
    finally:
        evicting.stop()


@pytest.mark.parametrize("lanes_too", [True, False])
def test_a_sentinel_that_is_named_as_a_server_ends_the_worker_in_a_few_words(space: Space, lanes_too: bool) -> None:
    with lone_sentinel() as port:
        url = f"redis://127.0.0.1:{port}/0"
        with Fleet(CONFIG, oapi_url=space.oapi_url, broker_url=url, state_url=url if lanes_too else None) as fleet:
            worker = fleet.worker()

            assert worker.child.wait(30) != 0

            assert worker.log().count("its address is sentinel://host:26379/name/0") == 1
            for words in ("RestartFreqExceeded", "Frequent restarts", "Traceback", "Connection to broker lost"):
                assert words not in worker.log()


def test_a_server_without_a_file_is_warned_about(space: Space) -> None:
    forgetful = Server(durable=False).start()
    try:
        with Fleet(CONFIG, oapi_url=space.oapi_url, server=forgetful) as fleet:
            fleet.workers(1)[0].wait_until_says("set appendonly yes")
    finally:
        forgetful.stop()


def test_beat_runs_what_has_a_calendar(fleet: Fleet) -> None:
    worker = fleet.worker(loglevel="DEBUG")
    worker.wait_until_says("ready.")
    beat = fleet.beat(loglevel="DEBUG")

    beat.wait_until_says("beat starts")
    beat.wait_until_says("dingqueue.prune")
    worker.wait_until_says("Task dingqueue.prune")


def test_a_wrong_configuration_stops_the_boot_and_names_the_key(tmp_path: Path) -> None:
    config = tmp_path / "dingqueue.toml"
    config.write_text('[robots.ops]\ntokn = "planted-token"\n')
    command = [sys.executable, "-m", "celery", "-A", "dingqueue_worker.main", "worker"]
    env = {**os.environ, "DINGQUEUE_CONFIG": str(config)}

    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603

    said = ended.stdout + ended.stderr
    assert ended.returncode != 0
    assert "robots.ops.tokn" in said
    assert "Traceback" not in said
    assert "planted-token" not in said
