"""Todos: pieces of work that appear in people's DingTalk.

https://open.dingtalk.com/document/development/add-dingtalk-to-do-task
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dingqueue_worker.sandbox.calls import Done, Refused, strings_of, text_of
from dingqueue_worker.sandbox.organisation import Call, Route, Todo, new_key

MAX_SUBJECT_BYTES = 1_024
MAX_DESCRIPTION_BYTES = 4_096
MAX_URL_BYTES = 1_024
MAX_PEOPLE = 1_000
_PRIORITIES = {10, 20, 30, 40}
_CREATE = "todo.taskCreate.paramError"
_UPDATE = "todo.taskUpdate.paramError"


def _create(call: Call) -> Done:
    union_id = call.parts["union_id"]
    _known(call, union_id, "the unionId of the URL", _CREATE)
    data = call.data
    subject = _sized(data, "subject", MAX_SUBJECT_BYTES, _CREATE, needed=True)
    url = _detail_url(data)
    source_id = data.get("sourceId")
    if source_id is not None and (not isinstance(source_id, str) or not source_id):
        raise Refused(_CREATE, "sourceId is invalid", "sourceId must be a string that is not empty", assumed=True)
    for todo in call.org.todos.values():
        if source_id is not None and todo.source_id == source_id and todo.app == call.app.name and not todo.deleted:
            reason = f"a todo with this sourceId exists: #{todo.number}"
            raise Refused(_CREATE, f"task exist, taskId: {todo.id}", reason, step="sourceId")
    todo = Todo(
        id=f"task{new_key('todo', call.number, call.now_ms)[:28]}",
        app=call.app.name,
        source_id=source_id,
        subject=subject,
        description=_sized(data, "description", MAX_DESCRIPTION_BYTES, _CREATE),
        due_ms=_moment(data, "dueTime", _CREATE),
        executors=_people(call, "executorIds", "executors", _CREATE),
        participants=_people(call, "participantIds", "participants", _CREATE),
        creator=str(data.get("creatorId") or union_id),
        url=url,
        priority=_priority(data),
        created_ms=call.now_ms,
        number=call.number,
    )
    call.org.todos[todo.id] = todo
    note = "" if todo.executors else "it has no executors"
    if todo.executors == (todo.creator,):
        note = "creator and executor are the same person: DingTalk sends no DING"
    body = _shown(todo) | {"requestId": new_key(call.number)[:16]}
    return Done(body=body, key=todo.id, to=todo.executors, note=note, record=todo)


def _known(call: Call, union_id: str, what: str, code: str) -> None:
    if call.org.by_union_id(union_id, call.rules) is None:
        kind = "it is a userId, and todos want unionIds" if union_id in call.org.people else "nobody has it"
        raise Refused(code, "unionId is invalid", f"{what}: {kind}", step="people", assumed=True)


def _sized(data: Mapping[str, Any], name: str, most_bytes: int, code: str, *, needed: bool = False) -> str:
    value = data.get(name)
    if value is None and not needed:
        return ""
    if isinstance(value, str) and len(value.encode(errors="replace")) > most_bytes:
        raise Refused(code, f"{name} is oversize", f"{name} has more than {most_bytes:,} bytes")
    return text_of(data, name, Refused(code, f"{name} is invalid", assumed=True)) if value or needed else ""


def _detail_url(data: Mapping[str, Any]) -> str:
    url = data.get("detailUrl")
    if not isinstance(url, dict) or not any(url.get(name) for name in ("appUrl", "pcUrl")):
        reason = (
            "detailUrl with appUrl and pcUrl is needed since 2024-02-01, although the page's table calls it optional"
        )
        raise Refused(_CREATE, "detailUrl is required", reason, assumed=True)
    for name in ("appUrl", "pcUrl"):
        value = url.get(name)
        if value is not None and (not isinstance(value, str) or len(value.encode(errors="replace")) > MAX_URL_BYTES):
            reason = f"detailUrl.{name} must be a string of at most {MAX_URL_BYTES:,} bytes"
            raise Refused(_CREATE, "detailUrl is invalid", reason, assumed=True)
    return str(url.get("pcUrl") or url.get("appUrl"))


def _moment(data: Mapping[str, Any], name: str, code: str) -> int | None:
    value = data.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 10**12 <= value < 10**14:
        raise Refused(code, f"{name} is invalid", f"{name} must be Unix time in milliseconds")
    return value


def _people(call: Call, field: str, what: str, code: str) -> tuple[str, ...]:
    people = strings_of(call.data, field, Refused(code, f"{what} is invalid", assumed=True), needed=False)
    if len(people) > MAX_PEOPLE:
        raise Refused(code, f"{what} is oversize", f"{field} has {len(people)} people, {MAX_PEOPLE} are allowed")
    for union_id in people:
        _known(call, union_id, field, code)
    return tuple(dict.fromkeys(people))


def _priority(data: Mapping[str, Any]) -> int | None:
    value = data.get("priority")
    if value is not None and not (type(value) is int and value in _PRIORITIES):
        raise Refused(_CREATE, "priority is invalid", "priority must be 10, 20, 30 or 40", assumed=True)
    return value


def _shown(todo: Todo) -> dict[str, Any]:
    return {
        "id": todo.id,
        "subject": todo.subject,
        "description": todo.description,
        "dueTime": todo.due_ms,
        "createdTime": todo.created_ms,
        "creatorId": todo.creator,
        "executorIds": list(todo.executors),
        "participantIds": list(todo.participants),
        "priority": todo.priority,
        "sourceId": todo.source_id,
        "done": todo.done,
        "bizTag": todo.app,
    }


def _find(call: Call, code: str) -> Todo:
    todo = call.org.todos.get(call.parts["task_id"])
    if todo is None or todo.deleted:
        raise Refused(code, "task not exist", "there is no todo with this id")
    if todo.app != call.app.name:
        raise Refused(code, "task not belong to bizTag", f"the app {todo.app} made it, and only it may change it")
    return todo


def _get(call: Call) -> Done:
    return Done(body=_shown(_find(call, "todo.taskGet.paramError")))


def _get_by_source(call: Call) -> Done:
    for todo in call.org.todos.values():
        if todo.source_id == call.parts["source_id"] and todo.app == call.app.name and not todo.deleted:
            return Done(body=_shown(todo))
    raise Refused("todo.taskGet.paramError", "task not exist", "there is no todo with this sourceId", assumed=True)


def _update(call: Call) -> Done:
    todo, data = _find(call, _UPDATE), call.data
    done = data.get("done", todo.done)
    if not isinstance(done, bool):
        raise Refused(_UPDATE, "done is invalid", "done must be true or false", assumed=True)
    changes = {
        "subject": _sized(data, "subject", MAX_SUBJECT_BYTES, _UPDATE),
        "description": _sized(data, "description", MAX_DESCRIPTION_BYTES, _UPDATE),
        "due_ms": _moment(data, "dueTime", _UPDATE),
        "executors": _people(call, "executorIds", "executors", _UPDATE),
        "participants": _people(call, "participantIds", "participants", _UPDATE),
    }
    # All is checked: now change it.
    for name, value in changes.items():
        if value:
            setattr(todo, name, value)
    todo.done = done
    return Done(
        body={"result": True, "requestId": new_key(call.number)[:16]}, key=todo.id, note=f"changes #{todo.number}"
    )


def _executor_status(call: Call) -> Done:
    todo = _find(call, _UPDATE)
    statuses = call.data.get("executorStatusList")
    if not isinstance(statuses, list) or not statuses:
        raise Refused(_UPDATE, "executors is invalid", "executorStatusList must be a list", assumed=True)
    for one in statuses:
        if not isinstance(one, dict) or one.get("id") not in todo.executors:
            raise Refused(_UPDATE, "executors is invalid", "executorStatusList names somebody who is no executor")
        (todo.done_by.add if one.get("isDone") else todo.done_by.discard)(str(one["id"]))
    todo.done = todo.done or todo.done_by >= set(todo.executors)
    return Done(
        body={"result": True, "requestId": new_key(call.number)[:16]}, key=todo.id, note=f"changes #{todo.number}"
    )


def _delete(call: Call) -> Done:
    todo = _find(call, "todo.taskDelete.paramError")
    todo.deleted = True
    return Done(
        body={"result": True, "requestId": new_key(call.number)[:16]}, key=todo.id, note=f"deletes #{todo.number}"
    )


def _personal(_: Call) -> Done:
    reason = "a personal todo needs a user's token, and this is an app's"
    raise Refused("todo.taskCreate.tokenTypeError", "token type error", reason, step="token")


_TASKS = "/v1.0/todo/users/{union_id}/tasks"
ROUTES = (
    Route("POST", "/v1.0/todo/users/me/personalTasks", _personal, way="todo"),
    Route("POST", _TASKS, _create, way="todo"),
    Route("GET", f"{_TASKS}/sources/{{source_id}}", _get_by_source, body="none"),
    Route("GET", f"{_TASKS}/{{task_id}}", _get, body="none"),
    Route("PUT", f"{_TASKS}/{{task_id}}", _update),
    Route("PUT", f"{_TASKS}/{{task_id}}/executorStatus", _executor_status),
    Route("DELETE", f"{_TASKS}/{{task_id}}", _delete, body="none"),
)
