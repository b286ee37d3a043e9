"""Joins the rooms that only jobs in an app's name go through: people, todos, files, uploads. Holds no rule.

Loaded where the configuration has an app.
"""

from __future__ import annotations

# What `dingtalk.api` makes the form of an upload with; it would load it for the first file only.
import requests_toolbelt.multipart.encoder  # noqa: F401

from dingqueue.files.store import FileStore
from dingqueue_worker.delivery.apps import InAppsName
from dingqueue_worker.dingtalk.api import Api
from dingqueue_worker.directory import Directory
from dingqueue_worker.files.fetch import Fetcher
from dingqueue_worker.files.media import Files
from dingqueue_worker.settings import Settings
from dingqueue_worker.store import Store
from dingqueue_worker.tokens import Tokens


def in_apps_name(settings: Settings, *, api: Api, store: Store, tokens: Tokens, files: FileStore) -> InAppsName:
    """What the configuration's apps speak with."""
    fleet = settings.fleet
    fetcher = Fetcher(
        open_hosts=fleet.fetch_hosts,
        timeout_s=fleet.fetch_timeout_s,
        connect_timeout_s=fleet.connect_timeout_s,
        silence_s=fleet.read_timeout_s,
    )
    return InAppsName(
        hosts=api,
        tokens=tokens,
        directory=Directory(settings.people, store),
        uploads=api,
        files=Files(store=store, files=files, fetcher=fetcher, fleet=fleet),
    )
