"""The route of an app's robot to people, twenty at a time: who cannot be reached is told, who is throttled is asked again."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from dingqueue.contract import Mention, SendJob
from dingqueue.errors import InvalidJob
from dingqueue.messages import RobotMessage, render_robot
from dingqueue_worker.backoff import delay_s
from dingqueue_worker.delivery.app import Door
from dingqueue_worker.delivery.notes import with_recall
from dingqueue_worker.delivery.recipients import Progress, progress_of
from dingqueue_worker.dingtalk.answers import Answer, Taken
from dingqueue_worker.directory import Directory, Who
from dingqueue_worker.outcome import Accepted, Dead, Ended, Snooze
from dingqueue_worker.settings import App, Destination, Fleet, Secret

#: https://open.dingtalk.com/document/development/chatbots-send-one-on-one-chat-messages-in-batches
PEOPLE_PER_CALL = 20


class Sends(Protocol):
    """What the robot's routes need of ``dingtalk.apps``."""

    def group_send(self, token: Secret, *, robot_code: str, conversation: str, key: str, param: str) -> Answer: ...
    def people_send(
        self, token: Secret, *, robot_code: str, user_ids: Sequence[str], key: str, param: str
    ) -> Answer: ...


class People:
    """Writes to people, one by one as they see it."""

    def __init__(
        self,
        door: Door,
        calls: Sends,
        directory: Directory,
        fleet: Fleet,
        *,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._door, self._calls, self._directory = door, calls, directory
        self._fleet, self._jitter = fleet, jitter

    def attempt(
        self, job: SendJob, *, app: App, destination: Destination, step: int, notes: Mapping[str, str]
    ) -> Ended:
        """Send to the next twenty.

        Raises:
            StoreUnavailable: Redis did not answer; nothing was sent.
        """
        try:
            refuse_strangers(job.mention, self._directory.named(destination.users))
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
        """Send the part whose turn it is to the next twenty."""
        progress = progress_of(notes, destination.users)
        if progress.part >= len(messages) or not progress.left:
            return Ended(outcome=nobody_left(progress), steps=step + 1)
        chunk = progress.left[:PEOPLE_PER_CALL]
        ids, missing = self._directory.resolve(app.name, self._directory.named(chunk), "user_id")
        if missing:
            return Ended(outcome=Snooze(why="looks people up", cause="lookup", sent=False), route="lookup")
        names = {found: who.label for who, found in ids.items()}
        message = messages[progress.part]
        got = self._door.newer(
            app,
            lambda token: self._calls.people_send(
                token, robot_code=app.robot_code or "", user_ids=list(names), key=message.key, param=message.text
            ),
            proof="processQueryKey",
            notes=notes,
            said=message.param.values(),
        )
        if not isinstance(got, Taken):
            return got
        lost = {
            names[one]: "DingTalk does not know this user id" for one in got.names("invalidStaffIdList") if one in names
        }
        lost |= {names[one]: "filtered by DingTalk" for one in got.names("filteredStaffIdList") if one in names}
        lost |= {name: "neither a user id nor a mobile is known" for name in chunk if name not in names.values()}
        throttled = [names[one] for one in got.names("flowControlledStaffIdList") if one in names]
        after = progress.sent(chunk, everybody=destination.users, lost=lost, throttled=throttled)
        left = after.calls_left(len(messages), everybody=len(destination.users), per_call=PEOPLE_PER_CALL)
        key = got.text("processQueryKey")
        receipt = {**got.receipt, "process_query_key": key} | {f"person.{name}": why for name, why in lost.items()}
        return Ended(
            outcome=Accepted(receipt=receipt, why=after.why()) if left or len(after.lost) < len(destination.users) else nobody_left(after),
            steps=step + 1 + left,
            notes=after.to_notes() | with_recall(notes, ("people", key, "")),
            rest_s=self._rest_s(progress, after),
        )  # fmt: skip

    def _rest_s(self, before: Progress, after: Progress) -> float:
        """Who was throttled is left alone for a while."""
        if after.part > before.part or after.rounds <= before.rounds:
            return 0.0
        fleet = self._fleet
        return delay_s(
            after.rounds, base_s=fleet.backoff_base_s, cap_s=fleet.backoff_cap_s, random=self._jitter
        )  # fmt: skip


def nobody_left(progress: Progress) -> Dead:
    """It reached nobody at all."""
    return Dead(why=progress.why() or "nobody is left to send to", cause="recipients", sent=True)


def refuse_strangers(mention: Mention, recipients: Sequence[Who]) -> None:
    """Each who gets a message of their own is rung by it; somebody else cannot be.

    Raises:
        InvalidJob: Somebody is mentioned who does not get the message.
    """
    labels = {who.label for who in recipients}
    user_ids, mobiles = {who.user_id for who in recipients}, {who.mobile for who in recipients}
    strangers = [name for name in mention.names if name not in labels]
    strangers += [user_id for user_id in mention.user_ids if user_id not in user_ids]
    if strangers or any(mobile not in mobiles for mobile in mention.mobiles):
        who = f" ({', '.join(strangers)})" if strangers else ""
        raise InvalidJob(
            "mention", f"it names people who do not get this message{who}: everybody who does is rung by it anyway"
        )
