"""An app of a made-up organisation, and a lane for one of its jobs: each step by its own route, until the job ends."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from dingqueue.contract import Job
from dingqueue.files.store import FileStore
from dingqueue.routes import app_sender, need_of, robot_sender
from dingqueue_worker.delivery import Delivery
from dingqueue_worker.delivery.apps import InAppsName
from dingqueue_worker.dingtalk.api import Api
from dingqueue_worker.directory import Directory
from dingqueue_worker.files.fetch import Fetcher
from dingqueue_worker.files.media import Files
from dingqueue_worker.outcome import Accepted, Dead, Delivered, Ended, Outcome, Snooze
from dingqueue_worker.routing import first_routes
from dingqueue_worker.settings import App, Destination, Fleet, Person, Robot, Secret, Settings
from dingqueue_worker.tokens import Tokens
from support.answering import Answering, Asked, Reply, answering
from support.state import State

GROUP, PEOPLE, NOTICE = "/v1.0/robot/groupMessages/send", "/v1.0/robot/oToMessages/batchSend", "/topapi/message"
UPLOAD = "/media/upload"
TOKEN, USERS, TODOS, ROBOT = "/v1.0/oauth2/accessToken", "/topapi/", "/v1.0/todo/", "/robot/send"


def organisation(*destinations: Destination, people: int = 3, **app: Any) -> Settings:
    """p1, p2, … with user ids u1, u2, …; an app and a webhook robot."""
    return Settings(
        broker_url="redis://127.0.0.1:1/0",
        state_url="redis://127.0.0.1:1/0",
        robots={"ops": Robot(name="ops", token=Secret("planted-robot"))},
        apps={
            "acme": App(
                name="acme",
                app_key="key-1",
                app_secret=Secret("planted-secret"),
                agent_id=7,
                robot_code="code-1",
                **app,
            )
        },
        people={f"p{at}": Person(name=f"p{at}", user_id=f"u{at}") for at in range(1, people + 1)},
        destinations={one.name: one for one in destinations},
        fleet=Fleet(backoff_base_s=2.0, backoff_cap_s=60.0),
    )


@dataclass
class Ran:
    """What became of a job: each attempt's end, with the sender that made it."""

    ends: list[tuple[str, Ended]] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def last(self) -> Outcome:
        return self.ends[-1][1].outcome

    @property
    def senders(self) -> list[str]:
        return [
            sender for sender, ended in self.ends if not (isinstance(ended.outcome, Snooze) and not ended.outcome.sent)
        ]

    @property
    def rests_s(self) -> list[float]:
        return [ended.rest_s for _, ended in self.ends if ended.rest_s]

    def receipt(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for _, ended in self.ends:
            if isinstance(ended.outcome, Accepted | Delivered):
                found |= ended.outcome.receipt
        return found


class Acme:
    """Delivers for an organisation over real sockets; the state is on a real server."""

    def __init__(
        self, settings: Settings, far: Answering, api: Api, state: State, *, file_store: FileStore | None = None
    ) -> None:
        self.settings, self.far = settings, far
        self.tokens = Tokens(store=state.store, api=api, lease_s=20, jitter=lambda: 0.0)
        self.directory = Directory(settings.people, state.store)
        fetcher = Fetcher(open_hosts=["127.0.0.1"], timeout_s=4, connect_timeout_s=2, silence_s=2)
        files = (
            Files(store=state.store, files=file_store, fetcher=fetcher, fleet=settings.fleet) if file_store else None
        )
        apps = InAppsName(hosts=api, tokens=self.tokens, directory=self.directory, uploads=api, files=files)
        self.delivery = Delivery(settings, api=api, clock_ms=lambda: 1_800_000_000_000, apps=apps)

    def run(self, job: Job, *, most: int = 40, stop_at: type[Outcome] = Dead, closing: bool = False) -> Ran:
        """All attempts of a job until it ends, as its lane would make them; a wait takes no time here.

        Args:
            job: What to deliver.
            most: Attempts.
            stop_at: An outcome after which no more are made.
            closing: Make no more after one that closes a sender.
        """
        destination = self.settings.destinations[job.destination]
        ran, step = Ran(), 0
        route: str = first_routes(destination)[need_of(job)]
        for _ in range(most):
            sender = robot_sender(destination.robots[0]) if route == "webhook" else app_sender("acme", route)
            ended = self.delivery.attempt(job, sender=sender, step=step, notes=ran.notes)
            ran.ends.append((sender, ended))
            ran.notes |= ended.notes
            route = ended.route or route
            if isinstance(ended.outcome, Delivered | Accepted):
                step += 1
                if step >= ended.steps:
                    return ran
            elif isinstance(ended.outcome, stop_at) or (closing and ended.outcome.close):
                return ran
        raise AssertionError(f"no end after {most} attempts: {ran.ends[-3:]}")


def far_side(asked: Asked) -> Reply:
    """A yes to everything."""
    number = next(_numbers)
    match asked.path:
        case "/v1.0/oauth2/accessToken":
            return 200, {"accessToken": f"planted-token-{number}", "expireIn": 7200}
        case "/media/upload":
            return 200, {"errcode": 0, "type": asked.query["type"], "media_id": f"@media-{number}"}
        case "/robot/send":
            return 200, {"errcode": 0, "errmsg": "ok"}
        case path if path.startswith("/v1.0/robot/"):
            return 200, {"processQueryKey": f"key-{number}"}
        case "/topapi/message/corpconversation/asyncsend_v2":
            return 200, {"errcode": 0, "task_id": number, "request_id": f"r{number}"}
        case "/topapi/v2/user/getbymobile":
            return 200, {"errcode": 0, "result": {"userid": f"user-of-{asked.body['mobile'][-4:]}"}}
        case "/topapi/v2/user/get":
            return 200, {"errcode": 0, "result": {"unionid": f"union-of-{asked.body['userid']}"}}
        case "/topapi/user/getbyunionid":
            return 200, {"errcode": 0, "result": {"userid": f"user-of-{asked.body['unionid']}"}}
        case path if path.startswith("/v1.0/todo/"):
            return 200, {"id": f"todo-{number}"}
        case path:
            raise AssertionError(path)


_numbers = itertools.count(1)


@contextmanager
def acme(
    settings: Settings, state: State, answer: Any = far_side, *, file_store: FileStore | None = None
) -> Iterator[Acme]:
    with (
        answering(answer) as far,
        Api(
            oapi_url=far.url, api_url=far.url, connect_timeout_s=2, read_timeout_s=2, total_timeout_s=4, pool_size=8
        ) as api,
    ):
        yield Acme(settings, far, api, state, file_store=file_store)


def but(path: str, *answers: Reply | None) -> Any:
    """A yes to everything but the first calls of one address, which are answered so, in order; None hangs up."""
    left = list(answers)

    def answer(asked: Asked) -> Reply | None:
        if asked.path.startswith(path) and left:
            return left.pop(0)
        return far_side(asked)

    return answer


def bodies(far: Answering, path: str) -> list[Mapping[str, Any]]:
    return [one.body for one in far.of(path)]
