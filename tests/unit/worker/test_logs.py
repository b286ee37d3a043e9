"""Log lines: one an event, the same fields for everybody, frames only where something broke."""

from __future__ import annotations

import ast
import json
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dingqueue_worker import logs, telemetry
from dingqueue_worker.configuration import ConfigurationError, load
from dingqueue_worker.logs import configure
from dingqueue_worker.telemetry import Form, acknowledged, event, form_of

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    quieted = {name: logging.getLogger(name).level for name in logs._SAID_BY_US}
    yield
    root.handlers, root.level = handlers, level
    logging.captureWarnings(capture=False)
    for name, before in quieted.items():
        logging.getLogger(name).setLevel(before)


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def objects(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said(capsys)]


def test_an_event_is_a_line_for_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    configure("human")

    event(
        "attempt ended", job_id="j1", why='a "quoted"\nreason', part=None, receipt={"request_id": "r1", "task_id": "t"}
    )

    (line,) = said(capsys)
    at = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}"
    rest = r'INFO     attempt ended  job_id=j1 why="a \\"quoted\\"\\nreason" receipt=request_id:r1,task_id:t'
    assert re.fullmatch(f"{at} {rest}", line)


def test_an_event_is_an_object_for_a_machine(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json")

    event(
        "attempt ended",
        level=logging.WARNING,
        job_id="j1",
        attempt=2,
        why="两行\n",
        part=None,
        receipt={"request_id": "r1"},
    )

    (line,) = said(capsys)
    told = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", told.pop("ts"))
    assert told == {
        "level": "WARNING", "logger": "dingqueue.worker", "event": "attempt ended", "job_id": "j1", "attempt": 2,
        "why": "两行\n", "receipt": {"request_id": "r1"},
    }  # fmt: skip
    assert "两行" in line


@pytest.mark.parametrize("form", ["human", "json"])
def test_whatever_is_said_by_others_is_one_line_too(form: Form, capsys: pytest.CaptureFixture[str]) -> None:
    configure(form)

    logging.getLogger("celery.apps.worker").info("%s ready.\n  Really.\n", "celery@host")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old\nand new", DeprecationWarning, stacklevel=1)

    first, second = said(capsys)
    assert "celery@host ready. | Really." in first
    assert "DeprecationWarning: old | and new" in second


def test_what_broke_has_its_frames(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json")
    try:
        int("what it was")
    except ValueError:
        logging.getLogger("dingqueue.worker").exception("the pacer stumbled")

    (told,) = objects(capsys)
    assert (told["level"], told["event"]) == ("ERROR", "the pacer stumbled")
    assert told["exception"].startswith("Traceback")
    assert told["exception"].endswith("base 10: 'what it was'")


def test_a_task_of_celerys_is_known_by_its_job_and_shows_no_argument(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json")

    logging.getLogger("celery.app.trace").error("Task failed", extra={"data": {"id": "j1", "args": "('planted',)"}})

    (told,) = objects(capsys)
    assert told["job_id"] == "j1"
    assert "planted" not in repr(told)


def test_celerys_lines_of_each_task_and_tick_are_there_at_debug_only(capsys: pytest.CaptureFixture[str]) -> None:
    for level, lines in ((logging.INFO, 0), (logging.DEBUG, 3), ("WARNING", 0), ("DEBUG", 3)):
        configure("human", level=level)
        for name in ("celery.worker.strategy", "celery.app.trace", "celery.beat"):
            logging.getLogger(name).info("each time")
        assert len(said(capsys)) == lines, level


def test_a_tick_that_could_not_be_published_says_why_and_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    configure("human")

    logging.getLogger("celery.beat").error("Message Error: %s\n%s", "refused", ["frames"], exc_info=ValueError("x"))

    (line,) = said(capsys)
    assert line.endswith("ERROR    celery.beat: Message Error: refused")


def test_a_file_may_be_moved_away(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    configure("human", logfile=str(log))
    event("one")
    log.rename(tmp_path / "worker.log.1")
    event("two")

    assert log.read_text().endswith("two\n")
    assert "one" not in log.read_text()
    logging.getLogger().handlers[0].close()


def test_a_receipt_is_logged_without_people() -> None:
    assert acknowledged({"request_id": "r", "person.alice": "read", "assigned_to": "Alice", "task_id": "7"}) == {
        "request_id": "r",
        "task_id": "7",
    }
    assert acknowledged({"errcode": "0"}) is None


def test_the_form_is_human_or_json(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert (form_of(None), form_of(""), form_of("human"), form_of("json")) == ("human", "human", "human", "json")
    config = tmp_path / "dingqueue.toml"
    config.write_text('[robots.ops]\ntoken = "t"\n[destinations.ops]\nrobots = ["ops"]\n')
    with pytest.raises(ConfigurationError, match=r'^DINGQUEUE_LOG: expected human or json; found "xml"$'):
        load({"DINGQUEUE_CONFIG": str(config), "DINGQUEUE_LOG": "xml"})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"DINGQUEUE_LOG: json needs .* pip install 'dingqueue\[worker\]'"):
        load({"DINGQUEUE_CONFIG": str(config), "DINGQUEUE_LOG": "json"})


def calls_of_event() -> Iterator[tuple[str, str, set[str]]]:
    for file in (ROOT / "worker/dingqueue_worker").rglob("*.py"):
        if "sandbox" in file.parts or file.name == "telemetry.py":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "event":
                message = node.args[0].value if isinstance(node.args[0], ast.Constant) else ""
                yield file.name, str(message), {one.arg for one in node.keywords if one.arg} - {"level"}


def test_every_field_is_told_of_in_the_code_and_in_the_docs() -> None:
    found = list(calls_of_event())
    used = set().union(*(fields for _, _, fields in found))
    page = (ROOT / "ops/LOGS.md").read_text(encoding="utf-8")

    assert len(found) > 15
    assert used <= telemetry.FIELDS.keys()
    assert telemetry.FIELDS.keys() <= used, "fields that nobody logs"
    assert set(re.findall(r"^\| `([a-z_]+)` \|", page, re.MULTILINE)) == {
        "ts",
        "level",
        "logger",
        "event",
        "exception",
        *used,
    }
    for _, message, _ in found:
        assert not message or f"`{message}`" in page, message


def test_every_line_about_a_job_has_its_id_and_destination() -> None:
    for file, message, fields in calls_of_event():
        if "job_id" in fields or "outcome" in fields or "attempt" in fields:
            assert {"job_id", "destination"} <= fields, f"{file}: {message}"
    (attempt,) = [fields for _, message, fields in calls_of_event() if message == "attempt ended"]
    assert {"job_id", "destination", "attempt", "outcome", "state", "receipt"} <= attempt
