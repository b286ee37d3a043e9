"""One attempt: pick the route that the sender speaks for, try once, name how it ended. Knows no Celery, Redis or HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dingqueue.contract import Job
from dingqueue.messages import Rung, render_webhook
from dingqueue_worker.delivery.app import Door, Tokens
from dingqueue_worker.delivery.apps import Apps
from dingqueue_worker.delivery.share import Share, Uploads
from dingqueue_worker.delivery.webhook import Render, RobotApi, Webhook
from dingqueue_worker.dingtalk.apps import AppCalls, Hosts
from dingqueue_worker.directory import Directory
from dingqueue_worker.files.media import Files
from dingqueue_worker.outcome import Ended, Retry, Snooze
from dingqueue_worker.settings import Settings
from dingqueue_worker.store import StoreUnavailable

__all__ = ["Delivery", "InAppsName"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InAppsName:
    """What attempts in an app's name need: DingTalk's two hosts, the apps' tokens, who is who, and what is shared.

    Without ``uploads`` and ``files`` a link is sent to what is shared by URL, and no file.
    """

    hosts: Hosts
    tokens: Tokens
    directory: Directory
    uploads: Uploads | None = None
    files: Files | None = None


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
        self._apps = apps and self._in_apps_name(settings, apps)

    def _in_apps_name(self, settings: Settings, apps: InAppsName) -> Apps:
        door, sharing = Door(apps.tokens), None
        if apps.uploads and apps.files:
            sharing = Share(door, apps.uploads, apps.files, timeout_s=settings.fleet.upload_timeout_s)
        return Apps(
            settings,
            calls=AppCalls(apps.hosts),
            door=door,
            directory=apps.directory,
            webhook=self._webhook,
            sharing=sharing,
        )

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
