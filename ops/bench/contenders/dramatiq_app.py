"""Dramatiq on Redis: two processes of threads, one kept session in each."""

from __future__ import annotations

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from contenders import post

broker = RedisBroker(url=post.REDIS_URL)
dramatiq.set_broker(broker)


@dramatiq.actor(max_retries=3)
def send(text: str) -> None:
    """Post with one kept session."""
    post.session_post(text)
