"""An organisation of apps, people, files and todos: tokens, limits and the calls of both hosts. Knows no HTTP library.

Who may call, how often and with which token is checked here, once for every call; what a call does stands in
``app_robots``, ``notices``, ``todos``, ``media`` and ``people``.
"""

from __future__ import annotations

import hashlib
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qs, unquote

from dingqueue_worker.sandbox.calls import Done, File, Refused, Way
from dingqueue_worker.sandbox.limits import Peak, Window
from dingqueue_worker.sandbox.model import App, Person, Rules, State
from dingqueue_worker.sandbox.webhook import Unreadable, read

#: Files' bytes kept in a space; the oldest are forgotten first.
MAX_FILES_BYTES = 256 * 1024 * 1024
#: Apps and people that ``any_token`` makes.
MAX_UNASKED = 1_000
_DAY_MS = 86_400_000


@dataclass(slots=True)
class Token:
    """An app's token.

    Attributes:
        app: Whose.
        until_ms: When it ends, by the space's clock.
    """

    app: AppState
    until_ms: int


@dataclass(slots=True)
class AppState:
    """An app and what has happened to it."""

    app: App
    states: Counter[State] = field(default_factory=Counter)
    errcodes: Counter[int | str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    token: str | None = None
    #: How often a new token was made, and how often one was asked for.
    tokens_made: int = 0
    tokens_asked: int = 0
    seconds: dict[str, Window] = field(default_factory=dict)
    minutes: dict[str, Window] = field(default_factory=dict)
    peaks: dict[str, Peak] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What it is called in the sandbox."""
        return self.app.name


@dataclass(slots=True)
class Todo:
    """A piece of work."""

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
    done: bool = False
    done_by: set[str] = field(default_factory=set)
    deleted: bool = False


@dataclass(slots=True)
class Sent:
    """A message of an app's robot, for recalls and read status."""

    app: AppState
    place: str
    to: tuple[str, ...]
    at_ms: int
    number: int
    recalled: bool = False


@dataclass(slots=True)
class Notice:
    """A work notification and what became of it for each of its people."""

    app: AppState
    at_ms: int
    number: int
    users: list[str]
    unread: list[str] = field(default_factory=list)
    invalid: list[str] = field(default_factory=list)
    forbidden: dict[int, list[str]] = field(default_factory=dict)
    recalled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiRequest:
    """One request to either host, apart from ``/robot/send``."""

    method: str
    path: str
    query: str
    content_type: str
    header_token: str
    body: bytes


@dataclass(slots=True, kw_only=True)
class Call:
    """A request that has passed the gate, as the handlers see it.

    Attributes:
        org: Where it is made.
        app: Who makes it.
        parts: The path's variable parts.
        query: Its fields.
        data: The body's JSON object, or its form fields.
        rules: The space's.
        now_ms: By the space's clock.
        number: Of the request in the space.
        request: As it came.
    """

    org: Organisation
    app: AppState
    parts: Mapping[str, str]
    query: Mapping[str, list[str]]
    data: Mapping[str, Any]
    rules: Rules
    now_ms: int
    number: int
    request: ApiRequest


Handler = Callable[[Call], Done]
Host = Literal["newer", "older", "older topapi"]


@dataclass(frozen=True, slots=True)
class Route:
    """A call that DingTalk knows.

    Attributes:
        method: HTTP method.
        path: With ``{parts}``.
        handler: What it does.
        way: What it is for.
        free: Counts in no monthly quota.
        body: How its body is read.
    """

    method: str
    path: str
    handler: Handler
    way: Way = "call"
    free: bool = False
    body: Literal["json", "json or form", "multipart", "none"] = "json"

    @property
    def host(self) -> Host:
        """Which spelling of errors it uses."""
        if is_newer(self.path):
            return "newer"
        return "older topapi" if self.path.startswith("/topapi/") else "older"

    @property
    def pattern(self) -> re.Pattern[str]:
        """The path as a pattern."""
        return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.path))


class Organisation:
    """Apps, people, tokens, files, todos and work notifications of one space.

    Args:
        routes: The calls that it knows.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self.apps: dict[str, AppState] = {}
        self.people: dict[str, Person] = {}
        self.tokens: dict[str, Token] = {}
        self.files: dict[str, File] = {}
        self.todos: dict[str, Todo] = {}
        self.sent: dict[str, Sent] = {}
        self.notices: dict[int, Notice] = {}
        #: (app, user, content) -> day of the last work notification; a counter of a person's day.
        self.notice_days: dict[tuple[str, str, str], int] = {}
        self.notice_counts: Counter[tuple[str, str, int]] = Counter()
        self.held_back: Counter[str] = Counter()
        self.month: tuple[int, int] = (0, 0)
        self.in_month: Counter[str] = Counter()
        self._routes = [(route, route.pattern) for route in routes]
        self._unasked = 0

    def reset(self) -> None:
        """Forget what was done; apps, people and tokens stay."""
        for name in ("files", "todos", "sent", "notices", "notice_days", "notice_counts", "in_month"):
            getattr(self, name).clear()
        for key, state in list(self.apps.items()):
            fresh = AppState(state.app, token=state.token)
            self.apps[key] = fresh
            if state.token in self.tokens:
                self.tokens[state.token].app = fresh
        for person in self.people.values():
            self.held_back[person.user_id] = person.held_back

    # --- Apps and people ------------------------------------------------------------------------------------------

    def put_app(self, app: App) -> AppState:
        """Add an app, or give the one with this key new settings."""
        state = self.apps.get(app.key)
        if state is None:
            state = self.apps[app.key] = AppState(app)
        else:
            state.app = app
            state.seconds.clear()
            state.minutes.clear()
        return state

    def put_person(self, person: Person) -> None:
        """Add somebody, or change them."""
        self.people[person.user_id] = person
        self.held_back[person.user_id] = person.held_back

    def person(self, user_id: str, rules: Rules) -> Person | None:
        """Somebody by user id."""
        known = self.people.get(user_id)
        if (
            known is None
            and rules.any_token
            and self._unasked < MAX_UNASKED
            and re.fullmatch(r"[\w.@-]{1,64}", user_id)
        ):
            self._unasked += 1
            known = Person(user_id=user_id, union_id=f"union-{user_id}", name=user_id)
            self.people[user_id] = known
        return known

    def by_union_id(self, union_id: str, rules: Rules) -> Person | None:
        """Somebody by union id."""
        found = next((one for one in self.people.values() if one.union_id == union_id), None)
        if found is None and union_id.startswith("union-"):
            return self.person(union_id.removeprefix("union-"), rules)
        return found

    def expire_tokens(self, now_ms: int) -> None:
        """Every token ends now."""
        for token in self.tokens.values():
            token.until_ms = min(token.until_ms, now_ms)

    def app_of(self, token: str) -> AppState | None:
        """Whose token it is or was."""
        known = self.tokens.get(token)
        return known.app if known else None

    # --- Calls ----------------------------------------------------------------------------------------------------

    def route(self, method: str, path: str) -> tuple[Route, Mapping[str, str]] | None:
        """The call that a path means, its parts still percent-encoded in the path and not in what is returned."""
        for route, pattern in self._routes:
            found = pattern.fullmatch(path) if route.method == method else None
            if found:
                return route, {name: unquote(part) for name, part in found.groupdict().items()}
        return None

    def token_of(self, request: ApiRequest) -> str:
        """The token where its host looks for it."""
        if is_newer(request.path):
            return request.header_token
        return parse_qs(request.query).get("access_token", [""])[0]

    def perform(self, request: ApiRequest, rules: Rules, now_ms: int, number: int) -> Done:
        """Do what the request asks for.

        Raises:
            Refused: DingTalk does not.
        """
        newer = is_newer(request.path)
        if is_token_call(request.path):
            return self._give_token(request, rules, now_ms)
        found = self.route(request.method, request.path)
        if found is None:
            raise self._no_such_call(request, newer)
        route, parts = found
        app = self._admit(request, route, now_ms)
        self._throttle(app, route, now_ms)
        self._spend(route, rules, now_ms)
        data = _read_body(route, request)
        query = parse_qs(request.query, keep_blank_values=True)
        return route.handler(
            Call(
                org=self,
                app=app,
                parts=parts,
                query=query,
                data=data,
                rules=rules,
                now_ms=now_ms,
                number=number,
                request=request,
            )
        )

    def _no_such_call(self, request: ApiRequest, newer: bool) -> Refused:
        reason = f"DingTalk, as far as the sandbox knows it, has no {request.method} {request.path[:120]}"
        if newer:
            # Seen: an errcode in a 200, on the host that otherwise answers with statuses.
            return Refused(404, "the requested resource is not found", reason, status=200, step="call")
        if request.path.startswith("/topapi/"):
            return Refused(22, "Invalid method", reason, step="call")
        return Refused(404, "the requested resource is not found", reason, step="call")

    def _admit(self, request: ApiRequest, route: Route, now_ms: int) -> AppState:
        token, newer = self.token_of(request), route.host == "newer"
        if not token:
            elsewhere = (
                "in the URL"
                if newer and "access_token=" in request.query
                else "in a header"
                if request.header_token
                else ""
            )
            wanted = "the header x-acs-dingtalk-access-token" if newer else "the URL's access_token"
            reason = f"no token in {wanted}" + (f"; it came {elsewhere}" if elsewhere else "")
            if newer:
                raise Refused(
                    "AuthenticationFailed.MissingParameter", "missing access token", reason, step="token", gate=True
                )
            if route.host == "older":
                raise Refused(41001, "missing access_token", reason, step="token", gate=True)
            raise Refused(40000, "access_token is blank", reason, step="token", gate=True)
        known = self.tokens.get(token)
        if known is None or now_ms >= known.until_ms:
            ended = known is not None
            reason = "the token has run out: ask for a new one" if ended else "no app of this space has this token"
            if newer:
                raise Refused("InvalidAuthentication", "不合法的access_token", reason, step="token", gate=True)
            if route.host == "older" and ended:
                raise Refused(42001, "access_token timeout", reason, step="token", gate=True)
            raise Refused(40014, "不合法的access_token", reason, step="token", gate=True)
        state = known.app
        if any(request.path.startswith(path) for path in state.app.forbidden):
            reason = f"the app {state.name} has no permission for this call"
            if newer:
                code = "Forbidden.AccessDenied.AccessTokenPermissionDenied"
                raise Refused(code, "permission denied", reason, status=403, step="permission", gate=True)
            raise Refused(60011, "no permission", reason, step="permission", gate=True)
        return state

    def _throttle(self, state: AppState, route: Route, now_ms: int) -> None:
        state.calls[route.path] += 1
        state.peaks.setdefault(route.path, Peak(1_000)).add(now_ms)
        newer = route.host == "newer"
        second = state.seconds.setdefault(route.path, Window(state.app.per_second, 1_000, 1_000))
        why = second.refuses(now_ms, extend=False)
        if why:
            if newer:
                code = "Forbidden.AccessDenied.QpsLimitForAppkeyAndApi"
                raise Refused(code, "qps limit for this app and api", why, status=403, step="per second", gate=True)
            raise Refused(90018, "qps limit for this app and api", why, step="per second", gate=True)
        if state.app.per_minute is not None:
            minute = state.minutes.setdefault(route.path, Window(state.app.per_minute, 60_000, 0))
            why = minute.refuses(now_ms, extend=False)
            if why:
                if newer:
                    code = "Forbidden.AccessDenied.QpmLimitForAppkeyAndApi"
                    raise Refused(code, "qpm limit for this app and api", why, status=403, step="per minute", gate=True)
                raise Refused(90018, "qpm limit for this app and api", why, step="per minute", gate=True, assumed=True)
            minute.take(now_ms)
        second.take(now_ms)

    def _spend(self, route: Route, rules: Rules, now_ms: int) -> None:
        if route.free or self.take_of_month("api", rules.api_month, now_ms):
            return
        reason = f"the organisation's {rules.api_month:,} calls of this calendar month are used up"
        if route.host == "newer":
            code = "Forbidden.AccessDenied.ApiCountLimitForOrg"
            raise Refused(code, "api count limit for this organisation", reason, status=403, step="month", gate=True)
        raise Refused(90020, "api count limit for this organisation", reason, step="month", gate=True)

    def take_of_month(self, what: str, most: int | None, now_ms: int) -> bool:
        """Count one in the calendar month, Beijing's; False where none is left."""
        beijing = time.gmtime(now_ms / 1_000 + 8 * 3_600)
        month = (beijing.tm_year, beijing.tm_mon)
        if self.month != month:
            self.month = month
            self.in_month.clear()
        if most is not None and self.in_month[what] >= most:
            return False
        self.in_month[what] += 1
        return True

    # --- Tokens ---------------------------------------------------------------------------------------------------

    def _give_token(self, request: ApiRequest, rules: Rules, now_ms: int) -> Done:
        path = request.path
        if path == "/gettoken":
            return self._gettoken(request, rules, now_ms)
        if request.method != "POST":
            raise Refused("NotFound", "not found", f"{path} wants POST", status=404, step="call", assumed=True)
        try:
            data = read(request.body)
        except Unreadable:
            data = None
        if not _is_json(request.content_type) or not isinstance(data, dict):
            raise Refused(
                "Missingbody", "body is mandatory for this action", "the body must be a JSON object", step="json"
            )
        if path == "/v1.0/oauth2/accessToken":
            for name in ("appKey", "appSecret"):
                if not isinstance(data.get(name), str) or not data[name]:
                    raise Refused(f"Missing{name}", f"{name} is mandatory for this action", f"{name} is missing")
            wrong = Refused(
                "invalidClientIdOrSecret",
                "无效的clientId或者clientSecret",
                "the app's key or secret is wrong",
                step="token",
            )
            token, life_s = self._token_for(data["appKey"], data["appSecret"], rules, now_ms, wrong)
            return Done(body={"accessToken": token, "expireIn": life_s}, note="a token")
        if data.get("grant_type") != "client_credentials":
            raise Refused("unsupported.grant.type", "unsupported grant type", 'grant_type must be "client_credentials"')
        wrong = Refused("invalid.client", "invalid client", "the app's key or secret is wrong", step="token")
        key, secret = str(data.get("client_id", "")), str(data.get("client_secret", ""))
        token, life_s = self._token_for(key, secret, rules, now_ms, wrong)
        return Done(body={"access_token": token, "expires_in": life_s}, note="a token")

    def _gettoken(self, request: ApiRequest, rules: Rules, now_ms: int) -> Done:
        fields = parse_qs(request.query)
        names = ("corpid", "corpsecret") if "corpid" in fields else ("appkey", "appsecret")
        key, secret = (fields.get(name, [""])[0] for name in names)
        if not key:
            raise Refused(40035, "missing parameter: corpid or appkey", "the URL has neither appkey nor corpid")
        if not secret:
            raise Refused(40035, f"missing parameter: {names[1]}", f"the URL has no {names[1]}")
        code = 40089 if names[0] == "corpid" else 40096
        wrong = Refused(code, "不合法的appKey或appSecret", "the app's key or secret is wrong", step="token")
        token, life_s = self._token_for(key, secret, rules, now_ms, wrong)
        return Done(body={"access_token": token, "expires_in": life_s}, note="a token")

    def _token_for(self, key: str, secret: str, rules: Rules, now_ms: int, wrong: Refused) -> tuple[str, int]:
        """The app's token, the same and longer while it holds, and its life in seconds."""
        state = self.apps.get(key)
        if state is None and rules.any_token and len(self.apps) < MAX_UNASKED:
            state = self.put_app(App(key=key, secret=secret, name=key[:200]))
        if state is None or state.app.secret != secret:
            raise wrong
        state.tokens_asked += 1
        life_ms = round(state.app.token_life_s * 1_000)
        held = self.tokens.get(state.token) if state.token else None
        if held is None or state.token is None or now_ms >= held.until_ms:
            state.token = uuid.uuid4().hex
            state.tokens_made += 1
            held = self.tokens[state.token] = Token(state, 0)
        held.until_ms = now_ms + life_ms
        return state.token, round(life_ms / 1_000)

    # --- What handlers share --------------------------------------------------------------------------------------

    def keep_file(self, file: File) -> None:
        """Keep it, and forget the oldest where there are too many bytes."""
        self.files[file.media_id] = file
        size_bytes = sum(len(one.content) for one in self.files.values())
        for media_id in list(self.files):
            if size_bytes <= MAX_FILES_BYTES or media_id == file.media_id:
                return
            size_bytes -= len(self.files.pop(media_id).content)

    def stats(self) -> dict[str, Any]:
        """What has been counted, by app."""
        return {
            state.name: {
                "calls": dict(sorted(state.calls.items())),
                "max_per_second": {path: peak.most for path, peak in sorted(state.peaks.items())},
                "errcodes": {str(code): number for code, number in sorted(state.errcodes.items(), key=str)},
                "tokens_asked": state.tokens_asked,
                "tokens_made": state.tokens_made,
                **{name: state.states[name] for name in ("accepted", "double", "refused", "failed")},
            }
            for state in self.apps.values()
        }


_TOKEN_CALL = re.compile(r"/gettoken|/v1\.0/oauth2/(?:accessToken|[^/]+/token)")


def is_token_call(path: str) -> bool:
    """Whether the call gives a token, so that its request holds a secret and its answer a token."""
    return _TOKEN_CALL.fullmatch(path) is not None


def is_newer(path: str) -> bool:
    """Whether the newer host answers it."""
    return path.startswith(("/v1.0/", "/v2.0/"))


def new_key(*parts: Any) -> str:
    """An opaque id, the same for the same parts."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:40]


def day_of(now_ms: int) -> int:
    """The day's number, Beijing's."""
    return (now_ms + 8 * 3_600_000) // _DAY_MS


def within_a_day(at_ms: int, now_ms: int) -> bool:
    """Whether it is less than 24 hours old."""
    return now_ms - at_ms < _DAY_MS


def _is_json(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "application/json"


def _read_body(route: Route, request: ApiRequest) -> Mapping[str, Any]:
    if route.body in {"none", "multipart"}:
        return {}
    if _is_json(request.content_type):
        try:
            data = read(request.body)
        except Unreadable as error:
            raise _unreadable(route, str(error)) from error
        if not isinstance(data, dict):
            raise _unreadable(route, "the body is JSON, but no object")
        return data
    if route.body == "json or form" and request.content_type.startswith("application/x-www-form-urlencoded"):
        fields = parse_qs(request.body.decode(errors="replace"), keep_blank_values=True)
        return {name: values[0] for name, values in fields.items()}
    found = request.content_type.partition(";")[0] or "none"
    raise _unreadable(route, f"the content type must be application/json, it is {found}")


def _unreadable(route: Route, reason: str) -> Refused:
    if route.host == "newer":
        return Refused("Missingbody", "body is mandatory for this action", reason, step="json")
    if route.host == "older topapi":
        return Refused(40035, "不合法的参数: json", reason, step="json", assumed=True)
    return Refused(40035, "missing parameter: json", reason, step="json")


def names(people: Iterable[str]) -> str:
    """A few names, and how many more."""
    shown = list(people)
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")
