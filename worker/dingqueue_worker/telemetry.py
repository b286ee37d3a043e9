"""Log lines: one event each, a constant message with fields. No secret and no message text is ever a field."""

from __future__ import annotations

import importlib.util
import json
import logging
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

#: How lines look: for people, or an object each.
Form: TypeAlias = Literal["human", "json"]

LOGGER = logging.getLogger("dingqueue.worker")

#: What each field holds; ops/LOGS.md is for people. A test finds every field of every event here.
FIELDS: Mapping[str, str] = {
    "job_id": "the job, the same everywhere: in the application's log, in Flower, in DingTalk's msgUuid",
    "destination": "where it goes, by the configuration's name",
    "sender": "the robot, or the app and its interface, whose limit it takes",
    "kind": "send, assign or share",
    "attempt": "which attempt this was; one that only waited spends none",
    "outcome": "how the attempt ended: delivered, accepted, snooze, retry, unknown or dead",
    "state": "where the job stands now",
    "cause": "why, as a short stable word",
    "why": "why, for a person",
    "part": "which of how many requests",
    "took_ms": "from the call's arrival at the worker to the job's new state",
    "receipt": "what DingTalk acknowledged: request_id, task_id, process_query_key, todo_id",
    "into": "the digest that the job became a part of",
    "members": "how many messages became one",
    "app": "an app, by the configuration's name",
    "task": "DingTalk's number of a notification",
    "quota": "whose month",
    "number": "which token of the app",
    "lifetime_s": "how long a token is good",
    "again_s": "when the next question may be asked",
    "size_bytes": "of what came",
    "calls": "how many calls wait to be published",
    "rest_ms": "how long lanes rest",
    "for_s": "for how long Redis has not answered",
    "after_s": "after how long it answered again",
    "error": "what failed, by its name",
    "where": "file and line where our own code failed",
    "server": "name and version",
    "broker": "where Celery's broker is",
    "lanes": "where the lanes' Redis is",
    "queue": "Celery's queue of this fleet",
    "concurrency": "attempts at a time",
    "destinations": "how many are configured",
    "version": "of dingqueue",
}
#: Of a receipt: what DingTalk's support asks for, and nothing about people.
_RECEIPT = ("request_id", "task_id", "process_query_key", "todo_id")


def event(message: str, *, level: int = logging.INFO, **fields: Any) -> None:
    """Log an event: the message, then its fields as ``name=value``; also as ``extra`` for structured handlers."""
    if LOGGER.isEnabledFor(level):
        said = " ".join(f"{name}={_shown(value)}" for name, value in fields.items() if value not in (None, "", {}))
        LOGGER.log(level, "%s%s", message, f"  {said}" if said else "", extra={"event": message, **fields})


def acknowledged(receipt: Mapping[str, str]) -> dict[str, str] | None:
    """What of a receipt a log line may say."""
    return {name: receipt[name] for name in _RECEIPT if name in receipt} or None


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{name}:{one}" for name, one in value.items())
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if not text.isprintable() or " " in text or '"' in text else text


def form_of(text: str | None) -> Form:
    """What ``DINGQUEUE_LOG`` says.

    Raises:
        ValueError: What it may be, or what is missing for it.
    """
    match text or "human":
        case "human":
            return "human"
        case "json":
            if importlib.util.find_spec("pythonjsonlogger") is None:
                raise ValueError("json needs one package more: pip install 'dingqueue[worker]'")
            return "json"
        case _:
            raise ValueError("expected human or json")
