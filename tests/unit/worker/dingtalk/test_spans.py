"""A span for each call of DingTalk's: which, whither, how it ended; and nothing of it travels."""

from __future__ import annotations

import pytest
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from dingqueue.tracing import Spans
from dingqueue_worker.dingtalk.api import Api
from dingqueue_worker.dingtalk.errors import NotSent
from dingqueue_worker.embedded import free_port
from dingqueue_worker.settings import Robot, Secret
from support.answering import Asked, Reply, answering

ROBOT = Robot(name="ops", token=Secret("planted-token"), secret=Secret("SECplanted"))


def api(url: str, spans: Spans) -> Api:
    return Api(
        oapi_url=url,
        api_url=url,
        connect_timeout_s=1.0,
        read_timeout_s=1.0,
        total_timeout_s=2.0,
        pool_size=1,
        spans=spans,
    )


@pytest.mark.parametrize("instrumented", [False, True])
def test_a_call_has_one_span_and_takes_no_header_along(instrumented: bool) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    others = (RequestsInstrumentor(), URLLib3Instrumentor()) if instrumented else ()
    for other in others:
        other.instrument(tracer_provider=provider)

    def reply(_: Asked) -> Reply:
        return 200, {"errcode": 0, "errmsg": "ok"}

    try:
        with answering(reply) as far, api(far.url, Spans(provider)) as calls:
            calls.robot_send(ROBOT, b"{}", timestamp_ms=1)
            calls.newer(
                "PUT", "/v1.0/todo/users/planted-user/tasks/planted-task", token=Secret("planted-app"), body=b"{}"
            )
    finally:
        for other in others:
            other.uninstrument()

    first, second = exporter.get_finished_spans()
    assert (first.name, second.name) == ("POST /robot/send", "PUT /v1.0/todo/users/{id}/tasks/{id}")
    assert first.attributes
    assert first.attributes["http.response.status_code"] == 200
    assert first.attributes["server.address"] == "127.0.0.1"
    assert "planted" not in first.to_json() + second.to_json()
    assert not [name for asked in far.asked for name in asked.headers if name.startswith("trace")]


def test_a_call_without_an_answer_says_what_failed() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with api(f"http://127.0.0.1:{free_port()}", Spans(provider)) as calls, pytest.raises(NotSent):
        calls.robot_send(ROBOT, b"{}", timestamp_ms=1)

    (span,) = exporter.get_finished_spans()
    assert span.attributes
    assert span.attributes["error.type"] == "ConnectionRefusedError"
    assert not span.status.is_ok
    assert "planted" not in span.to_json()
