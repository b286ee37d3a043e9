"""Publishing calls to Celery's broker: ids only, at once or not at all. Knows no Redis keys and no DingTalk."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

from celery import Celery
from kombu import Exchange, Producer, Queue
from kombu.pools import ProducerPool

from dingqueue import inline
from dingqueue.addresses import is_redis
from dingqueue.connections import celery_broker
from dingqueue.lanes import Call
from dingqueue.routes import DEFAULT_PREFIX, queue_name, task_name
from dingqueue.transport import Amqp

#: More publishing threads than that share them.
_CONNECTIONS = 8


def configuration(prefix: str = DEFAULT_PREFIX) -> dict[str, Any]:
    """Celery settings that both sides share: where the messages go and what they may hold."""
    queue = queue_name(prefix)
    # Two fleets on one broker: each has its own workers, commands and events. The first's are where any Flower looks.
    apart = (
        {}
        if prefix == DEFAULT_PREFIX
        else {"event_exchange": f"celeryev.{queue}", "control_exchange": f"celery.{queue}"}
    )
    return {
        **apart,
        "task_queues": [Queue(queue, Exchange(queue, type="direct"), routing_key=queue)],
        "task_default_queue": queue,
        "task_default_exchange": queue,
        "task_default_routing_key": queue,
        # A misspelt queue must fail, not swallow messages.
        "task_create_missing_queues": False,
        # No pickle: who can write to the broker must not run code.
        "accept_content": ["json"],
        "task_serializer": "json",
        "event_serializer": "json",
        # The job's own record is the result; a backend would be waste, and a leak.
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        "result_backend": None,
        # A lost call is made again when its lease ends: nobody waits for the broker.
        "task_publish_retry": False,
        "task_publish_retry_policy": {"max_retries": 0, "interval_start": 0, "interval_step": 0, "interval_max": 0},
    }


def producer_app(broker_url: str, *, prefix: str = DEFAULT_PREFIX, timeout_s: float) -> Celery:
    """A Celery app that only publishes, and waits for the broker `timeout_s` at most in each step."""
    app = Celery("dingqueue-producer", amqp=Amqp, set_as_current=False, fixups=[])
    app.conf.update(
        configuration(prefix),
        **celery_broker(broker_url, options=transport_options(broker_url, timeout_s=timeout_s)),
        broker_connection_retry=False,
        broker_connection_timeout=timeout_s,
        broker_pool_limit=_CONNECTIONS,
        broker_pool_acquire_timeout=timeout_s,
    )
    return app


def transport_options(broker_url: str, *, timeout_s: float) -> dict[str, Any]:
    """Bounded waits for a broker connection, in the words of its transport."""
    if not is_redis(broker_url):
        return {"connect_timeout": timeout_s, "read_timeout": timeout_s, "write_timeout": timeout_s, "max_retries": 0}
    return {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "socket_keepalive": True,
        "max_retries": 0,
    }


def message(app: Celery, call: Call) -> Any:
    """A call as Celery writes it: ``headers``, ``properties`` and ``body``. Ids only."""
    # Not `send_task`: what it looks up, merges and tells for every message takes longer than the message.
    args = (call.job_id, call.grant, call.destination)
    return app.amqp.as_task_v2(
        call.job_id,
        task_name(call.kind),
        args=args,
        kwargs={},
        ignore_result=True,
        # As Celery would spell them, which for a message of unknown things takes its time.
        argsrepr=repr(args),
        kwargsrepr="{}",
    )


def publish(app: Celery, calls: Iterable[Call], *, producer: Producer | None = None) -> None:
    """Publish calls in one batch. Raises what kombu raises; what was not published is called again by itself."""
    rows = tuple(calls)
    if not rows:
        return
    queue = app.conf.task_default_queue
    with app.producer_or_acquire(producer) as chosen:
        if not chosen.connection.declared_entities:
            chosen.maybe_declare(app.amqp.queues[queue])
        with chosen.batch() if len(rows) > 1 else nullcontext():
            for call in rows:
                written = message(app, call)
                chosen.publish(
                    written.body,
                    exchange="",
                    routing_key=queue,
                    headers=written.headers,
                    serializer="json",
                    retry=False,
                    **written.properties,
                )


class Publisher:
    """Publishes calls from a process that may have a Celery of its own.

    Its connections are its own: kombu's pools belong to the whole process, their size too, and a child that was forked
    would write into its parent's. Its address is its own: ``CELERY_BROKER_URL`` speaks of the application's broker.
    """

    def __init__(self, broker_url: str, *, prefix: str = DEFAULT_PREFIX, timeout_s: float) -> None:
        self._app = producer_app(broker_url, prefix=prefix, timeout_s=timeout_s)
        self._timeout_s = timeout_s
        #: May a thread publish that is bounded by ``inline.until``?
        self.inline = inline.serves(broker_url)
        self._connections = self._app.connection_for_write().Pool(limit=_CONNECTIONS)
        self._producers = ProducerPool(self._connections, limit=_CONNECTIONS, Producer=self._app.amqp.Producer)

    def publish(self, calls: Iterable[Call], *, wait: bool = True) -> None:
        """Publish calls in one batch. Raises what kombu raises; what was not published is called again by itself.

        Args:
            calls: What to publish.
            wait: For a connection while all are in use.
        """
        with self._producers.acquire(block=wait, timeout=self._timeout_s) as producer:
            publish(self._app, calls, producer=producer)

    def close(self) -> None:
        """Let go of the connections."""
        self._connections.force_close_all()
        self._app.close()
