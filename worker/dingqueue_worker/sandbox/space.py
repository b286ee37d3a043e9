"""A space: robots, a clock, faults and messages that no other space sees. Knows no HTTP library.

One thread calls it (the server's event loop), so it needs no locks. It is also what the benchmarks post against: what
every message passes through does no more than the rules need, and pages work out the rest when somebody looks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from dingqueue_worker.sandbox import app_robots, media, notices, people, todos, webhook
from dingqueue_worker.sandbox.calls import CHATS, Done, Refused, Way
from dingqueue_worker.sandbox.limits import Peak, Window
from dingqueue_worker.sandbox.model import STATES, App, Fault, Moment, Robot, Rules, State
from dingqueue_worker.sandbox.organisation import ApiRequest, AppState, Organisation, is_newer, is_token_call
from dingqueue_worker.sandbox.webhook import Request, Verdict

#: Robots that ``any_token`` makes; more than that is somebody guessing.
MAX_UNASKED_ROBOTS = 1_000
#: A window with more places is not worth a picture.
_MAX_PICTURE = 200
#: Every call that is not a webhook robot's.
ROUTES = (*app_robots.ROUTES, *notices.ROUTES, *todos.ROUTES, *media.ROUTES, *people.ROUTES)
_JSON = "application/json;charset=UTF-8"
#: What a block at the edge has been seen to answer.
_BAN = {"status": 1111, "wait": 5, "source": "x5", "punish": "deny", "uuid": "7f3c9a14d2"}
_PAGE = "<!DOCTYPE html><html><head><title>Access denied</title></head><body><h1>405</h1><p>Your request has been blocked.</p></body></html>"


@dataclass(slots=True)
class Message:
    """One request, and what became of it.

    Attributes:
        number: Counts up in a space, in the order of arrival.
        at_ms: Arrival, by the space's clock.
        way: What it was for.
        sender: None where the token belongs to nobody.
        token: Masked.
        body: As it came; empty for uploads and tokens, which are not kept.
        size_bytes: Of the body as it came.
        connection: The far side's address and port; the same port is the same connection.
        fault: The kind of fault it met.
        answered: False where the answer was lost on purpose.
        double_of: The number of the message with the same ``msgUuid``.
        places_ms: When the places of the robot's window were taken that were in use before it.
    """

    number: int
    at_ms: int
    state: State
    verdict: Verdict
    way: Way
    sender: RobotState | AppState | None
    token: str
    body: bytes
    size_bytes: int
    method: str
    path: str
    query: str
    content_type: str
    connection: str
    fault: str | None
    answered: bool
    double_of: int | None
    places_ms: tuple[int, ...] | None
    #: A webhook robot's settings, the space's rules and the answer at that time.
    settings: Robot | None
    rules: Rules
    reply: Reply
    #: What an app's call did.
    done: Done | None = None
    #: In lower case, for searches; made when it is first searched.
    haystack: str | None = None

    @property
    def name(self) -> str | None:
        """What its sender is called, None where nobody knows the token."""
        return self.sender.name if self.sender else None

    @property
    def place(self) -> str | None:
        """The group that sees it; an app's conversation by its id."""
        if self.settings:
            return self.settings.group
        return self.done.place or None if self.done else None


@dataclass(slots=True)
class RobotState:
    """A robot and what has happened to it."""

    robot: Robot
    window: Window
    peak: Peak
    attempts: int = 0
    states: Counter[State] = field(default_factory=Counter)
    errcodes: Counter[int | str] = field(default_factory=Counter)
    #: msgUuid -> number of the message that carried it first.
    uuids: dict[str, int] = field(default_factory=dict)
    month: tuple[int, int] = (0, 0)
    in_month: int = 0

    @property
    def name(self) -> str:
        """What it is called in the sandbox."""
        return self.robot.name


Sender = RobotState | AppState


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What goes back over HTTP.

    Attributes:
        status: HTTP status.
        body: The bytes.
        content_type: Of the body.
        headers: More of them.
        delay_s: Wait before the answer.
        reset: No answer at all: the connection is reset.
    """

    status: int = 200
    body: bytes = b""
    content_type: str = _JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()
    delay_s: float = 0.0
    reset: bool = False


@dataclass(slots=True)
class _Live:
    fault: Fault
    left: int | None
    chance: random.Random
    struck: int = 0


class Clock:
    """Unix milliseconds: the machine's own clock, shifted, or standing."""

    def __init__(self) -> None:
        self._shift_ms = 0
        self._stands_at_ms: int | None = None

    def now_ms(self) -> int:
        """The moment it shows."""
        if self._stands_at_ms is not None:
            return self._stands_at_ms
        return time.time_ns() // 1_000_000 + self._shift_ms

    @property
    def stands(self) -> bool:
        """Whether it moves only when told."""
        return self._stands_at_ms is not None

    @property
    def shift_s(self) -> int:
        """How far it is ahead of the machine's, in whole seconds."""
        return round((self.now_ms() - time.time_ns() // 1_000_000) / 1_000)

    def set(self, moment: Moment) -> None:
        """Show that moment now."""
        machine_ms = time.time_ns() // 1_000_000
        at_ms = machine_ms if moment.at_ms is None else moment.at_ms
        self._shift_ms = at_ms - machine_ms
        self._stands_at_ms = at_ms if moment.stands else None

    def advance(self, ms: int) -> None:
        """Go forward."""
        self._shift_ms += ms
        if self._stands_at_ms is not None:
            self._stands_at_ms += ms


class Conflict(Exception):
    """The change does not fit what is there; the text says why."""


class Space:
    """Robots, a clock, faults and messages that no other space sees."""

    def __init__(self, name: str, rules: Rules) -> None:
        self.name = name
        self.rules = rules
        self.clock = Clock()
        self.robots: dict[str, RobotState] = {}
        self.messages: deque[Message] = deque(maxlen=rules.keep)
        #: What a request was for -> how many of each state.
        self.totals: dict[Way, Counter[State]] = defaultdict(Counter)
        self.organisation = Organisation(ROUTES)
        self._faults: list[_Live] = []
        self._next = 1
        self._unasked = 0
        self._watchers: set[asyncio.Event] = set()

    def reset(self) -> None:
        """Forget messages, faults, windows and mutes, and set the clock right; robots stay."""
        self.clock = Clock()
        self._faults.clear()
        self.messages.clear()
        self.totals.clear()
        self._next = 1
        for token, state in list(self.robots.items()):
            self.robots[token] = _new_state(state.robot)
        self.organisation.reset()
        self._wake()

    # --- Robots -------------------------------------------------------------------------------------------------

    def put_robot(self, robot: Robot) -> None:
        """Add a robot, or give the one with this token new settings; what it has sent stays.

        Raises:
            Conflict: Another robot has this name.
        """
        known = self.robots.get(robot.token)
        if self.named(robot.name) not in (None, known):
            raise Conflict(f"name: another sender of this space is called {robot.name!r}")
        if known is None:
            self.robots[robot.token] = _new_state(robot)
            return
        before = known.robot
        known.robot = robot
        if (robot.limit, robot.window_s, robot.cooldown_s) != (before.limit, before.window_s, before.cooldown_s):
            fresh = _new_state(robot)
            known.window, known.peak = fresh.window, fresh.peak

    def put_app(self, app: App) -> None:
        """Add an app, or give the one with this key new settings.

        Raises:
            Conflict: Another sender has this name.
        """
        known = self.named(app.name)
        if known is not None and known is not self.organisation.apps.get(app.key):
            raise Conflict(f"name: another sender of this space is called {app.name!r}")
        self.organisation.put_app(app)

    def named(self, name: str) -> Sender | None:
        """The robot or app with this name."""
        senders: list[Sender] = [*self.robots.values(), *self.organisation.apps.values()]
        return next((state for state in senders if state.name == name), None)

    # --- Faults -------------------------------------------------------------------------------------------------

    def add_fault(self, fault: Fault) -> None:
        """Play it, after the faults that are there already."""
        # The stream is for a run that can be repeated, not for secrecy.
        self._faults.append(_Live(fault, fault.times, random.Random(fault.seed)))  # noqa: S311

    def clear_faults(self) -> None:
        """Play nothing any more."""
        self._faults.clear()

    def faults(self) -> list[dict[str, Any]]:
        """What is still to be played."""
        return [
            live.fault.model_dump(exclude_defaults=True) | {"left": live.left, "struck": live.struck}
            for live in self._faults
        ]

    def _strike(self, path: str, sender: str | None) -> Fault | None:
        for live in self._faults:
            fault = live.fault
            if fault.sender is not None and fault.sender != sender:
                continue
            if fault.path is not None and not path.startswith(fault.path):
                continue
            if fault.probability is not None and live.chance.random() >= fault.probability:
                continue
            live.struck += 1
            if live.left is not None:
                live.left -= 1
                if not live.left:
                    self._faults.remove(live)
            return fault
        return None

    # --- POST /robot/send ---------------------------------------------------------------------------------------

    def robot_send(self, request: Request, connection: str) -> Reply:
        """One request to a robot: judged, noted, answered."""
        now_ms = self.clock.now_ms()
        fields = webhook.fields_of(request.query)
        token = fields.get("access_token", [""])[0]
        state = self.robots.get(token)
        if state is None and token and self.rules.any_token and self._unasked < MAX_UNASKED_ROBOTS:
            state = self._unasked_robot(token)
        fault = self._strike("/robot/send", state.robot.name if state else None) if self._faults else None
        if state:
            state.attempts += 1
            state.peak.add(now_ms)
        places_ms = state.window.taken_ms(now_ms) if state and state.window.limit <= _MAX_PICTURE else None
        double_of = None
        judged: State = "failed"
        if fault and not fault.accept:
            verdict = Verdict(0, "", f"a fault was played: {fault.kind}")
        else:
            verdict, double_of = self._judge(request, fields, state, now_ms)
            judged = "refused" if verdict.errcode else "double" if double_of is not None else "accepted"
        reply = self._older_reply(verdict)
        if fault:
            reply, judged = self._with_fault(fault, reply, judged)
        message = Message(
            number=self._next,
            at_ms=now_ms,
            state=judged,
            verdict=verdict,
            way="webhook",
            sender=state,
            token=mask(token),
            body=request.body,
            size_bytes=len(request.body),
            method=request.method,
            path="/robot/send",
            query=request.query,
            content_type=request.content_type,
            connection=connection,
            fault=fault.kind if fault else None,
            answered=fault is None or fault.kind not in {"lost", "reset"},
            double_of=double_of,
            places_ms=places_ms,
            settings=state.robot if state else None,
            rules=self.rules,
            reply=reply,
        )
        self._note(message)
        return reply

    def _judge(
        self, request: Request, fields: Mapping[str, list[str]], state: RobotState | None, now_ms: int
    ) -> tuple[Verdict, int | None]:
        """DingTalk's verdict, and the number of the message that this one repeats."""
        rules = self.rules
        verdict = webhook.check_envelope(request, fields)
        if verdict.errcode:
            return verdict, None
        if state is None:
            return webhook.no_robot(rules), None
        robot = state.robot
        verdict = webhook.check_robot(robot)
        if verdict.errcode:
            return verdict, None
        why = state.window.refuses(now_ms, extend=rules.mute_extends)
        if why:
            return webhook.too_fast(rules, why), None
        if rules.counts == "attempts":
            state.window.take(now_ms)
        verdict = webhook.check_security(robot, rules, fields, request, now_ms)
        if verdict.errcode:
            return verdict, None
        verdict, body = webhook.check_message(robot, rules, request.body)
        if verdict.errcode or body is None:
            return verdict, None
        if not self.organisation.take_of_month("webhook", rules.webhook_month, now_ms):
            why = f"the organisation's {rules.webhook_month} messages of this calendar month are used up"
            return Verdict(90030, "webhook over limit", why).at("quota"), None
        if robot.month is not None and not self._month_has_room(state, now_ms):
            why = f"the robot's quota of {robot.month} messages in a calendar month is used up"
            return Verdict(90030, "webhook over limit", why).at("quota"), None
        if rules.counts == "accepted":
            state.window.take(now_ms)
        uuid = body.get("msgUuid")
        if uuid is None:
            return webhook.OK, None
        first = state.uuids.setdefault(uuid, self._next)
        return webhook.OK, first if first != self._next and rules.doubles == "suppress" else None

    def _month_has_room(self, state: RobotState, now_ms: int) -> bool:
        # The quota's month is Beijing's.
        beijing = time.gmtime(now_ms / 1_000 + 8 * 3_600)
        month = (beijing.tm_year, beijing.tm_mon)
        if state.month != month:
            state.month, state.in_month = month, 0
        if state.in_month >= (state.robot.month or 0):
            return False
        state.in_month += 1
        return True

    def _unasked_robot(self, token: str) -> RobotState:
        self._unasked += 1
        name = f"robot {self._unasked}"
        while self.named(name):
            self._unasked += 1
            name = f"robot {self._unasked}"
        state = self.robots[token] = _new_state(Robot(token=token, name=name))
        return state

    # --- Every other call -----------------------------------------------------------------------------------------

    def api(self, request: ApiRequest, connection: str) -> Reply:
        """One call of an app to either host: judged, done, noted, answered."""
        now_ms, org = self.clock.now_ms(), self.organisation
        token = org.token_of(request)
        state = org.app_of(token)
        fault = self._strike(request.path, state.name if state else None) if self._faults else None
        found = org.route(request.method, request.path)
        done: Done | None = None
        verdict, reply = webhook.OK, Reply()
        judged: State = "failed"
        if not fault or fault.accept:
            try:
                done = org.perform(request, self.rules, now_ms, self._next)
                judged = "accepted" if done.seen else "failed"
                reply = self._answer(request, dict(done.body))
            except Refused as refused:
                judged = "refused"
                verdict = Verdict(refused.code, refused.message, refused.reason, refused.assumed, refused.step)
                reply = self._refusal(request, refused)
        else:
            verdict = Verdict(0, "", f"a fault was played: {fault.kind}")
        if fault:
            reply, judged = self._with_fault(fault, reply, judged)
        secret = is_token_call(request.path)
        way: Way = found[0].way if found else "call"
        message = Message(
            number=self._next,
            at_ms=now_ms,
            state=judged,
            verdict=verdict,
            way=way,
            sender=state,
            token=mask(token),
            # A token's request has the app's secret in it, an upload many bytes.
            body=b"" if secret or way == "upload" else request.body,
            size_bytes=len(request.body),
            method=request.method,
            path=request.path,
            query=request.query,
            content_type=request.content_type,
            connection=connection,
            fault=fault.kind if fault else None,
            answered=fault is None or fault.kind not in {"lost", "reset"},
            double_of=None,
            places_ms=None,
            settings=None,
            rules=self.rules,
            reply=replace(reply, body=b"(not shown)") if secret and judged == "accepted" else reply,
            done=done,
        )
        self._note(message)
        return reply

    def _answer(self, request: ApiRequest, body: dict[str, Any]) -> Reply:
        if is_newer(request.path):
            return Reply(body=_json(body), headers=_NEWER_HEADERS)
        return self._older_reply(webhook.OK, body)

    def _refusal(self, request: ApiRequest, refused: Refused) -> Reply:
        if is_newer(request.path):
            if refused.status == 200:
                return Reply(body=_json({"errcode": refused.code, "errmsg": refused.message}))
            body = {"code": refused.code, "message": refused.message, "requestid": _REQUEST_ID}
            return Reply(status=refused.status, body=_json(body), headers=_NEWER_HEADERS)
        if not refused.gate or not request.path.startswith("/topapi/"):
            return self._older_reply(Verdict(refused.code, refused.message))
        errmsg = f"ding talk error[subcode={refused.code},submsg={refused.message}]"
        inner = {"sub_code": str(refused.code), "sub_msg": refused.message, "request_id": _REQUEST_ID}
        return self._older_reply(Verdict(88, errmsg), inner)

    def _older_reply(self, verdict: Verdict, more: Mapping[str, Any] = MappingProxyType({})) -> Reply:
        if not verdict.errcode and not more and self.rules.errcode_as == "number":
            return _OK_REPLY
        errcode = verdict.errcode if self.rules.errcode_as == "number" else str(verdict.errcode)
        return Reply(body=_json({**more, "errcode": errcode, "errmsg": verdict.errmsg}))

    def _with_fault(self, fault: Fault, reply: Reply, judged: State) -> tuple[Reply, State]:
        """The answer that the fault gives, and what became of the message."""
        if fault.kind == "swallow" and judged == "accepted":
            judged = "failed"
        return self._faulty_reply(fault, reply), judged

    def _faulty_reply(self, fault: Fault, reply: Reply) -> Reply:
        delay_s = fault.delay_s
        match fault.kind:
            case "slow" | "pass" | "swallow":
                return replace(reply, delay_s=delay_s)
            case "lost" | "reset":
                return Reply(reset=True, delay_s=delay_s)
            case "errcode":
                return Reply(body=_json({"errcode": fault.errcode, "errmsg": fault.errmsg}), delay_s=delay_s)
            case "code":
                body = {"code": str(fault.errcode), "message": fault.errmsg, "requestid": "SANDBOX"}
                return Reply(status=fault.status, body=_json(body), delay_s=delay_s)
            case "status":
                text = fault.body if fault.body is not None else f"{fault.status}\n"
                kind = fault.content_type or "text/plain"
                return Reply(status=fault.status, body=text.encode(), content_type=kind, delay_s=delay_s)
            case "html":
                text = fault.body if fault.body is not None else _PAGE
                return Reply(body=text.encode(), content_type="text/html;charset=utf-8", delay_s=delay_s)
            case "redirect":
                where = (b"location", fault.location.encode())
                return Reply(status=302, content_type="text/html", headers=(where,), delay_s=delay_s)
            case "ban":
                return Reply(body=_json(_BAN), delay_s=delay_s)
            case "empty":
                return Reply(delay_s=delay_s)

    # --- What came ----------------------------------------------------------------------------------------------

    def _note(self, message: Message) -> None:
        self._next += 1
        self.messages.append(message)
        self.totals[message.way][message.state] += 1
        sender = message.sender
        if sender:
            if message.way in CHATS:
                sender.states[message.state] += 1
            if message.verdict.errcode:
                sender.errcodes[message.verdict.errcode] += 1
        if self._watchers:
            self._wake()

    def _wake(self) -> None:
        for watcher in self._watchers:
            watcher.set()

    @contextlib.contextmanager
    def watch(self) -> Iterator[asyncio.Event]:
        """An event that is set at every change."""
        watcher = asyncio.Event()
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)

    def count(self, states: Iterable[State], sender: Sender | None, ways: Iterable[Way] = CHATS) -> int:
        """How many came in these states, kept or not; a sender's are those in chats."""
        states = tuple(states)
        if sender:
            return sum(sender.states[state] for state in states)
        return sum(self.totals[way][state] for way in ways for state in states)

    async def wait(
        self, enough: int, states: Iterable[State], sender: Sender | None, wait_s: float, ways: Iterable[Way] = CHATS
    ) -> None:
        """Until that many came, or for that long."""
        states, ways = tuple(states), tuple(ways)
        deadline_s = time.monotonic() + wait_s
        with self.watch() as watcher:
            while self.count(states, sender, ways) < enough:
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    return
                watcher.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(watcher.wait(), left_s)

    @property
    def last(self) -> int:
        """The number of the newest message, 0 where none came."""
        return self._next - 1

    def find(self, number: int) -> Message | None:
        """The message with this number, if it is still kept."""
        if not self.messages:
            return None
        index = number - self.messages[0].number
        return self.messages[index] if 0 <= index < len(self.messages) else None

    def stats(self) -> dict[str, Any]:
        """What has been counted, for the space and for each robot."""
        now_ms = self.clock.now_ms()
        robots = {
            state.robot.name: {
                "attempts": state.attempts,
                **{name: state.states[name] for name in ("accepted", "double", "refused", "failed")},
                "errcodes": {str(code): number for code, number in sorted(state.errcodes.items())},
                "max_in_window": state.peak.most,
                "limit": state.robot.limit,
                "window_s": state.robot.window_s,
                "in_window": len(state.window.taken_ms(now_ms)),
                "muted_for_s": max(0, state.window.muted_until_ms - now_ms) / 1_000,
            }
            for state in self.robots.values()
        }
        totals: dict[str, Any] = {name: self.count((name,), None) for name in STATES}
        return {
            "requests": self._next - 1,
            "kept": len(self.messages),
            **totals,
            "robots": robots,
            "apps": self.organisation.stats(),
            "todos": self.count(("accepted",), None, ("todo",)),
            "files": self.count(("accepted",), None, ("upload",)),
        }


def _new_state(robot: Robot) -> RobotState:
    window_ms = round(robot.window_s * 1_000)
    return RobotState(robot, Window(robot.limit, window_ms, round(robot.cooldown_s * 1_000)), Peak(window_ms))


def mask(token: str) -> str:
    """Enough of a token to tell two apart, not enough to use it."""
    return f"…{token[-4:]}" if len(token) >= 16 else "…"


def _json(data: Any) -> bytes:
    return json.dumps(data, ensure_ascii=False).encode()


_REQUEST_ID = "5AND-B0X0-0000-0000"
_NEWER_HEADERS = ((b"x-acs-request-id", _REQUEST_ID.encode()), (b"x-acs-trace-id", b"0"))
_OK_REPLY = Reply(body=_json({"errcode": 0, "errmsg": "ok"}))
