"""The fleet's app, whose process is gone (-9) when it takes up the job ``DIES_BEFORE``: nothing of it is sent."""

from __future__ import annotations

import os
import signal
from typing import Any

from celery.signals import task_prerun

from dingqueue_worker.main import app

_job_id = os.environ.get("DIES_BEFORE")


def _die(task_id: str, **_: Any) -> None:
    if task_id == _job_id:
        os.kill(os.getpid(), signal.SIGKILL)


task_prerun.connect(_die)

__all__ = ["app"]
