"""A sandbox for tests: started in a child process, set up and read through its control API.

    with Sandbox() as sandbox:
        space = sandbox.namespace()
        robot = space.robot("a-token", name="ops", keywords=["disk"])
        …                                       # DINGQUEUE_OAPI_URL=space.oapi_url, DINGQUEUE_API_URL=space.api_url
        (message,) = space.messages(count=1)
        assert message.text == "disk full"

Needs only the standard library here; the child needs ``dingqueue[sandbox]``.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from dingqueue_worker import children

_READY_WITHIN_S = 20.0
_ANSWERS_WITHIN_S = 10.0
#: One long poll; longer waits are several.
_POLL_S = 20.0


class SandboxFailed(Exception):
    """The sandbox did not start, or refused what it was told; the text says why."""


class NotArrived(AssertionError):
    """Fewer messages than expected came in time; the text says what came instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Robot:
    """A robot of a space.

    Attributes:
        token: For the webhook's ``access_token``.
        name: In the sandbox; messages and numbers go by it.
        secret: None where it does not sign.
        webhook: The whole URL, as a group's settings page would show it.
    """

    token: str = field(repr=False)
    name: str
    secret: str | None = field(default=None, repr=False)
    webhook: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A request to DingTalk, as the sandbox noted it.

    Attributes:
        number: Order of arrival in the space, from 1.
        at_ms: When, by the space's clock, Unix milliseconds.
        state: ``accepted``, ``double`` (taken, not shown again), ``refused`` (by a rule), ``failed`` (by a fault).
        robot: Its name; None where the token belongs to none.
        group: The group that sees it.
        kind: ``text``, ``markdown``, …; None where the body could not be read.
        text: What people read.
        rings: Numbers and user ids that ring, and ``everyone``.
        uuid: Its ``msgUuid``.
        double_of: The number of the message whose ``msgUuid`` it repeats.
        errcode: DingTalk's answer; 0 is taken.
        errmsg: Its words.
        reason: In plain words, what was wrong.
        warnings: What people will not see or hear as the sender may think.
        body: The parsed body, None where it is no JSON.
        raw: The body as text.
        size_bytes: Of the body as sent.
        connection: The sender's address and port: the same is the same connection.
        fault: The kind of fault that was played on it.
        answered: False where the answer was lost on purpose.
        data: Everything, as the control API gave it.
    """

    number: int
    at_ms: int
    state: str
    robot: str | None
    group: str | None
    kind: str | None
    text: str
    rings: tuple[str, ...]
    uuid: str | None
    double_of: int | None
    errcode: int
    errmsg: str
    reason: str
    warnings: tuple[str, ...]
    body: Any
    raw: str
    size_bytes: int
    connection: str
    fault: str | None
    answered: bool
    data: Mapping[str, Any] = field(repr=False)


def _message(data: Mapping[str, Any]) -> Message:
    fields = {name: data[name] for name in Message.__dataclass_fields__ if name != "data"}
    return Message(**fields | {"rings": tuple(data["rings"]), "warnings": tuple(data["warnings"])}, data=data)


class Space:
    """Robots, clock, faults and messages that no other space sees. Safe to use from several threads."""

    def __init__(self, url: str) -> None:
        """Talk to a space.

        Args:
            url: Its base URL (``http://127.0.0.1:8025/ns/mine``); a sandbox's root is a space too.
        """
        self.url = url.rstrip("/")

    @property
    def oapi_url(self) -> str:
        """For ``DINGQUEUE_OAPI_URL``."""
        return self.url

    @property
    def api_url(self) -> str:
        """For ``DINGQUEUE_API_URL``."""
        return self.url

    @property
    def environ(self) -> dict[str, str]:
        """Both URLs as environment variables."""
        return {"DINGQUEUE_OAPI_URL": self.oapi_url, "DINGQUEUE_API_URL": self.api_url}

    def robot(
        self,
        token: str | None = None,
        *,
        name: str | None = None,
        group: str = "sandbox group",
        secret: str | None = None,
        keywords: Sequence[str] = (),
        allow_ips: Sequence[str] = (),
        limit: int = 20,
        window_s: float = 60.0,
        cooldown_s: float = 600.0,
        month: int | None = None,
        state: str = "on",
        external: bool = False,
    ) -> Robot:
        """Add a robot, or give the one with this token other settings.

        Args:
            token: A new one where it is None.
            name: As messages will name it; the token's end where it is None.
            group: The group that sees its messages.
            secret: It signs, with this.
            keywords: A message must hold one of them.
            allow_ips: Addresses or CIDR networks that may send.
            limit: Messages in any `window_s`; one more mutes the robot for `cooldown_s`.
            window_s: Seconds.
            cooldown_s: Seconds.
            month: Its quota of a calendar month.
            state: ``on``, ``disabled``, ``removed`` or ``group gone``.
            external: Its group has people of other organisations: nobody is rung.
        """
        token = token or uuid.uuid4().hex * 2
        settings = {
            "token": token, "name": name or f"robot-{token[-6:]}", "group": group, "secret": secret,
            "keywords": list(keywords), "allow_ips": list(allow_ips), "limit": limit, "window_s": window_s,
            "cooldown_s": cooldown_s, "month": month, "state": state, "external": external,
        }  # fmt: skip
        self.call("PUT", "robots", settings)
        webhook = f"{self.oapi_url}/robot/send?{urlencode({'access_token': token})}"
        return Robot(token=token, name=str(settings["name"]), secret=secret, webhook=webhook)

    def messages(
        self,
        count: int | None = None,
        *,
        wait_s: float = 10.0,
        robot: str | Robot | None = None,
        state: str = "accepted",
        after: int = 0,
    ) -> list[Message]:
        """What came, in the order of arrival.

        Args:
            count: Wait until there are at least so many; None is whatever is there now.
            wait_s: For so long.
            robot: Only this robot's.
            state: ``accepted``, ``double``, ``refused``, ``failed``, several with commas, or ``any``.
            after: Only those with a higher number.

        Raises:
            NotArrived: Fewer came in time.
            SandboxFailed: The sandbox has forgotten some of them: it keeps 20,000 of a space.
        """
        fields: dict[str, Any] = {"state": state}
        if robot is not None:
            fields["robot"] = robot.name if isinstance(robot, Robot) else robot
        deadline_s = time.monotonic() + wait_s
        while True:
            left_s = max(0.0, min(_POLL_S, deadline_s - time.monotonic()))
            found = self._pages(fields, after, {"count": count, "wait_s": left_s} if count else {})
            if count is None or len(found) >= count:
                return found
            if time.monotonic() >= deadline_s:
                raise NotArrived(self._what_came(len(found), count, wait_s, state))

    def _pages(self, fields: Mapping[str, Any], after: int, waiting: Mapping[str, Any]) -> list[Message]:
        found: list[Message] = []
        more: Mapping[str, Any] = waiting
        while True:
            page = self.call("GET", f"messages?{urlencode({**fields, 'after': after, **more})}")
            if page["forgotten"] > after:
                raise SandboxFailed("messages have been forgotten: make the namespace with a larger `keep`")
            found.extend(_message(one) for one in page["messages"])
            if not page["more"]:
                return found
            after, more = found[-1].number, {}

    def _what_came(self, found: int, count: int, wait_s: float, state: str) -> str:
        stats = self.stats()
        rest = ", ".join(f"{stats[name]} {name}" for name in ("accepted", "double", "refused", "failed"))
        refusals = self.messages(state="refused")[-3:]
        why = "".join(f"; refused: {one.errcode} {one.reason or one.errmsg}" for one in refusals)
        return f"{found} of {count} messages ({state}) within {wait_s:g} s; the space has {rest}{why}"

    def stats(self) -> dict[str, Any]:
        """Numbers of the space, and of each robot by its name.

        ``attempts`` is every request, ``max_in_window`` the most of them in any window, whatever became of them.
        """
        data: dict[str, Any] = self.call("GET", "stats")
        return data

    def fault(
        self,
        kind: str,
        *,
        times: int | None = None,
        probability: float | None = None,
        seed: int = 0,
        sender: str | Robot | None = None,
        **more: Any,
    ) -> None:
        """Play a failure, after those that are there already.

        Args:
            kind: ``errcode`` (`errcode`, `errmsg`), ``code`` (newer host: `errcode`, `errmsg`, `status`), ``status``
                (`status`, `body`, `content_type`), ``html``, ``redirect`` (`location`), ``ban``, ``empty``, ``slow``
                (taken, answered after `delay_s`), ``lost`` (taken, then the connection is reset), ``reset`` (not
                taken), ``pass`` (nothing).
            times: Requests that it strikes; one, or with a `probability` all until a reset.
            probability: Strikes with this chance.
            seed: The chance's, for a run that can be repeated.
            sender: Only this robot's (or app's) requests.
            more: As above, and ``accept=True``: taken all the same; ``delay_s``; ``path``: only paths that begin so.
        """
        settings: dict[str, Any] = {"kind": kind, "probability": probability, "seed": seed, **more}
        if times is not None:
            settings["times"] = times
        if sender is not None:
            settings["sender"] = sender.name if isinstance(sender, Robot) else sender
        self.call("POST", "faults", settings)

    def clear_faults(self) -> None:
        """Play nothing any more."""
        self.call("DELETE", "faults")

    def rules(self, **changes: Any) -> dict[str, Any]:
        """Where nobody knows how DingTalk behaves, which truth to play; the rules as they are then."""
        data: dict[str, Any] = self.call("PUT", "rules", changes)
        return data

    def set_clock(self, at_ms: int | None = None, *, stands: bool = False) -> int:
        """Set the space's clock.

        Args:
            at_ms: Unix milliseconds; None is the machine's time.
            stands: It then moves only by `advance`.

        Returns:
            What it shows.
        """
        now_ms: int = self.call("PUT", "clock", {"at_ms": at_ms, "stands": stands})["now_ms"]
        return now_ms

    def advance(self, seconds: float) -> int:
        """Put the clock forward; what it then shows, Unix milliseconds."""
        now_ms: int = self.call("POST", "clock/advance", {"s": seconds})["now_ms"]
        return now_ms

    def now_ms(self) -> int:
        """What the space's clock shows."""
        now_ms: int = self.call("GET", "clock")["now_ms"]
        return now_ms

    def reset(self) -> None:
        """Forget messages, faults, windows and mutes; the clock is the machine's again, robots stay."""
        self.call("POST", "reset", {})

    def delete(self) -> None:
        """Forget the space."""
        root, _, name = self.url.rpartition("/ns/")
        if not root:
            raise SandboxFailed("the space at the root stays")
        Space(root).call("DELETE", f"namespaces/{name}")

    def call(self, method: str, what: str, data: Any = None) -> Any:
        """One request to the control API, JSON in and out.

        Raises:
            SandboxFailed: Refused, or not reachable.
        """
        base = urlsplit(self.url)
        body = None if data is None else json.dumps(data).encode()
        timeout_s = _ANSWERS_WITHIN_S + _POLL_S
        # No library and no proxy: the sandbox is on this machine, or a neighbour's name in a compose file.
        connection = http.client.HTTPConnection(base.hostname or "", base.port or 80, timeout=timeout_s)
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, f"{base.path}/_sandbox/{what}", body, headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise SandboxFailed(f"the sandbox at {base.netloc} did not answer: {type(error).__name__}") from error
        finally:
            connection.close()
        if response.status >= 400:
            raise SandboxFailed(str(answer.get("error") or answer.get("errmsg") or response.status))
        return answer


class Sandbox:
    """A sandbox in a child process on a free port; it ends with us, whatever happens."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="dingqueue-sandbox-")
        self._child: Popen[bytes] | None = None
        self.url = ""

    def start(self) -> Self:
        """Start it and wait until it answers.

        Raises:
            SandboxFailed: It did not; the text has what it printed.
        """
        ready = Path(self._folder.name) / "ready"
        log = os.open(self._log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        command = [sys.executable, "-m", "dingqueue_worker.sandbox", "--port", "0", "--ready-file", str(ready)]
        try:
            self._child = children.start(command, output=log)
        finally:
            os.close(log)
        pause, deadline_s = threading.Event(), time.monotonic() + _READY_WITHIN_S
        while not ready.exists():
            if self._child.poll() is not None or time.monotonic() > deadline_s:
                printed = self._log.read_text(errors="replace")[-800:]
                self.stop()
                raise SandboxFailed(f"the sandbox did not start: {printed}")
            pause.wait(0.01)
        self.url = ready.read_text()
        return self

    @property
    def _log(self) -> Path:
        return Path(self._folder.name) / "log"

    @property
    def root(self) -> Space:
        """The space at the root: any token is a new robot there."""
        return Space(self.url)

    def namespace(self, name: str | None = None, **rules: Any) -> Space:
        """A new space.

        Args:
            name: Letters, digits, ``-`` and ``_``; a new one where it is None.
            rules: Where nobody knows how DingTalk behaves, which truth to play (``doubles="show"``, …).
        """
        name = name or uuid.uuid4().hex[:12]
        self.root.call("POST", "namespaces", {"name": name, "rules": rules})
        return Space(f"{self.url}/ns/{name}")

    def stop(self) -> None:
        """End it."""
        if self._child:
            children.stop(self._child, grace_s=5.0)
            self._child = None
        self._folder.cleanup()

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()
