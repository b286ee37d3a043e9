"""The fleet's app with a calendar that tests need not wait for: every entry each half second."""

from __future__ import annotations

from dingqueue_worker.main import app

for entry in app.conf.beat_schedule.values():
    entry["schedule"] = 0.5
app.conf.beat_max_loop_interval = 0.5
