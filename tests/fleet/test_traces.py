"""One trace from the application to DingTalk, whoever carried the job and however often; and no secret in any span."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from dingqueue import Client, EnqueueFailed, send_job
from dingqueue.tracing import Spans
from dingqueue_worker.embedded import free_port
from dingqueue_worker.sandbox.client import Space
from support.fleet import Fleet
from support.waiting import wait_for

pytestmark = pytest.mark.timeout(180)

TOKEN, SIGNING = "planted0token0of0the0traced0robot", "SECplanted0secret0of0the0traced0robot"
TEXT, MOBILE = "planted text 秘密内容", "13912345678"
CONFIG = f"""
[robots.ops]
token = "{TOKEN}"
secret = "{SIGNING}"
[destinations.ops]
robots = ["ops"]
[fleet]
connect_timeout_s = 1.0
read_timeout_s = 1.0
total_timeout_s = 1.5
backoff_base_s = 0.1
"""


class Traced:
    """A client whose spans are kept, and a worker whose spans are in a file."""

    def __init__(self, fleet: Fleet) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.client = fleet.client
        self.client._spans = Spans(self.provider)
        self._file = fleet.folder / "spans"
        worker = fleet.worker(app="support.traced_worker", env={
            "SPANS": str(self._file), "DINGQUEUE_OTEL": "1", "PYTHONPATH": str(Path(__file__).parents[1]),
        })  # fmt: skip
        worker.wait_until_says("ready.")

    def worker_spans(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._file.read_text(encoding="utf-8").splitlines()]

    def of(self, trace_id: int, kind: str) -> list[dict[str, Any]]:
        return [
            span for span in self.worker_spans()
            if span["context"]["trace_id"] == f"0x{trace_id:032x}" and span["kind"] == f"SpanKind.{kind}"
        ]  # fmt: skip


def test_one_trace_holds_the_whole_way_and_every_attempt(space: Space) -> None:
    space.robot(TOKEN, name="ops", secret=SIGNING)
    space.fault("status", times=1, sender="ops", status=500, body="oops")
    with Fleet(CONFIG, oapi_url=space.oapi_url) as fleet:
        traced = Traced(fleet)

        with traced.provider.get_tracer("application").start_as_current_span("checkout") as own:
            job_id = traced.client.send("ops", TEXT)
        fleet.wait_for_end(job_id)
        trace_id = own.get_span_context().trace_id
        wait_for(lambda: len(traced.of(trace_id, "CONSUMER")) == 2)
        delivered = traced.of(trace_id, "CONSUMER")

        enqueued, application = traced.exporter.get_finished_spans()
        assert (enqueued.name, application.name) == ("enqueue ops", "checkout")
        assert enqueued.parent == own.get_span_context()
        assert [span["name"] for span in delivered] == ["deliver ops", "deliver ops"]
        assert {span["parent_id"] for span in delivered} == {f"0x{enqueued.context.span_id:016x}"}
        assert [span["attributes"]["dingqueue.outcome"] for span in delivered] == ["retry", "delivered"]
        assert [span["status"]["status_code"] for span in delivered] == ["ERROR", "UNSET"]
        for span in (*delivered, json.loads(enqueued.to_json())):
            assert span["attributes"]["messaging.message.id"] == job_id
            assert span["attributes"]["messaging.destination.name"] == "ops"
        posted = traced.of(trace_id, "CLIENT")
        assert [span["name"] for span in posted] == [f"POST {urlsplit(space.oapi_url).path}/robot/send"] * 2
        assert [span["parent_id"] for span in posted] == [span["context"]["span_id"] for span in delivered]
        assert [span["attributes"]["http.response.status_code"] for span in posted] == [500, 200]
        # Whoever instruments Celery has a trace of its own for the task; ours leads there.
        tasks = {span["context"]["span_id"] for span in traced.worker_spans() if span["name"] == "run/dingqueue.send"}
        assert {link["context"]["span_id"] for span in delivered for link in span["links"]} == tasks


def test_jobs_of_one_call_share_its_span_and_an_event_loops_are_traced_too(space: Space) -> None:
    space.robot(TOKEN, name="ops", secret=SIGNING)
    with Fleet(CONFIG, oapi_url=space.oapi_url) as fleet:
        traced = Traced(fleet)

        job_ids = traced.client.send_many([send_job("ops", "one"), {"destination": "ops", "text": "two"}])
        job_ids.append(asyncio.run(traced.client.asend("ops", "three")))
        fleet.wait_for_end(*job_ids)
        both, third = traced.exporter.get_finished_spans()
        wait_for(lambda: len(traced.of(both.context.trace_id, "CONSUMER")) == 2)
        wait_for(lambda: len(traced.of(third.context.trace_id, "CONSUMER")) == 1)

        assert both.name == "enqueue"
        assert both.attributes
        assert both.attributes["messaging.batch.message_count"] == 2


def test_no_span_of_anybodys_holds_a_secret_or_a_word(space: Space) -> None:
    space.robot(TOKEN, name="ops", secret=SIGNING)
    with Fleet(CONFIG, oapi_url=space.oapi_url) as fleet:
        traced = Traced(fleet)
        for fault, more in (
            ("errcode", {"errcode": 430102, "errmsg": f"bad content: {TEXT} from {TOKEN}"}),
            ("lost", {}), ("reset", {}), ("slow", {"delay_s": 3.0}), ("status", {"status": 500, "body": TOKEN}),
        ):  # fmt: skip
            space.fault(fault, times=1, sender="ops", **more)
            fleet.wait_for_end(traced.client.send("ops", f"{TEXT} {fault}", mention=[MOBILE]), within_s=60)
        with Client(f"redis://:planted-pw@127.0.0.1:{free_port()}/0") as nowhere:
            nowhere._spans = traced.client._spans
            with pytest.raises(EnqueueFailed):
                nowhere.send("ops", TEXT)

        said = traced._file.read_text(encoding="utf-8")
        said += "".join(span.to_json() for span in traced.exporter.get_finished_spans())
        assert len(traced.worker_spans()) > 10
        assert '"error.type": "EnqueueFailed"' in said
        for private in (TOKEN, SIGNING, "SECplanted", TEXT, "秘密", MOBILE, "planted-pw", "access_token", "sign="):
            assert private not in said
            assert private.encode("unicode_escape").decode() not in said
