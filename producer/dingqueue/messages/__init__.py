"""A job as DingTalk's JSON bodies. Pure: knows neither Celery, Redis nor HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dingqueue.contract import Job
from dingqueue.messages.model import MAX_BODY_BYTES, MAX_MENTIONS, Rendered, Rung, encode

__all__ = ["MAX_BODY_BYTES", "MAX_MENTIONS", "Rendered", "Rung", "encode", "render_webhook"]


def render_webhook(
    job: Job, *, people: Mapping[str, Rung] = {}, keywords: Sequence[str] = (), check_names: bool = True
) -> Rendered:
    """A job as the messages of a webhook robot.

    Raises:
        InvalidJob: What cannot be rendered, by the argument's name.
    """
    raise NotImplementedError
