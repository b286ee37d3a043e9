"""What became of jobs that DingTalk only accepted; and the permits and quotas of calls that are no job."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dingqueue.scripts import ClockMs
from dingqueue_worker.store.door import Door, Event, ask, events_from


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """An accepted job whose result is to be looked up, for the ``looks``-th time."""

    job_id: str
    destination: str
    notes: Mapping[str, str]
    receipt: Mapping[str, str]
    ended_ms: int
    looks: int


class Results(Door):
    """Results to be looked up, and what looking costs."""

    def __init__(self, url: str, *, prefix: str, clock_ms: ClockMs = None) -> None:
        super().__init__(url, prefix=prefix, clock_ms=clock_ms)
        self._permit = self._script("permit.lua")
        self._quota = self._script("quota.lua")
        self._results_due = self._script("results_due.lua")
        self._learn = self._script("learn.lua")

    def permit(self, sender: str) -> int:
        """Leave for one call that is no job's: 0, or the milliseconds to wait before asking again."""
        return int(ask(lambda: self._permit(sender))[0])

    def quota(self, name: str, *, most: int, marks_percent: Sequence[int]) -> tuple[int, tuple[Event, ...]]:
        """Calls of this month that a quota has counted, and what a person should hear: each mark is told once a month."""
        reply = ask(lambda: self._quota(name, most, *marks_percent))
        return int(reply[0]), events_from(reply[1])

    def results_due(self, *, most: int, lease_ms: int) -> tuple[int, list[Result]]:
        """Now (ms since 1970), and accepted jobs whose result is to be looked up; they are the caller's for the lease."""
        now_ms, flat = ask(lambda: self._results_due(most, lease_ms))
        found = [
            Result(
                job_id=job_id,
                destination=destination,
                notes=json.loads(notes),
                receipt=json.loads(receipt),
                ended_ms=int(ended_ms),
                looks=int(looks),
            )
            for job_id, destination, notes, receipt, ended_ms, looks in (
                flat[at : at + 6] for at in range(0, len(flat), 6)
            )
        ]
        return int(now_ms), found

    def learn(
        self, job_id: str, *, receipt: Mapping[str, str], notes: Mapping[str, str], verdict: str, why: str, next_ms: int
    ) -> tuple[str, tuple[Event, ...]]:
        """Note what became of an accepted job; gives back its state and what a person should hear.

        Args:
            job_id: The job.
            receipt: All of it, with what is known of each person.
            notes: All of them.
            verdict: ``delivered``, ``dead``, ``given up`` (it stays accepted), or empty: it is looked up again.
            why: Whom it did not reach.
            next_ms: When it is looked up again.
        """
        told, noted = json.dumps(dict(receipt), ensure_ascii=False), json.dumps(dict(notes), ensure_ascii=False)
        reply = ask(lambda: self._learn(job_id, told, noted, verdict, why, next_ms))
        return reply[0], events_from(reply[1])
