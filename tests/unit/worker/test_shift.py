"""How long a thread goes on with its lane, on a clock that the test moves."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from dingqueue.lanes import Call
from dingqueue_worker.shift import LONG_S, SHORT_S, Shift
from dingqueue_worker.store import Ahead

AHEAD = Ahead(call=Call(job_id="job-2", kind="send", destination="ops", grant=1), reply=[])


class Clock:
    now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


def test_a_thread_that_no_pool_let_begin_never_goes_on() -> None:
    assert not Shift().goes_on()


@pytest.mark.parametrize(
    ("waiting", "longest_s"), [(0.0, LONG_S), (0.03, SHORT_S), (0.99, SHORT_S), (1.0, 0.0), (2.0, 0.0)]
)
def test_how_long_it_goes_on_depends_on_how_many_calls_wait_for_a_thread(waiting: float, longest_s: float) -> None:
    clock = Clock()
    shift = Shift(monotonic_s=clock)
    shift.begin(lambda: waiting)

    clock.now_s += longest_s * 0.99
    assert shift.goes_on() == (longest_s > 0)
    clock.now_s += longest_s * 0.02
    assert not shift.goes_on()


def test_it_does_not_go_on_while_the_broker_is_away() -> None:
    shift = Shift()
    shift.begin(lambda: 0)

    shift.unheard = True

    assert not shift.goes_on()


def test_a_worker_that_ends_leaves_what_is_called_to_others() -> None:
    told: list[Any] = []
    shift = Shift(stopping=lambda: told)
    shift.begin(lambda: 0)
    assert shift.goes_on()

    told.append("stop")

    assert not shift.goes_on()


def test_what_is_left_is_for_this_thread_and_this_call_and_is_taken_once() -> None:
    shift = Shift()
    shift.begin(lambda: 0)
    shift.leave(AHEAD, asked_s=7.0)

    elsewhere: list[Any] = []
    other = threading.Thread(target=lambda: elsewhere.append(shift.take("job-2", 1)))
    other.start()
    other.join()

    assert elsewhere == [None]
    assert shift.take("job-2", 2) is None
    assert shift.take("job-2", 1) == (AHEAD, 7.0)
    assert shift.take("job-2", 1) is None
    assert shift.ahead is None


def test_the_end_of_a_shift_leaves_nothing_behind() -> None:
    shift = Shift()
    shift.begin(lambda: 0)
    shift.leave(AHEAD, asked_s=7.0)

    assert shift.end() is AHEAD
    assert shift.end() is None

    assert shift.ahead is None
    assert not shift.goes_on()
