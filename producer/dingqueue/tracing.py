"""Spans of OpenTelemetry for a job's way: handed over, delivered, asked of DingTalk. Off unless told; knows no text.

A job carries where it came from (W3C ``traceparent``), so one trace holds all of it, however long it waited and whoever
carried it. No span has a message's text, a token, a URL's query or an exception's words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from dingqueue.contract import Job

if TYPE_CHECKING:  # whoever has it off does not load it
    from opentelemetry.trace import Span

J = TypeVar("J", bound=Job)

_ON, _OFF = {"1", "true", "yes", "on"}, {"", "0", "false", "no", "off"}
_TRACEPARENT = "traceparent"
#: What stands behind these in a path is somebody's or something's id.
_IDS = (re.compile(r"/(sources|users)/[^/]+"), re.compile(r"/(tasks)/(?!sources/)[^/]+"))


def wanted(text: str | None) -> bool:
    """What ``DINGQUEUE_OTEL`` says.

    Raises:
        ValueError: It says neither on nor off; or it says on, and the extra is not installed.
    """
    said = (text or "").strip().lower()
    if said in _OFF:
        return False
    if said not in _ON:
        raise ValueError("expected 1 or 0")
    try:
        import opentelemetry.trace  # noqa: F401 - is it there?
    except ModuleNotFoundError:
        raise ValueError("needs OpenTelemetry: pip install 'dingqueue[otel]'") from None
    return True


class Spans:
    """Makes spans with the process's tracer provider, whoever set it up."""

    def __init__(self, provider: Any = None) -> None:
        """Remember the provider; None is the process's own."""
        from opentelemetry import trace

        self._trace = trace
        self._tracer = trace.get_tracer("dingqueue", tracer_provider=provider)

    @contextmanager
    def enqueue(self, jobs: Sequence[J]) -> Iterator[list[J]]:
        """A span for handing over jobs; gives them with its place in them."""
        name = f"enqueue {jobs[0].destination}" if len(jobs) == 1 else "enqueue"
        attributes = _of_job(jobs[0]) if len(jobs) == 1 else {"messaging.batch.message_count": len(jobs)}
        with self._span(name, self._trace.SpanKind.PRODUCER, "enqueue", "send", attributes):
            place = self._here()
            yield [job if place is None else replace(job, terms=replace(job.terms, trace=place)) for job in jobs]

    @contextmanager
    def deliver(self, job: Job, *, sender: str, step: int) -> Iterator[Callable[[str, str, str], None]]:
        """A span for one attempt, in the trace that the job came from.

        Gives what notes its end: the outcome, its cause and its reason, "" where there is none.
        """
        found = {"dingqueue.sender": sender, "dingqueue.step": step, **_of_job(job)}
        # Who runs tasks may have a span for that, of a trace of its own: it is worth a look from here.
        around = self._trace.get_current_span().get_span_context()
        links = [self._trace.Link(around)] if around.is_valid else []
        context = self._from(job.terms.trace)
        with self._span(
            f"deliver {job.destination}", self._trace.SpanKind.CONSUMER, "deliver", "process", found, context, links
        ) as span:

            def note(outcome: str, cause: str, why: str) -> None:
                span.set_attribute("dingqueue.outcome", outcome)
                if cause:
                    span.set_attribute("dingqueue.cause", cause)
                if outcome in {"retry", "unknown", "dead"}:
                    self._fail(span, cause or outcome, why)

            yield note

    @contextmanager
    def request(self, method: str, url: str) -> Iterator[Callable[[int | None, str], None]]:
        """A span for one call of DingTalk's. Gives what notes its end: the status, or what went wrong."""
        parts = urlsplit(url)
        path = template(parts.path)
        attributes: dict[str, Any] = {
            "http.request.method": method,
            "server.address": parts.hostname or "",
            "url.scheme": parts.scheme,
            "url.template": path,
            **({"server.port": parts.port} if parts.port else {}),
        }
        with self._tracer.start_as_current_span(
            f"{method} {path}", kind=self._trace.SpanKind.CLIENT, attributes=attributes, record_exception=False,
            set_status_on_exception=False,
        ) as span:  # fmt: skip

            def note(status: int | None, error: str) -> None:
                if status is not None:
                    span.set_attribute("http.response.status_code", status)
                if error or (status or 0) >= 400:
                    self._fail(span, error or str(status), "")

            yield note

    @contextmanager
    def _span(self, name: str, kind: Any, operation: str, type_: str, attributes: Mapping[str, Any], context: Any = None,
              links: Sequence[Any] = ()) -> Iterator[Span]:  # fmt: skip
        common = {
            "messaging.system": "dingqueue",
            "messaging.operation.name": operation,
            "messaging.operation.type": type_,
        }
        with self._tracer.start_as_current_span(
            name,
            context,
            kind,
            {**common, **attributes},
            list(links),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except Exception as error:
                # Its words may hold an address or an argument.
                self._fail(span, type(error).__name__, "")
                raise

    def _fail(self, span: Span, kind: str, why: str) -> None:
        span.set_attribute("error.type", kind)
        span.set_status(self._trace.StatusCode.ERROR, why or None)

    @staticmethod
    def _here() -> str | None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier)
        return carrier.get(_TRACEPARENT)

    @staticmethod
    def _from(trace: str | None) -> Any:
        from opentelemetry.context import Context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        # Not the current one: that is of whoever carries the job.
        return TraceContextTextMapPropagator().extract({_TRACEPARENT: trace or ""}, context=Context())


def template(path: str) -> str:
    """A path of DingTalk's without the ids in it."""
    for ids in _IDS:
        path = ids.sub(r"/\1/{id}", path)
    return path


def _of_job(job: Job) -> dict[str, Any]:
    return {
        "messaging.message.id": job.job_id,
        "messaging.destination.name": job.destination,
        "dingqueue.kind": job.kind,
    }


def export() -> None:
    """Send this process's spans where ``OTEL_EXPORTER_OTLP_ENDPOINT`` says, unless somebody has set up a provider.

    For the fleet's own processes: an application's spans are the application's to send.
    """
    from opentelemetry import trace

    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES outdo it.
    provider = TracerProvider(resource=Resource({"service.name": "dingqueue"}).merge(Resource.create()))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
