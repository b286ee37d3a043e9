"""How far a message to many people has come: who is left, who must be asked again, who cannot be reached. Pure."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

#: In a job's notes.
_PROGRESS = "progress"
#: Who was throttled so often in a row is given up.
MAX_ROUNDS = 8
_MOST_NAMED = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a message stands. Recipients are called as the configuration calls them.

    Attributes:
        part: Of a long text, the part that goes out now.
        left: Who has not been asked for in this part.
        again: Who was throttled in this part, and is sent to again.
        lost: Who cannot be reached, and why.
        rounds: How often those who are left were throttled.
    """

    part: int = 0
    left: tuple[str, ...]
    again: tuple[str, ...] = ()
    lost: Mapping[str, str] = dataclasses.field(default_factory=dict)
    rounds: int = 0

    def sent(
        self, chunk: Sequence[str], *, everybody: Sequence[str], lost: Mapping[str, str], throttled: Iterable[str]
    ) -> Progress:
        """After a call for these of those who were left.

        Args:
            chunk: Whom it was for.
            everybody: All recipients of the destination.
            lost: Those of them who cannot be reached, and why.
            throttled: Those of them who are to be asked for again.
        """
        gone = {**self.lost, **lost}
        left = tuple(one for one in self.left if one not in set(chunk))
        again = tuple(dict.fromkeys((*self.again, *(one for one in throttled if one not in gone))))
        if left:
            return dataclasses.replace(self, left=left, again=again, lost=gone)
        if again and self.rounds + 1 < MAX_ROUNDS:
            return dataclasses.replace(self, left=again, again=(), lost=gone, rounds=self.rounds + 1)
        gone |= dict.fromkeys(again, "DingTalk held them back again and again")
        reachable = tuple(one for one in everybody if one not in gone)
        return Progress(part=self.part + 1, left=reachable, lost=gone)

    def without(self, lost: Mapping[str, str]) -> Progress:
        """The same, when somebody turned out to be nobody."""
        left = tuple(one for one in self.left if one not in lost)
        return dataclasses.replace(self, left=left, lost={**self.lost, **lost})

    def calls_left(self, parts: int, *, everybody: int, per_call: int) -> int:
        """How many calls are needed still, at least."""
        whole = -(-max(everybody - len(self.lost), 0) // per_call)
        if self.part >= parts or not self.left:
            return 0
        return -(-len(self.left) // per_call) + bool(self.again) + whole * (parts - self.part - 1)

    def why(self) -> str:
        """Whom it did not reach, in words; empty when it reached all."""
        if not self.lost:
            return ""
        named = [f"{name} ({why})" for name, why in list(self.lost.items())[:_MOST_NAMED]]
        more = len(self.lost) - len(named)
        return f"not reached: {', '.join(named)}{f' and {more} more' if more else ''}"

    def to_notes(self) -> dict[str, str]:
        """For the job's record."""
        return {_PROGRESS: json.dumps(dataclasses.asdict(self), ensure_ascii=False)}


def progress_of(notes: Mapping[str, str], everybody: Sequence[str]) -> Progress:
    """Where the job stands; at its beginning everybody is left."""
    if _PROGRESS not in notes:
        return Progress(left=tuple(everybody))
    held = json.loads(notes[_PROGRESS])
    # Who was taken out of the configuration since gets nothing more.
    known = set(everybody)
    return Progress(
        part=held["part"],
        left=tuple(one for one in held["left"] if one in known),
        again=tuple(one for one in held["again"] if one in known),
        lost=held["lost"],
        rounds=held["rounds"],
    )
