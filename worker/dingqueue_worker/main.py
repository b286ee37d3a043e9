"""The one reader of the environment: ``celery -A dingqueue_worker.main worker``."""

from __future__ import annotations

import os

from dingqueue_worker.app import create_app
from dingqueue_worker.configuration import ConfigurationError, load

try:
    app = create_app(load(os.environ))
except ConfigurationError as error:
    # Celery would show a traceback of its own import machinery around it.
    raise SystemExit(f"dingqueue does not start: {error}") from None
