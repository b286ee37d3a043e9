"""What waits in a lane: held back, or folded into a digest."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from dingqueue.contract import SendJob, from_wire, to_wire
from dingqueue.errors import DingqueueError
from dingqueue.lanes import Call, calls_from
from dingqueue.scripts import Argument, ClockMs
from dingqueue_worker.store.door import Door, ask


class Waiting(Door):
    """The lanes, from the side of what stands in them."""

    def __init__(self, url: str, *, prefix: str, clock_ms: ClockMs = None) -> None:
        super().__init__(url, prefix=prefix, clock_ms=clock_ms)
        self._hold = self._script("hold.lua")
        self._fold = self._script("fold.lua")

    def hold(self, destination: str, *, for_s: float, why: str) -> tuple[str, tuple[Call, ...]]:
        """Pause a lane (or, with 0, let it go on): ``paused``, ``resumed`` or ``unknown destination``, and the calls."""
        reply = ask(lambda: self._hold(destination, round(for_s * 1000), why))
        return reply[0], calls_from(reply[1])

    def foldable(self, destination: str, *, most: int) -> list[tuple[SendJob, datetime]]:
        """The messages that wait in a lane and may become one, in order, each with the instant it was submitted.

        Urgent ones, works, files, digests and what has begun are not among them.
        """
        ids: Any = ask(lambda: self._client.zrange(f"{self._base}lane:{destination}", 0, most - 1))
        with self._client.pipeline(transaction=False) as pipe:
            for job_id in ids:
                pipe.hmget(f"{self._base}job:{job_id}", "kind", "urgent", "step", "merges", "submitted_ms")
                pipe.get(f"{self._base}body:{job_id}")
            flat = ask(pipe.execute)
        found = []
        for (kind, urgent, step, merges, submitted_ms), body in zip(flat[::2], flat[1::2], strict=True):
            if kind != "send" or urgent == "1" or int(step or 0) or merges or not body:
                continue
            # A version that this worker cannot read is left to one that can.
            with contextlib.suppress(DingqueueError, ValueError):
                job = from_wire(body)
                if isinstance(job, SendJob):
                    found.append((job, datetime.fromtimestamp(int(submitted_ms) / 1000, UTC)))
        return found

    def fold(self, destination: str, digest: SendJob | None, members: Sequence[str]) -> tuple[str, tuple[Call, ...]]:
        """Put a digest in the place of the jobs it tells of: ``folded``, or ``changed`` (nothing happened), and calls.

        Without a digest the lane's first job goes as it is: ``single``.
        """
        row: tuple[Argument, ...] = (destination, "", "", "")
        if digest:
            row = (destination, digest.job_id, to_wire(digest), digest.terms.on_unknown, *members)
        reply = ask(lambda: self._fold(*row))
        return reply[0], calls_from(reply[1])
