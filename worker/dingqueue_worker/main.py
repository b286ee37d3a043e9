"""The one reader of the environment: ``celery -A dingqueue_worker.main worker``."""

from __future__ import annotations

import os

from dingqueue_worker.app import create_app
from dingqueue_worker.configuration import load

app = create_app(load(os.environ))
