"""What became of work notifications: asked for until it is known, for a day. Knows no Celery."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dingqueue.routes import app_sender
from dingqueue_worker.delivery.app import Door
from dingqueue_worker.delivery.notes import TASKS
from dingqueue_worker.dingtalk.answers import Answer, Taken, meaning_of
from dingqueue_worker.outcome import Dead
from dingqueue_worker.routing import RESULT
from dingqueue_worker.settings import App, Secret, Settings
from dingqueue_worker.store import Event, Result
from dingqueue_worker.telemetry import event

#: DingTalk tells it for 24 hours.
#: https://open.dingtalk.com/document/development/gets-the-result-of-sending-messages-asynchronously-to-the-enterprise
KNOWN_FOR_S = 24 * 3_600.0
#: How long after a look the next one follows.
WAITS_S = (5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0)
_MOST = 20
#: One tick of beat works no longer than this: the next one goes on.
_WORK_S = 15.0
#: In the notes: of each call whose result is whole, what became of its people.
_LOOKED = "looked"
_MOST_NAMED = 10
#: Lists of people in a result, and what it means to be in one.
_LISTS = (
    ("read_user_id_list", "delivered"),
    ("unread_user_id_list", "delivered"),
    ("invalid_user_id_list", "DingTalk does not know this user id"),
    ("failed_user_id_list", "DingTalk could not send it"),
    ("forbidden_user_id_list", "DingTalk held it back"),
)


class Asks(Protocol):
    """What looking up needs of ``dingtalk.apps``."""

    def notice_result(self, token: Secret, *, agent_id: int, task_id: int) -> Answer: ...


class ResultStore(Protocol):
    """What looking up needs of the store."""

    def results_due(self, *, most: int, lease_ms: int) -> tuple[int, list[Result]]: ...
    def permit(self, sender: str) -> int: ...
    def learn(
        self, job_id: str, *, receipt: Mapping[str, str], notes: Mapping[str, str], verdict: str, why: str, next_ms: int
    ) -> tuple[str, tuple[Event, ...]]: ...


@dataclass(frozen=True, slots=True)
class _Known:
    """What a result says: of each person by user id, and of how many whose names we do not know."""

    people: Mapping[str, str]
    whole: bool
    reached: int
    missed: int


class Results:
    """Looks results up. Any number of workers may: each job is one's at a time."""

    def __init__(
        self,
        settings: Settings,
        *,
        store: ResultStore,
        door: Door,
        calls: Asks,
        tell: Callable[[Event], None],
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._store, self._door = settings, store, door
        self._calls, self._tell, self._monotonic_s = calls, tell, monotonic_s

    def look(self) -> int:
        """Look up what is due; returns how many jobs were looked at.

        Raises:
            StoreUnavailable: Redis did not answer; what was not noted is looked up again.
        """
        ends_s, looked = self._monotonic_s() + _WORK_S, 0
        lease_ms = round((self._settings.fleet.total_timeout_s * 2 + _WORK_S) * 1000)
        while self._monotonic_s() < ends_s:
            now_ms, due = self._store.results_due(most=_MOST, lease_ms=lease_ms)
            for one in due:
                self._learn(one, now_ms)
            looked += len(due)
            if len(due) < _MOST:
                break
        return looked

    def _learn(self, one: Result, now_ms: int) -> None:
        destination = self._settings.destinations.get(one.destination)
        app = self._settings.apps.get(destination.app or "") if destination else None
        known: dict[str, Any] = json.loads(one.notes.get(_LOOKED, "{}"))
        tasks: list[dict[str, Any]] = json.loads(one.notes.get(TASKS, "[]"))
        wait_s = WAITS_S[min(one.looks, len(WAITS_S)) - 1]
        for task in tasks:
            if app is None or task["id"] in known:
                continue
            held_ms = self._store.permit(app_sender(app.name, RESULT))
            if held_ms:
                wait_s = held_ms / 1000
                break
            if (found := self._ask(app, task)) is not None:
                known[task["id"]] = {"people": found.people, "reached": found.reached, "missed": found.missed}
        notes = {**one.notes, _LOOKED: json.dumps(known, ensure_ascii=False)}
        receipt = dict(one.receipt) | _told(tasks, known)
        whole = all(task["id"] in known for task in tasks)
        late = now_ms - one.ended_ms > KNOWN_FOR_S * 1000
        verdict, why = _verdict(receipt, tasks, known) if whole else ("", "")
        if not whole and (late or app is None):
            verdict, why = "given up", "DingTalk told no result within a day"
        state, events = self._store.learn(
            one.job_id, receipt=receipt, notes=notes, verdict=verdict, why=why, next_ms=round(wait_s * 1000)
        )
        if verdict:
            event("result known", job_id=one.job_id, destination=one.destination, state=state, why=why)
        for happened in events:
            self._tell(happened)

    def _ask(self, app: App, task: Mapping[str, Any]) -> _Known | None:
        """What a call's result says; None when it says nothing (yet)."""
        got = self._door.older(
            app,
            lambda token: self._calls.notice_result(token, agent_id=app.agent_id or 0, task_id=int(task["id"])),
            proof="send_result",
            notes={},
        )
        if isinstance(got, Taken):
            found = _read(got.fields["send_result"], task["people"])
            return found if found.whole else None
        if isinstance(got.outcome, Dead):
            # Too old, or too many people for DingTalk to say: it stays accepted.
            event("no result", level=logging.WARNING, app=app.name, task=task["id"], why=got.outcome.why)
            return _Known(people={}, whole=True, reached=0, missed=0)
        return None


def _read(result: Any, people: Mapping[str, str]) -> _Known:
    """Read a result.

    Args:
        result: DingTalk's ``send_result``.
        people: By user id, as the job calls them; empty where it was for departments.
    """
    fields = result if isinstance(result, Mapping) else {}
    said: dict[str, str] = {}
    for name, meaning in _LISTS:
        said |= dict.fromkeys(_ids(fields.get(name)), meaning)
    for one in fields.get("forbidden_list") or ():
        if isinstance(one, Mapping) and one.get("userid"):
            verdict, meaning = meaning_of(str(one.get("code", "")))
            said[str(one["userid"])] = "delivered" if verdict == "delivered" else meaning
    reached = sum(state == "delivered" for state in said.values())
    return _Known(
        people={user_id: said[user_id] for user_id in people if user_id in said},
        whole=bool(said) and all(user_id in said for user_id in people),
        reached=reached,
        missed=len(said) - reached,
    )


def _ids(value: Any) -> Iterable[str]:
    return [str(one) for one in value] if isinstance(value, Sequence) and not isinstance(value, str) else ()


def _told(tasks: Sequence[Mapping[str, Any]], known: Mapping[str, Any]) -> dict[str, str]:
    """Each person's entry of the receipt: delivered when every part of the message was, or why one was not."""
    told: dict[str, str] = {}
    for task in tasks:
        found = known.get(task["id"])
        for user_id, name in task["people"].items():
            state = found["people"].get(user_id, "accepted") if found else "accepted"
            before = told.get(f"person.{name}", "delivered")
            told[f"person.{name}"] = before if before != "delivered" and state == "delivered" else state
        if found and not task["people"]:
            told[f"task.{task['id']}"] = f"reached {found['reached']}, not {found['missed']}"
    return told


def _verdict(
    receipt: Mapping[str, str], tasks: Sequence[Mapping[str, Any]], known: Mapping[str, Any]
) -> tuple[str, str]:
    """The job's end, and whom it did not reach."""
    people = {name.removeprefix("person."): state for name, state in receipt.items() if name.startswith("person.")}
    missed = {name: state for name, state in people.items() if state not in {"delivered", "accepted"}}
    reached = sum(state == "delivered" for state in people.values())
    of_departments = [known[task["id"]] for task in tasks if not task["people"]]
    reached += sum(found["reached"] for found in of_departments)
    more = sum(found["missed"] for found in of_departments)
    named = [f"{name} ({state})" for name, state in list(missed.items())[:_MOST_NAMED]]
    unnamed = len(missed) - len(named) + more
    if unnamed:
        named.append(f"{unnamed} more" if named else f"{unnamed} people")
    why = f"not reached: {', '.join(named)}" if named else ""
    if reached:
        return "delivered", why
    return ("dead", why) if why else ("given up", "DingTalk does not tell whom it reached")
