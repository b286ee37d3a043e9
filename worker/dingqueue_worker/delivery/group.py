"""The route of an app's robot to a group: one message of the job. DingTalk takes it and proves nothing."""

from __future__ import annotations

from collections.abc import Mapping

from dingqueue.contract import AssignJob, SendJob
from dingqueue.errors import InvalidJob
from dingqueue.messages import RobotMessage, render_robot
from dingqueue.routes import RINGS_NOBODY
from dingqueue_worker.delivery.app import Door
from dingqueue_worker.delivery.notes import first_part, with_recall
from dingqueue_worker.delivery.people import Sends
from dingqueue_worker.dingtalk.answers import Taken
from dingqueue_worker.outcome import Accepted, Dead, Ended
from dingqueue_worker.settings import App, Destination


class Group:
    """Speaks in the groups that an app's robot is in."""

    def __init__(self, door: Door, calls: Sends) -> None:
        self._door, self._calls = door, calls

    def attempt(
        self, job: SendJob | AssignJob, *, app: App, destination: Destination, step: int, notes: Mapping[str, str]
    ) -> Ended:
        """Send the part whose turn it is."""
        if isinstance(job, SendJob) and job.mention:
            # Refused at the door where the fleet's pace was known there.
            return Ended(outcome=Dead(why=f"mention: {RINGS_NOBODY}", cause="content", sent=False))
        try:
            messages = render_robot(job)
        except InvalidJob as error:
            return Ended(outcome=Dead(why=str(error), cause="content", sent=False))
        return self.send(messages, app=app, destination=destination, step=step, notes=notes)

    def send(
        self,
        messages: tuple[RobotMessage, ...],
        *,
        app: App,
        destination: Destination,
        step: int,
        notes: Mapping[str, str],
    ) -> Ended:
        """Send one of the messages: which one, the step says."""
        first = first_part(notes)
        steps, part = first + len(messages), step - first
        if part >= len(messages):
            why = f"{part} parts of this message were sent, and it has only {len(messages)} now"
            return Ended(outcome=Dead(why=why, cause="content", sent=False), steps=steps)
        message = messages[part]
        conversation, robot_code = destination.conversation or "", app.robot_code or ""
        got = self._door.newer(
            app,
            lambda token: self._calls.group_send(
                token, robot_code=robot_code, conversation=conversation, key=message.key, param=message.text
            ),
            proof="processQueryKey",
            notes=notes,
            said=message.param.values(),
        )
        if not isinstance(got, Taken):
            return got
        key = got.text("processQueryKey")
        return Ended(
            outcome=Accepted(receipt={**got.receipt, "process_query_key": key}),
            steps=steps,
            notes=with_recall(notes, ("group", key, conversation)),
        )
