"""The fleet's figures for Prometheus: read from Redis, so they are the whole fleet's and survive every restart.

Names, labels and meanings are told in ops/METRICS.md, and a test holds the two together. A label is a name of the
configuration, or a word of a closed set: never a job, a person, a host or a URL.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

import click
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from dingqueue.contract import KINDS
from dingqueue.routes import DEFAULT_PREFIX, queue_name
from dingqueue.servers import place
from dingqueue_worker.console import Exit, Stop, broker_option, port_words, say, state_option
from dingqueue_worker.health import Page, Shown, verdict
from dingqueue_worker.located import located
from dingqueue_worker.progress import Signs, not_live, not_ready
from dingqueue_worker.store import Figures, Store, StoreUnavailable

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: A process whose last sign of life is older than this is not counted: workers give one every 2 s, beats every 5 s.
ALIVE_S = 30.0
#: Two scrapers within this time see the same figures: Redis is asked once.
_SAME_S = 1.0
ROLES = ("worker", "beat")
STATES = ("delivered", "accepted", "dead", "cancelled", "expired", "merged")
#: The upper edges of the scripts' histograms, ms.
EDGES_MS = (500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 120_000, 300_000, 600_000, 1_800_000, 3_600_000, 7_200_000)

Row = tuple[Sequence[str], float]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name as Prometheus sees it, its kind, its labels, and what it says."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str
    rows: Callable[[Figures], Iterable[Row]]


# --- From the scripts' counters to rows -----------------------------------------------------------------------------


def _counted(kind: str, parts: int) -> Callable[[Figures], Iterator[Row]]:
    """Rows of the counters ``<kind>:<part>:…``; names hold no colon, so the parts are the labels."""

    def rows(figures: Figures) -> Iterator[Row]:
        for field, value in figures.counts.items():
            name, *labels = field.split(":")
            if name == kind and len(labels) == parts:
                yield labels, value

    return rows


def _ended(figures: Figures) -> Iterator[Row]:
    """With a zero for every end that has not come yet: a first dead job must be seen as an increase."""
    ends = {tuple(labels): value for labels, value in _counted("ended", 3)(figures)}
    for lane in figures.lanes:
        for known in KINDS:
            ends.setdefault((known, lane.destination, "dead"), 0)
    for (kind, destination), _ in _counted("accepted", 2)(figures):
        for state in STATES:
            ends.setdefault((kind, destination, state), 0)
    yield from ends.items()


def _single(name: str) -> Callable[[Figures], Iterator[Row]]:
    return lambda figures: iter([((), figures.counts.get(name, 0))])


# --- From lanes and senders to rows ---------------------------------------------------------------------------------


def _alive(figures: Figures) -> Iterator[Row]:
    since_ms = figures.now_ms - ALIVE_S * 1000
    for role in ROLES:
        yield (role,), sum(who.startswith(f"{role}:") and at_ms >= since_ms for who, at_ms in figures.alive.items())


def _heartbeats(figures: Figures) -> Iterator[Row]:
    for role in ROLES:
        signs = [at_ms for who, at_ms in figures.alive.items() if who.startswith(f"{role}:")]
        if signs:
            yield (role,), max(signs) / 1000


def _paces(figures: Figures) -> Iterator[Row]:
    for lane in figures.lanes:
        if lane.senders:
            yield (lane.destination,), sum(one.limit * 1000 / one.window_ms for one in lane.senders)


def _oldest(figures: Figures) -> Iterator[Row]:
    for lane in figures.lanes:
        age_ms = 0 if lane.oldest_ms is None else max(figures.now_ms - lane.oldest_ms, 0)
        yield (lane.destination,), age_ms / 1000


def _books(figures: Figures) -> Iterator[Row]:
    """Accepted + replayed - ended - open: 0, or a job has been lost or made up."""
    came = sum(value for _, value in _counted("accepted", 2)(figures)) + figures.counts.get("replayed", 0)
    went = sum(value for _, value in _counted("ended", 3)(figures))
    yield (), came - went - figures.open_jobs


FAMILIES: tuple[Family, ...] = (
    Family("dingqueue_jobs_accepted_total", "counter", ("kind", "destination"),
           "Jobs that applications handed over.", _counted("accepted", 2)),
    Family("dingqueue_jobs_ended_total", "counter", ("kind", "destination", "state"),
           "Jobs that came to an end, by how.", _ended),
    Family("dingqueue_jobs_replayed_total", "counter", (),
           "Dead jobs that were put back.", _single("replayed")),
    Family("dingqueue_jobs_dropped_total", "counter", ("kind", "destination"),
           "Dead jobs that somebody dropped.", _counted("dropped", 2)),
    Family("dingqueue_attempts_total", "counter", ("destination", "outcome", "cause"),
           "Attempts, by how they ended and why.", _counted("attempts", 3)),
    Family("dingqueue_results_total", "counter", ("destination", "result"),
           "Work notifications whose result became known, by what it was.", _counted("results", 2)),
    Family("dingqueue_calls_lost_total", "counter", ("destination",),
           "Calls that no worker answered in time; they are made again.", _counted("lost_calls", 1)),
    Family("dingqueue_sender_closures_total", "counter", ("sender", "cause"),
           "Times that a sender was closed, by why.", _counted("closed", 2)),
    Family("dingqueue_delivery_seconds", "histogram", ("destination",),
           "From accepted (or its hour, or its replay) to DingTalk's yes.", _counted("latency", 2)),
    Family("dingqueue_delivery_own_seconds", "histogram", ("destination",),
           "The same less all waiting for limits, cool-downs and back-off: the fleet's and DingTalk's own time.",
           _counted("own", 2)),
    Family("dingqueue_lane_jobs_waiting", "gauge", ("destination",), "Jobs that wait in the lane.",
           lambda figures: (((lane.destination,), lane.waiting) for lane in figures.lanes)),
    Family("dingqueue_lane_jobs_out", "gauge", ("destination",), "Jobs of the lane that may go now: called or sending.",
           lambda figures: (((lane.destination,), lane.out) for lane in figures.lanes)),
    Family("dingqueue_lane_oldest_waiting_seconds", "gauge", ("destination",),
           "Age of the oldest job that waits in the lane; 0 when none does.", _oldest),
    Family("dingqueue_lane_drain_seconds", "gauge", ("destination",),
           "How long what waits needs at the lawful pace, if nothing more comes.",
           lambda figures: (
               ((lane.destination,), lane.drain_s) for lane in figures.lanes if lane.drain_s is not None)),
    Family("dingqueue_lane_pace_per_second", "gauge", ("destination",),
           "Messages a second that the lane's senders allow.", _paces),
    Family("dingqueue_lane_paused", "gauge", ("destination",), "1 while the lane is paused or rests by itself.",
           lambda figures: (
               ((lane.destination,), float((lane.held_until_ms or 0) > figures.now_ms)) for lane in figures.lanes)),
    Family("dingqueue_jobs_scheduled", "gauge", (), "Jobs that must not go before a time: send-at and back-off.",
           lambda figures: [((), figures.scheduled)]),
    Family("dingqueue_sender_permits_used", "gauge", ("sender",), "Messages that count in the sender's window now.",
           lambda figures: (((name,), one.used) for name, one in figures.senders.items())),
    Family("dingqueue_sender_permits_limit", "gauge", ("sender",), "Messages that the sender's window allows.",
           lambda figures: (((name,), one.limit) for name, one in figures.senders.items())),
    Family("dingqueue_sender_closed", "gauge", ("sender", "cause"), "1 while the sender is closed, by why.",
           lambda figures: (
               ((name, one.cause or "none"), float(one.closed_until_ms is not None))
               for name, one in figures.senders.items())),
    Family("dingqueue_sender_closed_until_timestamp_seconds", "gauge", ("sender",),
           "When a sender that is closed opens again; 0 when it is open.",
           lambda figures: (
               ((name,), (one.closed_until_ms or 0) / 1000) for name, one in figures.senders.items())),
    Family("dingqueue_sender_broken", "gauge", ("sender",), "1 when its configuration was proved wrong twice.",
           lambda figures: (((name,), float(one.broken)) for name, one in figures.senders.items())),
    Family("dingqueue_quota_used", "gauge", ("quota",), "Calls of this calendar month, Beijing's.",
           lambda figures: (((name,), one.used) for name, one in figures.quotas.items())),
    Family("dingqueue_quota_limit", "gauge", ("quota",), "Calls that the month allows, where the configuration says.",
           lambda figures: (((name,), one.limit) for name, one in figures.quotas.items() if one.limit is not None)),
    Family("dingqueue_token_ends_timestamp_seconds", "gauge", ("app",),
           "When the app's token ends; 0 after DingTalk refused it.",
           lambda figures: (((name,), ends_ms / 1000) for name, ends_ms in figures.token_ends_ms.items())),
    Family("dingqueue_token_changes_total", "counter", ("app", "what"), "Tokens that were fetched, failed or refused.",
           _counted("tokens", 2)),
    Family("dingqueue_dead_letters", "gauge", (), "Dead letters that are kept for a person.",
           lambda figures: [((), figures.dead)]),
    Family("dingqueue_dead_letter_oldest_timestamp_seconds", "gauge", (), "When the oldest of them died.",
           lambda figures: [((), figures.dead_oldest_ms / 1000)] if figures.dead_oldest_ms else []),
    Family("dingqueue_processes", "gauge", ("role",), "Processes that gave a sign of life in the last 30 s.", _alive),
    Family("dingqueue_last_heartbeat_timestamp_seconds", "gauge", ("role",), "The last sign of life of any of them.",
           _heartbeats),
    Family("dingqueue_books_difference_jobs", "gauge", (),
           "Accepted + replayed - ended - open jobs: always 0, or one was lost or made up.", _books),
    Family("dingqueue_redis_memory_used_bytes", "gauge", (), "Memory that Redis uses.",
           lambda figures: [((), figures.memory.used_bytes)]),
    Family("dingqueue_redis_memory_limit_bytes", "gauge", (), "Memory that Redis may use; 0 is no limit.",
           lambda figures: [((), figures.memory.limit_bytes)]),
)  # fmt: skip

#: Families that do not come from a look at the lanes.
ABOUT_THE_LOOK = {
    "dingqueue_up": "1 when Redis answered this scrape; without it only this and build_info are there.",
    "dingqueue_read_seconds": "How long reading all this from Redis took.",
    "dingqueue_queue_length": "Calls in Celery's queue that no worker has taken yet, where the broker is this Redis.",
    "dingqueue_build_info": "1, with the version as its label.",
}


class FleetCollector(Collector):
    """Reads the fleet's figures when Prometheus asks; those who ask within a second get the same."""

    def __init__(self, store: Store, *, queue: str | None, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        """Remember where to read.

        Args:
            store: Its lanes, limits and counters.
            queue: Celery's queue, where the broker is the store's Redis; else None.
            monotonic_s: A clock.
        """
        self._store, self._queue, self._monotonic_s = store, queue, monotonic_s
        self._lock = threading.Lock()
        self._kept: tuple[float, list[Metric]] | None = None

    def describe(self) -> list[Metric]:
        """Nothing: registering must not need Redis."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All families, or only that Redis did not answer."""
        with self._lock:
            now_s = self._monotonic_s()
            if self._kept is None or now_s - self._kept[0] > _SAME_S:
                self._kept = (self._monotonic_s(), list(self._read()))
            yield from self._kept[1]

    def _read(self) -> Iterator[Metric]:
        yield _gauge("dingqueue_build_info", ("version",), [((version("dingqueue"),), 1)])
        began_s = self._monotonic_s()
        try:
            figures = self._store.figures()
            waiting = self._store.queue_length(self._queue) if self._queue else None
        except StoreUnavailable:
            yield _gauge("dingqueue_up", (), [((), 0)])
            return
        yield _gauge("dingqueue_up", (), [((), 1)])
        yield _gauge("dingqueue_read_seconds", (), [((), self._monotonic_s() - began_s)])
        if waiting is not None:
            yield _gauge("dingqueue_queue_length", (), [((), waiting)])
        yield from families(figures)

    def answers(self) -> list[str]:
        """Why the figures cannot be read; empty when they can."""
        try:
            self._store.ping()
        except StoreUnavailable as error:
            return [str(error)]
        return []


def families(figures: Figures) -> Iterator[Metric]:
    """Every family of `FAMILIES`, filled."""
    for family in FAMILIES:
        rows = list(family.rows(figures))
        match family.kind:
            case "counter":
                counter = CounterMetricFamily(family.name, family.help, labels=family.labels)
                for labels, value in rows:
                    counter.add_metric(labels, value)
                yield counter
            case "gauge":
                yield _gauge(family.name, family.labels, rows, family.help)
            case "histogram":
                yield _histogram(family, rows, figures.counts)


def _gauge(name: str, labels: Sequence[str], rows: Iterable[Row], text: str = "") -> Metric:
    gauge = GaugeMetricFamily(name, text or ABOUT_THE_LOOK[name], labels=labels)
    for values, value in rows:
        gauge.add_metric(values, value)
    return gauge


def _histogram(family: Family, rows: Iterable[Row], counts: Mapping[str, int]) -> Metric:
    """The scripts count each bucket alone, in milliseconds; Prometheus wants them summed up, in seconds."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    field = {"dingqueue_delivery_seconds": "latency", "dingqueue_delivery_own_seconds": "own"}[family.name]
    for field_name in counts:
        # At zero from the first job on: a first delivery must be seen as an increase.
        if field_name.startswith("accepted:"):
            found[field_name.split(":")[2]] = {}
    for (destination, edge), value in rows:
        found[destination][edge] = value
    histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
    for destination, buckets in found.items():
        total, summed = 0.0, []
        for edge_ms in EDGES_MS:
            total += buckets.get(str(edge_ms), 0)
            summed.append((f"{edge_ms / 1000:g}", total))
        summed.append(("+Inf", total + buckets.get("inf", 0)))
        histogram.add_metric([destination], summed, sum_value=counts.get(f"{field}_ms:{destination}", 0) / 1000)
    return histogram


class WorkerCollector(Collector):
    """What only a worker's own process knows. The fleet's figures are not here: summed over workers they would lie."""

    def __init__(self, signs: Callable[[], Signs]) -> None:
        """Remember whom to ask."""
        self._signs = signs

    def describe(self) -> list[Metric]:
        """Nothing is asked before the first scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Ages of its signs of progress."""
        signs = self._signs()
        for name, at_s, words in (
            ("pacer_look", signs.looked_s, "Since the pacer last came to the end of a look."),
            ("pacer_answer", signs.heard_s, "Since Redis last answered the pacer."),
            ("loop_tick", signs.ticked_s, "Since Celery's loop last came round."),
        ):
            yield _gauge(f"dingqueue_worker_{name}_age_seconds", (), [((), signs.now_s - at_s)], words)
        age_s = 0.0 if signs.oldest_attempt_s is None else signs.now_s - signs.oldest_attempt_s
        yield _gauge("dingqueue_worker_oldest_attempt_age_seconds", (), [((), age_s)], "Age of its oldest attempt.")
        yield _gauge("dingqueue_worker_live", (), [((), float(not not_live(signs)))], "1 while /livez says ok.")
        yield _gauge("dingqueue_worker_ready", (), [((), float(not not_ready(signs)))], "1 while /readyz says ok.")


def worker_pages(signs: Callable[[], Signs], store: Store, *, queue: str | None) -> dict[str, Callable[[], Shown]]:
    """A worker's two pages: its own figures, and the fleet's for those who run no exporter."""
    return {"/metrics": page(WorkerCollector(signs)), "/metrics/fleet": page(FleetCollector(store, queue=queue))}


def page(collector: Collector) -> Callable[[], Shown]:
    """What ``/metrics`` answers: the collector's figures, and those of the process itself."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return lambda: Shown(200, generate_latest(registry).decode(), CONTENT_TYPE)


@click.command()
@broker_option
@state_option
@click.option(
    "--address",
    default="127.0.0.1",
    show_default=True,
    help="Whoever reaches it sees the names of destinations and robots.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=9808, show_default=True)
@click.option("--once", is_flag=True, help="Print the figures and end.")
def metrics(broker_url: str | None, state_url: str | None, address: str, port: int, once: bool) -> None:
    r"""Serve the whole fleet's figures to Prometheus, at /metrics.

    What each says is in ops/METRICS.md.

    \b
    dingqueue metrics --once | grep waiting
    """
    at = located(broker_url, state_url)
    prefix = os.environ.get("DINGQUEUE_PREFIX") or DEFAULT_PREFIX
    store = Store(at.state_url, prefix=prefix)
    collector = FleetCollector(store, queue=queue_name(prefix) if at.state_url == at.broker_url else None)
    if once:
        if not _print_once(collector):
            raise Stop(
                Exit.UNREACHABLE, f"Redis at {place(at.state_url)} does not answer; dingqueue doctor looks closer"
            )
        return
    with port_words(address, port):
        served = Page((address, port), {
            "/metrics": page(collector),
            "/livez": lambda: verdict(()),
            "/readyz": lambda: verdict(collector.answers()),
        })  # fmt: skip
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=served.stop).start())
    say(f"metrics at http://{f'[{address}]' if ':' in address else address}:{served.port}/metrics")
    served.run()
    store.close()


def _print_once(collector: FleetCollector) -> bool:
    """Print all families; False when Redis did not answer."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    text = generate_latest(registry).decode()
    click.echo(text, nl=False)
    return "dingqueue_up 0" not in text
