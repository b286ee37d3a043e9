"""The route of work notifications: a hundred people or twenty departments a call; what became of it is known later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from dingqueue.contract import SendJob
from dingqueue.errors import InvalidJob
from dingqueue.messages import render_notice
from dingqueue_worker.delivery.app import Door
from dingqueue_worker.delivery.notes import with_recall, with_task
from dingqueue_worker.delivery.people import nobody_left, refuse_strangers
from dingqueue_worker.delivery.recipients import progress_of
from dingqueue_worker.delivery.webhook import texts
from dingqueue_worker.dingtalk.answers import Answer, Taken
from dingqueue_worker.directory import Directory
from dingqueue_worker.outcome import Accepted, Dead, Ended, Snooze
from dingqueue_worker.settings import App, Destination, Secret

#: https://open.dingtalk.com/document/development/asynchronous-sending-of-enterprise-session-messages
USERS_PER_CALL, DEPARTMENTS_PER_CALL = 100, 20
#: The result is not there at once.
FIRST_LOOK_S = 3.0
#: How a department is called among the recipients.
_DEPARTMENT = "department:"


class Notifies(Protocol):
    """What this route needs of ``dingtalk.apps``."""

    def notice_send(
        self,
        token: Secret,
        *,
        agent_id: int,
        user_ids: Sequence[str],
        departments: Sequence[int],
        msg: Mapping[str, Any],
    ) -> Answer: ...


class Notice:
    """Sends work notifications in an app's name."""

    def __init__(self, door: Door, calls: Notifies, directory: Directory) -> None:
        self._door, self._calls, self._directory = door, calls, directory

    def attempt(
        self, job: SendJob, *, app: App, destination: Destination, step: int, notes: Mapping[str, str]
    ) -> Ended:
        """Send to the next people or departments.

        Raises:
            StoreUnavailable: Redis did not answer; nothing was sent.
        """
        try:
            if not destination.departments:  # who is in a department is DingTalk's to know
                refuse_strangers(job.mention, self._directory.named(destination.users))
            messages = render_notice(job, mark=mark_of(job.job_id) if destination.unique else "")
        except InvalidJob as error:
            return Ended(outcome=Dead(why=str(error), cause="content", sent=False))
        return self.send(messages, app=app, destination=destination, step=step, notes=notes)

    def send(
        self,
        messages: tuple[dict[str, Any], ...],
        *,
        app: App,
        destination: Destination,
        step: int,
        notes: Mapping[str, str],
    ) -> Ended:
        """Send the part whose turn it is to the next people or departments."""
        everybody = (*destination.users, *(f"{_DEPARTMENT}{one}" for one in destination.departments))
        progress = progress_of(notes, everybody)
        if progress.part >= len(messages) or not progress.left:
            return Ended(outcome=nobody_left(progress), steps=step + 1)
        chunk = _chunk(progress.left)
        users = [one for one in chunk if not one.startswith(_DEPARTMENT)]
        ids, missing = self._directory.resolve(app.name, self._directory.named(users), "user_id")
        if missing:
            return Ended(outcome=Snooze(why="looks people up", cause="lookup", sent=False), route="lookup")
        names = {found: who.label for who, found in ids.items()}
        lost = {name: "neither a user id nor a mobile is known" for name in users if name not in names.values()}
        msg = messages[progress.part]
        got = self._door.older(
            app,
            lambda token: self._calls.notice_send(
                token,
                agent_id=app.agent_id or 0,
                user_ids=list(names),
                departments=[int(one.removeprefix(_DEPARTMENT)) for one in chunk if one.startswith(_DEPARTMENT)],
                msg=msg,
            ),
            proof="task_id",
            notes=notes,
            said=texts({key: part for key, part in msg.items() if isinstance(part, dict)}),
        )
        if not isinstance(got, Taken):
            return got
        after = progress.sent(chunk, everybody=everybody, lost=lost, throttled=())
        left = after.calls_left(len(messages), everybody=len(everybody), per_call=USERS_PER_CALL)
        task_id = got.text("task_id")
        people = {f"person.{name}": "accepted" for name in names.values()}
        receipt = {**got.receipt, "task_id": task_id} | people | {f"person.{name}": why for name, why in lost.items()}
        return Ended(
            outcome=Accepted(receipt=receipt, why=after.why()),
            steps=step + 1 + left,
            notes=after.to_notes() | with_recall(notes, ("notice", task_id, "")) | with_task(notes, task_id, names),
            look_up_s=FIRST_LOOK_S,
        )


def mark_of(job_id: str) -> str:
    """What makes a job's text another one than yesterday's, and the same at each of its attempts."""
    return f"#{job_id.replace('-', '')[:8]}"


def _chunk(left: Sequence[str]) -> list[str]:
    users = [one for one in left if not one.startswith(_DEPARTMENT)]
    return users[:USERS_PER_CALL] if users else list(left[:DEPARTMENTS_PER_CALL])
