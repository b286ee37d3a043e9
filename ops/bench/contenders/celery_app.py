"""Bare Celery: with one kept session (`session`), and as people start (`naive`). Its own defaults otherwise."""

from __future__ import annotations

from celery import Celery

from contenders import post

app = Celery("bare", broker=post.REDIS_URL, set_as_current=False)
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)


@app.task(name="bare.session", shared=False)
def session(text: str) -> None:
    """Post with one kept session."""
    post.session_post(text)


@app.task(name="bare.naive", shared=False)
def naive(text: str) -> None:
    """Post with a new session."""
    post.naive_post(text)
