"""Taskiq on a Redis list: an event loop in each of two processes; with aiohttp on the loop, or requests in threads."""

from __future__ import annotations

from taskiq_redis import ListQueueBroker

from contenders import apost, post

broker = ListQueueBroker(url=post.REDIS_URL)


@broker.task(task_name="bench.send")
async def send(text: str) -> None:
    """Post with one kept session."""
    await apost.session_post(text)


@broker.task(task_name="bench.threads")
def threads(text: str) -> None:
    """Post with one kept session of requests, in the loop's thread pool."""
    post.session_post(text)
