"""Who is measured: how each fills its queue, and how its workers are started at their best."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dingqueue import Client, send_job
from dingqueue_worker.configuration import load
from dingqueue_worker.pace import pace_of
from dingqueue_worker.store import Store
from measure import HERE, Process, Redis, Stub, cpu_s, pause, wait_for

TEXT = "deploy of billing 4.2.1 finished in 93 s, 12 hosts, no errors; see the pipeline for the log #"
#: As many workers as this machine has cores, with as many threads as `dingqueue worker` takes by default.
WORKERS, THREADS = 2, 32
#: Lanes that only warm workers up.
WARM = 300


def texts(count: int, *, start: int = 0) -> list[str]:
    """Messages of the usual length, all different."""
    return [f"{TEXT}{number}" for number in range(start, start + count)]


class Contender:
    """One way to get messages posted by workers."""

    name = ""
    why = ""
    #: The keys that hold what workers would take: renamed while nobody may begin.
    queue = ""
    python = sys.executable

    def __init__(self, *, stub: Stub, server: Redis, certificate: Path | None = None) -> None:
        self.stub, self.server = stub, server
        self.env: dict[str, str] = {
            "BENCH_URL": stub.url,
            "BENCH_REDIS_URL": server.url,
            "PYTHONPATH": str(HERE),
            "PYTHONWARNINGS": "ignore",
        }
        if certificate:
            self.env["REQUESTS_CA_BUNDLE"] = str(certificate)
        self.workers: list[Process] = []

    def fill(self, count: int, *, start: int = 0) -> None:
        """Enqueue `count` jobs, each with a text of its own."""
        raise NotImplementedError

    def commands(self) -> list[list[str]]:
        """The workers' command lines."""
        raise NotImplementedError

    def hold(self) -> None:
        """Put aside what waits, so that workers can start and warm up."""
        self.server.client.rename(self.queue, "held")

    def let_go(self) -> None:
        """Give it back, at once."""
        self.server.client.rename("held", self.queue)

    def start(self) -> None:
        """Start the workers."""
        self.workers = [Process(command, env=self.env) for command in self.commands()]

    def warm(self, count: int, *, start: int) -> None:
        """Let workers deliver a few, so that threads, connections and imports are there."""
        begun = self.stub.answered
        self.fill(count, start=start)
        wait_for(
            lambda: self.stub.answered - begun >= count,
            what=f"{self.name} warms up: {self.stub.answered - begun} of {count}\n{self._said()}",
            within_s=60,
        )
        self.quiet()

    def quiet(self) -> None:
        """Wait until the workers have nothing to do."""
        for _ in range(60):
            before = cpu_s([pid for worker in self.workers for pid in worker.pids])
            pause(0.5)
            if cpu_s([pid for worker in self.workers for pid in worker.pids]) - before <= 0.05:
                return

    def _said(self) -> str:
        for worker in self.workers:
            if worker.child.poll() is not None:
                return worker.said()[-3000:]
        return self.workers[0].said()[-3000:] if self.workers else ""

    def stop(self) -> None:
        """End the workers."""
        for worker in self.workers:
            worker.stop()


class Dingqueue(Contender):
    """Ours: `dingqueue worker`, each job in a lane with nothing waiting, so it is called and published at once."""

    name = "dingqueue"
    why = "all guarantees on: events, leases, permits, signed request, append-only file"
    queue = "dingqueue"
    lanes = 9000
    secret = "SECbench0000000000000000000000000000000000000000000000000000000000"
    loglevel = "WARNING"
    worker_options: Sequence[str] = ()
    threads = THREADS
    count = WORKERS
    limit, window_s = 100_000, 60
    _warming = False

    def __init__(self, *, stub: Stub, server: Redis, certificate: Path | None = None) -> None:
        super().__init__(stub=stub, server=server, certificate=certificate)
        self.folder = tempfile.TemporaryDirectory(prefix="dingqueue-bench-")
        config = Path(self.folder.name) / "dingqueue.toml"
        config.write_text(self.configuration())
        self.env |= {
            "DINGQUEUE_CONFIG": str(config),
            "DINGQUEUE_BROKER_URL": server.url,
            "DINGQUEUE_OAPI_URL": stub.url,
            "DINGQUEUE_API_URL": stub.url,
        }
        self.settings = load({**os.environ, **self.env})
        with_store = Store(server.url, prefix="dq:")
        with_store.publish_pace(pace_of(self.settings), known_memory="")
        with_store.close()
        self.client = Client(server.url)

    def configuration(self) -> str:
        """A robot and a destination for each lane, without a limit that counts here."""
        rows = ["[fleet]", "call_lease_s = 300"]
        for name in [*(f"d{number}" for number in range(self.lanes)), *(f"w{number}" for number in range(WARM))]:
            rows += [
                f'[robots.{name}]\ntoken = "{name:0>64}"\nsecret = "{self.secret}"',
                f"limit = {self.limit}\nwindow_s = {self.window_s}",
                f'[destinations.{name}]\nrobots = ["{name}"]',
            ]
        return "\n".join(rows)

    def warm(self, count: int, *, start: int) -> None:
        """Warm up in lanes of their own: those that are measured are held."""
        self._warming = True
        super().warm(count, start=start)
        self._warming = False

    def fill(self, count: int, *, start: int = 0) -> None:
        """One job in each lane, lane after lane."""
        self.client.send_many(
            [
                send_job(f"w{number % WARM}" if self._warming else f"d{number % self.lanes}", text)
                for number, text in zip(range(start, start + count), texts(count, start=start), strict=True)
            ]
        )

    def commands(self) -> list[list[str]]:
        """As `dingqueue worker` starts one."""
        return [
            [
                *(self.python, "-m", "dingqueue_worker", "worker", "-l", self.loglevel, "-c", str(self.threads)),
                *("-n", f"w{number}@%h", *self.worker_options),
            ]
            for number in range(self.count)
        ]

    def stop(self) -> None:
        """End the workers."""
        super().stop()
        self.client.close()
        self.folder.cleanup()


class DingqueueQuiet(Dingqueue):
    """Ours with task events off."""

    name = "dingqueue, events off"
    why = "as the row above, with worker_send_task_events off"

    def commands(self) -> list[list[str]]:
        return [[*command[:1], "-c", QUIET, *command[3:]] for command in super().commands()]


QUIET = (
    "import os; from dingqueue_worker.app import create_app; from dingqueue_worker.configuration import load;"
    "import sys; app = create_app(load(os.environ)); app.conf.worker_send_task_events = False;"
    "app.worker_main([*sys.argv[1:], '--without-gossip', '--without-mingle'])"
)


class Burst(Dingqueue):
    """Ours, as many jobs in each of 20 lanes: one is out in each, the others stand in Redis."""

    name = "dingqueue, 20 lanes"
    lanes = 20


class BareCelery(Contender):
    """Celery with threads and one kept session: what a careful user writes."""

    name = "Celery, kept session"
    why = "threads, one shared requests.Session, early acknowledgement, no events"
    queue = "celery"
    task = "bare.session"
    options: Sequence[str] = ("-P", "threads", "-c", str(THREADS), "--without-gossip", "--without-mingle")

    def fill(self, count: int, *, start: int = 0) -> None:
        """`apply_async` for each, over one producer."""
        from contenders.celery_app import app

        app.conf.broker_url = self.server.url
        app.pool.force_close_all()
        app._pool = None
        with (
            app.connection_for_write(self.server.url) as connection,
            app.amqp.Producer(connection) as producer,
            producer.batch(),
        ):
            for text in texts(count, start=start):
                app.send_task(self.task, args=(text,), producer=producer, ignore_result=True)

    def commands(self) -> list[list[str]]:
        return [
            [
                *(self.python, "-m", "celery", "-A", "contenders.celery_app", "worker", "-l", "WARNING"),
                *("-n", f"b{number}@%h", *self.options),
            ]
            for number in range(WORKERS)
        ]


class BareCeleryEvents(BareCelery):
    """The same with the events that Flower lives on, as ours has them."""

    name = "Celery, kept session, events"
    why = "as the row above with -E: what Flower needs"
    options: Sequence[str] = (*BareCelery.options, "-E")


class NaiveCelery(BareCelery):
    """Celery as people start it: prefork, requests.post."""

    name = "Celery, naive"
    why = "prefork as by default, requests.post in the task"
    task = "bare.naive"
    options: Sequence[str] = ()

    def commands(self) -> list[list[str]]:
        return super().commands()[:1]
