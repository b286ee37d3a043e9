"""Who is measured: how each fills its queue, and how its workers are started at their best."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
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
    #: Of the usual number of jobs, so that no contender takes minutes.
    share = 1.0

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

    #: So many lanes have work; all of them unless said otherwise.
    busy = 0
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
                f'[destinations.{name}]\nrobots = ["{name}"]\nmax_waiting = 2_000_000',
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
                send_job(f"w{number % WARM}" if self._warming else f"d{number % (self.busy or self.lanes)}", text)
                for number, text in zip(range(start, start + count), texts(count, start=start), strict=True)
            ]
        )

    def sender(self) -> Callable[[str], object]:
        """What an application calls, each time for another lane."""
        numbers = itertools.count()
        return lambda text: self.client.send(f"d{next(numbers) % self.lanes}", text)

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
    """Ours, as many jobs in each of 20 lanes: one is out in each, and who has sent it goes on with the next."""

    name = "dingqueue, 20 lanes"
    lanes = 20


class BareCelery(Contender):
    """Celery with threads and one kept session: what a careful user writes."""

    name = "Celery, kept session"
    why = "threads, one shared requests.Session, early acknowledgement, no events"
    queue = "celery"
    task = "bare.session"
    options: Sequence[str] = ("-P", "threads", "-c", str(THREADS), "--without-gossip", "--without-mingle")
    count = WORKERS

    def sender(self) -> Callable[[str], object]:
        """What an application calls."""
        from celery import Celery

        app = Celery("sender", broker=self.server.url, set_as_current=False)
        return lambda text: app.send_task(self.task, args=(text,), ignore_result=True)

    def fill(self, count: int, *, start: int = 0) -> None:
        """`apply_async` for each, over one producer."""
        from contenders.celery_app import app

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
            for number in range(self.count)
        ]


class BareCeleryEvents(BareCelery):
    """The same with the events that Flower lives on, as ours has them."""

    name = "Celery, kept session, events"
    why = "as the row above with -E: what Flower needs"
    options: Sequence[str] = (*BareCelery.options, "-E")


class NaiveCelery(BareCelery):
    """Celery as people start it: prefork, requests.post."""

    name = "Celery, naive"
    share = 0.5
    why = "prefork as by default, requests.post in the task"
    task = "bare.naive"
    options: Sequence[str] = ()
    count = 1


class OneDingqueue(Dingqueue):
    """One worker and a few lanes, for its start."""

    lanes = 20
    count = 1


class OneCelery(BareCelery):
    """One worker."""

    count = 1


class Dramatiq(Contender):
    """Dramatiq at its best: two processes with eight threads each."""

    name = "dramatiq"
    why = "2 processes, 8 threads each, one kept requests.Session a process"
    queue = "dramatiq:default"
    threads = 8
    actor = "send"

    def fill(self, count: int, *, start: int = 0) -> None:
        """Messages in pipelines, as its broker would write them one by one."""
        from dramatiq.brokers.redis import RedisBroker

        from contenders import dramatiq_app

        broker = RedisBroker(url=self.server.url)
        broker.declare_queue("default")
        for text in texts(count, start=start):
            broker.enqueue(getattr(dramatiq_app, self.actor).message(text))
        broker.close()

    def commands(self) -> list[list[str]]:
        """One master with two workers."""
        command = ["-m", "dramatiq", "contenders.dramatiq_app", "-p", str(WORKERS), "-t", str(self.threads)]
        return [[self.python, *command]]


class DramatiqPool(Dramatiq):
    """Dramatiq with the HTTP client that our workers use."""

    name = "dramatiq, urllib3"
    why = "as the row above, with urllib3's pool"
    actor = "send_by_pool"


class Huey(Contender):
    """Huey at its best: a consumer for each core, eight threads each."""

    name = "huey"
    why = "2 consumers, 8 threads each, one kept requests.Session a process, no results"
    queue = "huey.redis.bench"
    threads = 8

    def fill(self, count: int, *, start: int = 0) -> None:
        """One by one."""
        from huey import RedisHuey

        from contenders import huey_app

        huey = RedisHuey("bench", url=self.server.url, results=False)
        huey._registry = huey_app.huey._registry
        for text in texts(count, start=start):
            huey.enqueue(huey_app.send.s(text))

    def commands(self) -> list[list[str]]:
        """Two consumers."""
        command = ["-m", "huey.bin.huey_consumer", "contenders.huey_app.huey", "-k", "thread", "-w", str(self.threads)]
        return [[self.python, *command, "-n", "-q"] for _ in range(WORKERS)]


class Rq(Contender):
    """RQ at its best for short jobs: workers that do not fork."""

    name = "rq"
    share = 0.3
    why = "pool of 8 SimpleWorkers (no fork for each job), one kept requests.Session a process, no results kept"
    queue = "rq:queue:default"
    processes = 8

    def fill(self, count: int, *, start: int = 0) -> None:
        """In pipelines of 500."""
        import redis
        from rq import Queue

        from contenders import rq_app

        queue = Queue(connection=redis.Redis.from_url(self.server.url))
        rows = texts(count, start=start)
        for at in range(0, count, 500):
            queue.enqueue_many(
                [Queue.prepare_data(rq_app.send, args=(text,), result_ttl=0) for text in rows[at : at + 500]]
            )

    def commands(self) -> list[list[str]]:
        """One pool."""
        command = ["worker-pool", "-n", str(self.processes), "-w", "rq.worker.SimpleWorker", "-u", self.server.url]
        return [[str(Path(self.python).parent / "rq"), *command, "-q", "default"]]


class Taskiq(Contender):
    """Taskiq with the HTTP client that the others have, in its thread pool."""

    name = "taskiq"
    why = "list broker, 2 processes, 8 threads each, one kept requests.Session a process"
    queue = "taskiq"
    task = "threads"

    def fill(self, count: int, *, start: int = 0) -> None:
        """Over one event loop."""
        import asyncio

        from taskiq_redis import ListQueueBroker

        from contenders import taskiq_app

        async def run() -> None:
            broker = ListQueueBroker(url=self.server.url)
            kicker = getattr(taskiq_app, self.task).kicker().with_broker(broker)
            for text in texts(count, start=start):
                await kicker.kiq(text)
            await broker.shutdown()

        asyncio.run(run())

    def commands(self) -> list[list[str]]:
        """Two processes."""
        command = ["worker", "contenders.taskiq_app:broker", "--workers", str(WORKERS), "--log-level", "WARNING"]
        return [[str(Path(self.python).parent / "taskiq"), *command, "--max-threadpool-threads", "8"]]


class TaskiqAio(Taskiq):
    """Taskiq at its best: an HTTP client in C on its event loop."""

    name = "taskiq, aiohttp"
    why = "list broker, 2 processes, one kept aiohttp session each: another HTTP client, in C"
    task = "send"


class Arq(Contender):
    """Arq at its best: an event loop a process, polling every 20 ms. In an environment of its own."""

    name = "arq"
    why = "2 processes, 64 jobs each, polling every 20 ms, one kept aiohttp session each, no results kept"
    queue = "arq:queue"
    python = str(HERE / ".venv-arq" / "bin" / "python")

    def fill(self, count: int, *, start: int = 0) -> None:
        """Sixteen at a time."""
        subprocess.run(
            [self.python, "-m", "contenders.arq_app", str(count), str(start), TEXT],
            env={**os.environ, **self.env},
            cwd=HERE,
            check=True,
        )

    def commands(self) -> list[list[str]]:
        """Two processes."""
        return [[str(Path(self.python).parent / "arq"), "contenders.arq_app.Worker"] for _ in range(WORKERS)]


ALL: tuple[type[Contender], ...] = (
    Dingqueue, DingqueueQuiet, Burst, BareCelery, BareCeleryEvents, NaiveCelery,
    Dramatiq, DramatiqPool, Huey, Taskiq, TaskiqAio, Arq, Rq,
)  # fmt: skip
