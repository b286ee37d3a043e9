"""Changes to what an earlier job left at DingTalk: its messages taken back, its todo closed, changed or taken away."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from dingqueue.contract import ChangeJob
from dingqueue_worker.delivery.app import Door
from dingqueue_worker.delivery.todo import MAX_DESCRIPTION_BYTES, MAX_EXECUTORS, MAX_SUBJECT_BYTES, cut
from dingqueue_worker.dingtalk.answers import Answer, Taken
from dingqueue_worker.directory import Directory, Who, nobody
from dingqueue_worker.outcome import Dead, Delivered, Ended, Mark, Retry, Snooze, Unknown
from dingqueue_worker.routing import Route
from dingqueue_worker.settings import App, Destination, Secret

#: Messages that one call takes back.
#: https://open.dingtalk.com/document/development/batch-message-recall-chat
KEYS_PER_CALL = 20
#: In the notes: what could not be taken back, and why.
_STAYS = "stays"
#: And how far a look at who has read it has come.
_SEEN = "seen"


class Changes(Protocol):
    """What changes need of ``dingtalk.apps``."""

    def group_recall(self, token: Secret, *, robot_code: str, conversation: str, keys: Sequence[str]) -> Answer: ...
    def people_recall(self, token: Secret, *, robot_code: str, keys: Sequence[str]) -> Answer: ...
    def notice_recall(self, token: Secret, *, agent_id: int, task_id: int) -> Answer: ...
    def notice_result(self, token: Secret, *, agent_id: int, task_id: int) -> Answer: ...
    def group_read(self, token: Secret, *, robot_code: str, conversation: str, key: str, after: str) -> Answer: ...
    def people_read(self, token: Secret, *, robot_code: str, key: str) -> Answer: ...
    def todo_update(self, token: Secret, *, creator: str, todo_id: str, changes: Mapping[str, Any]) -> Answer: ...
    def todo_delete(self, token: Secret, *, creator: str, todo_id: str) -> Answer: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recall:
    """One call that takes something back."""

    route: str
    keys: tuple[str, ...]
    conversation: str = ""


class Change:
    """Carries changes out, one call a step."""

    def __init__(
        self,
        door: Door,
        calls: Changes,
        directory: Directory,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._door, self._calls, self._directory, self._now = door, calls, directory, now

    def attempt(
        self, job: ChangeJob, *, app: App, destination: Destination, step: int, notes: Mapping[str, str]
    ) -> Ended:
        """Make the call whose turn it is.

        Raises:
            StoreUnavailable: Redis did not answer; nothing was sent.
        """
        if job.action == "recall":
            ended = self._recall(job, app=app, destination=destination, step=step, notes=notes)
        elif job.action == "check":
            ended = self._check(job, app=app, step=step, notes=notes)
        elif job.action == "complete":
            ended = self._update(job, {"done": True}, {"todo": "done"}, app=app, step=step, notes=notes)
        else:
            ended = self._reassign(job, app=app, step=step, notes=notes)
        return failed(job, ended.outcome) if isinstance(ended.outcome, Dead) else ended

    def people_of(self, job: ChangeJob) -> tuple[list[Who], str]:
        """Who does the work from now on; or what is wrong with somebody."""
        people, strangers = self._directory.of(job.to)
        if strangers:
            return [], f"to: {', '.join(strangers)} is not in the fleet's [people]"
        if lost := [who.label for who in people if nobody(who)]:
            return [], f"to: nothing is known of {', '.join(lost)} in [people]: give a user_id, a mobile or a union_id"
        if len(people) > MAX_EXECUTORS:
            return [], f"to: {len(people)} people; a todo is for at most {MAX_EXECUTORS}"
        return people, ""

    # --- Taking back ---

    def _recall(
        self, job: ChangeJob, *, app: App, destination: Destination, step: int, notes: Mapping[str, str]
    ) -> Ended:
        recalls = _recalls(job)
        if step >= len(recalls):
            return Ended(outcome=Dead(why="nothing is left to be taken back", cause="recall", sent=False))
        one = recalls[step]
        got = self._door_for(one)(app, self._call(one, job, app), notes)
        stays: dict[str, str] = json.loads(notes.get(_STAYS, "{}"))
        if isinstance(got, Taken):
            stays |= _not_taken_back(got, one)
        elif isinstance(got.outcome, Dead):
            stays |= dict.fromkeys(one.keys, got.outcome.why)
        elif not isinstance(got.outcome, Delivered):  # "task not exist": it is gone already, and that is what was asked
            return got
        if step + 1 < len(recalls):
            return Ended(
                outcome=Delivered(receipt={}),
                steps=len(recalls),
                notes={_STAYS: json.dumps(stays, ensure_ascii=False)},
                route=change_turn(job, step + 1),
            )
        if stays:
            why = f"{len(stays)} of {sum(len(recall.keys) for recall in recalls)} could not be taken back: "
            return Ended(outcome=Dead(why=why + "; ".join(dict.fromkeys(stays.values())), cause="recall"))
        why = "taken back from DingTalk"
        if "todo" in json.loads(job.left) and destination.robots:
            why += "; the webhook robot's message stays, for those cannot be taken back"
        mark = Mark(job_id=job.of, state="cancelled", why=why)
        return Ended(outcome=Delivered(receipt={}), steps=len(recalls), mark=mark)

    def _door_for(self, one: _Recall) -> Callable[[App, Callable[[Secret], Answer], Mapping[str, str]], Taken | Ended]:
        match one.route:
            case "notice":
                return lambda app, call, notes: self._door.older(app, call, proof=None, notes=notes)
            case "todo":
                return lambda app, call, notes: self._door.newer(app, call, proof="result", notes=notes)
            case _:
                # It may be refused for every key: then there is no success to prove it.
                return lambda app, call, notes: self._door.newer(app, call, proof=None, notes=notes)

    def _call(self, one: _Recall, job: ChangeJob, app: App) -> Callable[[Secret], Answer]:
        robot_code = app.robot_code or ""
        match one.route:
            case "group":
                return lambda token: self._calls.group_recall(
                    token, robot_code=robot_code, conversation=one.conversation, keys=one.keys
                )
            case "people":
                return lambda token: self._calls.people_recall(token, robot_code=robot_code, keys=one.keys)
            case "notice":
                return lambda token: self._calls.notice_recall(
                    token, agent_id=app.agent_id or 0, task_id=int(one.keys[0])
                )
            case _:
                todo = _todo(job)
                return lambda token: self._calls.todo_delete(token, creator=todo["creator"], todo_id=todo["id"])

    # --- Looking who has read it ---

    def _check(self, job: ChangeJob, *, app: App, step: int, notes: Mapping[str, str]) -> Ended:
        messages: list[list[str]] = json.loads(job.left).get("recall", [])
        seen = json.loads(notes.get(_SEEN, '{"at": 0, "after": "", "readers": []}'))
        if seen["at"] >= len(messages):
            return Ended(outcome=Dead(why="it sent nothing that DingTalk tells about", cause="check", sent=False))
        route, key, conversation = messages[seen["at"]]
        got = self._read(route, key, conversation, seen["after"], app=app, notes=notes)
        if not isinstance(got, Taken):
            if isinstance(got.outcome, Unknown):  # a question changes nothing: ask again
                return Ended(outcome=Retry(why=got.outcome.why, cause=got.outcome.cause))
            return got
        readers = sorted({*seen["readers"], *_readers(got)})
        after = got.text("nextToken") if got.fields.get("hasMore") is True else ""
        at = seen["at"] if after else seen["at"] + 1
        if at < len(messages):
            kept = {_SEEN: json.dumps({"at": at, "after": after, "readers": readers})}
            return Ended(outcome=Delivered(receipt={}), steps=step + 1 + len(messages) - at, notes=kept)
        told = {"read_by": str(len(readers)), "checked_at": self._now().isoformat(timespec="seconds")}
        if status := got.text("sendStatus"):
            told["send_status"] = status
        return Ended(outcome=Delivered(receipt=told), steps=step + 1, mark=Mark(job_id=job.of, receipt=told))

    def _read(
        self, route: str, key: str, conversation: str, after: str, *, app: App, notes: Mapping[str, str]
    ) -> Taken | Ended:
        robot_code = app.robot_code or ""
        if route == "notice":
            return self._door.older(
                app,
                lambda token: self._calls.notice_result(token, agent_id=app.agent_id or 0, task_id=int(key)),
                proof="send_result",
                notes=notes,
            )
        if route == "people":
            return self._door.newer(
                app,
                lambda token: self._calls.people_read(token, robot_code=robot_code, key=key),
                proof="sendStatus",
                notes=notes,
            )
        return self._door.newer(
            app,
            lambda token: self._calls.group_read(
                token, robot_code=robot_code, conversation=conversation, key=key, after=after
            ),
            proof=None,
            notes=notes,
        )

    # --- Changing the todo ---

    def _reassign(self, job: ChangeJob, *, app: App, step: int, notes: Mapping[str, str]) -> Ended:
        changes: dict[str, Any] = {}
        told: dict[str, str] = {}
        if job.to:
            people, problem = self.people_of(job)
            if problem:
                return Ended(outcome=Dead(why=problem, cause="recipients", sent=False))
            ids, missing = self._directory.resolve(app.name, people, "union_id")
            if missing:
                return Ended(outcome=Snooze(why="looks people up", cause="lookup", sent=False), route="lookup")
            changes["executorIds"] = list(dict.fromkeys(ids.values()))
            told["assigned_to"] = ", ".join(who.label for who in people)
        if job.subject:
            changes["subject"] = cut(" ".join(job.subject.split()), MAX_SUBJECT_BYTES)
        if job.description:
            changes["description"] = cut(job.description.strip(), MAX_DESCRIPTION_BYTES)
        if job.due:
            changes["dueTime"] = round(job.due.timestamp() * 1000)
            told["due"] = job.due.isoformat()
        return self._update(job, changes, told or {"todo": "changed"}, app=app, step=step, notes=notes)

    def _update(
        self,
        job: ChangeJob,
        changes: Mapping[str, Any],
        told: Mapping[str, str],
        *,
        app: App,
        step: int,
        notes: Mapping[str, str],
    ) -> Ended:
        todo = _todo(job)
        if not todo.get("id"):
            why = "the todo's id is not known: it was made by an attempt whose answer nobody saw; close it in DingTalk"
            return Ended(outcome=Dead(why=why, cause="todo", sent=False))
        got = self._door.newer(
            app,
            lambda token: self._calls.todo_update(token, creator=todo["creator"], todo_id=todo["id"], changes=changes),
            proof="result",
            notes=notes,
            said=(job.subject, job.description),
        )
        if not isinstance(got, Taken):
            return got
        mark = Mark(job_id=job.of, receipt=told)
        return Ended(outcome=Delivered(receipt=got.receipt), steps=step + 1, mark=mark)


def failed(job: ChangeJob, dead: Dead) -> Ended:
    """The change cannot be made; the earlier job says so too."""
    what = {"recall": "could not be taken back", "complete": "could not be closed", "reassign": "could not be changed"}
    if job.action not in what:  # who only looked leaves no mark
        return Ended(outcome=dead)
    return Ended(outcome=dead, mark=Mark(job_id=job.of, why=f"{what[job.action]}: {dead.why}"))


def change_turn(job: ChangeJob, step: int) -> Route:
    """Which route the change's next call takes."""
    if job.action == "check":
        return "recall"
    if job.action != "recall":
        return "todo"
    recalls = _recalls(job)
    return "todo" if step < len(recalls) and recalls[step].route == "todo" else "recall"


def _recalls(job: ChangeJob) -> list[_Recall]:
    """The calls that take everything back, in order; the same at every attempt."""
    left = json.loads(job.left)
    keys: dict[tuple[str, str], list[str]] = {}
    for route, key, conversation in left.get("recall", ()):
        # A notification is taken back by itself, messages of a robot up to twenty at a time.
        keys.setdefault((route, key if route == "notice" else conversation), []).append(key)
    recalls = [
        _Recall(route=route, keys=tuple(of[at : at + KEYS_PER_CALL]), conversation=place if route == "group" else "")
        for (route, place), of in keys.items()
        for at in range(0, len(of), KEYS_PER_CALL)
    ]
    if left.get("todo", {}).get("id"):
        recalls.append(_Recall(route="todo", keys=(left["todo"]["id"],)))
    return recalls


def _readers(got: Taken) -> set[str]:
    """The user ids of those who have read it, wherever the three calls put them."""
    readers = {*got.names("readUserIds")}
    result = got.fields.get("send_result")
    if isinstance(result, Mapping):
        readers |= {str(one) for one in result.get("read_user_id_list") or ()}
    listed = got.fields.get("messageReadInfoList")
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, Mapping) and one.get("readStatus") == "READ":
            readers.add(str(one.get("userId")))
    return readers


def _todo(job: ChangeJob) -> dict[str, str]:
    return dict(json.loads(job.left).get("todo") or {})


def _not_taken_back(got: Taken, one: _Recall) -> dict[str, str]:
    """Of each key that is still there, why; an answer may take back some and refuse others."""
    refused = got.fields.get("failedResult")
    if isinstance(refused, Mapping) and refused:
        return {key: str(refused[key])[:100] for key in one.keys if key in refused}
    if one.route in {"group", "people"} and not got.names("successResult"):
        return dict.fromkeys(one.keys, "DingTalk's answer names none that was taken back")
    return {}
