"""One attempt: render the job, post it, name how it ended. Has never heard of Celery, Redis or HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from dingqueue.contract import Job
from dingqueue.errors import InvalidJob
from dingqueue.messages import Rendered, Rung, encode, render_webhook
from dingqueue.routes import robot_sender
from dingqueue_worker.dingtalk.answers import Answer, classify
from dingqueue_worker.dingtalk.errors import NotSent, Unanswered
from dingqueue_worker.outcome import Dead, Ended, Outcome, Retry, Unknown
from dingqueue_worker.settings import Robot, Settings


class RobotApi(Protocol):
    """What delivery needs of ``dingtalk.api``."""

    def robot_send(self, robot: Robot, body: bytes, *, timestamp_ms: int) -> Answer:
        """Post one message; raises ``NotSent`` or ``Unanswered``."""
        ...


class Render(Protocol):
    """What delivery needs of ``dingqueue.messages``."""

    def __call__(self, job: Job, *, people: Mapping[str, Rung], keywords: tuple[str, ...]) -> Rendered:
        """A job as a webhook robot's messages; raises ``InvalidJob``."""
        ...


class Delivery:
    """Makes attempts with what the configuration says. Safe in many threads at once."""

    def __init__(
        self, settings: Settings, *, api: RobotApi, clock_ms: Callable[[], int], render: Render = render_webhook
    ) -> None:
        """Remember what to deliver with.

        Args:
            settings: Its robots, destinations and people.
            api: The door to DingTalk.
            clock_ms: Unix time in milliseconds; signatures are made for it.
            render: Makes a robot's messages of a job.
        """
        self._robots = {robot_sender(name): robot for name, robot in settings.robots.items()}
        self._destinations = settings.destinations
        self._people = {name: Rung(mobile=one.mobile, user_id=one.user_id) for name, one in settings.people.items()}
        self._api = api
        self._clock_ms = clock_ms
        self._render = render

    def attempt(self, job: Job, *, sender: str, step: int, notes: Mapping[str, str]) -> Ended:
        """Try one step of a job once and say how it ended. What it raises is a bug, and should be loud.

        Args:
            job: What to deliver.
            sender: Who speaks, as ``dingqueue.routes`` spells it (``robot.ops``).
            step: How many of the job's messages are known to be there; the next one is sent.
            notes: What earlier steps left for this one. A robot's messages need none.
        """
        robot = self._robots.get(sender)
        if robot is None:
            return Ended(outcome=self._without_robot(job, sender))
        try:
            rendered = self._render(job, people=self._people, keywords=robot.keywords)
        except InvalidJob as error:
            return Ended(outcome=Dead(why=str(error), cause="content", sent=False))
        steps = len(rendered.bodies)
        if step >= steps:
            # Rendered by another version or with other keywords, it was cut elsewhere: what is missing is not known.
            why = f"{step} parts of this message were sent, and it has only {steps} now: it changed between attempts"
            return Ended(outcome=Dead(why=why, cause="content", sent=False), steps=max(steps, 1))
        return Ended(outcome=self._post(robot, rendered.bodies[step]), steps=steps)

    def _post(self, robot: Robot, body: Mapping[str, Any]) -> Outcome:
        try:
            answer = self._api.robot_send(robot, encode(body), timestamp_ms=self._clock_ms())
        except NotSent as error:
            return Retry(why=str(error), cause="not_sent", sent=False)
        except Unanswered as error:
            return Unknown(why=str(error), cause="unanswered")
        return classify(answer, said=_texts({key: part for key, part in body.items() if isinstance(part, dict)}))

    def _without_robot(self, job: Job, sender: str) -> Outcome:
        destination = self._destinations.get(job.destination)
        if destination is not None and destination.app and not destination.robots:
            return Dead(why="app routes are not available in this version", cause="route", sent=False)
        why = (
            f"this worker's configuration has no sender {sender}: do all workers read the same file, "
            "and were they restarted after it changed?"
        )
        return Retry(why=why, cause="configuration", sent=False)


def _texts(part: object) -> Iterator[str]:
    """Every text in a message's body; DingTalk's own words (``msgtype``) stand outside of its parts."""
    match part:
        case str():
            yield part
        case dict():
            for inner in part.values():
                yield from _texts(inner)
        case list() | tuple():
            for inner in part:
                yield from _texts(inner)
