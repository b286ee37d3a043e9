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
from urllib.parse import quote, urlencode, urlsplit

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
class App:
    """An enterprise app of a space.

    Attributes:
        key: Its app key.
        secret: Its app secret.
        name: In the sandbox; messages and numbers go by it.
        agent_id: For work notifications.
        robot_code: For its robot's messages.
    """

    key: str
    secret: str = field(repr=False)
    name: str
    agent_id: int | None
    robot_code: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody of the space's organisation."""

    user_id: str
    union_id: str
    mobile: str | None
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Todo:
    """A todo as it stands now.

    Attributes:
        id: DingTalk's.
        app: The name of the app that made it.
        source_id: The maker's own id for it.
        subject: What is to be done.
        description: More of it.
        due_ms: Unix milliseconds.
        executors: Union ids.
        participants: Union ids.
        creator: A union id.
        url: Where it leads.
        priority: 10 low, 20, 30, 40 urgent.
        created_ms: Unix milliseconds, by the space's clock.
        number: Of the request that made it.
        done: Whether it is done.
        done_by: The union ids of those who have done their part.
        deleted: Whether it is gone.
    """

    id: str
    app: str
    source_id: str | None
    subject: str
    description: str
    due_ms: int | None
    executors: tuple[str, ...]
    participants: tuple[str, ...]
    creator: str
    url: str
    priority: int | None
    created_ms: int
    number: int
    done: bool
    done_by: tuple[str, ...]
    deleted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """An uploaded file.

    Attributes:
        media_id: As the upload gave it.
        name: As the form named it.
        kind: ``image``, ``voice``, ``video`` or ``file``.
        size_bytes: Of its content.
        sha256: Of its content, in hex.
        app: The name of the app that uploaded it.
        at_ms: Unix milliseconds, by the space's clock.
        number: Of the request that brought it.
        url: Where its bytes are.
    """

    media_id: str
    name: str
    kind: str
    size_bytes: int
    sha256: str
    app: str
    at_ms: int
    number: int
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A request to DingTalk, as the sandbox noted it.

    Attributes:
        number: Order of arrival in the space, from 1.
        at_ms: When, by the space's clock, Unix milliseconds.
        way: ``webhook``; an app's ``group``, ``people`` or ``notice``; ``todo``, ``upload`` or ``call``.
        state: ``accepted``, ``double`` (taken, not shown again), ``refused`` (by a rule), ``failed`` (by a fault).
        robot: The name of its robot or app; None where the token belongs to nobody.
        group: The group that sees it; a conversation's id for an app's robot.
        to: The user ids of those who see it, where it does not go to a group; the union ids of a todo's executors.
        key: What the answer proved it with: ``processQueryKey``, ``task_id``, a todo's id, a media id.
        note: What the answer did not say.
        recalled: Taken back by its app.
        kind: ``text``, ``markdown``, …; None where the body could not be read.
        text: What people read.
        rings: Numbers and user ids that ring, and ``everyone``.
        uuid: Its ``msgUuid``.
        double_of: The number of the message whose ``msgUuid`` it repeats.
        errcode: DingTalk's answer, a number or the newer host's word; 0 is taken.
        errmsg: Its words.
        reason: In plain words, what was wrong.
        warnings: What people will not see or hear as the sender may think.
        method: HTTP method.
        path: Of the call.
        content: What people see, in a webhook robot's fields; None where nobody sees anything.
        body: The parsed body, None where it is no JSON or not kept (uploads, tokens).
        raw: The body as text.
        size_bytes: Of the body as sent.
        connection: The sender's address and port: the same is the same connection.
        fault: The kind of fault that was played on it.
        answered: False where the answer was lost on purpose.
        data: Everything, as the control API gave it.
    """

    number: int
    at_ms: int
    way: str
    state: str
    robot: str | None
    group: str | None
    to: tuple[str, ...]
    key: str
    note: str
    recalled: bool
    kind: str | None
    text: str
    rings: tuple[str, ...]
    uuid: str | None
    double_of: int | None
    errcode: int | str
    errmsg: str
    reason: str
    warnings: tuple[str, ...]
    method: str
    path: str
    content: Any
    body: Any
    raw: str
    size_bytes: int
    connection: str
    fault: str | None
    answered: bool
    data: Mapping[str, Any] = field(repr=False)


def _message(data: Mapping[str, Any]) -> Message:
    fields = {name: data[name] for name in Message.__dataclass_fields__ if name != "data"}
    return Message(**_with_tuples(fields), data=data)


def _with_tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    lists = ("rings", "warnings", "to", "executors", "participants", "done_by")
    return {name: tuple(value) if name in lists else value for name, value in fields.items()}


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

    def app(
        self,
        key: str | None = None,
        secret: str | None = None,
        *,
        name: str | None = None,
        agent_id: int | None = None,
        robot_code: str | None = None,
        conversations: Sequence[str] = (),
        token_life_s: float = 7_200.0,
        per_second: int = 20,
        per_minute: int | None = None,
        forbidden: Sequence[str] = (),
        state: str = "on",
    ) -> App:
        """Add an enterprise app, or give the one with this key other settings.

        Args:
            key: Its app key; a new one where it is None.
            secret: Its app secret; a new one where it is None.
            name: As messages will name it; the key where it is None.
            agent_id: For work notifications.
            robot_code: For its robot's messages.
            conversations: The groups that its robot stands in; empty is every ``cid…``.
            token_life_s: How long a token holds.
            per_second: Calls to one interface in any second; one more closes that interface for a second.
            per_minute: The same for a minute, without the closing; None is no limit.
            forbidden: Calls that it has no permission for, by their path's beginning.
            state: ``stopped``: its robot may not send.
        """
        app = App(
            key=key or f"ding{uuid.uuid4().hex[:16]}",
            secret=secret or uuid.uuid4().hex,
            name=name or key or f"app-{uuid.uuid4().hex[:6]}",
            agent_id=agent_id,
            robot_code=robot_code,
        )
        settings = {
            "key": app.key, "secret": app.secret, "name": app.name, "agent_id": agent_id, "robot_code": robot_code,
            "conversations": list(conversations), "token_life_s": token_life_s, "per_second": per_second,
            "per_minute": per_minute, "forbidden": list(forbidden), "state": state,
        }  # fmt: skip
        self.call("PUT", "apps", settings)
        return app

    def person(
        self,
        user_id: str,
        *,
        union_id: str | None = None,
        mobile: str | None = None,
        name: str | None = None,
        active: bool = True,
        held_back: int = 0,
    ) -> Person:
        """Add somebody to the organisation, or change them.

        Args:
            user_id: Their staff id.
            union_id: ``union-`` and the user id where it is None.
            mobile: ``13800000000``.
            name: The user id where it is None.
            active: False where they have not joined yet or have left: nothing reaches them.
            held_back: So many of the next messages of an app's robot to them are held back as too fast.
        """
        person = Person(user_id=user_id, union_id=union_id or f"union-{user_id}", mobile=mobile, name=name or user_id)
        settings = {
            "user_id": user_id, "union_id": person.union_id, "mobile": mobile, "name": person.name, "active": active,
            "held_back": held_back,
        }  # fmt: skip
        self.call("PUT", "people", settings)
        return person

    def expire_tokens(self) -> None:
        """Every app token of the space ends now."""
        self.call("POST", "tokens/expire", {})

    def todos(self, count: int | None = None, *, wait_s: float = 10.0) -> list[Todo]:
        """Every todo as it stands now, deleted ones too, in the order in which they were made.

        Args:
            count: Wait until at least so many were made.
            wait_s: For so long.

        Raises:
            NotArrived: Fewer were made in time.
        """
        self._arrived("todos", count, wait_s)
        return [Todo(**_with_tuples(one)) for one in self.call("GET", "todos")]

    def files(self, count: int | None = None, *, wait_s: float = 10.0) -> list[File]:
        """Every uploaded file, in the order of arrival.

        Args:
            count: Wait until there are at least so many.
            wait_s: For so long.

        Raises:
            NotArrived: Fewer came in time.
        """
        self._arrived("uploads", count, wait_s)
        return [
            File(**one, url=f"{self.url}/file/{quote(one['media_id'], safe='')}") for one in self.call("GET", "files")
        ]

    def content(self, file: File) -> bytes:
        """A file's bytes."""
        return self._exchange("GET", f"/file/{quote(file.media_id, safe='')}", None)

    def calls(
        self, count: int | None = None, *, wait_s: float = 10.0, path: str = "", state: str = "any", after: int = 0
    ) -> list[Message]:
        """Every call of apps: tokens, look-ups, uploads, todos, messages, results.

        Args:
            count: Wait until there are at least so many, of every path.
            wait_s: For so long.
            path: Only those whose path begins so.
            state: ``accepted``, ``refused``, ``failed`` or ``any``.
            after: Only those with a higher number.

        Raises:
            NotArrived: Fewer came in time.
        """
        found = self._found({"ways": "calls", "state": state}, count, wait_s, after)
        return [one for one in found if one.path.startswith(path)]

    def _arrived(self, ways: str, count: int | None, wait_s: float) -> None:
        if count:
            self._found({"ways": ways, "state": "accepted"}, count, wait_s, 0)

    def messages(
        self,
        count: int | None = None,
        *,
        wait_s: float = 10.0,
        robot: str | Robot | App | None = None,
        state: str = "accepted",
        after: int = 0,
    ) -> list[Message]:
        """What people see in chats, of robots and apps, in the order of arrival.

        Args:
            count: Wait until there are at least so many; None is whatever is there now.
            wait_s: For so long.
            robot: Only this robot's or app's.
            state: ``accepted``, ``double``, ``refused``, ``failed``, several with commas, or ``any``.
            after: Only those with a higher number.

        Raises:
            NotArrived: Fewer came in time.
            SandboxFailed: The sandbox has forgotten some of them: it keeps 20,000 of a space.
        """
        fields: dict[str, Any] = {"state": state}
        if robot is not None:
            fields["robot"] = robot if isinstance(robot, str) else robot.name
        return self._found(fields, count, wait_s, after)

    def _found(self, fields: Mapping[str, Any], count: int | None, wait_s: float, after: int) -> list[Message]:
        deadline_s = time.monotonic() + wait_s
        while True:
            left_s = max(0.0, min(_POLL_S, deadline_s - time.monotonic()))
            found = self._pages(fields, after, {"count": count, "wait_s": left_s} if count else {})
            if count is None or len(found) >= count:
                return found
            if time.monotonic() >= deadline_s:
                raise NotArrived(self._what_came(len(found), count, wait_s, fields))

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

    def _what_came(self, found: int, count: int, wait_s: float, fields: Mapping[str, Any]) -> str:
        stats = self.stats()
        rest = ", ".join(f"{stats[name]} {name}" for name in ("accepted", "double", "refused", "failed"))
        refusals = self._found({**fields, "state": "refused"}, None, 0, 0)[-3:]
        why = "".join(f"; refused: {one.errcode} {one.reason or one.errmsg}" for one in refusals)
        what = fields.get("ways", "messages")
        return f"{found} of {count} {what} ({fields['state']}) within {wait_s:g} s; the space has {rest}{why}"

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
        sender: str | Robot | App | None = None,
        **more: Any,
    ) -> None:
        """Play a failure, after those that are there already.

        Args:
            kind: ``errcode`` (`errcode`, `errmsg`), ``code`` (newer host: `errcode`, `errmsg`, `status`), ``status``
                (`status`, `body`, `content_type`), ``html``, ``redirect`` (`location`), ``ban``, ``empty``, ``slow``
                (taken, answered after `delay_s`), ``lost`` (taken, then the connection is reset), ``swallow`` (answered
                as taken, and nobody ever sees it), ``reset`` (not taken), ``pass`` (nothing).
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
            settings["sender"] = sender if isinstance(sender, str) else sender.name
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
        answer = self._exchange(method, f"/_sandbox/{what}", None if data is None else json.dumps(data).encode())
        return json.loads(answer)

    def _exchange(self, method: str, path: str, body: bytes | None) -> bytes:
        base = urlsplit(self.url)
        timeout_s = _ANSWERS_WITHIN_S + _POLL_S
        # No library and no proxy: the sandbox is on this machine, or a neighbour's name in a compose file.
        connection = http.client.HTTPConnection(base.hostname or "", base.port or 80, timeout=timeout_s)
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, f"{base.path}{path}", body, headers)
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise SandboxFailed(f"the sandbox at {base.netloc} did not answer: {type(error).__name__}") from error
        finally:
            connection.close()
        if response.status >= 400:
            raise SandboxFailed(_complaint(answer) or f"HTTP {response.status}")
        return answer


def _complaint(answer: bytes) -> str:
    try:
        data = json.loads(answer)
    except ValueError:
        return answer[:200].decode(errors="replace")
    return str(data.get("error") or data.get("errmsg") or "")


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
        # Both named: the environment may say otherwise for a sandbox of its own.
        where = ["--host", "127.0.0.1", "--port", "0", "--ready-file", str(ready)]
        command = [sys.executable, "-m", "dingqueue_worker.sandbox", *where]
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
