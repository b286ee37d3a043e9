"""Threads that carry out calls: how many, in what order, and how they end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from typing import Any

import pytest

from dingqueue.hands import Closed, Hands
from support.waiting import wait_for


def alive(name: str) -> int:
    return sum(thread.name.startswith(f"{name}-") for thread in threading.enumerate())


@contextmanager
def held(hands: Hands, count: int) -> Iterator[list[Future[int]]]:
    """So many threads are busy while the block runs."""
    go, busy = threading.Event(), threading.Semaphore(0)

    def hold(number: int) -> int:
        busy.release()
        go.wait(20)
        return number

    futures = [hands.later(lambda number=number: hold(number)) for number in range(count)]  # type: ignore[misc]  # mypy on defaults
    for _ in range(count):
        assert busy.acquire(timeout=10)
    try:
        yield futures
    finally:
        go.set()


def test_results_and_errors_come_back() -> None:
    hands = Hands(2, name="t-results")

    assert hands.later(lambda: 5).result(10) == 5
    failed: Future[Any] = hands.later(lambda: dict[str, int]()["missing"])
    with pytest.raises(KeyError):
        failed.result(10)
    assert hands.later(lambda: 6).result(10) == 6
    hands.close(lambda: None)


def test_one_after_the_other_needs_one_thread() -> None:
    hands = Hands(8, name="t-one")
    for number in range(50):
        assert hands.later(lambda number=number: number).result(10) == number  # type: ignore[misc]  # mypy on defaults
        wait_for(lambda: hands._pending == 0, what="the thread is free again")

    assert alive("t-one") == 1
    hands.close(lambda: None)


def test_there_are_never_more_threads_than_allowed() -> None:
    hands = Hands(3, name="t-most")
    with held(hands, 3):
        waiting = [hands.later(lambda number=number: number) for number in range(20)]  # type: ignore[misc]  # mypy on defaults
        assert alive("t-most") == 3
        assert not any(future.done() for future in waiting)

    assert [future.result(10) for future in waiting] == list(range(20))
    hands.close(lambda: None)


def test_what_was_cancelled_before_it_began_is_not_done() -> None:
    hands, done = Hands(1, name="t-cancel"), []
    with held(hands, 1):
        future = hands.later(lambda: done.append(1))
        assert future.cancel()

    hands.later(lambda: None).result(10)
    assert done == []
    hands.close(lambda: None)


def test_idle_threads_end_and_come_back() -> None:
    hands = Hands(2, name="t-idle", idle_s=0.05)
    hands.later(lambda: None).result(10)

    wait_for(lambda: alive("t-idle") == 0, what="idle thread ended")
    assert hands.later(lambda: 7).result(10) == 7
    hands.close(lambda: None)


def test_work_that_comes_while_a_thread_ends_is_done() -> None:
    hands = Hands(4, name="t-race", idle_s=0.001)

    assert [hands.later(lambda n=n: n).result(10) for n in range(300)] == list(range(300))  # type: ignore[misc]  # mypy on defaults
    hands.close(lambda: None)


def test_closing_cancels_what_waits_and_lets_go_last() -> None:
    hands = Hands(2, name="t-close")
    let_go = threading.Event()
    with held(hands, 2) as busy:
        waiting = hands.later(lambda: None)
        hands.close(let_go.set)
        with pytest.raises(CancelledError):
            waiting.result(0)
        with pytest.raises(Closed):
            hands.later(lambda: None)
        assert not let_go.is_set()  # two calls still use what would go

    assert let_go.wait(10)
    assert [future.result(0) for future in busy] == [0, 1]
    wait_for(lambda: alive("t-close") == 0, what="threads ended")


def test_closing_what_never_worked_lets_go_at_once_and_once() -> None:
    hands, gone = Hands(2, name="t-never"), []

    hands.close(lambda: gone.append(1))
    hands.close(lambda: gone.append(2))

    assert gone == [1]


def test_where_no_thread_can_be_started_the_caller_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the interpreter ends, or the machine is full."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    hands = Hands(2, name="t-full")
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        done_in = hands.later(threading.current_thread).result(0)
        assert done_in is threading.current_thread()
    with held(hands, 1), monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        later = hands.later(lambda: 8)  # the one thread there is will do it
        assert not later.done()

    assert later.result(10) == 8
    hands.close(lambda: None)
