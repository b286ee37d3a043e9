"""Folds what waits in a lane that collects. Between the store, which knows what waits, and the words of a digest."""

from __future__ import annotations

from dingqueue.lanes import Call
from dingqueue.messages.digest import digest_of
from dingqueue_worker.store import Store
from dingqueue_worker.telemetry import event

#: Jobs in one digest; what is over comes into the next.
MOST_MEMBERS = 500


def fold(store: Store, destination: str, *, expires_s: float) -> tuple[Call, ...]:
    """Put one digest in the place of the messages that wait in a lane, and say what may be called now.

    When they changed meanwhile (one was cancelled) nothing happens, and the lane asks again.

    Raises:
        StoreUnavailable: Redis did not answer; the lane asks again.
    """
    waiting = store.foldable(destination, most=MOST_MEMBERS)
    if len(waiting) < 2:
        return store.fold(destination, None, (), expires_s=expires_s)[1]
    digest = digest_of(waiting)
    outcome, calls = store.fold(destination, digest, [job.job_id for job, _ in waiting], expires_s=expires_s)
    if outcome == "folded":
        for job, _ in waiting:
            event("job merged", job_id=job.job_id, destination=destination, state="merged", into=digest.job_id)
        event("messages became one", destination=destination, job_id=digest.job_id, members=len(waiting))
    return calls
