"""App tokens: kept under a lease, one question for the whole fleet."""

from __future__ import annotations

from dataclasses import dataclass, field

from dingqueue.scripts import ClockMs
from dingqueue_worker.store.door import Door, ask


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An app token as it is kept; ``number`` grows with each one that was fetched."""

    token: str = field(repr=False)
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """Leave to fetch an app's token, alone in the fleet; ``held`` is one that can still be used meanwhile."""

    lease: int
    held: Held | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """There is no token: somebody fetches one, or (``resting``) the last question failed and the next one must wait.

    ``refused``: the credentials were, twice.
    """

    for_s: float
    why: str
    resting: bool
    refused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenView:
    """An app's token as a person may see it: all but the token. Milliseconds since 1970, by the server's clock.

    ``usable_ms`` is 0 where there is none; ``again_ms`` is when the next question may be asked after a failure.
    """

    number: int
    got_ms: int
    refresh_ms: int
    usable_ms: int
    again_ms: int
    fails: int
    why: str
    bad: bool


class TokenKeeping(Door):
    """Where app tokens are kept."""

    def __init__(self, url: str, *, prefix: str, clock_ms: ClockMs = None) -> None:
        super().__init__(url, prefix=prefix, clock_ms=clock_ms)
        self._token_ask = self._script("token_ask.lua")
        self._token_keep = self._script("token_keep.lua")
        self._token_fail = self._script("token_fail.lua")
        self._token_drop = self._script("token_drop.lua")

    def token_ask(self, app: str, mark: str, *, lease_ms: int, eager: bool) -> Held | Fetch | Wait:
        """The app's token, or leave to fetch it, or a wait.

        Args:
            app: The app's name.
            mark: The fingerprint of its credentials: other ones have another token.
            lease_ms: How long leave to fetch lasts.
            eager: Fetch as soon as it is time, not only when the token is late.
        """
        reply = ask(lambda: self._token_ask(app, mark, lease_ms, int(eager)))
        match reply[0]:
            case "token":
                return Held(token=reply[1], number=int(reply[2]))
            case "fetch":
                held = Held(token=reply[2], number=int(reply[3])) if reply[2] else None
                return Fetch(lease=int(reply[1]), held=held)
            case _:
                return Wait(
                    for_s=int(reply[1]) / 1000,
                    why=reply[2],
                    resting=reply[3] != "fetching",
                    refused=reply[3] == "refused",
                )

    def token_keep(
        self, app: str, mark: str, lease: int, token: str, *, refresh_ms: int, late_ms: int, usable_ms: int
    ) -> Held | Wait:
        """Keep what was fetched under a lease; gives back the newest token, which may be another's, or already refused."""
        row = (app, mark, lease, token, refresh_ms, late_ms, usable_ms)
        _, newest, number = ask(lambda: self._token_keep(*row))
        if not newest:
            return Wait(for_s=0.0, why="the app's token was refused", resting=False)
        return Held(token=newest, number=int(number))

    def token_fail(
        self, app: str, mark: str, lease: int, *, why: str, bad: bool, rest_ms: int | None, jitter: float
    ) -> Wait:
        """Note that no token came, and give back how long the next question waits.

        Args:
            app: The app's name.
            mark: The fingerprint of its credentials.
            lease: Under which it was asked.
            why: In words, without a secret.
            bad: The credentials were refused.
            rest_ms: How long; None is a back-off.
            jitter: From 0 to 1, for the back-off.
        """
        row = (app, mark, lease, why, "bad" if bad else "", "" if rest_ms is None else rest_ms, jitter)
        reply = ask(lambda: self._token_fail(*row))
        return Wait(for_s=int(reply[1]) / 1000 if reply[0] == "failed" else 0.0, why=why, resting=True)

    def token_drop(self, app: str, mark: str, number: int) -> bool:
        """Never use this very token again; False when a newer one has taken its place."""
        return bool(ask(lambda: self._token_drop(app, mark, number))[0] == "dropped")

    def token_view(self, app: str, mark: str) -> tuple[int, TokenView | None]:
        """Now (ms since 1970, the server's), and an app's token without the token; None when it was never asked for."""
        fields = ("number", "got_ms", "refresh_ms", "usable_ms", "again_ms", "fails", "why", "bad")
        with self._client.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.hmget(f"{self._base}token:{app}:{mark}", *fields)
            pipe.exists(f"{self._base}token:{app}:{mark}")
            (seconds, micros), values, known = ask(pipe.execute)
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        if not known:
            return now_ms, None
        numbers = [int(value or 0) for value in values[:6]]
        return now_ms, TokenView(
            number=numbers[0],
            got_ms=numbers[1],
            refresh_ms=numbers[2],
            usable_ms=numbers[3],
            again_ms=numbers[4],
            fails=numbers[5],
            why=values[6] or "",
            bad=values[7] == "bad",
        )
