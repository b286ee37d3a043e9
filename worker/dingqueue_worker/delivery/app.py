"""One call in an app's name: a token, the call, and what its answer means for the job and for the app."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from dingqueue.routes import app_closing
from dingqueue_worker.dingtalk.answers import Answer, Taken, read_newer, read_older
from dingqueue_worker.dingtalk.errors import NotSent, Unanswered
from dingqueue_worker.outcome import Close, Ended, Outcome, Retry, Snooze, Unknown
from dingqueue_worker.settings import App, Secret
from dingqueue_worker.tokens import NoToken, Token, Tokened

#: In a job's notes: how often in a row its token was refused.
REFUSED = "token_refused"
#: Faults of the app as a whole, whichever of its interfaces meets them first.
_WHOLE_APP = frozenset({"credentials", "ip", "disabled"})
#: A token that took this long to come leaves too little of the attempt's lease: the next attempt has it at once.
_LATE_S = 2.0


class Tokens(Protocol):
    """What a call needs of ``dingqueue_worker.tokens``."""

    def of(self, app: App) -> Tokened: ...
    def refused(self, app: App, token: Token) -> None: ...


class Door:
    """Makes one call and reads its answer. Safe in many threads at once."""

    def __init__(self, tokens: Tokens, *, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._tokens, self._monotonic_s = tokens, monotonic_s

    def newer(
        self,
        app: App,
        call: Callable[[Secret], Answer],
        *,
        proof: str | None,
        notes: Mapping[str, str],
        said: Iterable[str] = (),
    ) -> Taken | Ended:
        """Ask the newer host.

        Args:
            app: Whose token to use.
            call: Makes the call with it.
            proof: The field that a yes always has; None is none.
            notes: The job's, as they are.
            said: The texts that are sent; what DingTalk echoes of them is cut out.

        Returns:
            The yes, or how the attempt ends.
        """
        return self._ask(app, call, lambda answer, heard: read_newer(answer, proof=proof, said=heard), said, notes)

    def older(
        self,
        app: App,
        call: Callable[[Secret], Answer],
        *,
        proof: str | None,
        notes: Mapping[str, str],
        said: Iterable[str] = (),
    ) -> Taken | Ended:
        """Ask the older host; arguments and answer as for ``newer``."""
        return self._ask(app, call, lambda answer, heard: read_older(answer, proof=proof, said=heard), said, notes)

    def _ask(
        self,
        app: App,
        call: Callable[[Secret], Answer],
        read: Callable[[Answer, Iterable[str]], Taken | Outcome],
        said: Iterable[str],
        notes: Mapping[str, str],
    ) -> Taken | Ended:
        began_s = self._monotonic_s()
        token = self._tokens.of(app)
        if isinstance(token, NoToken):
            return Ended(outcome=token.outcome)
        if self._monotonic_s() - began_s > _LATE_S:
            return Ended(outcome=Snooze(why="the app's token was late", cause="token", sent=False))
        try:
            answer = call(token.value)
        except NotSent as error:
            return Ended(outcome=Retry(why=str(error), cause="not_sent", sent=False))
        except Unanswered as error:
            return Ended(outcome=Unknown(why=str(error), cause="unanswered"))
        found = read(answer, (*said, token.value.reveal()))
        if isinstance(found, Taken):
            return found
        if isinstance(found, Retry) and found.cause == "token":
            self._tokens.refused(app, token)
            return _again(app, found.why, notes)
        return Ended(outcome=_closing(app, found))


def _again(app: App, why: str, notes: Mapping[str, str]) -> Ended:
    """Once more with a new token, at no cost; when that is refused too, it is not the token."""
    times = int(notes.get(REFUSED, "0")) + 1
    close = Close(cause="fault", why=why, sender=app_closing(app.name)) if times > 1 else None
    return Ended(outcome=Snooze(why=why, cause="token", close=close), notes={REFUSED: str(times)})


def _closing(app: App, outcome: Outcome) -> Outcome:
    """The same outcome, closing the whole app where not only this interface is concerned."""
    close = outcome.close
    if close is None or close.sender is not None:
        return outcome
    # A quota without a time of its own is the organisation's month.
    month = close.cause == "quota" and close.for_s is None
    whole = close.cause == "fault" and getattr(outcome, "cause", "") in _WHOLE_APP
    if not (month or whole):
        return outcome
    return dataclasses.replace(outcome, close=dataclasses.replace(close, sender=app_closing(app.name)))
