"""Back-off: longer each time, never at once, never past the cap."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dingqueue_worker.backoff import delay_s


def test_the_longest_wait_doubles_up_to_the_cap() -> None:
    longest = [delay_s(fails, base_s=2.0, cap_s=300.0, random=lambda: 1.0) for fails in range(1, 12)]

    assert longest == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


def test_a_wait_is_never_nothing() -> None:
    assert delay_s(1, base_s=2.0, cap_s=300.0, random=lambda: 0.0) == pytest.approx(0.2)


def test_the_first_attempts_spread_over_the_whole_wait() -> None:
    source = random.Random(7)
    waits = [delay_s(3, base_s=2.0, cap_s=300.0, random=source.random) for _ in range(2_000)]

    assert min(waits) < 1.0
    assert max(waits) > 7.5
    assert 3.5 < sum(waits) / len(waits) < 4.5


@given(
    fails=st.integers(min_value=1, max_value=10**9),
    base_s=st.floats(min_value=0.001, max_value=1e6),
    cap_s=st.floats(min_value=0.001, max_value=1e9),
    luck=st.floats(min_value=0, max_value=1),
)
def test_every_wait_is_finite_and_within_its_bounds(fails: int, base_s: float, cap_s: float, luck: float) -> None:
    wait_s = delay_s(fails, base_s=base_s, cap_s=cap_s, random=lambda: luck)

    assert math.isfinite(wait_s)
    assert 0 < wait_s <= cap_s
