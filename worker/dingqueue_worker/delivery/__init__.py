"""One attempt: pick the route that the sender speaks for, try once, name how it ended. Knows no Celery, Redis or HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from dingqueue.contract import Job
from dingqueue.messages import Rung, render_webhook
from dingqueue_worker.delivery.webhook import Render, RobotApi, Webhook
from dingqueue_worker.outcome import Ended, Retry, Snooze
from dingqueue_worker.settings import Settings
from dingqueue_worker.store import StoreUnavailable

if TYPE_CHECKING:
    # Whoever has an app loads its rooms and hands it over; a worker for robots alone starts sooner without them.
    from dingqueue_worker.delivery.apps import InAppsName


class Delivery:
    """Makes attempts with what the configuration says. Safe in many threads at once."""

    def __init__(
        self,
        settings: Settings,
        *,
        api: RobotApi,
        clock_ms: Callable[[], int],
        render: Render = render_webhook,
        apps: InAppsName | None = None,
    ) -> None:
        """Remember what to deliver with.

        Args:
            settings: Its robots, apps, destinations and people.
            api: The door to DingTalk's webhook robots.
            clock_ms: Unix time in milliseconds; signatures are made for it.
            render: Makes a robot's messages of a job.
            apps: What apps need; None where the configuration has none.
        """
        people = {name: Rung(mobile=one.mobile, user_id=one.user_id) for name, one in settings.people.items()}
        self._webhook = Webhook(settings.robots, people, api=api, clock_ms=clock_ms, render=render)
        self._apps = apps and apps.beside(self._webhook, settings)

    def attempt(self, job: Job, *, sender: str, step: int, notes: Mapping[str, str]) -> Ended:
        """Try one step of a job once and say how it ended. What it raises is a bug, and should be loud.

        Args:
            job: What to deliver.
            sender: Who speaks, as ``dingqueue.routes`` spells it (``robot.ops``, ``app.acme.group``).
            step: How many of the job's steps are known to be done; the next one is tried.
            notes: What earlier steps left for this one. A robot's messages need none.
        """
        if self._apps and self._apps.speaks_for(job):
            try:
                return self._apps.attempt(job, sender=sender, step=step, notes=notes)
            except StoreUnavailable as error:
                # Asked before anything is sent: who somebody is, and for a token.
                return Ended(outcome=Snooze(why=str(error), cause="state", for_s=1.0, sent=False))
        if self._webhook.speaks_for(sender):
            return self._webhook.attempt(job, sender=sender, step=step)
        why = (
            f"this worker's configuration has no sender {sender}: do all workers read the same file, "
            "and were they restarted after it changed?"
        )
        return Ended(outcome=Retry(why=why, cause="configuration", sent=False))
