"""Celery's events of a fleet, as Flower receives them."""

from __future__ import annotations

import contextlib
import json
import threading
from types import TracebackType
from typing import Any, Self

from celery import Celery

from support.waiting import wait_for


class Events:
    """Listens from its start to its end, in a thread."""

    def __init__(self, broker_url: str) -> None:
        self._app = Celery("listener", broker=broker_url, set_as_current=False, fixups=[])
        self._connection = self._app.connection_for_read()
        self._receiver = self._app.events.Receiver(self._connection, handlers={"*": self._hear})
        self._ready = threading.Event()
        self._receiver.on_consume_ready = lambda *_, **__: self._ready.set()
        self.heard: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def _hear(self, event: dict[str, Any]) -> None:
        self.heard.append(event)

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            self._receiver.capture(limit=None, timeout=None, wakeup=False)

    def of(self, job_id: str) -> list[str]:
        """The kinds of a job's events, in order, without ``task-``."""
        return [event["type"].removeprefix("task-") for event in self.heard if event.get("uuid") == job_id]

    def wait_for(self, job_id: str, *kinds: str, within_s: float = 10.0) -> None:
        """Until a job's events are these, and no others."""
        wait_for(lambda: self.of(job_id) == list(kinds), within_s=within_s, what=f"{kinds}, heard {self.of(job_id)}")

    def last(self, job_id: str) -> dict[str, Any]:
        return [event for event in self.heard if event.get("uuid") == job_id][-1]

    def text(self) -> str:
        """All that was heard."""
        return json.dumps(self.heard, ensure_ascii=False)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._receiver.should_stop = True
        self._thread.join(5)
        self._connection.release()
        self._app.close()
