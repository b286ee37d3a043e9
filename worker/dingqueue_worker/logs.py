"""Where log lines go and how they look: one line an event, for people or as JSON, Celery's own among them. Knows no job.

Ours are spoken by ``telemetry.event``; ops/LOGS.md says what each field holds.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import sys
import time
from datetime import UTC, datetime
from typing import Any, TextIO

from celery.signals import setup_logging

from dingqueue_worker.telemetry import Form, event

#: Celery says of each task that it was received, and how it went; ours says that once, with the outcome. Beat tells of each
#: tick, every few seconds. What only Celery can say (a task that raised what it should not) is a warning or worse, and stays.
_SAID_BY_US = ("celery.worker.strategy", "celery.app.trace", "celery.beat")
#: A tick that could not be published is an event, not a bug: it says why, and a hundred lines of frames say no more.
_NO_FRAMES = "celery.beat"
_OURS = "dingqueue"
_COLOURS = {logging.WARNING: "\033[33m", logging.ERROR: "\033[31m", logging.CRITICAL: "\033[1;31m"}


def take_over(form: Form) -> None:
    """Let Celery's programs log like this, whenever they set up logging; the last one who says how is right."""

    def set_up(loglevel: int | str | None = None, logfile: str | None = None, **_: Any) -> None:
        configure(form, level=loglevel or logging.INFO, logfile=logfile)
        if os.geteuid() == 0:
            event(
                "running as root",
                level=logging.WARNING,
                why="whoever breaks in has the machine: give it a user of its own",
            )

    setup_logging.disconnect(dispatch_uid=__name__)
    setup_logging.connect(set_up, weak=False, dispatch_uid=__name__)


def configure(form: Form, *, level: int | str = logging.INFO, logfile: str | None = None) -> None:
    """Send everything that is logged to stderr or a file, in one form.

    Args:
        form: ``human`` or ``json``.
        level: Of what is logged; at DEBUG Celery's lines about each task are there too.
        logfile: One that may be moved away (logrotate); None is stderr.
    """
    handler: logging.Handler = logging.handlers.WatchedFileHandler(logfile) if logfile else logging.StreamHandler()
    handler.setFormatter(_Json() if form == "json" else Human(colours=not logfile and sys.stderr.isatty()))
    handler.addFilter(_tidy)
    logging.captureWarnings(capture=True)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in _SAID_BY_US:
        logging.getLogger(name).setLevel(logging.NOTSET if root.level <= logging.DEBUG else logging.WARNING)


def _tidy(record: logging.LogRecord) -> bool:
    """What Celery and its friends say, in the fields that ours have."""
    told = record.__dict__
    if not isinstance(told.get("event"), str):
        told["event"] = " | ".join(line.strip() for line in record.getMessage().splitlines() if line.strip())
    data = told.pop("data", None)
    if isinstance(data, dict) and "id" in data:
        told["job_id"] = data["id"]
    if record.name == _NO_FRAMES and record.levelno == logging.ERROR:
        told["event"] = record.getMessage().splitlines()[0].strip()
        record.exc_info = record.exc_text = None
    return True


class Human(logging.Formatter):
    """``2026-11-25 20:03:17.461 INFO  attempt ended  job_id=…``, in local time."""

    def __init__(self, *, colours: bool = False) -> None:
        """Colours are for terminals."""
        super().__init__()
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        """One line; frames below it only where something broke."""
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        ours = record.name.startswith(_OURS)
        said = record.getMessage() if ours else f"{record.name}: {getattr(record, 'event', record.getMessage())}"
        level = f"{record.levelname:<8}"
        if self._colours and (colour := _COLOURS.get(record.levelno)):
            level = f"{colour}{level}\033[0m"
        line = f"{at}.{int(record.msecs):03d} {level} {said}"
        if record.exc_info:
            line += f"\n{self.formatException(record.exc_info)}"
        return line


def _Json() -> logging.Formatter:  # noqa: N802 - stands for a class that is only there with its library
    """One object a line: ts, level, logger, event, and the event's fields."""
    from pythonjsonlogger.json import JsonFormatter

    class Lines(JsonFormatter):
        def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
            return {name: value for name, value in log_data.items() if value is not None and value != ""}

    return Lines(
        ["levelname", "name", "event"],
        rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception", "stack_info": "stack"},
        timestamp="ts",
        json_ensure_ascii=False,
    )


def line(words: str, *, level: str = "INFO", logger: str = "celery.worker") -> str:
    """A line of JSON without a logger: for a signal's handler, which may not wait for a lock."""
    said = {"ts": datetime.now(UTC).isoformat(), "level": level, "logger": logger, "event": words}
    return json.dumps(said, ensure_ascii=False)


def say_in_lines() -> None:
    """Have what Celery's worker prints past its loggers (that it was told to stop) said in JSON too."""
    from celery.apps import worker as module

    worker: Any = module

    def in_a_line(msg: str, f: TextIO | None = sys.__stderr__) -> None:
        if f is not None:
            os.write(f.fileno(), f"{line(msg)}\n".encode())

    worker.safe_say = in_a_line
