"""Waits for a condition with a deadline; nothing in the tests sleeps and hopes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(condition: Callable[[], T], *, within_s: float = 10.0, every_s: float = 0.02, what: str = "") -> T:
    """The first true value of `condition`; an AssertionError that names it when the deadline passes."""
    pause = threading.Event()
    deadline_s = time.monotonic() + within_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline_s, f"not within {within_s} s: {what or condition}"
        pause.wait(every_s)


def pass_s(seconds: float) -> None:
    """Let real time pass, where the time itself is what is tested."""
    threading.Event().wait(seconds)
