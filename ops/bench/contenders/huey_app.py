"""Huey on Redis: its consumer with threads, one kept session; a process for each core."""

from __future__ import annotations

from huey import RedisHuey

from contenders import post

huey = RedisHuey("bench", url=post.REDIS_URL, results=False, blocking=True)


@huey.task()
def send(text: str) -> None:
    """Post with one kept session."""
    post.session_post(text)
