"""Where a job is, as data and in words. Knows no Redis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Literal, TypeAlias

from dingqueue.contract import Kind

State: TypeAlias = Literal[
    "waiting", "called", "sending", "delivered", "accepted", "dead", "cancelled", "expired", "merged"
]
#: What ``Client.cancel`` answers: the state that the job is in now, or that it is being taken back, or that nobody knows it.
CancelEnd: TypeAlias = State | Literal["recalling", "gone"]
#: States in which nothing more will happen by itself.
ENDED: frozenset[str] = frozenset({"delivered", "accepted", "dead", "cancelled", "expired", "merged"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Where a job is. Instants are aware, in UTC.

    Attributes:
        state: One of the states of ``State``.
        place: Jobs that go before this one in its lane; None when it does not stand there.
        expected_at: About when it goes to DingTalk, as the limits allow; None when that cannot be told.
        reason: Why it waits or how it ended; holds no secret and no message text.
        attempts: Attempts spent; waiting for a limit spends none.
        unknowns: Attempts whose end nobody saw.
        receipt: What DingTalk acknowledged, one entry a key.
    """

    job_id: str
    kind: Kind
    destination: str
    state: State
    submitted_at: datetime
    expires_at: datetime
    ended_at: datetime | None = None
    place: int | None = None
    expected_at: datetime | None = None
    reason: str = ""
    attempts: int = 0
    unknowns: int = 0
    snoozes: int = 0
    step: int = 0
    steps: int = 1
    receipt: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def ended(self) -> bool:
        """True when nothing more will happen by itself."""
        return self.state in ENDED

    def __str__(self) -> str:
        """One line that a person can read aloud: ``send to ops: waiting, place 37, about 14:03:20, …``."""
        words = [f"{self.kind} to {self.destination}: {self.state}"]
        if self.place is not None:
            words.append(f"place {self.place + 1}")
        if self.expected_at and not self.ended:
            words.append(f"about {clock(self.expected_at)}")
        if self.ended_at:
            words.append(f"at {clock(self.ended_at)}")
        if self.steps > 1:
            words.append(f"part {min(self.step + 1, self.steps)} of {self.steps}")
        if self.attempts:
            words.append(f"{self.attempts} attempt{'s' if self.attempts != 1 else ''}")
        if self.unknowns:
            words.append(f"{self.unknowns} with an unknown end")
        if self.reason and self.state != "delivered":
            words.append(self.reason)
        return ", ".join(words)


def clock(instant: datetime) -> str:
    """Local time of day; with the date when it is another day."""
    local = instant.astimezone()
    today = datetime.now(UTC).astimezone().date()
    return local.strftime("%H:%M:%S" if local.date() == today else "%Y-%m-%d %H:%M:%S")
