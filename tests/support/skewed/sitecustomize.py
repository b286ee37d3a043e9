"""A process whose wall clock is ``SKEW_S`` seconds off; found by Python at its start."""

import os
import time

_SKEW_S = float(os.environ.get("SKEW_S", "0"))
_time, _time_ns = time.time, time.time_ns

time.time = lambda: _time() + _SKEW_S
time.time_ns = lambda: _time_ns() + round(_SKEW_S * 1e9)
