"""App tokens: one for the whole fleet, fetched under a lease well before the last one ends. Knows no job and no Celery."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from dingqueue.routes import app_closing
from dingqueue_worker.dingtalk.answers import Answer, Taken, read_newer, read_older
from dingqueue_worker.dingtalk.errors import NoAnswer
from dingqueue_worker.outcome import EVERY_SENDER, Close, Outcome, Snooze
from dingqueue_worker.pace import app_mark
from dingqueue_worker.settings import App, Secret
from dingqueue_worker.store import Fetch, Held, Wait
from dingqueue_worker.telemetry import event

#: What DingTalk documents, for an answer that does not say. A repeated call gives the same token and extends it.
#: https://open.dingtalk.com/document/development/obtain-the-access-token-of-an-internal-app
USUAL_LIFETIME_S = 7_200.0
#: A shorter lifetime is nonsense, and would be a loop; a longer one than a day is not believed.
SHORTEST_S, LONGEST_S = 60.0, 86_400.0
#: Beat fetches the next one in this part of a lifetime (jittered, so that many apps do not refresh together)…
REFRESH_FROM, REFRESH_TO = 0.65, 0.75
#: … and from here on whoever needs a token does, if beat is away.
LATE = 0.80
#: A token is not used in its last minute, or the last tenth of a short life: the request takes time too.
MARGIN_S, MARGIN = 60.0, 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token to call with. ``number`` tells it from the ones before and after."""

    value: Secret
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NoToken:
    """There is none now; ``outcome`` is how an attempt ends that needed one: nothing was sent, nothing is spent."""

    outcome: Snooze


class TokenStore(Protocol):
    """What tokens need of the store."""

    def token_ask(self, app: str, mark: str, *, lease_ms: int, eager: bool) -> Held | Fetch | Wait: ...
    def token_keep(
        self, app: str, mark: str, lease: int, token: str, *, refresh_ms: int, late_ms: int, usable_ms: int
    ) -> Held | Wait: ...
    def token_fail(
        self, app: str, mark: str, lease: int, *, why: str, bad: bool, rest_ms: int | None, jitter: float
    ) -> Wait: ...
    def token_drop(self, app: str, mark: str, number: int) -> bool: ...


class TokenApi(Protocol):
    """What tokens need of ``dingtalk.api``."""

    def app_token(self, app: App) -> Answer:
        """Ask for a token; raises ``NotSent`` or ``Unanswered``."""
        ...


Tokened: TypeAlias = Token | NoToken


class Tokens:
    """Gives every attempt a token that DingTalk will take. Safe in many threads at once.

    Args:
        store: Holds the tokens and the lease.
        api: The door to DingTalk.
        lease_s: How long one may take to fetch: the whole request's bound, and room for a slow machine.
        jitter: Gives numbers from 0 to 1.
    """

    def __init__(
        self, *, store: TokenStore, api: TokenApi, lease_s: float, jitter: Callable[[], float] = random.random
    ) -> None:
        self._store, self._api, self._jitter = store, api, jitter
        self._lease_ms = round(lease_s * 1000)

    def of(self, app: App) -> Tokened:
        """A token of the app; fetches it where it is late and nobody else does.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        return self._got(app, eager=False)

    def refresh(self, app: App) -> Tokened:
        """The same, well before the token ends: for beat."""
        return self._got(app, eager=True)

    def refused(self, app: App, token: Token) -> None:
        """DingTalk did not take this token: it is not used again, and no other is touched."""
        if self._store.token_drop(app.name, app_mark(app), token.number):
            event("app token refused", level=logging.WARNING, app=app.name, number=token.number)

    def _got(self, app: App, *, eager: bool) -> Tokened:
        match self._store.token_ask(app.name, app_mark(app), lease_ms=self._lease_ms, eager=eager):
            case Held() as held:
                return _token(held)
            case Wait() as wait:
                return _later(app, wait)
            case Fetch() as fetch:
                return self._fetched(app, fetch)

    def _fetched(self, app: App, fetch: Fetch) -> Tokened:
        try:
            read = _read(app, self._api.app_token(app))
        except NoAnswer as error:
            return self._failed(app, fetch, why=str(error), close=None)
        if not isinstance(read, Taken):
            return self._failed(app, fetch, why=getattr(read, "why", ""), close=getattr(read, "close", None))
        lifetime_s = _lifetime_s(read)
        refresh_s = lifetime_s * (REFRESH_FROM + (REFRESH_TO - REFRESH_FROM) * self._jitter())
        usable_s = lifetime_s - min(MARGIN_S, lifetime_s * MARGIN)
        kept = self._store.token_keep(
            app.name, app_mark(app), fetch.lease, read.text(_token_field(app)),
            refresh_ms=round(refresh_s * 1000), late_ms=round(lifetime_s * LATE * 1000), usable_ms=round(usable_s * 1000),
        )  # fmt: skip
        if isinstance(kept, Wait):
            return _later(app, kept)
        event("app token fetched", app=app.name, number=kept.number, lifetime_s=round(lifetime_s))
        return _token(kept)

    def _failed(self, app: App, fetch: Fetch, *, why: str, close: Close | None) -> Tokened:
        bad = close is not None and close.cause == "fault"
        blocked = close is not None and close.sender == EVERY_SENDER
        rest_s = close.for_s if close and blocked else None
        wait = self._store.token_fail(
            app.name, app_mark(app), fetch.lease, why=why, bad=bad, jitter=self._jitter(),
            rest_ms=None if rest_s is None else round(rest_s * 1000),
        )  # fmt: skip
        event("no app token", level=logging.ERROR, app=app.name, why=why, again_s=round(wait.for_s, 1))
        if fetch.held is not None:
            return _token(fetch.held)
        if bad:
            return _refused(app, why)
        if blocked:
            return NoToken(outcome=Snooze(why=why, cause="ban", sent=False, close=close))
        return _later(app, wait)


def _token(held: Held) -> Token:
    return Token(value=Secret(held.token), number=held.number)


def _later(app: App, wait: Wait) -> NoToken:
    """All the app's interfaces wait: jobs keep their places, and nobody asks in a loop."""
    if wait.refused:  # whoever found that out: beat may have, and it closes nothing
        return _refused(app, wait.why)
    for_s = min(max(wait.for_s, 0.2), 600.0) if wait.resting else 0.5
    close = Close(cause="busy", why=wait.why, sender=app_closing(app.name), for_s=for_s)
    return NoToken(outcome=Snooze(why=wait.why, cause="token", sent=False, close=close))


def _refused(app: App, why: str) -> NoToken:
    """A proof that the credentials are wrong; the second one marks the app broken, and its jobs wait for a person."""
    fault = Close(cause="fault", why=why, sender=app_closing(app.name))
    return NoToken(outcome=Snooze(why=why, cause="credentials", sent=False, close=fault))


def _read(app: App, answer: Answer) -> Taken | Outcome:
    field = _token_field(app)
    return read_newer(answer, proof=field) if app.token_by == "oauth2" else read_older(answer, proof=field)  # noqa: S105 - the name of a call


def _token_field(app: App) -> str:
    return "accessToken" if app.token_by == "oauth2" else "access_token"  # noqa: S105 - names of calls and fields


def _lifetime_s(read: Taken) -> float:
    """How long a token lives: what DingTalk says, within reason."""
    said = read.text("expireIn") or read.text("expires_in")
    try:
        lifetime_s = float(said)
    except ValueError:
        return USUAL_LIFETIME_S
    # "nan" compares false both ways.
    return min(max(lifetime_s, SHORTEST_S), LONGEST_S) if lifetime_s == lifetime_s else USUAL_LIFETIME_S
