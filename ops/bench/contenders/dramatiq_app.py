"""Dramatiq on Redis: two processes of threads, one kept session, or one pool of urllib3's, in each."""

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


@dramatiq.actor(max_retries=3)
def send_by_pool(text: str) -> None:
    """Post with urllib3's pool."""
    post.pool_post(text)
