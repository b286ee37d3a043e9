"""The route of todos: made once for a job however often it is tried, changed or taken away by a later job."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from dingqueue.contract import AssignJob, Priority
from dingqueue_worker.delivery.app import Door
from dingqueue_worker.delivery.notes import TODO, begins_at
from dingqueue_worker.dingtalk.answers import Answer, Taken
from dingqueue_worker.directory import Directory, Who, nobody
from dingqueue_worker.outcome import Close, Dead, Delivered, Ended, Retry, Snooze, Unknown
from dingqueue_worker.routing import Route
from dingqueue_worker.settings import App, Destination, Secret

#: https://open.dingtalk.com/document/development/add-dingtalk-to-do-task
MAX_SUBJECT_BYTES, MAX_DESCRIPTION_BYTES, MAX_URL_BYTES = 1_024, 4_096, 1_024
#: Suggested, in one todo.
MAX_EXECUTORS = 100
#: Finished ones are listed so long, and a work may be closed after months.
KEEP_S = 180 * 86_400.0
_PRIORITIES: Mapping[Priority, int] = {"low": 10, "normal": 20, "high": 30, "urgent": 40}
#: In the notes: the todo was there already, and its id is to be found.
_FIND = "find_todo"


class MakesTodos(Protocol):
    """What this route needs of ``dingtalk.apps``."""

    def todo_create(self, token: Secret, *, creator: str, todo: Mapping[str, Any]) -> Answer: ...
    def todo_find(self, token: Secret, *, creator: str, source_id: str) -> Answer: ...


class Todo:
    """Makes the todo of a job."""

    def __init__(self, door: Door, calls: MakesTodos, directory: Directory) -> None:
        self._door, self._calls, self._directory = door, calls, directory

    def attempt(
        self,
        job: AssignJob,
        *,
        app: App,
        destination: Destination,
        step: int,
        notes: Mapping[str, str],
        then: Route | None,
        then_steps: int,
    ) -> Ended:
        """Make it, or find it where an earlier attempt made it.

        Args:
            job: The work.
            app: Who makes the todo.
            destination: Where the work is told of.
            step: The job's step.
            notes: The job's.
            then: The route of the message that follows; None is none.
            then_steps: How many steps that takes.

        Raises:
            StoreUnavailable: Redis did not answer; nothing was sent.
        """
        people, problem = self.people_of(job, app)
        if problem:
            return Ended(outcome=Dead(why=problem, cause="recipients", sent=False))
        if problem := _problem(job, app):
            return Ended(outcome=Dead(why=problem, cause="content", sent=False))
        ids, missing = self._directory.resolve(app.name, people, "union_id")
        if missing:
            return Ended(outcome=Snooze(why="looks people up", cause="lookup", sent=False), route="lookup")
        executors = list(dict.fromkeys(ids[who] for who in people[: len(people) - bool(app.todo_creator)]))
        creator = ids[people[-1]] if app.todo_creator else executors[0]
        follow = Ended(outcome=Delivered(), steps=step + 1 + then_steps, route=then, keep_s=KEEP_S)
        if _FIND in notes:
            return self._found(
                job, app=app, creator=creator, executors=executors, step=step, notes=notes, follow=follow
            )
        todo = _todo(job, app, creator=creator, executors=executors, ding=not destination.robots)
        got = self._door.newer(
            app,
            lambda token: self._calls.todo_create(token, creator=creator, todo=todo),
            proof="id",
            notes=notes,
            said=(job.subject, job.description),
        )
        if isinstance(got, Taken):
            return _made(follow, got.text("id"), creator, executors, step, receipt=got.receipt)
        match got.outcome:
            case Delivered() as there:  # "task exist": an earlier attempt made it, and nobody saw the answer
                return Ended(
                    outcome=Delivered(receipt=there.receipt),
                    steps=step + 2 + then_steps,
                    notes={_FIND: "1"},
                    keep_s=KEEP_S,
                )
            case Dead(cause="recipients"):
                self._directory.forget(app.name, people)
                return got
            case _:
                return got

    def people_of(self, job: AssignJob, app: App) -> tuple[list[Who], str]:
        """Who gets the work, and last who gives it where the app says so; or what is wrong with somebody."""
        people, unknown = self._directory.of(job.to)
        if unknown:
            return [], f"to: {', '.join(unknown)} is not in the fleet's [people]"
        if lost := [who.label for who in people if nobody(who)]:
            return [], f"to: nothing is known of {', '.join(lost)} in [people]: give a user_id, a mobile or a union_id"
        if not people:
            return [], "to: nobody to assign to"
        if len(people) > MAX_EXECUTORS:
            return [], f"to: {len(people)} people; a todo is for at most {MAX_EXECUTORS}"
        if app.todo_creator:
            (creator,) = self._directory.named([app.todo_creator])
            if nobody(creator):
                return (
                    [],
                    f"nothing is known of {creator.label} in [people], who is the todo_creator of apps.{app.name}",
                )
            people.append(creator)
        return people, ""

    def _found(
        self,
        job: AssignJob,
        *,
        app: App,
        creator: str,
        executors: Sequence[str],
        step: int,
        notes: Mapping[str, str],
        follow: Ended,
    ) -> Ended:
        got = self._door.newer(
            app,
            lambda token: self._calls.todo_find(token, creator=creator, source_id=job.job_id),
            proof="id",
            notes=notes,
        )
        if isinstance(got, Taken):
            return _made(follow, got.text("id"), creator, executors, step, receipt={})
        match got.outcome:
            case Unknown(why=why, cause=cause):  # a question changes nothing: ask again
                return Ended(outcome=Retry(why=why, cause=cause))
            case Dead() | Snooze(close=Close(cause="fault", sender=None)):
                # The todo is there, and its id cannot be asked for: it can be done, and not changed from here.
                return _made(follow, "", creator, executors, step, receipt={})
            case _:
                return got


def detail_url(job: AssignJob, app: App) -> str:
    """Where the todo leads; empty where nothing says it."""
    return job.url or app.todo_url or ""


def _problem(job: AssignJob, app: App) -> str:
    url = detail_url(job, app)
    if not url:
        return (
            f"url: DingTalk takes no todo without an address: give url=…, or set todo_url of apps.{app.name} "
            "to the page where works are found"
        )
    if len(url.encode()) > MAX_URL_BYTES:
        return f"url: {len(url.encode()):,} bytes; a todo takes {MAX_URL_BYTES:,}"
    return ""


def _todo(job: AssignJob, app: App, *, creator: str, executors: Sequence[str], ding: bool) -> dict[str, Any]:
    url = detail_url(job, app)
    todo: dict[str, Any] = {
        "sourceId": job.job_id,
        "subject": cut(" ".join(job.subject.split()), MAX_SUBJECT_BYTES),
        "creatorId": creator,
        "executorIds": list(executors),
        "detailUrl": {"appUrl": url, "pcUrl": url},
        "priority": _PRIORITIES[job.priority],
        # The message in the group rings them; where none does, DingTalk shall.
        "notifyConfigs": {"dingNotify": "1" if ding else "0"},
    }
    if job.description.strip():
        todo["description"] = cut(job.description.strip(), MAX_DESCRIPTION_BYTES)
    if job.due:
        todo["dueTime"] = round(job.due.timestamp() * 1000)
    return todo


def cut(text: str, most_bytes: int) -> str:
    """The text's beginning, with a mark that there was more; never half a character."""
    if len(text.encode()) <= most_bytes:
        return text
    return text.encode()[: most_bytes - len("…".encode())].decode("utf-8", "ignore").rstrip() + "…"


def _made(
    follow: Ended, todo_id: str, creator: str, executors: Sequence[str], step: int, *, receipt: Mapping[str, str]
) -> Ended:
    kept = {TODO: json.dumps({"id": todo_id, "creator": creator, "executors": list(executors)})}
    told = {**receipt, "todo_id": todo_id} if todo_id else {**receipt, "todo": "it was there already"}
    return dataclasses.replace(
        follow, outcome=Delivered(receipt=told), notes=kept | begins_at(step + 1)
    )  # fmt: skip
