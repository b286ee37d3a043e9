"""One attempt: pick the route that the sender speaks for, try once, name how it ended. Knows no Celery, Redis or HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dingqueue.contract import Job
from dingqueue.messages import Rung, render_webhook
from dingqueue_worker.delivery.webhook import Render, RobotApi, Webhook
from dingqueue_worker.outcome import Dead, Ended, Outcome, Retry
from dingqueue_worker.settings import Settings

__all__ = ["Delivery"]


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
        people = {name: Rung(mobile=one.mobile, user_id=one.user_id) for name, one in settings.people.items()}
        self._destinations = settings.destinations
        self._webhook = Webhook(settings.robots, people, api=api, clock_ms=clock_ms, render=render)

    def attempt(self, job: Job, *, sender: str, step: int, notes: Mapping[str, str]) -> Ended:
        """Try one step of a job once and say how it ended. What it raises is a bug, and should be loud.

        Args:
            job: What to deliver.
            sender: Who speaks, as ``dingqueue.routes`` spells it (``robot.ops``, ``app.acme.group``).
            step: How many of the job's steps are known to be done; the next one is tried.
            notes: What earlier steps left for this one. A robot's messages need none.
        """
        if self._webhook.speaks_for(sender):
            return self._webhook.attempt(job, sender=sender, step=step)
        return Ended(outcome=self._nobody(job, sender))

    def _nobody(self, job: Job, sender: str) -> Outcome:
        destination = self._destinations.get(job.destination)
        if destination is not None and destination.app and not destination.robots:
            return Dead(why="app routes are not available in this version", cause="route", sent=False)
        why = (
            f"this worker's configuration has no sender {sender}: do all workers read the same file, "
            "and were they restarted after it changed?"
        )
        return Retry(why=why, cause="configuration", sent=False)
