"""Given to a worker by ``--include``: notes which modules it has when it is ready, and after each task."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from celery.signals import task_postrun, worker_ready


def _note(when: str) -> None:
    path = Path(os.environ["LOADED_FOLDER"]) / when
    path.with_suffix(".new").write_text("\n".join(sys.modules))
    path.with_suffix(".new").replace(path)


@worker_ready.connect(weak=False)
def _ready(**_: Any) -> None:
    _note("ready")


@task_postrun.connect(weak=False)
def _ran(**_: Any) -> None:
    _note("ran")
