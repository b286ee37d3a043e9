"""What a person should hear: a job that died, a sender that is broken. To the log, a destination, a function."""

from __future__ import annotations

import importlib
import logging
import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from dingqueue.contract import SendJob, Terms, Text
from dingqueue.lanes import Accepted, Call
from dingqueue_worker.settings import Fleet
from dingqueue_worker.store import DeadLetter, Event, Store, StoreUnavailable
from dingqueue_worker.telemetry import event

#: Alarms of one kind about one destination within this time are one message: a storm of deaths must not be a storm.
TOGETHER_S = 600
#: How an alarm's job is known. It raises no alarm when it dies itself, or alarms would feed on alarms.
_PREFIX = "alarm-"
_NAMESPACE = uuid.UUID("6d0f4f0e-6f7c-5a43-9c60-0a3d4c1b9e57")
_MOST_PENDING = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """What a hook is given; holds no secret and no message text.

    Attributes:
        name: ``dead`` (a job ended for good), ``broken`` (a sender's configuration is wrong; its jobs wait) or
            ``quota`` (an organisation's month of calls runs out).
        subject: The job's id, the sender's name or the quota's.
        destination: Of a dead job; empty for a sender.
        kind: ``send``, ``assign`` or ``share``; empty for a sender.
        cause: A short stable slug (``keyword``, ``content``, …).
        reason: In words, for a person.
    """

    name: str
    subject: str
    destination: str
    kind: str
    cause: str
    reason: str


Hook: TypeAlias = Callable[[Alarm], object]


class Alarms:
    """Tells each event once. Never raises: an alarm that cannot be raised is logged and the work goes on.

    Args:
        store: Where alarms for a destination are submitted like any job.
        fleet: ``on_dead`` and ``on_dead_hook``.
        dispatch: Publishes the calls that a submitted alarm allows.
        now_s: Unix time.
    """

    def __init__(
        self,
        *,
        store: Store,
        fleet: Fleet,
        dispatch: Callable[[Iterable[Call]], None],
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._to, self._dispatch, self._now_s = store, fleet.on_dead, dispatch, now_s
        self._pending: queue.Queue[Alarm] = queue.Queue(_MOST_PENDING)
        if fleet.on_dead_hook:
            # A thread of its own: a hook that hangs must hold up no attempt, and no worker's end.
            threading.Thread(
                target=self._call_hook, args=(fleet.on_dead_hook,), name="dingqueue-hook", daemon=True
            ).start()
        self._hooked = bool(fleet.on_dead_hook)

    def __call__(self, happened: Event) -> None:
        """Tell it."""
        letter = self._letter(happened.subject) if happened.name == "dead" else None
        _log(happened, letter)
        # What expired was not worth sending any more, as the job or its lane said: a line, and no alarm.
        told = self._to or self._hooked
        if happened.name == "expired" or happened.subject.startswith(_PREFIX) or not told:
            return
        try:
            alarm = _alarm(happened, letter)
            if self._hooked:
                self._pending.put_nowait(alarm)
            if self._to:
                self._submit(alarm, self._to)
        except (StoreUnavailable, queue.Full) as error:
            event("alarm not raised", level=logging.ERROR, why=f"of {happened.subject}", error=type(error).__name__)

    def _letter(self, job_id: str) -> DeadLetter | None:
        try:
            return self._store.dead_letter(job_id)
        except StoreUnavailable:
            return None

    def _submit(self, alarm: Alarm, to: str) -> None:
        about = alarm.destination or alarm.subject
        same = f"{to}\0{alarm.name}\0{about}\0{alarm.cause}\0{self._now_s() // TOGETHER_S:.0f}"
        job = SendJob(
            job_id=f"{_PREFIX}{uuid.uuid5(_NAMESPACE, same)}",
            destination=to,
            content=Text(text=_words(alarm)),
            terms=Terms(urgent=True),
        )
        # A repeat is the same alarm: told already.
        reply = self._store.submit(job)
        if isinstance(reply, Accepted):
            self._dispatch(reply.calls)

    def _call_hook(self, path: str) -> None:
        module, _, name = path.partition(":")
        hook: Hook | None = None
        while True:
            alarm = self._pending.get()
            try:
                hook = hook or getattr(importlib.import_module(module), name)
                hook(alarm)
            except Exception:  # whatever the application's function does wrong, the next alarm is still told
                logging.getLogger("dingqueue.worker").exception("on_dead_hook %s failed", path)


def _log(happened: Event, letter: DeadLetter | None) -> None:
    match happened.name:
        case "expired":
            event(
                "job expired", level=logging.WARNING, job_id=happened.subject, destination=happened.why, state="expired"
            )
        case "dead":
            event(
                "job is dead", level=logging.ERROR, job_id=happened.subject,
                destination=letter and letter.destination, kind=letter and letter.kind, state="dead",
                attempt=letter and letter.attempts, cause=letter and letter.cause, why=happened.why,
            )  # fmt: skip
        case "broken":
            event("sender is broken", level=logging.ERROR, sender=happened.subject, why=happened.why)
        case "quota":
            event("quota is running out", level=logging.ERROR, quota=happened.subject, why=happened.why)
        case other:
            event(other, level=logging.ERROR, why=f"{happened.subject}: {happened.why}")


def _alarm(happened: Event, letter: DeadLetter | None) -> Alarm:
    return Alarm(
        name=happened.name,
        subject=happened.subject,
        destination=letter.destination if letter else "",
        kind=letter.kind if letter else "",
        cause=letter.cause if letter else "",
        reason=happened.why,
    )


def _words(alarm: Alarm) -> str:
    if alarm.name == "quota":
        return f"dingqueue: {alarm.subject}: {alarm.reason}"
    if alarm.name == "broken":
        return (
            f"dingqueue: {alarm.subject} is broken\n{alarm.reason}\n"
            "Its jobs wait. Correct its table in the configuration and restart the workers."
        )
    return (
        f"dingqueue: a {alarm.kind} job to {alarm.destination} could not be delivered\n{alarm.reason}\n"
        f"dingqueue dead show {alarm.subject}\n"
        f"More of the same within {TOGETHER_S // 60} minutes: dingqueue dead list -d {alarm.destination}"
    )
