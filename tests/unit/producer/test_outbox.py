"""The outbox in memory, its assertions, and the pytest plugin as an application meets it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dingqueue import EVERYONE, Client, InvalidJob, send_job
from dingqueue.outbox import current
from dingqueue.testing import Outbox, outbox, text_of


@pytest.fixture
def ding() -> Client:
    """Its Redis does not exist: whatever reaches for it fails."""
    return Client("redis://192.0.2.1:1/0", enqueue_timeout_s=0.1)


def test_jobs_stay_in_the_process(ding: Client) -> None:
    with outbox() as sent:
        first = ding.send("ops", "hello")
        second = ding.assign("ops", "Review", to="alice")
        third = ding.share("ops", "https://example.com/a.pdf")
        fourth, fifth = ding.send_many([{"destination": "ops", "text": "a"}, send_job("ops", "b")])
        sixth = asyncio.run(ding.asend("ops", "c"))

    assert [job.job_id for job in sent.jobs] == [first, second, third, fourth, fifth, sixth]
    assert current() is None


def test_the_same_key_is_the_same_job(ding: Client) -> None:
    with outbox() as sent:
        ids = {ding.send("ops", "hello", key="k"), ding.send("ops", "again", key="k")}

    assert len(ids) == len(sent.jobs) == 1
    sent.assert_enqueued(destination="ops", text_contains="hello", key="k", count=1)


def test_mistakes_are_refused_there_too(ding: Client) -> None:
    with outbox() as sent, pytest.raises(InvalidJob):
        ding.send("ops", "")
    with outbox() as sent, pytest.raises(InvalidJob):
        ding.enqueue("hello")  # type: ignore[arg-type]  # the mistake that is meant

    assert sent.jobs == ()


def test_threads_of_the_application_are_seen(ding: Client) -> None:
    with outbox() as sent:
        threads = [threading.Thread(target=ding.send, args=("ops", f"n {number}")) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert {text_of(job) for job in sent.jobs} == {f"n {number}" for number in range(8)}


def test_the_box_opened_last_takes_the_jobs_until_it_is_closed(ding: Client) -> None:
    outer, inner = outbox(), outbox()
    first = outer.__enter__()
    second = inner.__enter__()
    ding.send("ops", "inner")
    outer.__exit__(None, None, None)  # not in the order of their beginning
    ding.send("ops", "inner still")
    inner.__exit__(None, None, None)

    assert first.jobs == ()
    assert [text_of(job) for job in second.jobs] == ["inner", "inner still"]
    assert current() is None


def test_a_box_ends_with_its_block_whatever_happens() -> None:
    with pytest.raises(RuntimeError), outbox():
        raise RuntimeError

    assert current() is None


# Where a job is


def test_a_job_in_the_box_waits_and_can_be_cancelled(ding: Client) -> None:
    with outbox() as sent:
        job_id = ding.send("ops", "hello")
        other_id = ding.send("ops", "stays")
        status = ding.status(job_id)
        unknown = ding.status("nobody")
        ends = ding.cancel(job_id), ding.cancel(job_id), ding.cancel("nobody")
        after = ding.status(job_id)

    assert status is not None
    assert (status.state, status.kind, status.destination, status.place) == ("waiting", "send", "ops", 0)
    assert unknown is None
    assert ends == ("cancelled", "cancelled", "gone")
    assert after is not None
    assert after.state == "cancelled"
    assert [job.job_id for job in sent.jobs] == [other_id]


def test_the_status_in_the_box_is_what_a_lane_would_say(ding: Client) -> None:
    with outbox():
        later = ding.send("ops", "later", at=datetime.now(UTC) + timedelta(hours=1), expires_s=60)
        ids = [ding.send("ops", "a"), ding.send("ops", "b", urgent=True), ding.send("dev", "c")]
        places = [(status.place if (status := ding.status(job_id)) else None) for job_id in ids]
        scheduled = ding.status(later)
        waited = ding.wait(ids[0], timeout_s=60)

    assert places == [1, 0, 0]
    assert scheduled is not None
    assert (scheduled.place, scheduled.reason) == (None, "scheduled")
    assert timedelta(seconds=3659) < scheduled.expires_at - scheduled.submitted_at < timedelta(seconds=3661)
    assert waited is not None
    assert waited.state == "waiting"


def test_an_event_loop_sees_the_box_too(ding: Client) -> None:
    async def main() -> tuple[str | None, str]:
        job_id = await ding.aenqueue(send_job("ops", "hello"))
        status = await ding.astatus(job_id)
        return status.state if status else None, await ding.acancel(job_id)

    with outbox() as box:
        assert asyncio.run(main()) == ("waiting", "cancelled")
        assert box.jobs == ()


# Assertions


@pytest.fixture
def sent(ding: Client) -> Outbox:
    with outbox() as box:
        ding.send("ops", "Disk full on db3", mention=["alice", "13800000000"], urgent=True, key="disk-db3")
        ding.send("ops", markdown="## Disk\n80 %", title="Disk", mention=EVERYONE)
        ding.assign("project", "Review", to=["user:bob"], url="https://example.com/c", description="Page 3")
        ding.share("project", "https://example.com/report.pdf", note="November")
        ding.send("news", link={"title": "t1", "text": "t2", "url": "https://e.com/t3"})
        ding.send("news", card={"title": "t4", "text": "t5", "buttons": [{"title": "t6", "url": "https://e.com/t7"}]})
        ding.send(
            "news", feed={"items": [{"title": "t8", "url": "https://e.com/t9", "picture_url": "https://e.com/p"}]}
        )
    return box


def test_what_is_named_must_fit(sent: Outbox) -> None:
    first = sent.jobs[0]

    assert sent.assert_enqueued() is first
    assert sent.assert_enqueued(destination="ops", key="disk-db3", urgent=True, mention="alice") is first
    assert sent.assert_enqueued(mention=["+86-13800000000"]) is first
    sent.assert_enqueued(mention=EVERYONE, urgent=False)
    sent.assert_enqueued(kind="assign", mention="user:bob", text_contains="Page 3")
    sent.assert_enqueued(kind="assign", text_contains="https://example.com/c")
    sent.assert_enqueued(kind="share", text_contains="report.pdf")
    sent.assert_enqueued(kind="share", text_contains="November")
    sent.assert_enqueued(destination="project", count=2)
    for number in range(1, 10):
        sent.assert_enqueued(destination="news", text_contains=f"t{number}", count=1)
    sent.refute_enqueued(destination="dev")
    sent.refute_enqueued(text_contains="salary")


def test_a_miss_shows_what_came_nearest_and_what_was_different(sent: Outbox) -> None:
    with pytest.raises(AssertionError) as caught:
        sent.assert_enqueued(kind="send", destination="ops", text_contains="db4", mention="bob", urgent=True)

    message = str(caught.value)
    assert message.startswith(
        "no job with kind='send', destination='ops', text_contains='db4', urgent=True, mention=['bob']; "
        "7 enqueued, nearest first:\n  - send to ops: 'Disk full on db3'\n"
        "      text_contains: 'db4' is not in 'Disk full on db3'\n"
        "      mention: ['bob'] not among ['alice', '13800000000']\n"
    )
    assert message.count("\n  - ") == 5


def test_a_miss_names_every_difference(sent: Outbox) -> None:
    with pytest.raises(
        AssertionError, match=r"destination: expected 'dev', got 'ops'\n +urgent: expected False, got True"
    ):
        sent.assert_enqueued(destination="dev", urgent=False, text_contains="Disk full")
    with pytest.raises(AssertionError, match="job_id: expected"):
        sent.assert_enqueued(destination="ops", key="other")


def test_a_wrong_count_lists_what_fits(sent: Outbox) -> None:
    with pytest.raises(AssertionError, match=r"2 jobs with destination='ops', expected 3:\n  - send to ops"):
        sent.assert_enqueued(destination="ops", count=3)


def test_a_refutation_lists_what_fits(sent: Outbox) -> None:
    with pytest.raises(AssertionError, match=r"expected no job with anything in it, found 7"):
        sent.refute_enqueued()


def test_nothing_enqueued_says_so() -> None:
    with pytest.raises(AssertionError, match="no job with kind='send'; nothing was enqueued"):
        Outbox().assert_enqueued(kind="send")
    Outbox().refute_enqueued()


def test_a_long_text_is_shown_in_part(ding: Client) -> None:
    with outbox() as box:
        ding.send("ops", "x" * 1000)
    with pytest.raises(AssertionError) as caught:
        box.assert_enqueued(text_contains="y")

    assert "x" * 200 + "…" in str(caught.value)
    assert "x" * 201 not in str(caught.value)


def test_a_key_needs_its_destination(sent: Outbox) -> None:
    with pytest.raises(TypeError, match="key needs destination"):
        sent.assert_enqueued(key="disk-db3")


def test_a_job_can_be_shown_as_a_robot_would_send_it(sent: Outbox) -> None:
    (body,) = sent.render(sent.jobs[0], keywords=("ops",)).bodies

    assert body["text"]["content"] == "[ops] Disk full on db3 @13800000000 @alice"
    with pytest.raises(InvalidJob):
        sent.render(sent.jobs[0], people={})


# The plugin, as an application's own test run loads it

APPLICATION_TESTS = """
import pytest
from dingqueue import Client
from dingqueue.outbox import current

ding = Client("redis://192.0.2.1:1/0", enqueue_timeout_s=0.1)


def test_with_the_fixture(ding_outbox):
    ding.send("ops", "Deploy finished", mention="alice")
    ding_outbox.assert_enqueued(destination="ops", text_contains="finished", mention="alice", count=1)


def test_each_test_has_its_own(ding_outbox):
    ding_outbox.refute_enqueued()


def test_without_it_nothing_is_switched():
    assert current() is None


def test_that_fails(ding_outbox):
    ding.send("ops", "Deploy finished")
    ding_outbox.assert_enqueued(text_contains="failed")
"""


def run_pytest(folder: Path, *arguments: str) -> str:
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


def test_the_fixture_in_an_applications_own_run(tmp_path: Path) -> None:
    (tmp_path / "test_application.py").write_text(APPLICATION_TESTS)

    said = run_pytest(tmp_path)

    assert "3 passed" in said, said
    assert "1 failed" in said
    assert "E       AssertionError: no job with text_contains='failed'; 1 enqueued, nearest first:" in said


def test_loading_the_plugin_imports_nothing_of_ours(tmp_path: Path) -> None:
    (tmp_path / "test_application.py").write_text(
        "import sys\n"
        "def test_nothing_is_loaded():\n"
        "    loaded = {name.split('.')[0] for name in sys.modules}\n"
        "    ours = {name for name in sys.modules if name.startswith('dingqueue')}\n"
        "    assert ours == {'dingqueue', 'dingqueue.testing_plugin'}, ours\n"
        "    assert not loaded & {'celery', 'redis', 'kombu'}\n"
    )

    said = run_pytest(tmp_path)

    assert "1 passed" in said, said


def test_the_fixture_is_listed_with_its_words(tmp_path: Path) -> None:
    said = run_pytest(tmp_path, "--fixtures")

    assert "ding_outbox" in said
    assert "none leaves the process" in said
