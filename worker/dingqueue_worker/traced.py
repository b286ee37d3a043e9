"""An attempt with a span of OpenTelemetry around it. Knows outcomes, and neither Redis nor HTTP."""

from __future__ import annotations

from collections.abc import Mapping

from dingqueue import tracing
from dingqueue.contract import Job
from dingqueue_worker.outcome import Ended
from dingqueue_worker.tasks import Attempt


def spans_of(*, on: bool) -> tracing.Spans | None:
    """Where a process of the fleet makes its spans, and has them sent; None where it is off."""
    if not on:
        return None
    tracing.export()
    return tracing.Spans()


def traced(attempt: Attempt, spans: tracing.Spans | None) -> Attempt:
    """The same attempt, in the trace that its job came from."""
    if spans is None:
        return attempt

    def run(job: Job, *, sender: str, step: int, notes: Mapping[str, str]) -> Ended:
        with spans.deliver(job, sender=sender, step=step) as note:
            ended = attempt(job, sender=sender, step=step, notes=notes)
            outcome = ended.outcome
            note(type(outcome).__name__.lower(), getattr(outcome, "cause", ""), getattr(outcome, "why", ""))
            return ended

    return run
