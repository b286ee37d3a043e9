"""A sender's windows: how many in how long, and the mute after one too many. Knows no HTTP and no clock."""

from __future__ import annotations

from collections import deque


class Window:
    """At most ``limit`` in any ``window_ms``; one more closes it for ``cooldown_ms``.

    The windows slide: what a sliding window lets through, a fixed one does too.
    """

    def __init__(self, limit: int, window_ms: int, cooldown_ms: int) -> None:
        self.limit = limit
        self.window_ms = window_ms
        self.cooldown_ms = cooldown_ms
        self.muted_until_ms = 0
        self._taken: deque[int] = deque()

    def taken_ms(self, now_ms: int) -> tuple[int, ...]:
        """When the places in use were taken, oldest first."""
        self._forget(now_ms)
        return tuple(self._taken)

    def refuses(self, now_ms: int, *, extend: bool) -> str | None:
        """Why nothing more is let through at the moment; None is a free place. The refusal itself may begin a mute."""
        if now_ms < self.muted_until_ms:
            if extend:
                self.muted_until_ms = now_ms + self.cooldown_ms
            return f"muted for {(self.muted_until_ms - now_ms) / 1_000:.0f} s more"
        self._forget(now_ms)
        if len(self._taken) < self.limit:
            return None
        self.muted_until_ms = now_ms + self.cooldown_ms
        return (
            f"message {self.limit + 1} within {self.window_ms / 1_000:g} s (the limit is {self.limit}): "
            f"muted for {self.cooldown_ms / 1_000:g} s"
        )

    def take(self, now_ms: int) -> None:
        """Use a place."""
        self._taken.append(now_ms)

    def _forget(self, now_ms: int) -> None:
        oldest_ms = now_ms - self.window_ms
        taken = self._taken
        while taken and taken[0] <= oldest_ms:
            taken.popleft()


class Peak:
    """The most requests that any window has seen, whatever became of them."""

    def __init__(self, window_ms: int) -> None:
        self.window_ms = window_ms
        self.most = 0
        self._seen: deque[int] = deque()

    def add(self, now_ms: int) -> None:
        """Note a request."""
        seen = self._seen
        seen.append(now_ms)
        oldest_ms = now_ms - self.window_ms
        while seen[0] <= oldest_ms:
            seen.popleft()
        self.most = max(self.most, len(seen))
