"""Joins the rooms: settings in, a Celery app out. Holds no rule; nothing connects until it is used."""

from __future__ import annotations

import os
import socket
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

from celery import Celery
from celery.app.amqp import AMQP
from celery.signals import beat_init, celeryd_after_setup
from celery.worker import state as worker_state
from kombu import Connection

from dingqueue import broker, transport
from dingqueue.addresses import is_redis
from dingqueue.connections import celery_broker
from dingqueue.files.store import open_store
from dingqueue.lanes import Call
from dingqueue.routes import queue_name
from dingqueue.servers import place
from dingqueue_worker import logs, schedule, tasks
from dingqueue_worker.alarms import Alarms
from dingqueue_worker.consumer import BundledEvents
from dingqueue_worker.delivery import Delivery
from dingqueue_worker.delivery.app import Door
from dingqueue_worker.digests import fold
from dingqueue_worker.dingtalk.api import Api
from dingqueue_worker.dingtalk.apps import AppCalls
from dingqueue_worker.health import Shown, awaited
from dingqueue_worker.pace import pace_of, uploads_to
from dingqueue_worker.pacer import Pacer, step
from dingqueue_worker.results import Results
from dingqueue_worker.settings import Settings
from dingqueue_worker.shift import Shift
from dingqueue_worker.store import Ahead, Store
from dingqueue_worker.telemetry import event
from dingqueue_worker.tokens import Tokens
from dingqueue_worker.traced import spans_of, traced

if TYPE_CHECKING:
    from dingqueue_worker.beat import BeatHealth
    from dingqueue_worker.delivery.apps import InAppsName
    from dingqueue_worker.progress import Signs, WorkerHealth

T = TypeVar("T")

#: HTTP waiting needs threads, not cores; also the size of the HTTP pool.
CONCURRENCY = 32
_FILE_STORE_SILENCE_S = 5.0
_TRANSPORT_OPTIONS: Mapping[str, Any] = {
    "socket_timeout": 5.0,
    "socket_connect_timeout": 2.0,
    "socket_keepalive": True,
    "health_check_interval": 10,
    # The job's lease is its acknowledgement. Kombu's own, two more round trips a message, would only bring a killed
    # worker's messages back later than the lease calls their jobs again.
    "ack_emulation": False,
    "client_name": "dingqueue-worker",
}


class _Connection(transport.Connection):
    """Knocks at a broker that is away every few seconds; kombu's own wait grows to half a minute, on top of the outage."""

    def ensure_connection(self, *args: Any, **options: Any) -> Connection:  # type: ignore[override]  # as it is called
        waits = {"interval_start": 0.5, "interval_step": 0.5, "interval_max": 3.0}
        return super().ensure_connection(*args, **waits | options)


class _Fleet(Celery):
    """Celery's app, whose programs print no banner where every line is to be JSON."""

    lines_only = False
    shift: Shift
    give_back: Callable[[Ahead], None]
    beat_health: Callable[[], BeatHealth]

    @cached_property
    def Worker(self) -> Any:  # noqa: N802 - Celery's name
        """Its warning of root is a line of the log: see ``logs.take_over``."""
        worker = self._quiet(super().Worker)

        def build(*args: Any, **options: Any) -> Any:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")
                return worker(*args, **options)

        return build

    @cached_property
    def Beat(self) -> Any:  # noqa: N802 - Celery's name
        """As ``Worker``."""
        return self._quiet(super().Beat)

    def _quiet(self, program: Any) -> Any:
        return lambda *args, **options: program(*args, **options | ({"quiet": True} if self.lines_only else {}))


class _Amqp(AMQP):
    Connection = _Connection
    BrokerConnection = _Connection


def create_app(settings: Settings) -> Celery:
    """A Celery app that delivers: ``celery -A dingqueue_worker.main worker`` and ``beat`` run it."""
    app = _Fleet("dingqueue", amqp=_Amqp, set_as_current=False, fixups=[])
    _speak(app, settings)
    app.conf.update(broker.configuration(settings.prefix), **_worker_configuration(settings))
    app.shift = Shift(stopping=_stopping)

    store = per_process(
        lambda: Store(settings.state_url, prefix=settings.prefix, patience_s=tasks.lease_s(settings.fleet))
    )
    alarms = per_process(
        lambda: Alarms(store=store(), fleet=settings.fleet, dispatch=lambda calls: pacer().dispatch(calls))
    )
    pacer = per_process(
        lambda: Pacer(
            store=store(),
            pace=pace_of(settings),
            fleet=settings.fleet,
            publish=_publisher(app),
            tell=alarms(),
            fold=lambda destination: fold(store(), destination),
            who=_who("worker"),
        )
    )

    spans = per_process(lambda: spans_of(on=settings.otel))
    api = per_process(
        lambda: Api(
            oapi_url=settings.oapi_url,
            api_url=settings.api_url,
            connect_timeout_s=settings.fleet.connect_timeout_s,
            read_timeout_s=settings.fleet.read_timeout_s,
            total_timeout_s=settings.fleet.total_timeout_s,
            pool_size=app.conf.worker_concurrency or CONCURRENCY,
            spans=spans(),
        )
    )
    files = per_process(
        lambda: open_store(
            settings.files_url or settings.state_url, prefix=settings.prefix, timeout_s=_FILE_STORE_SILENCE_S
        )
    )
    tokens = per_process(lambda: Tokens(store=store(), api=api(), lease_s=settings.fleet.total_timeout_s + 3.0))

    results = per_process(
        lambda: Results(settings, store=store(), door=Door(tokens()), calls=AppCalls(api()), tell=alarms())
    )

    apps: Callable[[], InAppsName] | None = None
    if settings.apps:
        # Loaded at the start, not by the first job; and not for robots alone, whose worker starts sooner without.
        from dingqueue_worker.in_apps_name import in_apps_name

        apps = per_process(lambda: in_apps_name(settings, api=api(), store=store(), tokens=tokens(), files=files()))

    def build_desk() -> tasks.Desk:
        delivery = Delivery(
            settings,
            api=api(),
            clock_ms=_clock_ms,
            apps=apps and apps(),
        )
        return tasks.Desk(
            store=store(),
            attempt=traced(delivery.attempt, spans()),
            fleet=settings.fleet,
            dispatch=pacer().dispatch,
            tell=alarms(),
            shift=app.shift,
            uploads=uploads_to(settings),
        )

    desk = per_process(build_desk)
    tasks.register(app, desk)
    app.give_back = lambda ahead: desk().give_back(ahead)
    schedule.register(app, settings, store=store, tokens=tokens, results=results, tell=alarms, files=files)
    app.steps["worker"].add(step(pacer))
    app.steps["consumer"].add(BundledEvents)
    if settings.health or awaited():
        # Nobody asks, nothing runs: neither a thread nor a timer.
        from dingqueue_worker import progress

        progress.steps(app, lambda worker: _worker_health(app, worker, settings, store(), pacer()))
    app.beat_health = lambda: _beat_health(settings, store())
    return app


def _speak(app: _Fleet, settings: Settings) -> None:
    """Have its programs log as the settings say, and each say first what it is."""
    logs.take_over(settings.log)
    app.lines_only = settings.log == "json"
    if app.lines_only:
        logs.say_in_lines()

    def starts(instance: Any, **_: Any) -> None:
        if instance.app is app:
            _says_what_it_is("worker starts", settings, concurrency=instance.concurrency)

    def ticks(sender: Any, **_: Any) -> None:
        if sender.app is app:
            _says_what_it_is("beat starts", settings)

    celeryd_after_setup.connect(starts, weak=False)
    beat_init.connect(ticks, weak=False)


def _says_what_it_is(message: str, settings: Settings, *, concurrency: int | None = None) -> None:
    event(
        message,
        version=version("dingqueue"),
        broker=place(settings.broker_url),
        lanes=place(settings.state_url),
        queue=queue_name(settings.prefix),
        destinations=len(settings.destinations),
        concurrency=concurrency,
    )


def _beat_health(settings: Settings, store: Store) -> BeatHealth:
    from dingqueue_worker.beat import BeatHealth

    return BeatHealth(store=store, who=_who("beat"), address=settings.health)


def _worker_health(app: Celery, worker: Any, settings: Settings, store: Store, pacer: Pacer) -> WorkerHealth:
    from dingqueue_worker.progress import WorkerHealth

    queue = queue_name(settings.prefix)

    def pages(signs: Callable[[], Signs]) -> dict[str, Callable[[], Shown]]:
        try:
            from dingqueue_worker.metrics import worker_pages
        except ModuleNotFoundError:  # an install without prometheus-client has no /metrics
            return {}
        return worker_pages(signs, store, queue=queue if settings.state_url == settings.broker_url else None)

    return WorkerHealth(
        app=app, worker=worker, pacer=pacer, queue=queue,
        lease_s=tasks.lease_s(settings.fleet, uploads=bool(uploads_to(settings))), address=settings.health, pages=pages,
    )  # fmt: skip


def _who(role: str) -> str:
    return f"{role}:{socket.gethostname()}:{os.getpid()}"


def per_process(build: Callable[[], T]) -> Callable[[], T]:
    """One instance per process, built at its first use: connections and threads do not survive a fork."""
    made: dict[int, T] = {}
    lock = threading.RLock()

    def get() -> T:
        pid = os.getpid()
        if pid not in made:
            with lock:
                if pid not in made:
                    made[pid] = build()
        return made[pid]

    return get


def _stopping() -> bool:
    """Was this worker told to end? Celery notes the exit code, which may be 0."""
    told: Any = worker_state
    return any(code is not None and code is not False for code in (told.should_stop, told.should_terminate))


def _clock_ms() -> int:
    return time.time_ns() // 1_000_000


def _publisher(app: Celery) -> Callable[[Sequence[Call]], None]:
    return lambda calls: broker.publish(app, calls)


def _worker_configuration(settings: Settings) -> dict[str, Any]:
    return {
        **celery_broker(
            settings.broker_url,
            transports="dingqueue_worker.transport",
            options=_TRANSPORT_OPTIONS if is_redis(settings.broker_url) else {},
        ),
        "worker_pool": "dingqueue_worker.threads:TaskPool",
        "worker_concurrency": CONCURRENCY,
        # A message is a disposable call: acknowledged early, nothing unacknowledged is held, so there is nothing for
        # kombu to restore twice and nothing to die on when Redis drops the connection (Celery 5.7.0 does).
        "task_acks_late": False,
        "worker_prefetch_multiplier": 1,
        # How fast is for the lanes to say. Celery's own limit, which Flower offers, would hold calls back past their leases.
        "worker_disable_rate_limits": True,
        "worker_disable_prefetch": False,
        # Nothing unacknowledged is held, so there is nothing to make room for after a lost connection.
        "worker_enable_prefetch_count_reduction": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # Never give up on the broker, not at start and not when Redis is full.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_channel_error_retry": True,
        "worker_consumer": "dingqueue_worker.consumer:Consumer",
        "broker_pool_limit": 8,
        "broker_pool_acquire_timeout": 5.0,
        # What Flower and `celery events` live on; a message per sent task would add nothing.
        "worker_send_task_events": True,
        "task_send_sent_event": False,
        "task_track_started": True,
        # SIGTERM: tasks end by themselves within one request's bound.
        "worker_soft_shutdown_timeout": 0,
        "worker_hijack_root_logger": False,
        "beat_scheduler": "dingqueue_worker.beat:Beat",
        "beat_max_loop_interval": 5,
        "enable_utc": True,
    }
