"""Threads that carry out calls for callers who wait only so long. Knows nothing of what they do."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

#: A thread that had nothing to do for so long ends.
_IDLE_S = 10.0


class Closed(Exception):
    """These hands do no more work."""


class Hands:
    """A few daemon threads, started when they are needed.

    Not ``ThreadPoolExecutor``: the interpreter waits for its threads, and one that is stuck in a name look-up or in an
    answer that drips would keep the application from ending.
    """

    def __init__(self, most: int, *, name: str, idle_s: float = _IDLE_S) -> None:
        self._most, self._name, self._idle_s = most, name, idle_s
        self._lock = threading.Lock()
        self._work: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._threads = 0
        self._pending = 0  # calls that wait or are being carried out
        self._guests = 0  # callers who use what the actions use
        self._closed = False
        self._then: Callable[[], None] = lambda: None

    def later(self, action: Callable[[], T]) -> Future[T]:
        """Carry out an action soon; the future is cancelled as long as no thread has begun.

        Raises:
            Closed: After ``close``.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise Closed
            if self._pending < self._threads or self._threads >= self._most or self._start():
                self._pending += 1
                self._work.put((future, action))
                return future
        # No thread can be started: the interpreter ends, or the machine is full. The action's own timeouts must do.
        _carry_out(future, action)
        return future

    @contextmanager
    def shared(self) -> Iterator[None]:
        """While a caller works with what the actions use, closing does not take it away.

        Raises:
            Closed: After ``close``.
        """
        with self._lock:
            if self._closed:
                raise Closed
            self._guests += 1
        try:
            yield
        finally:
            with self._lock:
                self._guests -= 1
                is_last = self._closed and not self._threads and not self._guests
            if is_last:
                self._then()

    def _start(self) -> bool:
        """One more thread, or at least one that is there."""
        try:
            threading.Thread(target=self._serve, name=f"{self._name}-{self._threads}", daemon=True).start()
        except RuntimeError:
            return self._threads > 0
        self._threads += 1
        return True

    def _serve(self) -> None:
        while True:
            try:
                given = self._work.get(timeout=self._idle_s)
            except queue.Empty:
                with self._lock:
                    if self._work.empty():
                        self._threads -= 1
                        return
                continue
            if given is None:
                self._leave()
                return
            _carry_out(*given)
            del given  # not held while waiting for the next
            with self._lock:
                self._pending -= 1

    def close(self, then: Callable[[], None]) -> None:
        """Cancel what no thread has begun, and let the threads go when they are done. Does not wait.

        Args:
            then: Called when nothing is being carried out any more, by the last thread: what the actions use can go.
        """
        with self._lock:
            if self._closed:
                return
            self._closed, self._then = True, then
            while not self._work.empty():
                if given := self._work.get():
                    given[0].cancel()
            for _ in range(self._threads):
                self._work.put(None)
            idle = not self._threads and not self._guests
        if idle:
            then()

    def _leave(self) -> None:
        with self._lock:
            self._threads -= 1
            is_last = not self._threads and not self._guests
        if is_last:
            self._then()


def _carry_out(future: Future[T], action: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = action()
    except BaseException as error:  # noqa: BLE001 - carried to the caller, whatever it is
        future.set_exception(error)
    else:
        future.set_result(result)
