"""A file in an app's name: uploaded in one step, unless it was before, and sent as a message in the next ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

from dingqueue.contract import SendJob, ShareJob, Text
from dingqueue.messages import RobotMessage, notice_file, render_notice, render_robot, robot_file
from dingqueue_worker.delivery.app import Door
from dingqueue_worker.delivery.notes import begins_at
from dingqueue_worker.dingtalk.answers import Answer
from dingqueue_worker.dingtalk.api import MediaFile
from dingqueue_worker.files.media import Files, Media
from dingqueue_worker.outcome import Dead, Delivered, Ended, Retry, Snooze
from dingqueue_worker.pace import files_bytes
from dingqueue_worker.routing import Route
from dingqueue_worker.settings import App, Destination, Secret


class Uploads(Protocol):
    """What this route needs of ``dingtalk.api``."""

    def media_upload(self, file: MediaFile, *, token: Secret, timeout_s: float) -> Answer: ...


class Share:
    """Uploads files and makes the messages that carry them.

    Args:
        door: Makes one call.
        uploads: DingTalk's upload.
        files: Opens what is shared, and remembers what was uploaded.
        timeout_s: For one upload.
    """

    def __init__(self, door: Door, uploads: Uploads, files: Files, *, timeout_s: float) -> None:
        self._door, self._uploads, self._files, self._timeout_s = door, uploads, files, timeout_s

    def upload(
        self, job: ShareJob, *, app: App, destination: Destination, step: int, notes: Mapping[str, str], then: Route
    ) -> Ended:
        """Upload the file, or find that it was; ``then`` is the route of its message."""
        found = self._files.media(
            job,
            app=app,
            upload=lambda file: self._door.older(
                app,
                lambda token: self._uploads.media_upload(file, token=token, timeout_s=self._timeout_s),
                proof="media_id",
                notes=notes,
                said=(file.name,),
            ),
            notes=notes,
            most_bytes=files_bytes(destination),
        )
        if isinstance(found, Ended):
            return found
        if not found.uploaded:
            why = "the same file was uploaded before"
            kept = {**found.notes, **begins_at(step)}
            return Ended(outcome=Snooze(why=why, cause="upload", sent=False), notes=kept, route=then)
        return Ended(
            outcome=Delivered(receipt={"media_id": found.media_id}),
            steps=step + 2,
            notes={**found.notes, **begins_at(step + 1)},
            route=then,
        )

    def to_send(self, notes: Mapping[str, str]) -> Media | None:
        """What the message is to carry; None where it must be uploaded first, or again.

        Raises:
            StoreUnavailable: Redis did not answer; nothing was sent.
        """
        media = Media.of(notes)
        return media if media and self._files.is_known(media) else None

    def after(self, ended: Ended, media: Media) -> Ended:
        """The same end, unless DingTalk refused what was uploaded: that is uploaded again, once.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        refused = ended.outcome
        if not (isinstance(refused, Dead) and refused.cause == "content" and refused.sent):
            return ended
        if not self._files.worth_another(media):
            return ended
        again = Retry(why=f"{refused.why}; it is uploaded again", cause="media", close=refused.close)
        return dataclasses.replace(ended, outcome=again, route="upload")


def robot_messages(job: ShareJob, media: Media) -> tuple[RobotMessage, ...]:
    """The file, and the line about it, as an app's robot sends them.

    Raises:
        InvalidJob: The line cannot be said.
    """
    file = robot_file(media.name, media.media_id, media.type)
    return (file, *(render_robot(_line(job)) if job.note.strip() else ()))


def notices(job: ShareJob, media: Media, *, mark: str) -> tuple[dict[str, Any], ...]:
    """The file, and the line about it, as work notifications.

    Raises:
        InvalidJob: The line cannot be said.
    """
    file = notice_file(media.media_id, media.type)
    return (file, *(render_notice(_line(job), mark=mark) if job.note.strip() else ()))


def _line(job: ShareJob) -> SendJob:
    return SendJob(job_id=job.job_id, destination=job.destination, content=Text(text=job.note))
