"""RQ: a pool of SimpleWorkers, which do not fork for each job, one kept session in each."""

from __future__ import annotations

from contenders import post


def send(text: str) -> None:
    """Post with one kept session."""
    post.session_post(text)
