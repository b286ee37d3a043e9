"""A client's methods for an event loop are the others over again."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from dingqueue import Client, send_job
from dingqueue.contract import Job
from dingqueue.outbox import Outbox, activated

NEW_YEAR = datetime(2050, 1, 1, tzinfo=UTC)
TERMS: dict[str, Any] = {"urgent": True, "at": NEW_YEAR, "expires_s": 60.0, "key": "k", "on_unknown": "hold"}
CALLS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "send": (
        ("ops",),
        {"markdown": "a", "title": "b", "mention": "everyone", "too_long": "shorten", "tables": "keep", **TERMS},
    ),
    "assign": (
        ("ops", "Look"),
        {"to": "alice", "due": NEW_YEAR, "url": "https://x.cn", "description": "a", "priority": "high", **TERMS},
    ),
    "share": (("ops", "https://x.cn/a.csv"), {"name": "b", "note": "c", "zip": True, **TERMS}),
    "reassign": (
        ("earlier",),
        {"to": "bob", "subject": "a", "description": "b", "due": NEW_YEAR, "key": "k"},
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_event_loops_method_says_the_same_arguments(name: str) -> None:
    method, twin = getattr(Client, name), getattr(Client, f"a{name}")

    assert list(inspect.signature(twin).parameters.values()) == list(inspect.signature(method).parameters.values())
    assert inspect.iscoroutinefunction(twin)


@pytest.mark.parametrize("name", CALLS)
def test_an_event_loops_method_makes_the_same_job(name: str) -> None:
    args, options = CALLS[name]
    earlier = replace(send_job("ops", "Earlier"), job_id="earlier")

    def made(prefix: str) -> Job:
        outbox, client = Outbox(), Client()
        with activated(outbox):
            client.enqueue(earlier)
            given = getattr(client, prefix + name)(*args, **options)
            job_id = asyncio.run(given) if prefix else given
        return next(job for job in outbox.jobs if job.job_id == job_id)

    assert made("a") == made("")
