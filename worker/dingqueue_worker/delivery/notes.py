"""What a job's steps leave for later ones, as texts in its record. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

#: How each note is called; the producer reads the first two, to change what a job left at DingTalk.
RECALL, TODO = "recall", "todo"
TASKS, _FIRST_PART = "tasks", "first_part"


def first_part(notes: Mapping[str, str]) -> int:
    """The step at which the job's message begins: what went before was a todo or an upload."""
    return int(notes.get(_FIRST_PART, "0"))


def begins_at(step: int) -> dict[str, str]:
    """The message begins at this step."""
    return {_FIRST_PART: str(step)}


def with_recall(notes: Mapping[str, str], sent: tuple[str, str, str]) -> dict[str, str]:
    """One more message that can be taken back: its route, its key, and its conversation (or nothing)."""
    return {RECALL: json.dumps([*json.loads(notes.get(RECALL, "[]")), list(sent)])}


def with_task(notes: Mapping[str, str], task_id: str, people: Mapping[str, str]) -> dict[str, str]:
    """One more notification whose result is to be looked up, and the people by user id, as they are called."""
    tasks = [*json.loads(notes.get(TASKS, "[]")), {"id": task_id, "people": dict(people)}]
    return {TASKS: json.dumps(tasks, ensure_ascii=False)}


def read(notes: Mapping[str, str], name: str) -> Any:
    """A note that is JSON; None where there is none."""
    return json.loads(notes[name]) if notes.get(name) else None
