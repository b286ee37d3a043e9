"""Brokers that are none, for a developer's machine: ``console://`` shows what DingTalk would get, ``null://`` forgets it.

Jobs are checked as ever, so a mistake shows here too; what needs a fleet (does the destination exist?) is not known.
"""

from __future__ import annotations

import sys

from dingqueue.contract import Job
from dingqueue.errors import InvalidJob
from dingqueue.outbox import Outbox
from dingqueue.preview import preview

#: Jobs that ``status`` still knows, so that a server that runs for weeks does not grow.
_KEPT = 1_000


class Console(Outbox):
    """Shows each job on stderr, as a webhook robot would send it."""

    def accept(self, job: Job) -> str:
        """Show a job that is new."""
        known = self.status(job.job_id) is not None
        job_id = super().accept(job)
        if not known:
            sys.stderr.write(f"dingqueue: {job.kind} to {job.destination}, job {job_id}\n{_shown(job)}\n")
            sys.stderr.flush()
        return job_id


def _shown(job: Job) -> str:
    try:
        return str(preview(job))
    except InvalidJob as error:  # a webhook robot cannot send it so; an app may
        return f"  {error}"


def outbox_of(broker_url: str) -> Outbox | None:
    """The outbox that such a URL means; None for the address of a real broker."""
    scheme = broker_url.partition("://")[0]
    if scheme == "console":
        return Console(most=_KEPT)
    return Outbox(most=_KEPT) if scheme == "null" else None
