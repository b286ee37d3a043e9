"""What an application can meet. Knows nothing of Celery or Redis.

DingqueueError
├── InvalidJob         fix the call; nothing was sent
├── UnknownContract    upgrade this side
└── EnqueueFailed      call again with the same key; nothing is known to be stored
    └── LaneFull       the lane holds max_waiting jobs; slow down or raise the limit
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dingqueue.contract import Job


class DingqueueError(Exception):
    """Anything dingqueue raises on purpose."""


class InvalidJob(DingqueueError, ValueError):
    """The call cannot become a job; nothing was stored.

    Attributes:
        field: The argument to change, as the caller spelled it (``"mention"``, ``"buttons[2].url"``).
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class UnknownContract(DingqueueError):
    """A job in a version this side cannot read: deploy workers before producers."""


class EnqueueFailed(DingqueueError):
    """Redis did not take the job within ``enqueue_timeout_s``, or refused it.

    Calling again with the same ``key``, or ``client.enqueue(error.job)``, is safe: it is the same job.

    Attributes:
        jobs: The jobs that are not known to be stored, ready for ``client.send_many``.
    """

    def __init__(self, problem: str, *, jobs: Sequence[Job] = ()) -> None:
        super().__init__(problem)
        self.jobs = tuple(jobs)

    @property
    def job(self) -> Job | None:
        """The one job that was not taken, ready for ``client.enqueue``; None where there were several."""
        return self.jobs[0] if len(self.jobs) == 1 else None


class LaneFull(EnqueueFailed):
    """The destination's lane holds ``max_waiting`` jobs already."""
