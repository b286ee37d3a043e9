"""Uploads that were made before, and leave to make one."""

from __future__ import annotations

from dataclasses import dataclass

from dingqueue.scripts import ClockMs
from dingqueue_worker.store.door import Door, ask


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An upload that was made before."""

    media_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """Leave to make an upload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """Somebody else makes it, for so long at most."""

    for_s: float


class Media(Door):
    """What DingTalk calls our files."""

    def __init__(self, url: str, *, prefix: str, clock_ms: ClockMs = None) -> None:
        super().__init__(url, prefix=prefix, clock_ms=clock_ms)
        self._media_claim = self._script("media_claim.lua")
        self._media_end = self._script("media_end.lua")
        self._media_refuse = self._script("media_refuse.lua")

    def media_claim(self, key: str, holder: str, *, lease_ms: int) -> Kept | Leave | Busy:
        """The media id of an upload, or leave to make it, alone in the fleet until the lease ends.

        Args:
            key: The upload's, or of what must be known before it (a URL).
            holder: Somebody's own name.
            lease_ms: How long fetching and uploading may take.
        """
        reply = ask(lambda: self._media_claim(key, holder, lease_ms))
        match reply[0]:
            case "there":
                return Kept(media_id=reply[1])
            case "claimed":
                return Leave()
            case _:
                return Busy(for_s=max(int(reply[1]), 0) / 1000)

    def media_id(self, key: str) -> str | None:
        """The media id of an upload, if it is known."""
        found = ask(lambda: [self._client.get(f"{self._base}media:{key}")])[0]
        return None if found is None else str(found)

    def media_end(self, claim: str, holder: str, *, key: str, media_id: str, keep_ms: int) -> None:
        """Keep an upload's media id ("" where there is none) and give up the claim."""
        ask(lambda: self._media_end(claim, holder, key, media_id, keep_ms))

    def media_refuse(self, key: str, media_id: str, *, count_ms: int) -> int:
        """Forget this media id; how many were refused lately, 0 when a newer one has taken its place."""
        reply = ask(lambda: self._media_refuse(key, media_id, count_ms))
        return int(reply[1]) if reply[0] == "forgotten" else 0
