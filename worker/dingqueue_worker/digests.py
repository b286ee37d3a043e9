"""Folds what waits in a lane that collects. Between the store, which knows what waits, and the words of a digest."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from dingqueue.contract import SendJob
from dingqueue.lanes import Call
from dingqueue.messages.digest import digest_of
from dingqueue_worker.store import Store
from dingqueue_worker.telemetry import event

#: Jobs in one digest; what is over comes into the next.
MOST_MEMBERS = 500


class Write(Protocol):
    """Makes one message of several, each with the instant it was submitted."""

    def __call__(self, waiting: Sequence[tuple[SendJob, datetime]], /) -> SendJob: ...


def fold(store: Store, destination: str, *, write: Write = digest_of) -> tuple[Call, ...]:
    """Put one digest in the place of the messages that wait in a lane, and say what may be called now.

    When they changed meanwhile (one was cancelled) nothing happens, and the lane asks again. Where no digest can be
    written of them, they go one by one.

    Raises:
        StoreUnavailable: Redis did not answer; the lane asks again.
    """
    waiting = store.foldable(destination, most=MOST_MEMBERS)
    digest = None
    if len(waiting) > 1:
        try:
            digest = write(waiting)
        except Exception as error:  # noqa: BLE001 - a mistake of ours must not hold up a lane for ever
            # Its text could hold a message's.
            event(
                "no digest could be written", level=logging.ERROR, destination=destination, error=type(error).__name__
            )
    if digest is None:
        return store.fold(destination, None, ())[1]
    outcome, calls = store.fold(destination, digest, [job.job_id for job, _ in waiting])
    if outcome == "folded":
        for job, _ in waiting:
            event("job merged", job_id=job.job_id, destination=destination, state="merged", into=digest.job_id)
        event("messages became one", destination=destination, job_id=digest.job_id, members=len(waiting))
    return calls
