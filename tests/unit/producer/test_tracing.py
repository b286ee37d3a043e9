"""Traces: off without a trace of them, on only where they can be, and on the wire only where they say something."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from dingqueue import Client, send_job
from dingqueue.contract import from_wire, to_wire
from dingqueue.tracing import Spans, template, wanted

PLACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> Spans:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Spans(provider)


@pytest.mark.parametrize(
    ("text", "on"), [(None, False), ("", False), ("0", False), ("off", False), ("1", True), ("TRUE", True)]
)
def test_it_is_on_where_that_is_said(text: str | None, on: bool) -> None:
    assert wanted(text) is on


def test_what_is_neither_on_nor_off_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DINGQUEUE_OTEL", "maybe")
    with pytest.raises(ValueError, match=r"^DINGQUEUE_OTEL: expected 1 or 0$"):
        Client()


def test_without_the_extra_it_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DINGQUEUE_OTEL", "1")
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    with pytest.raises(ValueError, match=r"DINGQUEUE_OTEL: needs OpenTelemetry: pip install 'dingqueue\[otel\]'"):
        Client()


def test_off_nothing_of_it_is_loaded() -> None:
    # redis-py loads some of it by itself, where it is installed.
    code = (
        "import sys, celery, kombu, redis; import redis.sentinel, kombu.transport.redis; before = set(sys.modules);"
        "import dingqueue; dingqueue.Client();"
        "print([name for name in {*sys.modules} - before if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)  # noqa: S603

    assert done.stdout.strip() == "[]"


def test_a_job_carries_its_place_and_one_without_is_as_ever() -> None:
    job = send_job("ops", "hello", key="k")
    placed = replace(job, terms=replace(job.terms, trace=PLACE))

    assert "trace" not in to_wire(job)
    assert json.loads(to_wire(placed))["terms"]["trace"] == PLACE
    assert from_wire(to_wire(placed)) == placed
    assert from_wire(to_wire(job)).terms.trace is None


def test_an_attempt_belongs_to_its_jobs_trace_and_not_to_who_carries_it(
    spans: Spans, exporter: InMemorySpanExporter
) -> None:
    with spans.enqueue([send_job("ops", "hello")]) as (job,):
        pass
    with spans.enqueue([send_job("other", "hello")]), spans.deliver(job, sender="robot.ops", step=0) as note:
        note("delivered", "", "")

    first, attempt, _ = exporter.get_finished_spans()
    assert attempt.context.trace_id == first.context.trace_id
    assert attempt.parent is not None
    assert attempt.parent.span_id == first.context.span_id


@pytest.mark.parametrize("trace", [None, "", "planted nonsense", "00-zz-zz-01"])
def test_a_job_from_nowhere_begins_a_trace(trace: str | None, spans: Spans, exporter: InMemorySpanExporter) -> None:
    job = send_job("ops", "hello")
    with spans.deliver(replace(job, terms=replace(job.terms, trace=trace)), sender="robot.ops", step=0) as note:
        note("dead", "content", "refused")

    (span,) = exporter.get_finished_spans()
    assert span.parent is None
    assert span.attributes
    assert span.attributes["error.type"] == "content"
    assert "planted" not in span.to_json()


def test_an_exception_is_named_and_not_quoted(spans: Spans, exporter: InMemorySpanExporter) -> None:
    with pytest.raises(RuntimeError), spans.enqueue([send_job("ops", "hello")]):
        raise RuntimeError("planted")

    (span,) = exporter.get_finished_spans()
    assert span.attributes
    assert span.attributes["error.type"] == "RuntimeError"
    assert "planted" not in span.to_json()


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/robot/send", "/robot/send"),
        ("/v1.0/robot/groupMessages/send", "/v1.0/robot/groupMessages/send"),
        ("/v1.0/todo/users/abc/tasks", "/v1.0/todo/users/{id}/tasks"),
        ("/v1.0/todo/users/a%2Fc/tasks/t1", "/v1.0/todo/users/{id}/tasks/{id}"),
        ("/v1.0/todo/users/abc/tasks/sources/job-1", "/v1.0/todo/users/{id}/tasks/sources/{id}"),
        ("/topapi/v2/user/get", "/topapi/v2/user/get"),
    ],
)
def test_a_path_is_shown_without_the_ids_in_it(path: str, shown: str) -> None:
    assert template(path) == shown
