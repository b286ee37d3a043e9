"""Celery's pool of threads, each of which goes on with what its last job called. Knows Celery and no rule.

What is gone on with takes Celery's whole way, from "received" to "succeeded": its events, signals and log lines are those
of every other task. Only no message brings it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from celery.concurrency import thread
from celery.concurrency.base import apply_target

from dingqueue import broker
from dingqueue.lanes import Call

#: Its type stub knows little of what is used here.
_thread: Any = thread
_TaskPool: Any = _thread.TaskPool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Message:
    """A call's message as a consumer would have read it."""

    headers: Mapping[str, Any]
    properties: Mapping[str, Any]
    body: Any
    delivery_info: Mapping[str, Any]
    content_type: None = None
    content_encoding: None = None

    @property
    def payload(self) -> Any:
        return self.body


class TaskPool(_TaskPool):  # type: ignore[misc]  # see above
    """Named by ``worker_pool``.

    Attributes:
        strategies: How the consumer takes a message of each task; while there are none, no thread goes on.
    """

    strategies: Mapping[str, Callable[..., Any]] = MappingProxyType({})

    def on_apply(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        callback: Callable[..., Any] | None = None,
        accept_callback: Callable[..., Any] | None = None,
        **_: Any,
    ) -> Any:
        """Celery hands a task over: to a thread, or to the very thread that goes on."""
        todo = (target, args or (), kwargs, callback, accept_callback)
        ahead = self.app.shift.ahead
        if ahead is not None and todo[1][1] == ahead.call.job_id:
            apply_target(*todo)
            return None
        run = self._run if self.strategies else apply_target
        return _thread.ApplyResult(self.executor.submit(run, *todo))

    def _run(self, *todo: Any) -> None:
        shift = self.app.shift
        shift.begin(self._waiting)
        try:
            apply_target(*todo)
            while (ahead := shift.ahead) is not None:
                self._go_on(ahead.call)
                if shift.ahead is ahead:  # Celery did not want it: somebody revoked it
                    break
        finally:
            left = shift.end()
            if left is not None:
                self.app.give_back(left)

    def _waiting(self) -> float:
        waiting: float = self.executor._work_queue.qsize() / self.limit
        return waiting

    def _go_on(self, call: Call) -> None:
        message = broker.message(self.app, call)
        read = _Message(
            headers=message.headers,
            properties=message.properties,
            body=message.body,
            delivery_info={"exchange": "", "routing_key": self.app.conf.task_default_queue},
        )
        self.strategies[message.headers["task"]](read, None, _nothing, _nothing, ())


def _nothing(*_: Any, **__: Any) -> None:
    """There is no message to acknowledge."""
