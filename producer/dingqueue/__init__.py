"""Hand messages, tasks and files to DingTalk and forget about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dingqueue.arguments import EVERYONE
    from dingqueue.client import Client
    from dingqueue.contract import (
        AssignJob,
        Button,
        Card,
        Feed,
        FeedItem,
        Job,
        Link,
        Markdown,
        Mention,
        SendJob,
        ShareJob,
        StoredFile,
        Text,
    )
    from dingqueue.errors import DingqueueError, EnqueueFailed, InvalidJob, LaneFull, UnknownContract
    from dingqueue.jobs import assign_job, job_id_for, send_job, share_job
    from dingqueue.status import State, Status
else:
    # A name is loaded when it is asked for: the client brings Celery and Redis, which take half a second, and pytest
    # loads our plugin in every run of whoever has dingqueue installed.
    import importlib

    _HOMES = {
        "arguments": ("EVERYONE",),
        "client": ("Client",),
        "contract": (
            "AssignJob", "Button", "Card", "Feed", "FeedItem", "Job", "Link", "Markdown", "Mention", "SendJob", "ShareJob", "StoredFile",
            "Text",
        ),
        "errors": ("DingqueueError", "EnqueueFailed", "InvalidJob", "LaneFull", "UnknownContract"),
        "jobs": ("assign_job", "job_id_for", "send_job", "share_job"),
        "status": ("State", "Status"),
    }  # fmt: skip

    def __getattr__(name):
        for home, names in _HOMES.items():
            if name in names:
                value = getattr(importlib.import_module(f"dingqueue.{home}"), name)
                globals()[name] = value
                return value
        raise AttributeError(f"module 'dingqueue' has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *__all__})


__all__ = [
    "EVERYONE",
    "AssignJob",
    "Button",
    "Card",
    "Client",
    "DingqueueError",
    "EnqueueFailed",
    "Feed",
    "FeedItem",
    "InvalidJob",
    "Job",
    "LaneFull",
    "Link",
    "Markdown",
    "Mention",
    "SendJob",
    "ShareJob",
    "State",
    "Status",
    "StoredFile",
    "Text",
    "UnknownContract",
    "assign_job",
    "job_id_for",
    "send_job",
    "share_job",
]
