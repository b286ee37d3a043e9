"""The fleet's app, where a job whose text is ``poison`` takes its process down before anything is sent."""

from __future__ import annotations

import os
from typing import Any

from dingqueue.contract import Job, SendJob, Text
from dingqueue_worker import delivery
from dingqueue_worker.outcome import Ended

_attempt = delivery.Delivery.attempt


def attempt(self: delivery.Delivery, job: Job, **more: Any) -> Ended:
    if isinstance(job, SendJob) and job.content == Text(text="poison"):
        os._exit(9)
    return _attempt(self, job, **more)


delivery.Delivery.attempt = attempt  # type: ignore[method-assign]

from dingqueue_worker.main import app  # noqa: E402

__all__ = ["app"]
