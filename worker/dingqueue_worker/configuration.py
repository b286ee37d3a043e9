"""Turns a TOML file and the environment into ``Settings``, or says all that is wrong with them. Knows no Redis, no HTTP.

No problem's text holds a secret, not even one of the wrong type or under a misspelt key: a value is shown only where
the key is known to hold none and the value does not look like one.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, time
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias, TypeVar
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict, ValidationError

from dingqueue.addresses import check_broker, is_redis, redis_address, scheme_of
from dingqueue.environment import resolved, resolved_files_url
from dingqueue.files.places import kind_of
from dingqueue.messages import MAX_KEYWORD_BYTES, MAX_USER_ID_CHARS
from dingqueue.messages.mobiles import documented_mobile
from dingqueue.routes import DEFAULT_BROKER_URL, DEFAULT_PREFIX, fit_prefix
from dingqueue.tracing import wanted
from dingqueue_worker.files.addresses import checked_host
from dingqueue_worker.health import host_and_port
from dingqueue_worker.settings import App, Destination, Fleet, Organisation, Person, Robot, Secret, Settings
from dingqueue_worker.telemetry import Form, form_of

DEFAULT_CONFIG = "dingqueue.toml"
DEFAULT_OAPI_URL = "https://oapi.dingtalk.com"
DEFAULT_API_URL = "https://api.dingtalk.com"
#: https://open.dingtalk.com/document/dingstart/customize-robot-security-settings
_MOST_KEYWORDS = 10


class ConfigurationError(Exception):
    """The configuration is wrong; the text says everything that is, a line each, and holds no secret.

    Attributes:
        problems: Each with the key's path (``robots.ops.token``), what was expected and what was found.
        lines: The same, with the file's name before what is wrong in it.
    """

    def __init__(self, problems: Sequence[str], *, path: Path) -> None:
        self.problems = tuple(problems)
        at = (f"{path}: ", "DINGQUEUE_")
        self.lines = tuple(one if one.startswith(at) else f"{path}: {one}" for one in problems)
        super().__init__("\n".join(self.lines))


def load(environ: Mapping[str, str]) -> Settings:
    """Read the configuration that the environment names.

    Args:
        environ: ``DINGQUEUE_CONFIG`` (default ``dingqueue.toml``), ``DINGQUEUE_BROKER_URL``, ``DINGQUEUE_STATE_URL``,
            ``DINGQUEUE_FILES_URL``, ``DINGQUEUE_OAPI_URL``, ``DINGQUEUE_API_URL``, ``DINGQUEUE_PREFIX``,
            ``DINGQUEUE_HEALTH``, ``DINGQUEUE_LOG``, ``DINGQUEUE_OTEL``, and whatever ``${NAME}`` asks for.

    Raises:
        ConfigurationError: With every problem that was found, not only the first.
    """
    problems: list[str] = []
    urls = _urls(environ, problems)
    health = _health(environ.get("DINGQUEUE_HEALTH"), problems)
    log = _log(environ.get("DINGQUEUE_LOG"), problems)
    otel = _otel(environ.get("DINGQUEUE_OTEL"), problems)
    prefix = environ.get("DINGQUEUE_PREFIX") or DEFAULT_PREFIX
    if not fit_prefix(prefix):
        problems.append(f"DINGQUEUE_PREFIX: expected a word like {DEFAULT_PREFIX}, found {_shown(prefix)}")
    path = Path(environ.get("DINGQUEUE_CONFIG") or DEFAULT_CONFIG)
    document = _document(path, problems)
    if document is None:
        raise ConfigurationError(problems, path=path)
    found = _File(document, _resolved(document, environ, path.parent, problems), problems)
    organisations = _organisations(found)
    robots = _robots(found, urls)
    people = {name: _person(name, person) for name, person in found.tables("people", _Person).items()}
    apps = {name: _app(found, name, app) for name, app in found.tables("apps", _App).items()}
    destinations = _destinations(found)
    fleet = _fleet(found)
    if problems:
        raise ConfigurationError(problems, path=path)
    return Settings(
        **urls,
        prefix=prefix,
        health=health,
        log=log,
        otel=otel,
        robots=MappingProxyType(robots),
        apps=MappingProxyType(apps),
        organisations=MappingProxyType(organisations),
        destinations=MappingProxyType(destinations),
        people=MappingProxyType(people),
        fleet=fleet,
    )


# --- What the file may hold: a field's description is what a wrong value is told ----------------------------------


def _number(value: object) -> object:
    """``${NAME}`` gives text; a number in it is a number."""
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            return kind(value.strip())
        except ValueError:
            continue
    return value


def _id(value: object) -> object:
    """Ids and mobiles of digits are often written without quotes."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(values)) < len(values):
        raise ValueError("expected each only once, found one twice")
    return values


def _visible(text: str) -> str:
    stripped = text.strip()
    if not stripped or not stripped.isprintable():
        raise ValueError
    return stripped


def _fitting(text: str) -> str:
    """Jobs were accepted for robots with keywords of at most this width."""
    if len(text.encode()) > MAX_KEYWORD_BYTES:
        raise ValueError(f"expected a keyword of up to {MAX_KEYWORD_BYTES} bytes, found one of {len(text.encode())}")
    return text


def _mobile(text: str) -> str:
    try:
        return documented_mobile(text)
    except ValueError:  # its words hold the number
        raise ValueError from None


_HOOK = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def _hook(text: str) -> str:
    if _HOOK.fullmatch(text) is None:
        raise ValueError
    return text


def _page(text: str) -> str:
    url = _split(text)
    if url is None or url.scheme not in {"http", "https", "dingtalk"} or not url.hostname or len(text.encode()) > 1_024:
        raise ValueError
    return text


def _host(text: str) -> str:
    try:
        return checked_host(text)
    except ValueError:  # its words are the field's description
        raise ValueError from None


Text: TypeAlias = Annotated[str, Strict(), AfterValidator(_visible)]
Id: TypeAlias = Annotated[Text, BeforeValidator(_id)]
Keyword: TypeAlias = Annotated[Text, AfterValidator(_fitting)]
Count: TypeAlias = Annotated[int, Strict(), BeforeValidator(_number)]
Seconds: TypeAlias = Annotated[float, Strict(), BeforeValidator(_number), Field(gt=0, le=366 * 86_400)]
Names: TypeAlias = Annotated[tuple[Text, ...], AfterValidator(_distinct)]

_SECONDS = "a number of seconds above 0"


class _Table(BaseModel):
    # Built at its first use: most files have no more than robots, destinations and people.
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, defer_build=True)

    def given(self) -> dict[str, Any]:
        """What the file says; the rest is the settings' own default."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class _Robot(_Table):
    token: Text = Field(description="the robot's access_token, or its whole webhook URL")
    secret: Text | None = Field(None, description="the robot's SEC… text; leave the key out where it does not sign")
    keyword: Annotated[tuple[Keyword, ...], BeforeValidator(_one_or_many), AfterValidator(_distinct)] = Field(
        (), max_length=_MOST_KEYWORDS, description=f"a keyword, or a list of up to {_MOST_KEYWORDS}"
    )
    limit: Count = Field(20, ge=1, le=100_000, description="a whole number of messages from 1 to 100000")
    window_s: Seconds = Field(60, description=_SECONDS)
    cooldown_s: Seconds = Field(600, description=_SECONDS)
    urgent_reserve: Count = Field(0, ge=0, description="a whole number, less than the robot's limit")
    organisation: Text | None = Field(None, description="a name of [organisations]")


class _App(_Table):
    app_key: Text = Field(description="the app's key (Client ID)")
    app_secret: Text = Field(description="the app's secret (Client Secret)")
    agent_id: Count | None = Field(None, ge=1, description="the app's AgentId, a whole number")
    robot_code: Text | None = Field(None, description="the robotCode of the app's robot")
    token_by: Literal["oauth2", "gettoken", "corpid"] = Field(
        "oauth2", description='"oauth2", "gettoken" or "corpid" (key and secret are then a corpid and a corpsecret)'
    )
    calls_per_s: Count = Field(20, ge=1, le=1_000, description="a whole number of calls from 1 to 1000")
    organisation: Text | None = Field(None, description="a name of [organisations]")
    todo_url: Annotated[Text, AfterValidator(_page)] | None = Field(
        None, description="an address that begins with https://, http:// or dingtalk://, of at most 1024 bytes"
    )
    todo_creator: Text | None = Field(None, description="a name of [people]")


class _Organisation(_Table):
    api_calls: Count | None = Field(None, ge=1, description="a whole number of calls a month, at least 1")
    webhook_calls: Count | None = Field(None, ge=1, description="a whole number of messages a month, at least 1")
    urgent_reserve: Count = Field(0, ge=0, description="a whole number, less than either quota")


class _Destination(_Table):
    robots: Names = Field((), description="a list of names of [robots]")
    app: Text | None = Field(None, description="a name of [apps]")
    conversation: Text | None = Field(None, description="the group's openConversationId (cid…)")
    users: Names = Field((), description="a list of names of [people]")
    departments: tuple[Annotated[int, Strict(), Field(ge=1)], ...] = Field(
        (), description="a list of department ids, whole numbers"
    )
    via: Literal["robot", "notice"] = Field("robot", description='"robot" or "notice"')
    unique: Annotated[bool, Strict()] = Field(False, description="true or false")
    overflow: Literal["wait", "digest"] = Field("wait", description='"wait" or "digest"')
    expires_s: Seconds = Field(86_400, description=_SECONDS)
    max_waiting: Count = Field(1_000_000, ge=1, description="a whole number of jobs, at least 1")


class _Person(_Table):
    user_id: Annotated[Id, Field(max_length=MAX_USER_ID_CHARS)] | None = Field(
        None, description=f"a DingTalk userId, of up to {MAX_USER_ID_CHARS} characters"
    )
    mobile: Annotated[Id, AfterValidator(_mobile)] | None = Field(
        None, description="a mobile like 13800000000 or +852-91234567"
    )
    union_id: Text | None = Field(None, description="a DingTalk unionId")


class _Fleet(_Table):
    max_attempts: Count = Field(8, ge=1, description="a whole number, at least 1")
    max_deliveries: Count = Field(5, ge=1, description="a whole number, at least 1")
    connect_timeout_s: Seconds = Field(3, description=_SECONDS)
    read_timeout_s: Seconds = Field(8, description=_SECONDS)
    total_timeout_s: Seconds = Field(12, description=_SECONDS)
    backoff_base_s: Seconds = Field(2, description=_SECONDS)
    backoff_cap_s: Seconds = Field(300, description=_SECONDS)
    call_lease_s: Seconds = Field(5, description=_SECONDS)
    keep_ended_s: Seconds = Field(86_400, description=_SECONDS)
    keep_dead_s: Seconds = Field(30 * 86_400, description=_SECONDS)
    on_dead: Text | None = Field(None, description="a name of [destinations]")
    on_dead_hook: Annotated[Text, AfterValidator(_hook)] | None = Field(
        None, description='a function, as "package.module:function"'
    )
    fetch_hosts: Annotated[tuple[Annotated[Text, AfterValidator(_host)], ...], AfterValidator(_distinct)] = Field(
        (), description='a list of hosts, "files.corp.example" or "10.0.0.5:8080"'
    )
    fetch_timeout_s: Seconds = Field(30, description=_SECONDS)
    upload_timeout_s: Seconds = Field(60, description=_SECONDS)
    zip_files: Annotated[bool, Strict()] = Field(False, description="true or false")


_TABLES = ("robots", "apps", "organisations", "destinations", "people", "fleet")
#: Values of these are never shown: secrets, and people's numbers.
_PRIVATE = frozenset({"token", "secret", "app_key", "app_secret", "user_id", "mobile", "union_id"})
#: The producer's rule for a destination's name; the others follow it, since names become keys and labels.
#: A brace would be a hash tag, and a fleet's keys must stay in one slot.
_NAME = re.compile(r"[\w.-]{1,64}")

_Model = TypeVar("_Model", bound=_Table)


@dataclass(slots=True)
class _File:
    """The file as written and as resolved, and what is wrong with it so far."""

    written: Mapping[str, Any]
    resolved: Mapping[str, Any]
    problems: list[str]
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.problems += [
            f"{name}: no such table; {_nearest(name, _TABLES)}" for name in self.written if name not in _TABLES
        ]

    def tables(self, kind: str, model: type[_Model]) -> dict[str, _Model]:
        """The tables ``[kind.NAME]`` that are well formed. The names of all go to ``names``: each may be referred to."""
        tables = self.resolved.get(kind, {})
        if not isinstance(tables, Mapping):
            self.say((kind,), f"expected tables, [{kind}.NAME] each, found {_shown(tables)}")
            tables = {}
        self.names[kind] = tuple(tables)
        good = {}
        for name, table in tables.items():
            if not _NAME.fullmatch(name):
                self.say((kind, name), "a name is 1 to 64 letters, digits, dots, dashes and underscores")
            elif (read := self.table((kind, name), table, model)) is not None:
                good[name] = read
        return good

    def table(self, path: tuple[str, ...], table: object, model: type[_Model]) -> _Model | None:
        """One table; None, and problems, where it is malformed."""
        if not isinstance(table, Mapping):
            # Not shown: what stands here may well be a token.
            self.say(path, f"expected a table [{'.'.join(path)}], found {_shown(table, private=True)}")
            return None
        try:
            return model.model_validate(dict(table))
        except ValidationError as error:
            for one in error.errors(include_url=False, include_input=False):
                inside = tuple(one["loc"])
                if _at(table, inside) is not _UNRESOLVED:
                    self.say((*path, *inside), self._problem(one["type"], str(one.get("ctx", {}).get("error", "")),
                                                            path, inside, model))  # fmt: skip
            return None

    def refer(self, path: tuple[str | int, ...], kind: str, name: str) -> bool:
        """Whether ``[kind.name]`` exists; a problem where it does not."""
        if name in self.names[kind]:
            return True
        self.say(path, f"there is no {_shown(_at(self.written, path))} in [{kind}]; {_nearest(name, self.names[kind])}")
        return False

    def say(self, path: Iterable[str | int], problem: str) -> None:
        """Note a problem of a key."""
        self.problems.append(f"{_dotted(path)}: {problem}")

    def _problem(
        self, kind: str, said: str, path: tuple[str, ...], inside: tuple[int | str, ...], model: type[_Model]
    ) -> str:
        key = str(inside[0])
        if kind == "extra_forbidden":
            return f"no such setting; {_nearest(key, model.model_fields)}"
        if said:
            return said
        expected = model.model_fields[key].description
        if kind == "missing":
            return f"expected {expected}, found nothing"
        written = _at(self.written, (*path, *inside))
        hint = f"; {near}" if isinstance(written, str) and (near := _choice(written, expected or "")) else ""
        return f"expected {expected}, found {_shown(written, private=key in _PRIVATE)}{hint}"


# --- From tables to settings --------------------------------------------------------------------------------------


def _robots(found: _File, urls: Mapping[str, str]) -> dict[str, Robot]:
    hosts = {host for url in (DEFAULT_OAPI_URL, urls.get("oapi_url", "")) if (host := urlsplit(url).hostname)}
    robots: dict[str, Robot] = {}
    owners: dict[str, str] = {}
    for name, table in found.tables("robots", _Robot).items():
        path = ("robots", name)
        try:
            token, secret = _taken_apart(table.token, hosts)
        except ValueError as error:
            found.say((*path, "token"), str(error))
            continue
        if secret and table.secret and secret != table.secret:
            found.say((*path, "secret"), "expected the secret that stands in the webhook URL, found another")
            continue
        if table.urgent_reserve >= table.limit:
            found.say(
                (*path, "urgent_reserve"), f"expected less than limit ({table.limit}), found {table.urgent_reserve}"
            )
        if token in owners:
            problem = f"the same as robots.{owners[token]}.token: one robot has one clock, so it has one name"
            found.say((*path, "token"), problem)
        owners.setdefault(token, name)
        given = table.given() | {"organisation": _organisation(found, path, table.organisation)}
        given.pop("keyword", None)
        given |= {"token": Secret(token), "secret": Secret(chosen) if (chosen := table.secret or secret) else None}
        robots[name] = Robot(name=name, keywords=table.keyword, **given)
    return robots


def _taken_apart(text: str, hosts: set[str]) -> tuple[str, str | None]:
    """A robot's token, and the secret if somebody glued it on, from a bare token or a whole webhook URL.

    Raises:
        ValueError: It is neither; the text holds nothing of it.
    """
    if "://" not in text and "access_token=" not in text and not re.search(r"[\s&?#/%]", text):
        return text, None
    query = text if "access_token=" in text else f"access_token={text}"
    if "://" in text:
        url = _split(text)
        if url is None or not url.path.endswith("/robot/send"):
            raise ValueError("expected a token or a URL that ends in /robot/send?access_token=…, found another URL")
        if url.hostname not in hosts:
            raise ValueError(
                f"expected a webhook URL of {' or '.join(sorted(hosts))}, found one of {url.hostname}: "
                "is it another product's, or is DINGQUEUE_OAPI_URL not set?"
            )
        query = url.query
    fields: dict[str, str] = {}
    rest = [query.removeprefix("?")]
    while rest:
        # "%26secret=" inside the token is what a URL in another URL's parameter leaves behind.
        for name, value in parse_qsl(rest.pop(), keep_blank_values=True):
            mine, *more = value.split("&", 1)
            fields[name] = mine.strip()
            rest += more
    unknown = sorted(fields.keys() - {"access_token", "secret", "timestamp", "sign"})
    token, secret = fields.get("access_token", ""), fields.get("secret") or None
    if unknown or not re.fullmatch(r"[\w.~+=-]+", token):
        raise ValueError(
            "expected a token or a whole webhook URL, with access_token=… and nothing that is not DingTalk's"
        )
    if "sign" in fields and secret is None:
        raise ValueError(
            "expected the webhook URL as DingTalk shows it, found a signed one: "
            "remove timestamp and sign, and give the robot's secret beside it"
        )
    return token, secret


def _organisations(found: _File) -> dict[str, Organisation]:
    organisations = {}
    for name, table in found.tables("organisations", _Organisation).items():
        for key in ("api_calls", "webhook_calls"):
            quota = getattr(table, key)
            if quota is not None and table.urgent_reserve >= quota:
                problem = f"expected less than {key} ({quota}), found {table.urgent_reserve}"
                found.say(("organisations", name, "urgent_reserve"), problem)
        organisations[name] = Organisation(name=name, **table.given())
    return organisations


def _organisation(found: _File, path: tuple[str, ...], given: str | None) -> str | None:
    """The one that is named; the only one there is where none is named."""
    if given is not None:
        found.refer((*path, "organisation"), "organisations", given)
        return given
    return found.names["organisations"][0] if len(found.names["organisations"]) == 1 else None


def _app(found: _File, name: str, table: _App) -> App:
    path = ("apps", name)
    if table.todo_creator is not None:
        found.refer((*path, "todo_creator"), "people", table.todo_creator)
        _reachable(found, (*path, "todo_creator"), table.todo_creator)
    organisation = _organisation(found, path, table.organisation)
    given = table.given() | {"app_secret": Secret(table.app_secret), "organisation": organisation}
    return App(name=name, **given)


def _person(name: str, table: _Person) -> Person:
    return Person(name=name, **table.given())


def _destinations(found: _File) -> dict[str, Destination]:
    tables = found.tables("destinations", _Destination)
    if not found.names["destinations"]:
        found.say(("destinations",), "expected at least one [destinations.NAME], found none")
    destinations = {}
    for name, table in tables.items():
        path = ("destinations", name)
        for kind, names in (("robots", table.robots), ("people", table.users)):
            key = "robots" if kind == "robots" else "users"
            for at, one in enumerate(names):
                found.refer((*path, key, at), kind, one)
        if table.app is None:
            _without_app(found, path, table)
        elif found.refer((*path, "app"), "apps", table.app):
            _with_app(found, path, table)
        destinations[name] = Destination(name=name, **table.given())
    return destinations


def _without_app(found: _File, path: tuple[str, ...], table: _Destination) -> None:
    if not table.robots:
        found.say(path, "expected robots, or an app, found neither: nothing could speak there")
    for key in ("conversation", "users", "departments", "via", "unique"):
        if key in table.model_fields_set:
            found.say((*path, key), "expected an app beside it: a webhook robot speaks in its own group only")


def _with_app(found: _File, path: tuple[str, ...], table: _Destination) -> None:
    app = _at(found.resolved, ("apps", table.app or ""))
    has = app if isinstance(app, Mapping) else {}
    people = table.users or table.departments
    if table.conversation and people:
        found.say(path, "expected conversation or users, found both: make them two destinations")
    elif not (table.conversation or people or table.robots):
        found.say(path, "expected conversation, users or robots beside the app, found none: nobody would see a message")
    if table.via != "notice":
        for key in ("departments", "unique"):
            if key in table.model_fields_set:
                found.say((*path, key), 'expected via = "notice" beside it: only work notifications have that')
    if table.via == "notice":
        if not people:
            found.say((*path, "via"), "expected users beside it: a work notification goes to people, not to a group")
        if "agent_id" not in has:
            found.say((*path, "via"), f"a work notification needs apps.{table.app}.agent_id, which is not given")
    elif (table.conversation or table.users) and "robot_code" not in has:
        what = "conversation" if table.conversation else "users"
        found.say((*path, what), f"the app's robot needs apps.{table.app}.robot_code, which is not given")
    for at, name in enumerate(table.users):
        _reachable(found, (*path, "users", at), name)


def _reachable(found: _File, path: tuple[str | int, ...], name: str) -> None:
    """Somebody whom an app is to reach has an id of some kind: the others are looked up by it."""
    person = _at(found.resolved, ("people", name))
    if (
        name in found.names["people"]
        and isinstance(person, Mapping)
        and not person.keys() & _Person.model_fields.keys()
    ):
        found.say(path, f"expected a user_id, mobile or union_id in people.{name}, found none")


def _fleet(found: _File) -> Fleet:
    table = found.table(("fleet",), found.resolved.get("fleet", {}), _Fleet)
    if table is None:
        return Fleet()
    fleet = Fleet(**table.given())
    if fleet.on_dead is not None:
        found.refer(("fleet", "on_dead"), "destinations", fleet.on_dead)
    for key, limit in (
        ("connect_timeout_s", "total_timeout_s"), ("read_timeout_s", "total_timeout_s"), ("backoff_base_s", "backoff_cap_s"),
    ):  # fmt: skip
        value, most = getattr(fleet, key), getattr(fleet, limit)
        if value > most:
            found.say(("fleet", key), f"expected at most {limit} ({most:g}), found {value:g}")
    return fleet


# --- The environment's part ---------------------------------------------------------------------------------------


def _urls(environ: Mapping[str, str], problems: list[str]) -> dict[str, str]:
    """The five URLs, by the name of the setting; a malformed one is left out, with a problem."""
    urls: dict[str, str] = {}

    def said(name: str, usual: str) -> str | None:
        try:
            return _text(environ.get(name) or usual, environ, Path())
        except ValueError as error:
            problems.append(f"{name}: {error}")
            return None

    for key, name, usual in (
        ("oapi_url", "DINGQUEUE_OAPI_URL", DEFAULT_OAPI_URL), ("api_url", "DINGQUEUE_API_URL", DEFAULT_API_URL),
    ):  # fmt: skip
        if (text := said(name, usual)) is None:
            continue
        url = _split(text)
        if url is None or url.scheme not in {"http", "https"} or not url.hostname:
            problems.append(f"{name}: expected a URL like {usual}, found {_url_shown(url)}")
        elif url.username is not None or url.query or url.fragment:
            problems.append(f"{name}: expected a URL like {usual}, found one with a user, a query or a fragment")
        else:
            urls[key] = text.rstrip("/")
    if (broker := said("DINGQUEUE_BROKER_URL", DEFAULT_BROKER_URL)) is not None:
        try:
            check_broker(broker)
        except ValueError as error:
            problems.append(f"DINGQUEUE_BROKER_URL: {error}")
        else:
            urls["broker_url"] = broker
            if not environ.get("DINGQUEUE_STATE_URL"):
                if is_redis(broker):
                    urls["state_url"] = broker
                else:
                    problems.append(
                        "DINGQUEUE_STATE_URL: expected redis://…, since the lanes stand in Redis and the broker is "
                        f"{scheme_of(broker)}; found nothing"
                    )
    if environ.get("DINGQUEUE_STATE_URL") and (state := said("DINGQUEUE_STATE_URL", "")) is not None:
        try:
            redis_address(state)
        except ValueError as error:
            problems.append(f"DINGQUEUE_STATE_URL: {error}")
        else:
            urls["state_url"] = state
    if environ.get("DINGQUEUE_FILES_URL"):
        _files_url(environ, urls, problems)
    return urls


def _files_url(environ: Mapping[str, str], urls: dict[str, str], problems: list[str]) -> None:
    try:
        text = _text(environ["DINGQUEUE_FILES_URL"], environ, Path(), folders=True)
        kind_of(text)
    except ValueError as error:
        problems.append(f"DINGQUEUE_FILES_URL: {error}")
    else:
        urls["files_url"] = text


def _split(text: str) -> SplitResult | None:
    """The URL's parts; None for what is no URL. Its own error could hold a piece of a password."""
    try:
        url = urlsplit(text)
        _ = url.port
    except ValueError:
        return None
    return url if "://" in text and text.isprintable() and " " not in text else None


def _url_shown(url: SplitResult | None) -> str:
    """Its kind; any other part may be a piece of a password that was not escaped."""
    if url is None:
        return "no URL (is a / ? or # of a password written as %2F %3F or %23?)"
    return f"a {url.scheme}:// URL"


# --- Reading and resolving ----------------------------------------------------------------------------------------

#: Stands where a reference could not be resolved; that was said, and what follows from it is not.
_UNRESOLVED = object()
_REFERENCE = re.compile(r"\$(\$?)\{([^}]*)(\}?)")


def _document(path: Path, problems: list[str]) -> Mapping[str, Any] | None:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        problems.append(
            f"{path}: no such file (looked for {path.absolute()}); write one, "
            "or set DINGQUEUE_CONFIG=/path/to/dingqueue.toml in the environment"
        )
    except OSError as error:
        problems.append(f"{path}: cannot be read: {error.strerror}; DINGQUEUE_CONFIG says which file to read")
    except UnicodeDecodeError:
        problems.append(f"{path}: expected TOML in UTF-8, found another encoding")
    except tomllib.TOMLDecodeError as error:
        problems.append(f"{path}: expected TOML, found a mistake in it: {error}")
    return None


def _resolved(
    value: Any, environ: Mapping[str, str], folder: Path, problems: list[str], path: tuple[str | int, ...] = ()
) -> Any:
    """The value with every ``${NAME}`` and ``file:…`` in it replaced by what they name."""
    match value:
        case str():
            try:
                return _text(value, environ, folder)
            except ValueError as error:
                problems.append(f"{_dotted(path)}: {error}")
                return _UNRESOLVED
        case dict():
            return {key: _resolved(inner, environ, folder, problems, (*path, key)) for key, inner in value.items()}
        case list():
            return [_resolved(inner, environ, folder, problems, (*path, at)) for at, inner in enumerate(value)]
        case _:
            return value


def _text(text: str, environ: Mapping[str, str], folder: Path, *, folders: bool = False) -> str:
    """One text, resolved; with ``folders``, ``file:///…`` is left as it is unless a file is there.

    Raises:
        ValueError: What it refers to is not there; the text names it, and holds no value.
    """

    def named(found: re.Match[str]) -> str:
        escaped, name, closed = found.groups()
        if escaped:
            return f"${{{name}{closed}"
        if not closed or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError(
                "expected ${NAME} with the name of an environment variable ($${ is a plain ${), found another form"
            )
        if name not in environ:
            near = _near(name, environ, "; did you mean {}?")
            raise ValueError(f"expected an environment variable {name}, found none{near}")
        if not environ[name]:
            raise ValueError(f"expected an environment variable {name}, found an empty one")
        return environ[name]

    text = _REFERENCE.sub(named, text)
    if not text.startswith("file:") or (folders and text == resolved_files_url(text)):
        return text
    # A file beside the configuration needs no whole path.
    return resolved(f"file:{folder / text.removeprefix('file:').removeprefix('//')}")


def _health(text: str | None, problems: list[str]) -> tuple[str, int] | None:
    try:
        return host_and_port(text) if text else None
    except ValueError as error:
        problems.append(f"DINGQUEUE_HEALTH: {error}; found {_shown(text)}")
        return None


def _log(text: str | None, problems: list[str]) -> Form:
    try:
        return form_of(text)
    except ValueError as error:
        problems.append(f"DINGQUEUE_LOG: {error}; found {_shown(text)}")
        return "human"


def _otel(text: str | None, problems: list[str]) -> bool:
    try:
        return wanted(text)
    except ValueError as error:
        problems.append(f"DINGQUEUE_OTEL: {error}; found {_shown(text)}")
        return False


# --- Words without secrets ----------------------------------------------------------------------------------------

_HARMLESS = re.compile(r"[\w .+-]{1,32}")
_SECRETIVE = re.compile(r"SEC|[0-9A-Za-z]{20,}|[0-9]{7,}")


def _shown(value: object, *, private: bool = False) -> str:
    """What was found, in words; the value itself only where it is short and looks like no secret."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return "a number" if private or abs(value) >= 1e9 else f"{value}"
        case str() if not value.strip():
            return "an empty text"
        case str() if names := [name for escaped, name, closed in _REFERENCE.findall(value) if closed and not escaped]:
            return f"the value of {' and '.join(f'${{{name}}}' for name in names)}, which is something else"
        case str() if value.startswith("file:"):
            return "the file's content, which is something else"
        case str() if private or not _HARMLESS.fullmatch(value) or _SECRETIVE.search(value):
            return f"a text of {len(value)} characters"
        case str():
            return f'"{value}"'
        case Mapping():
            return "a table"
        case list() | tuple():
            return f"a list of {len(value)}"
        case date() | time():
            return "a date or time"
        case _:
            return "something else"


def _nearest(name: str, known: Iterable[str]) -> str:
    """``did you mean 'token'?``, or all that there is."""
    names = sorted(known)
    if near := _near(name, names, "did you mean {}?"):
        return near
    return f"there is {', '.join(names)}" if names else "there is none"


def _near(name: str, known: Iterable[str], words: str) -> str:
    near = difflib.get_close_matches(name, list(known), n=2, cutoff=0.6)
    return words.format(" or ".join(near)) if near else ""


def _choice(written: str, expected: str) -> str:
    return _near(written, re.findall(r'"(\w+)"', expected), "did you mean {}?")


def _dotted(path: Iterable[str | int]) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")


def _at(document: object, path: Iterable[str | int]) -> Any:
    """What stands at a path; the last thing on it that exists where it leads further than the document."""
    for key in path:
        if (isinstance(document, Mapping) and key in document) or (isinstance(document, list) and isinstance(key, int)):
            document = document[key]  # type: ignore[index]  # narrowed by the line above
    return document
