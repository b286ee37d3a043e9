"""The route through a webhook robot: render the job, post one message of it. Has never heard of Celery, Redis or HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Protocol

from dingqueue.contract import Job
from dingqueue.errors import InvalidJob
from dingqueue.messages import Rendered, Rung, encode
from dingqueue.routes import robot_sender
from dingqueue_worker.dingtalk.answers import Answer, classify
from dingqueue_worker.dingtalk.errors import NotSent, Unanswered
from dingqueue_worker.outcome import Dead, Ended, Outcome, Retry, Unknown
from dingqueue_worker.settings import Robot

NOBODY_ELSE: Mapping[str, Rung] = MappingProxyType({})


class RobotApi(Protocol):
    """What this route needs of ``dingtalk.api``."""

    def robot_send(self, robot: Robot, body: bytes, *, timestamp_ms: int) -> Answer:
        """Post one message; raises ``NotSent`` or ``Unanswered``."""
        ...


class Render(Protocol):
    """What this route needs of ``dingqueue.messages``."""

    def __call__(self, job: Job, *, people: Mapping[str, Rung], keywords: tuple[str, ...]) -> Rendered:
        """A job as a webhook robot's messages; raises ``InvalidJob``."""
        ...


class Webhook:
    """Speaks for the webhook robots of a configuration."""

    def __init__(
        self,
        robots: Mapping[str, Robot],
        people: Mapping[str, Rung],
        *,
        api: RobotApi,
        clock_ms: Callable[[], int],
        render: Render,
    ) -> None:
        self._robots = {robot_sender(name): robot for name, robot in robots.items()}
        self._people, self._api, self._clock_ms, self._render = people, api, clock_ms, render

    def speaks_for(self, sender: str) -> bool:
        """Whether the configuration has this robot."""
        return sender in self._robots

    def steps(self, job: Job, *, looked_up: Mapping[str, Rung] = NOBODY_ELSE) -> int:
        """How many messages a job takes, by a robot without a keyword.

        Raises:
            InvalidJob: It cannot be rendered.
        """
        return len(self._render(job, people={**self._people, **looked_up}, keywords=()).bodies)

    def attempt(
        self, job: Job, *, sender: str, step: int, before: int = 0, looked_up: Mapping[str, Rung] = NOBODY_ELSE
    ) -> Ended:
        """Post the job's next message through a robot that this route speaks for.

        Args:
            job: What to say.
            sender: One of the robots'.
            step: How many of the job's steps are done.
            before: How many of them were none of its messages.
            looked_up: People whom DingTalk had to be asked about.
        """
        robot = self._robots[sender]
        try:
            rendered = self._render(job, people={**self._people, **looked_up}, keywords=robot.keywords)
        except InvalidJob as error:
            return Ended(outcome=Dead(why=str(error), cause="content", sent=False))
        parts, part = len(rendered.bodies), step - before
        if part >= parts:
            # Rendered by another version or with other keywords, it was cut elsewhere: what is missing is not known.
            why = f"{part} parts of this message were sent, and it has only {parts} now: it changed between attempts"
            return Ended(outcome=Dead(why=why, cause="content", sent=False), steps=max(before + parts, 1))
        return Ended(outcome=self._post(robot, rendered.bodies[part]), steps=before + parts)

    def _post(self, robot: Robot, body: Mapping[str, Any]) -> Outcome:
        try:
            answer = self._api.robot_send(robot, encode(body), timestamp_ms=self._clock_ms())
        except NotSent as error:
            return Retry(why=str(error), cause="not_sent", sent=False)
        except Unanswered as error:
            return Unknown(why=str(error), cause="unanswered")
        return classify(answer, said=texts({key: part for key, part in body.items() if isinstance(part, dict)}))


def texts(part: object) -> Iterator[str]:
    """Every text in a message's body; DingTalk's own words (``msgtype``) stand outside of its parts."""
    match part:
        case str():
            yield part
        case dict():
            for inner in part.values():
                yield from texts(inner)
        case list() | tuple():
            for inner in part:
                yield from texts(inner)
