"""What the fleet is told: frozen values, checked once at boot. Knows no Redis, no HTTP, no Celery."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """A value that shows itself only when asked: ``str``, ``repr`` and formatting give ``***``."""

    _value: str

    def reveal(self) -> str:
        """The secret itself; call it where the request is made and nowhere else."""
        return self._value

    def __repr__(self) -> str:
        """Never the value."""
        return "***"

    __str__ = __repr__


@dataclass(frozen=True, slots=True, kw_only=True)
class Robot:
    """A custom webhook robot. Defaults are DingTalk's published limits.

    https://open.dingtalk.com/document/development/custom-bot-to-send-group-chat-messages
    """

    name: str
    token: Secret
    secret: Secret | None = None
    keywords: tuple[str, ...] = ()
    limit: int = 20
    window_s: float = 60.0
    cooldown_s: float = 600.0
    #: Permits of each window that only urgent jobs may use.
    urgent_reserve: int = 0
    #: Whose monthly quota its messages count in.
    organisation: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """An enterprise app: its credentials, its limits, and what its todos need."""

    name: str
    app_key: str
    app_secret: Secret
    agent_id: int | None = None
    robot_code: str | None = None
    #: Which call gives its token: the present one, the older one, or the oldest, whose key and secret are a corpid and
    #: a corpsecret.
    token_by: Literal["oauth2", "gettoken", "corpid"] = "oauth2"  # noqa: S105 - the name of a call
    #: Calls a second of one app to one interface; 20 is the standard edition's.
    #: https://open.dingtalk.com/document/development/how-to-process-api-throttling-on-the-dingtalk-server
    calls_per_s: int = 20
    #: Whose monthly quota its calls count in.
    organisation: str | None = None
    #: Where a todo leads that has no address of its own: DingTalk takes none without.
    todo_url: str | None = None
    #: Who gives the work, a name of the people; else it is the first of those who get it.
    todo_creator: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Organisation:
    """What an organisation may call in a calendar month (Beijing's); None is not known, and then not a limit.

    https://open.dingtalk.com/document/development/dingtalk-application-development-platform-billing-model
    """

    name: str
    #: The standard edition has 5,000.
    api_calls: int | None = None
    #: Messages of webhook robots; the standard edition has 3,000.
    webhook_calls: int | None = None
    #: Calls of each month and kind that only urgent jobs may use.
    urgent_reserve: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A named place where people see a message, and what can speak there."""

    name: str
    robots: tuple[str, ...] = ()
    app: str | None = None
    conversation: str | None = None
    users: tuple[str, ...] = ()
    #: Ids of departments, with those below them; for work notifications.
    departments: tuple[int, ...] = ()
    via: Literal["robot", "notice"] = "robot"
    #: Add the job's mark to work notifications: DingTalk drops the same text to the same person on the same day.
    unique: bool = False
    overflow: Literal["wait", "digest"] = "wait"
    expires_s: float = 86_400.0
    max_waiting: int = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody who can be rung or given work, by the name used in the configuration."""

    name: str
    user_id: str | None = None
    mobile: str | None = None
    union_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The ``[fleet]`` table: knobs with defaults that fit; times in seconds."""

    #: Attempts (not snoozes) before a job is dead.
    max_attempts: int = 8
    #: Workers that a job may take down before it is dead.
    max_deliveries: int = 5
    connect_timeout_s: float = 3.0
    read_timeout_s: float = 8.0
    #: The whole request, whatever drips in.
    total_timeout_s: float = 12.0
    #: First back-off, doubled at each attempt, with full jitter.
    backoff_base_s: float = 2.0
    backoff_cap_s: float = 300.0
    #: How long a call may stay unanswered before it is called again.
    call_lease_s: float = 5.0
    #: Hosts that a shared URL may name although they are private, or speak plain http: ``host`` or ``host:port``.
    fetch_hosts: tuple[str, ...] = ()
    #: A whole download of a shared URL, whatever drips in.
    fetch_timeout_s: float = 30.0
    #: A whole upload to DingTalk.
    upload_timeout_s: float = 60.0
    #: Pack what DingTalk would refuse (txt, csv, json, …) in a .zip, asked or not.
    zip_files: bool = False
    #: How long ended jobs (and their receipts) are kept.
    keep_ended_s: float = 86_400.0
    keep_dead_s: float = 30 * 86_400.0
    #: The destination that hears of every job that dies.
    on_dead: str | None = None
    #: Called with every job that dies: ``package.module:function``.
    on_dead_hook: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything the fleet is told."""

    #: URLs may hold a password, so they do not show in a repr.
    broker_url: str = field(repr=False)
    state_url: str = field(repr=False)
    #: Where shared files wait for a worker; None is the state's Redis.
    files_url: str | None = field(default=None, repr=False)
    oapi_url: str = "https://oapi.dingtalk.com"
    api_url: str = "https://api.dingtalk.com"
    prefix: str = "dq:"
    #: Where each process says whether it makes progress; None says it nowhere.
    health: tuple[str, int] | None = None
    #: How log lines look.
    log: Literal["human", "json"] = "human"
    #: Spans of OpenTelemetry for each attempt and call.
    otel: bool = False
    robots: Mapping[str, Robot] = field(default_factory=dict)
    apps: Mapping[str, App] = field(default_factory=dict)
    organisations: Mapping[str, Organisation] = field(default_factory=dict)
    destinations: Mapping[str, Destination] = field(default_factory=dict)
    people: Mapping[str, Person] = field(default_factory=dict)
    fleet: Fleet = field(default_factory=Fleet)
