"""Dead letters: read, replayed, dropped, forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, cast

from dingqueue.contract import Job, from_wire
from dingqueue.errors import DingqueueError
from dingqueue.lanes import Call, calls_from
from dingqueue.scripts import ClockMs, Reply
from dingqueue_worker.store.door import Door, ask

#: Dead letters read in one round trip, without and with their messages of up to 20 kB or more.
_PAGE, _WHOLE_PAGE = 500, 50
_LETTER_FIELDS = ("kind", "destination", "why", "cause", "attempts", "submitted_ms", "score", "replays")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A job that no attempt can deliver, kept for a person. Times are ms since 1970."""

    job_id: str
    kind: str
    destination: str
    reason: str
    cause: str
    attempts: int
    submitted_ms: int
    died_ms: int
    replays: int
    #: Its place in its lane: lower goes first.
    place: float
    #: The job on the wire; None where it was not asked for, or is gone.
    body: str | None

    @property
    def job(self) -> Job | None:
        """The job; None where there is no body, or one in a version that this worker cannot read."""
        try:
            return from_wire(self.body) if self.body else None
        except (DingqueueError, ValueError):
            return None


class Letters(Door):
    """The jobs that no attempt could deliver."""

    def __init__(self, url: str, *, prefix: str, clock_ms: ClockMs = None) -> None:
        super().__init__(url, prefix=prefix, clock_ms=clock_ms)
        self._replay = self._script("replay.lua")
        self._drop = self._script("drop.lua")

    def dead(self, *, until_ms: int | None = None, since_ms: int | None = None) -> Iterator[DeadLetter]:
        """The dead letters without their messages, oldest first, read in pages.

        Args:
            until_ms: Those that died no later than this, ms since 1970.
            since_ms: Those that died no earlier.
        """
        low = "-inf" if since_ms is None else since_ms
        high = "+inf" if until_ms is None else until_ms
        # The ids are taken at once: who replays while reading must not shift the pages.
        rows: Any = ask(lambda: self._client.zrange(f"{self._base}dead", low, high, byscore=True, withscores=True))
        for start in range(0, len(rows), _PAGE):
            yield from self._letters(rows[start : start + _PAGE])

    def whole(self, letters: Iterable[DeadLetter]) -> Iterator[DeadLetter]:
        """The same with their messages, a few at a time: a hundred thousand of them need not fit into memory."""
        left = iter(letters)
        while page := list(islice(left, _WHOLE_PAGE)):
            keys = [f"{self._base}body:{letter.job_id}" for letter in page]
            bodies: Any = ask(partial(self._client.mget, keys))
            for letter, body in zip(page, bodies, strict=True):
                yield replace(letter, body=body)

    def dead_count(self) -> int:
        """How many dead letters there are."""
        return int(ask(lambda: [self._client.zcard(f"{self._base}dead")])[0])

    def dead_letter(self, job_id: str) -> DeadLetter | None:
        """One dead letter; None when the job is not dead."""
        died_ms = ask(lambda: [self._client.zscore(f"{self._base}dead", job_id)])[0]
        return None if died_ms is None else next(self.whole(self._letters([(job_id, died_ms)])), None)

    def _letters(self, rows: Sequence[tuple[str, float]]) -> Iterator[DeadLetter]:
        with self._client.pipeline(transaction=False) as pipe:
            for job_id, _ in rows:
                pipe.hmget(f"{self._base}job:{job_id}", *_LETTER_FIELDS)
            records = ask(pipe.execute)
        for (job_id, died_ms), record in zip(rows, records, strict=True):
            kind, destination, why, cause, attempts, submitted_ms, place, replays = record
            if kind is None:  # its record has been forgotten, or it was replayed a moment ago
                continue
            yield DeadLetter(
                job_id=job_id,
                kind=kind,
                destination=destination,
                reason=why or "",
                cause=cause or "",
                attempts=int(attempts or 0),
                submitted_ms=int(submitted_ms),
                died_ms=int(died_ms),
                replays=int(replays or 0),
                place=float(place),
                body=None,
            )

    def replay(self, job_id: str, *, expires_s: float, by: str) -> tuple[str, tuple[Call, ...]]:
        """Put a dead job back at its old place: ``"waiting"`` and the calls, or the state it is in instead."""
        reply = ask(lambda: self._replay(job_id, round(expires_s * 1000), by))
        return ("waiting", calls_from(reply[1])) if reply[0] == "waiting" else (reply[1], ())

    def drop(self, job_id: str) -> str:
        """Forget a dead job for good: ``"dropped"``, or the state it is in instead."""
        reply = ask(lambda: self._drop(job_id))
        return "dropped" if reply[0] == "dropped" else str(reply[1])

    def prune(self, *, keep_dead_ms: int) -> int:
        """Forget the index entries of dead letters older than their records; returns how many."""
        now_s, _ = ask(lambda: cast("Reply", self._client.time()))
        oldest_ms = now_s * 1000 - keep_dead_ms
        removed = ask(lambda: [self._client.zremrangebyscore(f"{self._base}dead", "-inf", oldest_ms)])
        return int(removed[0])
