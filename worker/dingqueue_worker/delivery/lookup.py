"""A step that asks DingTalk who somebody is, so that the next step can name them as it must."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from dingqueue_worker.delivery.app import Door
from dingqueue_worker.dingtalk.answers import Answer, Taken
from dingqueue_worker.directory import Directory, Lookup, Wanted, Who
from dingqueue_worker.outcome import Dead, Delivered, Ended, Retry, Snooze, Unknown
from dingqueue_worker.routing import Route
from dingqueue_worker.settings import App, Secret


class Asks(Protocol):
    """What this step needs of ``dingtalk.apps``."""

    def user_get(self, token: Secret, *, user_id: str) -> Answer: ...
    def user_by_mobile(self, token: Secret, *, mobile: str) -> Answer: ...
    def user_by_union(self, token: Secret, *, union_id: str) -> Answer: ...


#: Somebody whom DingTalk does not know: who, and how they were asked for.
Stranger = Callable[[Lookup, Dead], Ended]


class People:
    """Looks people up, one a step."""

    def __init__(self, door: Door, calls: Asks, directory: Directory) -> None:
        self._door, self._calls, self._directory = door, calls, directory

    def attempt(
        self,
        people: Sequence[Who],
        wanted: Wanted,
        *,
        app: App,
        step: int,
        notes: Mapping[str, str],
        then: Route,
        stranger: Stranger,
    ) -> Ended:
        """Ask about the first who is not known yet.

        Args:
            people: Whom the job needs.
            wanted: As what.
            app: In whose organisation.
            step: The job's step.
            notes: The job's.
            then: The route that waits for them.
            stranger: How the job goes on when DingTalk does not know somebody.

        Raises:
            StoreUnavailable: Redis did not answer; nothing was asked.
        """
        _, missing = self._directory.resolve(app.name, people, wanted)
        if not missing:
            return Ended(outcome=Snooze(why="everybody is known", cause="lookup", sent=False), route=then)
        one = missing[0]
        got = self._door.older(app, self._call(one), proof="result", notes=notes)
        if not isinstance(got, Taken):
            if isinstance(got.outcome, Dead) and got.outcome.cause == "recipients":
                return stranger(one, got.outcome)
            if isinstance(got.outcome, Unknown):  # a question changes nothing: ask again
                return Ended(outcome=Retry(why=got.outcome.why, cause=got.outcome.cause))
            return got
        found = _field(got.fields.get("result"), "unionid" if one.wanted == "union_id" else "userid")
        if not found:
            return stranger(one, Dead(why="DingTalk's answer names no id", cause="recipients"))
        self._directory.keep(app.name, one, found)
        _, missing = self._directory.resolve(app.name, people, wanted)
        return Ended(
            outcome=Delivered(receipt={}),
            steps=step + 2 + len(missing),
            route="lookup" if missing else then,
        )

    def _call(self, lookup: Lookup) -> Callable[[Secret], Answer]:
        match lookup.kind:
            case "mobile":
                return lambda token: self._calls.user_by_mobile(token, mobile=lookup.value)
            case "union_id":
                return lambda token: self._calls.user_by_union(token, union_id=lookup.value)
            case "user_id":
                return lambda token: self._calls.user_get(token, user_id=lookup.value)


def unknown(lookup: Lookup, refused: Dead) -> str:
    """Who it is that DingTalk does not know, and by what kind of id, in words."""
    return f"{lookup.who.label} ({lookup.by}): {refused.why}"


def _field(result: Any, name: str) -> str:
    value = result.get(name) if isinstance(result, Mapping) else None
    return value.strip() if isinstance(value, str) else ""
