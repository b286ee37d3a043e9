"""A handler that sends log records to DingTalk: never waits, never raises, never speaks of itself, and not of all it hears.

    logging.getLogger().addHandler(DingTalkHandler("ops"))

Or in ``dictConfig``: ``{"class": "dingqueue.logging.DingTalkHandler", "level": "ERROR", "destination": "ops"}``. A Celery
worker takes the root logger over; there it is added in the signal ``after_setup_logger``.
"""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import socket
import sys
import threading
import time
import traceback
import weakref
from collections import deque
from dataclasses import dataclass

from dingqueue import outbox
from dingqueue.arguments import People
from dingqueue.client import Client
from dingqueue.errors import DingqueueError, EnqueueFailed, LaneFull
from dingqueue.jobs import send_job

#: Records that may wait for the thread that sends; more are counted and dropped.
_WAITING = 1_000
#: While Redis is away the oldest record is offered again this often, for so long.
_AGAIN_S = 5.0
_GIVE_UP_S = 300.0
#: How often it says on stderr that records could not be handed over.
_COMPLAIN_EVERY_S = 60.0
#: The end of a traceback tells most.
_TRACEBACK_CHARS = 3_000
#: Kinds of records whose last time is remembered.
_MOST_KINDS = 1_000


@dataclass(frozen=True, slots=True)
class _Note:
    """A record as it will be read: formatted where it was logged, since its arguments may change."""

    text: str
    kind: str
    at_s: float


class DingTalkHandler(logging.Handler):
    """Sends records to a destination, from a thread of its own.

    Identical records within `same_s` are one message for the whole fleet, and a process sends at most `per_minute`
    messages: what was not sent is counted in the next one. Records of ``dingqueue`` itself and of the threads that send
    are not sent. What goes wrong is said on stderr, once a minute.

    Args:
        destination: A name of the fleet's configuration.
        level: Least level that is sent.
        client: Hands over the messages; default is ``Client()``. Its URLs are checked here, and nothing connects.
        mention: Whom to ring, as for ``Client.send``.
        urgent: Goes before all that is not.
        same_s: Identical are records of one logger and level with the same text, and the same kind of exception.
        per_minute: Messages of this process in any minute.
        expires_s: Not worth sending later than this.
        flush_s: ``flush``, which ``logging`` also calls when the process ends, waits this long at most.
    """

    def __init__(
        self,
        destination: str,
        level: int | str = logging.ERROR,
        *,
        client: Client | None = None,
        mention: People = (),
        urgent: bool = False,
        same_s: float = 300.0,
        per_minute: int = 6,
        expires_s: float = 3_600.0,
        flush_s: float = 2.0,
    ) -> None:
        if per_minute < 1 or not 0 < same_s < float("inf"):
            raise ValueError("per_minute: at least 1; same_s: a number of seconds above 0")
        send_job(destination, "probe", mention=mention, urgent=urgent, expires_s=expires_s)  # mistakes show at boot
        super().__init__(level)
        self._destination, self._mention, self._urgent = destination, mention, urgent
        self._same_s, self._per_minute, self._expires_s, self._flush_s = same_s, per_minute, expires_s, flush_s
        self._client, self._owns_client = client or Client(), client is None
        self._host = socket.gethostname()
        self._forget()
        _handlers.add(self)

    def _forget(self) -> None:
        """Begin as a process without a past: what its parent has to send the parent sends."""
        self._notes: queue.Queue[_Note] = queue.Queue(_WAITING)
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._closing = threading.Event()
        #: Records that found no room, and how many of them a message has told; each is counted by one thread only.
        self._dropped = self._dropped_told = 0
        self._unsent = 0
        self._late = False
        self._said: dict[str, float] = {}
        self._sent_s: deque[float] = deque(maxlen=self._per_minute)
        self._complained_s = -_COMPLAIN_EVERY_S

    def emit(self, record: logging.LogRecord) -> None:
        """Note a record. Takes microseconds, whatever Redis does."""
        if record.name.partition(".")[0] == "dingqueue" or threading.current_thread().name.startswith("dingqueue"):
            return
        try:
            note = self._note(record)
            if outbox.current():  # a test looks at once
                self._send(note)
                return
            self._notes.put_nowait(note)
            self._start()
        except queue.Full:
            self._dropped += 1
        except Exception as error:  # noqa: BLE001 - a log line must never end what logs it
            self._complain(f"{type(error).__name__} while a record was formatted")

    def flush(self) -> None:
        """Wait until all is handed over, or `flush_s` has passed."""
        deadline_s = time.monotonic() + self._flush_s
        with self._notes.all_tasks_done:
            while self._notes.unfinished_tasks and (left_s := deadline_s - time.monotonic()) > 0:
                self._notes.all_tasks_done.wait(left_s)
            self._late = self._notes.unfinished_tasks > 0

    def close(self) -> None:
        """Flush, and end the thread."""
        if not self._late:  # logging flushes first: nobody waits twice
            self.flush()
        self._closing.set()
        if self._owns_client:
            self._client.close()
        super().close()

    def format(self, record: logging.LogRecord) -> str:
        """What people read: your formatter's text; without one the level, where it was logged, and why."""
        if self.formatter is not None:
            return super().format(record)
        lines = [f"{record.levelname} {record.name} on {self._host}", record.getMessage()]
        if record.exc_info and record.exc_info[0] is not None:
            told = "".join(traceback.format_exception(*record.exc_info))
            cut = told[-_TRACEBACK_CHARS:].partition("\n")[2] if len(told) > _TRACEBACK_CHARS else told
            lines += ["".join(traceback.format_exception_only(*record.exc_info[:2])).strip(), "", cut.rstrip()]
        if record.stack_info:
            lines += ["", record.stack_info[-_TRACEBACK_CHARS:]]
        return "\n".join(lines)

    def same(self, record: logging.LogRecord) -> str:
        """What identical records have in common; override it to fold more, or less, into one message."""
        kind = record.exc_info[0].__qualname__ if record.exc_info and record.exc_info[0] else ""
        return f"{record.name}\0{record.levelno}\0{record.getMessage()}\0{kind}"

    def _note(self, record: logging.LogRecord) -> _Note:
        kind = hashlib.sha256(self.same(record).encode(errors="replace")).hexdigest()[:32]
        return _Note(self.format(record), kind, record.created)

    # --- The thread ---------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            return
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                self._closing.clear()
                self._thread = threading.Thread(target=self._run, name="dingqueue-logging", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # the interpreter ends: what bounds the client must do
                    self._take(wait_s=0.0)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._take(wait_s=1.0)

    def _take(self, *, wait_s: float) -> None:
        try:
            note = self._notes.get(timeout=wait_s) if wait_s else self._notes.get_nowait()
        except queue.Empty:
            return
        try:
            self._send(note)
        except Exception as error:  # noqa: BLE001 - the thread must live on
            self._complain(f"{type(error).__name__} while a record was sent")
        finally:
            self._notes.task_done()

    def _send(self, note: _Note) -> None:
        now_s = time.monotonic()
        again = now_s - self._said.get(note.kind, float("-inf")) < self._same_s
        full = len(self._sent_s) == self._per_minute and now_s - self._sent_s[0] < 60.0
        if again or full:
            self._unsent += 1
            return
        unsent, dropped = self._unsent, self._dropped
        others = unsent + dropped - self._dropped_told
        more = f"\n\n({others:,} more records since the last message)" if others else ""
        # One window for the fleet: a process that logs the same in it enqueues the same job.
        key = f"log:{note.kind}:{int(note.at_s // self._same_s)}"
        if not self._hand_over(f"{note.text.strip() or '(an empty record)'}{more}", key):
            self._unsent += 1
            return
        self._unsent -= unsent
        self._dropped_told = dropped
        self._sent_s.append(now_s)
        self._said.pop(note.kind, None)
        self._said[note.kind] = now_s
        if len(self._said) > _MOST_KINDS:
            del self._said[next(iter(self._said))]

    def _hand_over(self, text: str, key: str) -> bool:
        give_up_s = time.monotonic() + _GIVE_UP_S
        while True:
            try:
                self._client.send(
                    self._destination, text, mention=self._mention, urgent=self._urgent, too_long="shorten",
                    expires_s=self._expires_s, key=key,
                )  # fmt: skip
            except LaneFull as error:
                self._complain(str(error))
                return False
            except EnqueueFailed as error:
                self._complain(str(error))
                if time.monotonic() >= give_up_s or self._closing.wait(_AGAIN_S):
                    return False
            except DingqueueError as error:  # no destination of that name, as far as the fleet has said by now
                self._complain(str(error))
                return False
            else:
                return True

    def _complain(self, problem: str) -> None:
        now_s = time.monotonic()
        if logging.raiseExceptions and now_s - self._complained_s >= _COMPLAIN_EVERY_S and sys.stderr:
            self._complained_s = now_s
            sys.stderr.write(f"dingqueue: log records for {self._destination} are not handed over: {problem}\n")


_handlers: weakref.WeakSet[DingTalkHandler] = weakref.WeakSet()


def _forked() -> None:
    for handler in list(_handlers):
        handler._forget()


os.register_at_fork(after_in_child=_forked)
