"""Turns a call about an earlier job into a job of its own. Knows no Redis: it is given what that job left."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dingqueue.arguments import People, instant_of, mention_of, subject_of, text_of
from dingqueue.contract import NOBODY, Action, ChangeJob, Mention, Terms
from dingqueue.errors import InvalidJob
from dingqueue.jobs import JOB_ID_NAMESPACE
from dingqueue.lanes import Left

#: Changes go before what waits: they are about something that people look at already.
_AT_ONCE = Terms(urgent=True)
_OPEN = frozenset({"waiting", "called", "sending"})


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkChange:
    """What is to be different about a work; what is empty stays as it is."""

    to: Mention = NOBODY
    subject: str = ""
    description: str = ""
    due: datetime | None = None


def work_change(
    *, to: People = (), subject: str | None = None, description: str | None = None, due: datetime | None = None
) -> WorkChange:
    """Check the arguments of ``Client.reassign``.

    Raises:
        InvalidJob: One is wrong, or all are empty; ``field`` names it.
    """
    people = mention_of(to, field="to")
    if people.everyone:
        raise InvalidJob("to", "work is for named people")
    change = WorkChange(
        to=people,
        subject="" if subject is None else subject_of(subject),
        description="" if description is None else text_of(description, "description"),
        due=instant_of(due, "due"),
    )
    if change == WorkChange():
        raise InvalidJob("to", "nothing to change: give to, subject, description or due")
    return change


def recall_of(job_id: str, left: Left) -> ChangeJob:
    """Take back what a job left at DingTalk. The same call again is the same job."""
    return _change(job_id, left, "recall", str(uuid.uuid5(JOB_ID_NAMESPACE, f"recall:{job_id}")))


def completion_of(job_id: str, left: Left | None) -> ChangeJob:
    """Say that a work is done. The same call again is the same job.

    Raises:
        InvalidJob: The job has no todo (yet, or any more).
    """
    return _change(job_id, _with_todo(job_id, left), "complete", str(uuid.uuid5(JOB_ID_NAMESPACE, f"done:{job_id}")))


def reassignment_of(job_id: str, left: Left | None, change: WorkChange, *, key: str | None) -> ChangeJob:
    """Change a work.

    Raises:
        InvalidJob: The job has no todo (yet, or any more).
    """
    new_id = uuid.uuid4() if key is None else uuid.uuid5(JOB_ID_NAMESPACE, f"reassign:{job_id}:{key}")
    return _change(job_id, _with_todo(job_id, left), "reassign", str(new_id), change)


def check_of(job_id: str, left: Left | None) -> ChangeJob:
    """See who has read what a job sent. Each call is a look of its own.

    Raises:
        InvalidJob: The job sent nothing that DingTalk tells about.
    """
    if left is None:
        raise InvalidJob("job_id", f"nobody knows the job {job_id!r} (any more)")
    if "recall" not in left.things:
        why = "nothing is known about it yet" if left.state in _OPEN else "only messages of an app can be looked at"
        raise InvalidJob("job_id", f"{why} (it is {left.state})")
    return _change(job_id, left, "check", str(uuid.uuid4()))


def unplaced(job_id: str, destination: str, action: Action, change: WorkChange | None = None) -> ChangeJob:
    """A change for an outbox, where no job ever leaves anything at DingTalk."""
    left = Left(destination=destination, state="delivered", things={"todo": {}})
    return _change(job_id, left, action, str(uuid.uuid5(JOB_ID_NAMESPACE, f"{action}:{job_id}")), change)


def _change(job_id: str, left: Left, action: Action, new_id: str, change: WorkChange | None = None) -> ChangeJob:
    asked = change or WorkChange()
    names = {"recall": ("recall", "todo"), "check": ("recall",)}.get(action, ("todo",))
    things: Mapping[str, Any] = {name: left.things[name] for name in names if name in left.things}
    return ChangeJob(
        job_id=new_id,
        destination=left.destination,
        of=job_id,
        action=action,
        left=json.dumps(things, ensure_ascii=False),
        to=asked.to,
        subject=asked.subject,
        description=asked.description,
        due=asked.due,
        terms=_AT_ONCE,
    )


def _with_todo(job_id: str, left: Left | None) -> Left:
    if left is None:
        raise InvalidJob("job_id", f"nobody knows the job {job_id!r} (any more)")
    if "todo" in left.things:
        return left
    if left.state in _OPEN:
        raise InvalidJob("job_id", f"its todo is not at DingTalk yet (it is {left.state}): wait for it, or cancel it")
    raise InvalidJob("job_id", "it left no todo at DingTalk: only assign to a destination with an app does")
