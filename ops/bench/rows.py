"""The rows of the table: what is run, interleaved with its reference, and what the goal is."""

from __future__ import annotations

import compileall
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import certificate
import dingqueue
import dingqueue_worker
import fleets
from dingqueue import send_job
from dingqueue_worker.outcome import Delivered, Ended
from dingqueue_worker.store import Store
from measure import HERE, Process, Redis, Stub, cpu_s, pause, rss_mb, slope, summary, wait_for

Figures = dict[str, float]
#: Figures of each contender, one for every run.
Runs = dict[str, list[Figures]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is run: the whole, or enough to see that it works."""

    runs: int = 5
    jobs: int = 6000
    quick: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """Ours against a reference: the ratio of a figure's medians, and what it should be."""

    says: str
    ours: str
    reference: str
    figure: str
    at_least: float | None = None
    at_most: float | None = None

    def ratio(self, runs: Runs) -> float | None:
        """None where one of the two was not run."""
        ours, reference = runs.get(self.ours), runs.get(self.reference)
        if not ours or not reference:
            return None
        # Run by run: a machine whose speed drifts does so for both.
        ratios = sorted(a[self.figure] / b[self.figure] for a, b in zip(ours, reference, strict=False))
        return ratios[len(ratios) // 2]

    def met(self, ratio: float) -> bool:
        """Is it what it should be?"""
        return (self.at_least is None or ratio >= self.at_least) and (self.at_most is None or ratio <= self.at_most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row: its name on the command line, what it is, how it runs, what is asked of it."""

    name: str
    says: str
    run: Callable[[Size], Runs]
    goals: Sequence[Goal] = ()
    #: Run in the quick mode too.
    quick: bool = True


def progress(*words: object) -> None:
    """One line on the terminal."""
    print(*words, flush=True)


# --- Delivery ---------------------------------------------------------------------------------------------------


def deliver(contender: type[fleets.Contender], *, jobs: int, delay_ms: float = 0, tls: bool = False) -> Figures:
    """Fill the queue while nobody may take from it, start and warm up the workers, let go, and read the slope."""
    with tempfile.TemporaryDirectory(prefix="dingqueue-bench-") as folder:
        pair = certificate.make(Path(folder)) if tls else None
        server = Redis()
        try:
            with Stub(delay_ms=delay_ms, certificate=pair.server if pair else None) as stub:
                one = contender(stub=stub, server=server, certificate=pair.bundle if pair else None)
                try:
                    one.fill(jobs)
                    one.hold()
                    one.start()
                    one.warm(fleets.WARM, start=jobs)
                    one.let_go()
                    return slope(
                        stub=stub, server=server, workers=one.workers, first=jobs // 8, last=jobs - jobs // 10
                    ).figures()
                finally:
                    one.stop()
        finally:
            server.stop()


def delivery(
    contenders: Sequence[type[fleets.Contender]], *, delay_ms: float = 0, tls: bool = False, share: float = 1.0
) -> Callable[[Size], Runs]:
    """A row that delivers `share` of the usual number of jobs by each contender, in turn."""

    def run(size: Size) -> Runs:
        runs: Runs = {one.name: [] for one in contenders}
        for number in range(size.runs):
            for one in contenders:
                figures = deliver(one, jobs=max(int(size.jobs * share * one.share), 600), delay_ms=delay_ms, tls=tls)
                runs[one.name].append(figures)
                progress(f"  {number + 1}/{size.runs} {one.name:32}", shown(figures))
        return runs

    return run


def shown(figures: Figures) -> str:
    """A run's figures in a line."""
    return "  ".join(
        f"{name} {value:,.3g}" if value < 100 else f"{name} {value:,.0f}" for name, value in figures.items()
    )


# --- Handing over -----------------------------------------------------------------------------------------------


class _Enqueue(fleets.Dingqueue):
    lanes = 4000


def enqueue(size: Size) -> Runs:
    """Each way in a process of its own, on a fresh server, no worker running."""
    ways = {"apply_async": 3000, "send_free": 3000, "send_waiting": 3000, "send_many": 10_000}
    runs: Runs = {way: [] for way in ways}
    for number in range(size.runs):
        for way, count in ways.items():
            server = Redis()
            with Stub() as stub:
                one = _Enqueue(stub=stub, server=server)
                said = subprocess.run(
                    [sys.executable, "enqueue.py", way, str(count // (4 if size.quick else 1))],
                    env={**os.environ, **one.env},
                    cwd=HERE,
                    capture_output=True,
                    text=True,
                    check=True,
                )
                one.stop()
            server.stop()
            runs[way].append(json.loads(said.stdout))
            progress(f"  {number + 1}/{size.runs} {way:32}", shown(runs[way][-1]))
    return runs


# --- Latency ----------------------------------------------------------------------------------------------------


class _Idle(fleets.Dingqueue):
    """An idle fleet: the job goes out at once."""

    lanes = 300


class _IdleCelery(fleets.BareCelery):
    """An idle Celery, events on as ours are."""


def latency(size: Size) -> Runs:
    """From before the call to the request's arrival at the stub, one job at a time on an idle fleet."""
    count = 60 if size.quick else 300
    runs: Runs = {}
    for number in range(size.runs):
        for contender in (_Idle, _IdleCelery):
            server = Redis()
            with Stub() as stub:
                one = contender(stub=stub, server=server)
                one.start()
                one.warm(fleets.WARM, start=0)
                send = one.sender()
                send("warm")
                wait_for(lambda stub=stub: stub.answered > fleets.WARM, what="the first job")
                took_ms = []
                for job in range(count):
                    pause(0.01)
                    at = stub.answered
                    began_ns = time.monotonic_ns()
                    send(f"{fleets.TEXT}{job}")
                    wait_for(lambda stub=stub, at=at: stub.answered > at, what="a job", every_s=0.0005)
                    took_ms.append((stub.arrived_ns(at) - began_ns) / 1e6)
                one.stop()
            server.stop()
            took_ms.sort()
            figures = {"median_ms": took_ms[count // 2], "p99_ms": took_ms[int(count * 0.99)]}
            runs.setdefault(one.name, []).append(figures)
            progress(f"  {number + 1}/{size.runs} {one.name:32}", shown(figures))
    return runs


# --- Pace -------------------------------------------------------------------------------------------------------


def pace(window_s: float) -> Callable[[Size], Runs]:
    """Five robots at once, each with a backlog of 200 at 20 per window, two workers: each robot is a run."""

    def run(size: Size) -> Runs:
        robots, backlog, limit = (2, 60, 20) if size.quick else (size.runs, 200, 20)

        class Limited(fleets.Dingqueue):
            lanes = robots

        Limited.limit, Limited.window_s = limit, window_s
        server = Redis()
        with Stub(limit=limit, window_s=window_s) as stub:
            one = Limited(stub=stub, server=server)
            one.fill(backlog * robots)
            one.start()
            total = backlog * robots
            wait_for(
                lambda: stub.answered >= total,
                within_s=(backlog / limit + 2) * window_s + 60,
                what="the backlog",
                every_s=0.02,
            )
            stamps = [stub.arrived_ns(number) for number in range(total)]
            refused = stub.refused
            one.stop()
        server.stop()
        # Lanes take turns, so the n-th of all stands for the n-th of one: first and last of each robot.
        took_s = (stamps[-1] - stamps[0]) / 1e9
        lawful_s = (backlog // limit - 1) * window_s
        figures = {
            "of_what_the_rule_allows": lawful_s / took_s,
            "took_s": took_s,
            "lawful_s": lawful_s,
            "refused": refused,
        }
        progress(f"  {robots} robots", shown(figures))
        return {"dingqueue": [figures], "the rule": [{**figures, "of_what_the_rule_allows": 1.0, "refused": 0.0}]}

    return run


# --- Many robots ------------------------------------------------------------------------------------------------


class _Many(fleets.Dingqueue):
    """Ten thousand robots, each with a backlog."""

    name = "dingqueue, 10,000 robots"
    lanes = 10_000
    count = 8
    threads = 8


class _Few(_Many):
    """The same work for a hundred robots, and nothing idle."""

    name = "dingqueue, 100 robots"
    lanes = 100


class _FewOfMany(_Many):
    """A hundred robots with work, 9,900 that are idle."""

    name = "dingqueue, 100 of 10,000 robots"
    busy = 100


class _Celery8(fleets.BareCelery):
    """Eight workers of eight threads."""

    count = 8
    options = ("-P", "threads", "-c", "8", "--without-gossip", "--without-mingle")


MANY = (_Many, _FewOfMany, _Few, _Celery8)


# --- Backlog ----------------------------------------------------------------------------------------------------


def backlog(size: Size) -> Runs:
    """What the scripts take with so much waiting, and how many bytes a waiting job takes; the depths in turn."""
    depths = (1000, 20_000) if size.quick else (1000, 100_000, 1_000_000)
    runs: Runs = {}
    with Stub() as stub:
        for lanes in (1, 10_000):
            deep = [_Deep(stub, lanes, depth) for depth in depths if depth >= lanes]
            for number in range(size.runs):
                for one in deep:
                    runs.setdefault(one.name, []).append(one.measure(number))
                    progress(f"  {number + 1}/{size.runs} {one.name:32}", shown(runs[one.name][-1]))
            for one in deep:
                one.stop()
    return runs


class _Deep:
    """A server with a backlog that nobody works on."""

    def __init__(self, stub: Stub, lanes: int, depth: int) -> None:
        fleet = type("Deep", (fleets.Dingqueue,), {"lanes": lanes})
        self.name = f"{depth:,} in {lanes:,} lane{'s' if lanes > 1 else ''}"
        self._lanes = lanes
        self._server = Redis()
        # A rewrite of the file copies the memory page by page while it runs: that is no cost of a script.
        self._server.client.config_set("auto-aof-rewrite-percentage", 0)
        self._server.client.config_set("slowlog-max-len", 100_000)
        self._fleet = fleet(stub=stub, server=self._server)
        self._store = store = Store(self._server.url, prefix="dq:")
        scripts = {
            "submit_us": store.lanes._submit, "start_us": store._start,
            "settle_us": store._settle, "release_us": store._release,
        }  # fmt: skip
        self._shas = {script._run.sha: name for name, script in scripts.items()}
        store.release(most=1, max_deliveries=5, max_attempts=8)
        before = self._used_bytes()
        self._calls: deque[Any] = deque()
        for start in range(0, depth, 2000):
            numbers = range(start, min(start + 2000, depth))
            for submitted in store.lanes.submit_many(
                [send_job(f"d{number % lanes}", f"{fleets.TEXT}{number}") for number in numbers]
            ):
                self._calls += submitted.calls  # type: ignore[union-attr]  # all are accepted
        self._bytes_each = (self._used_bytes() - before) / depth

    def _used_bytes(self) -> int:
        return int(self._server.client.info("memory")["used_memory"])

    def measure(self, number: int) -> Figures:
        """500 of each; submit and settle in pairs, so that the backlog stays as deep as it is."""
        client, store = self._server.client, self._store
        ended = Ended(outcome=Delivered(receipt={}))
        client.config_set("slowlog-log-slower-than", 0)
        for job in range(500):
            store.submit(send_job(f"d{7 * job % self._lanes}", f"{fleets.TEXT}{number} {job}"))
            call = self._calls.popleft()
            store.start(call.job_id, call.grant, lease_ms=300_000)
            self._calls += store.settle(call.job_id, call.grant, ended, step=0, wait_s=0, most=8, notes={}).calls
            store.release(most=200, max_deliveries=5, max_attempts=8)
        client.config_set("slowlog-log-slower-than", -1)
        took: dict[str, list[int]] = {name: [] for name in self._shas.values()}
        for entry in client.slowlog_get(100_000):
            words = entry["command"].decode(errors="replace").split(maxsplit=2)
            if words[0] == "EVALSHA" and words[1] in self._shas:
                took[self._shas[words[1]]].append(entry["duration"])
        client.slowlog_reset()
        return {
            **{name: float(statistics.median(values)) for name, values in took.items()},
            "bytes_per_waiting_job": self._bytes_each,
        }

    def stop(self) -> None:
        """End the server."""
        self._store.close()
        self._fleet.stop()
        self._server.stop()


# --- Start-up ---------------------------------------------------------------------------------------------------


def startup(size: Size) -> Runs:
    """From a worker's start to its first delivery, its job waiting; and what the imports take."""
    # As pip installs it, and the image has it: an editable install may not keep byte code (PYTHONDONTWRITEBYTECODE), and
    # would compile all of it at each start.
    for folder in (Path(dingqueue.__file__).parent, Path(dingqueue_worker.__file__).parent, HERE / "contenders"):
        compileall.compile_dir(folder, quiet=1)
    runs: Runs = {}
    for number in range(size.runs):
        for contender in (fleets.OneDingqueue, fleets.OneCelery):
            server = Redis()
            with Stub() as stub:
                one = contender(stub=stub, server=server)
                one.fill(1)
                began_s = time.monotonic()
                one.start()
                wait_for(
                    lambda stub=stub: stub.answered >= 1, what=f"the first delivery\n{one.workers[0].said()[-2000:]}"
                )
                took_s = (stub.arrived_ns(0) / 1e9) - began_s
                figures = {
                    "first_delivery_s": took_s,
                    "cpu_s": cpu_s([pid for worker in one.workers for pid in worker.pids]),
                    "rss_mb": rss_mb([pid for worker in one.workers for pid in worker.pids]),
                }
                one.stop()
            server.stop()
            runs.setdefault(one.name, []).append(figures)
            progress(f"  {number + 1}/{size.runs} {one.name:32}", shown(figures))
        for module in ("dingqueue", "celery, used"):
            what = "dingqueue" if module == "dingqueue" else "celery; celery.Celery"
            runs.setdefault(f"import {module}", []).append({"import_s": _import_s(what)})
        progress(f"  {number + 1}/{size.runs} imports", *(shown(runs[name][-1]) for name in runs if "import" in name))
    return runs


def _import_s(statement: str) -> float:
    """The least of five, each in a new interpreter, less the interpreter's own start."""

    def took_s(code: str) -> float:
        best = float("inf")
        for _ in range(5):
            began_s = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            best = min(best, time.perf_counter() - began_s)
        return best

    return took_s(f"import {statement}") - took_s("pass")


# --- Files ------------------------------------------------------------------------------------------------------

_UPLOADS = {
    "dingqueue, the call": "ours", "dingqueue, file store to DingTalk": "whole", "requests, streaming": "streaming",
    "requests, files=": "files",
}  # fmt: skip


def files(size: Size) -> Runs:
    """Uploads of 20 MB to a sink: megabytes a second, and how far the first one let memory grow."""
    runs: Runs = {}
    sink = subprocess.Popen([sys.executable, "uploads.py", "sink"], cwd=HERE, stdout=subprocess.PIPE, text=True)
    server = Redis()
    try:
        assert sink.stdout
        url = f"http://127.0.0.1:{int(sink.stdout.readline())}"
        for number in range(size.runs):
            for name, way in _UPLOADS.items():
                command = [sys.executable, "uploads.py", way, url, "3" if size.quick else "15", server.url]
                done = subprocess.run(command, cwd=HERE, check=True, capture_output=True, text=True, timeout=300)
                figures: Figures = json.loads(done.stdout)
                runs.setdefault(name, []).append(figures)
                progress(f"  {number + 1}/{size.runs} {name:36}", shown(figures))
    finally:
        sink.kill()
        sink.wait()
        server.stop()
    return runs


# --- The stub's own ceiling -------------------------------------------------------------------------------------


def ceiling(size: Size) -> Runs:
    """How fast the stub is when nothing but a loop in C asks it: kept connections, a new one each, and TLS."""
    runs: Runs = {}
    with tempfile.TemporaryDirectory(prefix="dingqueue-bench-") as folder:
        pair = certificate.make(Path(folder))
        for number in range(size.runs):
            for name, tls, keep in (
                ("kept connections", False, True),
                ("a new connection each", False, False),
                ("TLS, kept connections", True, True),
                ("TLS, a new connection each", True, False),
            ):
                with Stub(certificate=pair.server if tls else None) as stub:
                    count = (20_000 if keep else 2000) // (10 if size.quick else 1)
                    ask = Process(
                        [
                            *(sys.executable, "asker.py", str(stub.port), str(count)),
                            *(["--tls"] if tls else []),
                            *(["--keep"] if keep else []),
                        ],
                        env={},
                    )
                    wait_for(lambda stub=stub, count=count: stub.answered >= count // 10, what="the first answers")
                    begun, began_s, cpu = stub.answered, time.monotonic(), cpu_s(stub.process.pids)
                    wait_for(lambda stub=stub, count=count: stub.answered >= count, what="the answers", within_s=120)
                    took_s = time.monotonic() - began_s
                    figures = {
                        "answers_per_s": (count - begun) / took_s,
                        "stub_cpu_ms": (cpu_s(stub.process.pids) - cpu) * 1000 / (count - begun),
                    }
                    ask.stop()
                runs.setdefault(name, []).append(figures)
                progress(f"  {number + 1}/{size.runs} {name:32}", shown(figures))
    return runs


# --- The table --------------------------------------------------------------------------------------------------

OURS, BURST = fleets.Dingqueue.name, fleets.Burst.name
BARE, BARE_E, NAIVE = fleets.BareCelery.name, fleets.BareCeleryEvents.name, fleets.NaiveCelery.name

ROWS: tuple[Row, ...] = (
    Row(name="ceiling", says="the stub alone, asked by a loop in C", run=ceiling),
    Row(
        name="delivery",
        says="delivery, DingTalk answers at once",
        run=delivery(fleets.ALL),
        goals=(
            Goal(
                says="rate, direct path, against bare Celery + one session",
                ours=OURS,
                reference=BARE,
                figure="jobs_per_s",
                at_least=1.0,
            ),
            Goal(
                says="CPU a job, direct path, against bare Celery + one session",
                ours=OURS,
                reference=BARE,
                figure="cpu_ms_per_job",
                at_most=1.0,
            ),
            Goal(
                says="CPU a job, direct path, against the same with events, as ours has",
                ours=OURS,
                reference=BARE_E,
                figure="cpu_ms_per_job",
                at_most=1.0,
            ),
            Goal(
                says="rate, direct path, against naive Celery",
                ours=OURS,
                reference=NAIVE,
                figure="jobs_per_s",
                at_least=2.0,
            ),
            Goal(
                says="rate, 20 lanes with a backlog, against dramatiq with the same HTTP client",
                ours=BURST,
                reference="dramatiq, urllib3",
                figure="jobs_per_s",
                at_least=1.2,
            ),
            *(
                Goal(
                    says=f"rate, direct path, against {name}",
                    ours=OURS,
                    reference=name,
                    figure="jobs_per_s",
                    at_least=1.0,
                )
                for name in ("rq", "arq", "taskiq", "taskiq, aiohttp")
            ),
            *(
                Goal(
                    says=f"rate, jobs by send_many, against {name}",
                    ours=BURST,
                    reference=name,
                    figure="jobs_per_s",
                    at_least=1.0,
                )
                for name in ("dramatiq", "huey")
            ),
        ),
    ),
    *(
        Row(
            name=f"delivery-{delay_ms}ms",
            says=f"delivery, DingTalk answers after {delay_ms} ms",
            quick=False,
            run=delivery(
                (fleets.Dingqueue, fleets.BareCelery, fleets.BareCeleryEvents, fleets.Dramatiq),
                delay_ms=delay_ms,
                share=0.5,
            ),
            goals=(
                Goal(
                    says="rate against bare Celery + one session",
                    ours=OURS,
                    reference=BARE,
                    figure="jobs_per_s",
                    at_least=1.0,
                ),
                Goal(
                    says="CPU a job against bare Celery + one session",
                    ours=OURS,
                    reference=BARE,
                    figure="cpu_ms_per_job",
                    at_most=1.0,
                ),
            ),
        )
        for delay_ms in (20, 100)
    ),
    Row(
        name="tls",
        says="delivery over TLS, a local certificate in the usual bundle",
        run=delivery((fleets.Dingqueue, fleets.BareCelery, fleets.NaiveCelery), tls=True, share=0.5),
        goals=(
            Goal(says="rate against naive Celery", ours=OURS, reference=NAIVE, figure="jobs_per_s", at_least=5.0),
            Goal(
                says="CPU a job against bare Celery + one session",
                ours=OURS,
                reference=BARE,
                figure="cpu_ms_per_job",
                at_most=1.0,
            ),
        ),
    ),
    Row(
        name="enqueue",
        says="handing over, one process, one thread",
        run=enqueue,
        goals=(
            Goal(
                says="`send`, nothing waiting, against `apply_async`",
                ours="send_free",
                reference="apply_async",
                figure="jobs_per_s",
                at_least=0.75,
            ),
            Goal(
                says="`send`, something waiting, against `apply_async`",
                ours="send_waiting",
                reference="apply_async",
                figure="jobs_per_s",
                at_least=4.0,
            ),
            Goal(
                says="`send_many` against `apply_async` one by one",
                ours="send_many",
                reference="apply_async",
                figure="jobs_per_s",
                at_least=5.0,
            ),
        ),
    ),
    Row(
        name="latency",
        says="from the call to the request's arrival, idle fleet",
        run=latency,
        goals=(
            Goal(says="median against bare Celery", ours=OURS, reference=BARE, figure="median_ms", at_most=1.2),
            Goal(says="99th percentile against bare Celery", ours=OURS, reference=BARE, figure="p99_ms", at_most=1.2),
        ),
    ),
    *(
        Row(
            name=f"pace-{window_s}s",
            says=f"backlog of 200 at 20 per {window_s} s, two workers",
            run=pace(window_s),
            quick=window_s < 60,
            goals=(
                Goal(
                    says="of what the rule allows",
                    ours="dingqueue",
                    reference="the rule",
                    figure="of_what_the_rule_allows",
                    at_least=least,
                ),
            ),
        )
        for window_s, least in ((60, 0.995), (3, 0.98))
    ),
    Row(
        name="robots",
        says="10,000 robots with a backlog each, 8 workers",
        run=delivery(MANY, share=3.4),
        quick=False,
        goals=(
            Goal(
                says="CPU a job, 9,900 idle lanes more against none",
                ours=_FewOfMany.name,
                reference=_Few.name,
                figure="cpu_ms_per_job",
                at_most=1.3,
            ),
            Goal(
                says="Redis CPU a job, 9,900 idle lanes more against none",
                ours=_FewOfMany.name,
                reference=_Few.name,
                figure="redis_cpu_ms_per_job",
                at_most=1.3,
            ),
            Goal(
                says="CPU a job, 10,000 busy lanes against 100",
                ours=_Many.name,
                reference=_Few.name,
                figure="cpu_ms_per_job",
                at_most=1.3,
            ),
            Goal(
                says="rate against bare Celery, 8 workers",
                ours=_Many.name,
                reference=BARE,
                figure="jobs_per_s",
                at_least=1.0,
            ),
        ),
    ),
    Row(
        name="backlog",
        says="what a deep backlog costs",
        run=backlog,
        goals=tuple(
            Goal(
                says=f"{figure.removesuffix('_us')}, {deep} against {shallow}",
                ours=deep,
                reference=shallow,
                figure=figure,
                at_most=1.3,
            )
            for figure in ("submit_us", "start_us", "settle_us", "release_us")
            for deep, shallow in (
                ("1,000,000 in 1 lane", "1,000 in 1 lane"),
                ("1,000,000 in 10,000 lanes", "100,000 in 10,000 lanes"),
            )
        ),
    ),
    Row(
        name="files",
        says="a file of 20 MB to a local sink",
        run=files,
        goals=(
            Goal(
                says="the call against a bare streaming upload",
                ours="dingqueue, the call",
                reference="requests, streaming",
                figure="mb_per_s",
                at_least=0.8,
            ),
            Goal(
                says="memory of the whole step against `files=`",
                ours="dingqueue, file store to DingTalk",
                reference="requests, files=",
                figure="grew_mb",
                at_most=0.3,
            ),
        ),
    ),
    Row(
        name="startup",
        says="start-up of a worker to its first delivery; imports",
        run=startup,
        goals=(
            Goal(
                says="first delivery against bare Celery",
                ours=fleets.OneDingqueue.name,
                reference=fleets.OneCelery.name,
                figure="first_delivery_s",
                at_most=1.2,
            ),
            Goal(
                says="`import dingqueue` against `import celery`",
                ours="import dingqueue",
                reference="import celery, used",
                figure="import_s",
                at_most=1.1,
            ),
        ),
    ),
)


def of(runs: Runs) -> dict[str, Any]:
    """A row's figures, ready for JSON."""
    return {name: summary(figures) for name, figures in runs.items() if figures}
