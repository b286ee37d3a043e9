"""The fleet's app in a process whose spans go to a file, and where every instrumentation is on that somebody may have on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

_file = Path(os.environ["SPANS"]).open("a", encoding="utf-8")  # noqa: SIM115 - as long as the process
_provider = TracerProvider()
_provider.add_span_processor(
    SimpleSpanProcessor(ConsoleSpanExporter(out=_file, formatter=lambda span: f"{span.to_json(indent=None)}\n"))
)
trace.set_tracer_provider(_provider)
_celery: Any = CeleryInstrumentor
for _instrumentor in (_celery, RequestsInstrumentor, URLLib3Instrumentor):
    _instrumentor().instrument()

from dingqueue_worker.main import app  # noqa: E402 - Celery looks for it here, and what is above comes first

__all__ = ["app"]
