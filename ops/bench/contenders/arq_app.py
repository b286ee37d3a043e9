"""Arq: an event loop in each of two processes, one kept aiohttp session. Runs in an environment of its own.

``python -m contenders.arq_app COUNT START`` fills its queue.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any, ClassVar

from arq import create_pool
from arq.connections import RedisSettings

from contenders import apost

REDIS = RedisSettings.from_dsn(os.environ.get("BENCH_REDIS_URL", "redis://127.0.0.1:6379/0"))


async def send(context: dict[str, Any], text: str) -> None:
    """Post with one kept session."""
    await apost.session_post(text)


class Worker:
    """Its settings."""

    functions: ClassVar = [send]
    redis_settings = REDIS
    max_jobs = 64
    poll_delay = 0.02
    keep_result = 0
    allow_abort_jobs = False


async def fill(count: int, start: int, text: str) -> None:
    """Enqueue `count` jobs."""
    pool = await create_pool(REDIS)
    numbers = iter(range(start, start + count))

    async def some() -> None:
        for number in numbers:
            await pool.enqueue_job("send", f"{text}{number}")

    await asyncio.gather(*(some() for _ in range(16)))
    await pool.aclose()


if __name__ == "__main__":
    asyncio.run(fill(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
