"""Changes to earlier jobs: what becomes a job, and what is refused at the call."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from dingqueue import Client, InvalidJob, assign_job, send_job
from dingqueue.changes import check_of, completion_of, reassignment_of, recall_of, work_change
from dingqueue.contract import Mention, from_wire, to_wire
from dingqueue.jobs import checked
from dingqueue.lanes import Left
from dingqueue.messages import Rung, by_union_id, render_webhook
from dingqueue.testing import outbox

TODO = {"id": "t1", "creator": "un1", "executors": ["un1"]}
LEFT = Left(destination="project", state="delivered", things={"todo": TODO, "recall": [["group", "k1", "cid1"]]})


def test_the_same_recall_is_the_same_job_and_goes_first() -> None:
    first, again = recall_of("job-1", LEFT), recall_of("job-1", LEFT)

    assert first == again
    assert (first.destination, first.of, first.action, first.terms.urgent) == ("project", "job-1", "recall", True)
    assert json.loads(first.left) == LEFT.things


def test_closing_takes_the_todo_along_and_nothing_else() -> None:
    assert json.loads(completion_of("job-1", LEFT).left) == {"todo": TODO}


def test_recall_close_and_change_of_one_job_are_three_jobs() -> None:
    change = work_change(to="alice")
    ids = {
        recall_of("job-1", LEFT).job_id,
        completion_of("job-1", LEFT).job_id,
        reassignment_of("job-1", LEFT, change, key="a").job_id,
        reassignment_of("job-1", LEFT, change, key="b").job_id,
        reassignment_of("job-1", LEFT, change, key=None).job_id,
        reassignment_of("job-1", LEFT, change, key=None).job_id,
    }

    assert len(ids) == 6
    assert reassignment_of("job-1", LEFT, change, key="a").job_id in ids


def test_a_change_crosses_the_wire_and_the_checks() -> None:
    due = datetime(2026, 12, 1, 9, tzinfo=UTC)
    change = work_change(to=["alice", "user:u2"], subject="Sign it", description="soon", due=due)
    job = reassignment_of("job-1", LEFT, change, key="k")

    assert from_wire(to_wire(job)) == checked(job) == job
    assert (job.to, job.subject, job.due) == (Mention(names=("alice",), user_ids=("u2",)), "Sign it", due)


@pytest.mark.parametrize(
    ("left", "says"),
    [
        (None, "nobody knows the job 'job-1' (any more)"),
        (Left(destination="p", state="waiting", things={}), "not at DingTalk yet (it is waiting)"),
        (Left(destination="p", state="sending", things={}), "not at DingTalk yet (it is sending)"),
        (Left(destination="p", state="delivered", things={}), "left no todo at DingTalk"),
        (Left(destination="p", state="dead", things={"recall": []}), "left no todo at DingTalk"),
    ],
)
def test_a_work_without_a_todo_is_refused_with_the_reason(left: Left | None, says: str) -> None:
    with pytest.raises(InvalidJob) as refused:
        completion_of("job-1", left)

    assert refused.value.field == "job_id"
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "to"),
        ({"to": "everyone"}, "to"),
        ({"to": [""]}, "to"),
        ({"subject": " "}, "subject"),
        ({"subject": "x" * 2_000}, "subject"),
        ({"description": ""}, "description"),
        ({"due": datetime(2026, 12, 1)}, "due"),  # noqa: DTZ001 - the naive one is what is refused
    ],
)
def test_a_change_with_a_mistake_is_refused_by_the_argument(given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidJob) as refused:
        work_change(**given)

    assert refused.value.field == field


def test_an_outbox_takes_changes_of_jobs_that_it_knows() -> None:
    with outbox() as sent, Client("redis://127.0.0.1:1/0") as ding:
        job_id = ding.assign("project", "Review", to="alice")
        ding.reassign(job_id, to="bob")
        ding.complete(job_id)

        sent.assert_enqueued(kind="change", destination="project", mention="bob")
        assert [job.kind for job in sent.jobs] == ["assign", "change", "change"]
        with pytest.raises(InvalidJob, match="nobody knows"):
            ding.complete("no-such-job")


def test_work_may_be_given_by_union_id_and_a_message_may_not() -> None:
    job = assign_job("project", "Review", to=["union:a/b+c==", "alice", "union:a/b+c=="])

    assert job.to == Mention(names=("alice",), union_ids=("a/b+c==",))
    with pytest.raises(InvalidJob, match="no message rings by union id"):
        send_job("ops", "hi", mention="union:a")
    with pytest.raises(InvalidJob, match="is no union id"):
        assign_job("project", "Review", to="union:a b")


def test_a_robot_alone_cannot_ring_by_union_id_and_says_so() -> None:
    job = assign_job("project", "Review", to="union:un5")

    with pytest.raises(InvalidJob, match="nothing rings union:un5: write user:ID"):
        render_webhook(job, people={})
    assert render_webhook(job, people={by_union_id("un5"): Rung(user_id="u5")}).bodies[0]["at"] == {"atUserIds": ["u5"]}


def test_only_what_an_app_sent_can_be_looked_at() -> None:
    assert json.loads(check_of("job-1", LEFT).left) == {"recall": [["group", "k1", "cid1"]]}
    assert check_of("job-1", LEFT).job_id != check_of("job-1", LEFT).job_id
    for left, says in (
        (None, "nobody knows"),
        (Left(destination="p", state="delivered", things={}), "only messages of an app can be looked at"),
        (Left(destination="p", state="waiting", things={}), "nothing is known about it yet (it is waiting)"),
    ):
        with pytest.raises(InvalidJob) as refused:
            check_of("job-1", left)
        assert says in str(refused.value)
