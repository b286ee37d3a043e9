"""How long to wait before the next attempt. Pure; the random source is passed in."""

from __future__ import annotations

from collections.abc import Callable


def delay_s(fails: int, *, base_s: float, cap_s: float, random: Callable[[], float]) -> float:
    """Exponential back-off with full jitter, but never at once.

    Args:
        fails: Attempts spent in a row, this one included, at least 1.
        base_s: The first attempt's longest wait.
        cap_s: No wait is longer.
        random: Gives numbers from 0 to 1.

    Returns:
        Seconds between a tenth of the bound and the bound, which is ``base_s`` doubled with each failure.
    """
    # Past 32 doublings any base is over any cap; the exponent must not overflow a float.
    bound_s = min(base_s * 2.0 ** min(fails - 1, 32), cap_s)
    return bound_s * max(random(), 0.1)
