"""Everything that goes in an app's name: whose turn it is in a job of several steps, and which route takes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dingqueue.contract import AssignJob, ChangeJob, Job, SendJob, ShareJob
from dingqueue.errors import InvalidJob
from dingqueue.messages import Rung, notice_share, render_robot, robot_link
from dingqueue.routes import app_sender, need_of
from dingqueue_worker.delivery import lookup
from dingqueue_worker.delivery.app import REFUSED, Door, Tokens
from dingqueue_worker.delivery.change import Change, change_turn, failed
from dingqueue_worker.delivery.group import Group
from dingqueue_worker.delivery.lookup import unknown
from dingqueue_worker.delivery.notes import TODO, begins_at, first_part
from dingqueue_worker.delivery.notice import Notice, mark_of
from dingqueue_worker.delivery.people import People
from dingqueue_worker.delivery.recipients import progress_of
from dingqueue_worker.delivery.share import Share, Uploads, notices, robot_messages
from dingqueue_worker.delivery.todo import KEEP_S, Todo, detail_url
from dingqueue_worker.delivery.webhook import Webhook
from dingqueue_worker.dingtalk.apps import AppCalls, Hosts
from dingqueue_worker.directory import Directory, Lookup, Wanted, Who, rung_by_lookup
from dingqueue_worker.files.media import Files
from dingqueue_worker.outcome import Accepted, Dead, Delivered, Ended, Retry, Snooze
from dingqueue_worker.routing import Route, message_route, ringing_route
from dingqueue_worker.settings import App, Destination, Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class InAppsName:
    """What attempts in an app's name need: DingTalk's two hosts, the apps' tokens, who is who, and what is shared.

    Without ``uploads`` and ``files`` a link is sent to what is shared by URL, and no file.
    """

    hosts: Hosts
    tokens: Tokens
    directory: Directory
    uploads: Uploads | None = None
    files: Files | None = None

    def beside(self, webhook: Webhook, settings: Settings) -> Apps:
        """The routes of the configuration's apps, beside that of its robots."""
        door, sharing = Door(self.tokens), None
        if self.uploads and self.files:
            sharing = Share(door, self.uploads, self.files, timeout_s=settings.fleet.upload_timeout_s)
        return Apps(
            settings,
            calls=AppCalls(self.hosts),
            door=door,
            directory=self.directory,
            webhook=webhook,
            sharing=sharing,
        )


class Apps:
    """Makes the attempts of destinations that have an app, by whichever route.

    Args:
        settings: Its apps and destinations.
        calls: What an app can ask of DingTalk.
        door: Makes one call.
        directory: Who is who.
        webhook: The route of the robots beside an app.
        sharing: Uploads what is shared; None sends a link to it.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        calls: AppCalls,
        door: Door,
        directory: Directory,
        webhook: Webhook,
        sharing: Share | None = None,
    ) -> None:
        self._apps, self._destinations = settings.apps, settings.destinations
        self._directory, self._webhook = directory, webhook
        self._sharing = sharing
        self._group = Group(door, calls)
        self._people = People(door, calls, directory, settings.fleet)
        self._notice = Notice(door, calls, directory)
        self._todo = Todo(door, calls, directory)
        self._lookup = lookup.People(door, calls, directory)
        self._change = Change(door, calls, directory)

    def speaks_for(self, job: Job) -> bool:
        """Whether the job's destination has an app."""
        destination = self._destinations.get(job.destination)
        return destination is not None and destination.app is not None

    def attempt(self, job: Job, *, sender: str, step: int, notes: Mapping[str, str]) -> Ended:
        """Try the step whose turn it is, if the sender is one that may.

        Raises:
            StoreUnavailable: Redis did not answer; nothing was sent.
        """
        destination = self._destinations[job.destination]
        app = self._apps[destination.app or ""]
        route = self._route_of(sender, app)
        turn = (
            self._share_turn(destination, notes) if isinstance(job, ShareJob) else _turn(job, destination, step, notes)
        )
        if route is None or route not in {turn, "lookup"}:
            return _sent_on(_goes(turn), route, notes)
        ended = self._by(route, job, app=app, destination=destination, sender=sender, step=step, notes=notes)
        return _kept(_sent_on(ended, route, notes), notes)

    def _share_turn(self, destination: Destination, notes: Mapping[str, str]) -> Route:
        """What is to be sent must be at DingTalk first."""
        main = message_route(destination)
        uploads = self._sharing is not None and main != "webhook"
        return "upload" if uploads and self._sharing and self._sharing.to_send(notes) is None else main

    def _route_of(self, sender: str, app: App) -> Route | None:
        if self._webhook.speaks_for(sender):
            return "webhook"
        routes: Sequence[Route] = ("group", "people", "notice", "upload", "todo", "lookup", "recall")
        return next((route for route in routes if sender == app_sender(app.name, route)), None)

    def _by(
        self,
        route: Route,
        job: Job,
        *,
        app: App,
        destination: Destination,
        sender: str,
        step: int,
        notes: Mapping[str, str],
    ) -> Ended:
        match route, job:
            case "webhook", AssignJob():
                return self._ring_workers(job, app=app, sender=sender, step=step, notes=notes)
            case "webhook", _:
                return self._webhook.attempt(job, sender=sender, step=step, before=first_part(notes))
            case "group", SendJob() | AssignJob():
                linked = _linked(job, app) if isinstance(job, AssignJob) else job
                return self._group.attempt(linked, app=app, destination=destination, step=step, notes=notes)
            case "people", SendJob():
                return self._people.attempt(job, app=app, destination=destination, step=step, notes=notes)
            case "notice", SendJob():
                return self._notice.attempt(job, app=app, destination=destination, step=step, notes=notes)
            case "todo", AssignJob():
                then = _message_after(destination)
                if then == "webhook" and self._unrung(job, app):
                    return Ended(outcome=Snooze(why="looks people up", cause="lookup", sent=False), route="lookup")
                try:
                    then_steps = self._message_steps(_linked(job, app), then)
                except InvalidJob as error:  # found out before anything is made
                    return Ended(outcome=Dead(why=str(error), cause="content", sent=False))
                return self._todo.attempt(
                    job, app=app, destination=destination, step=step, notes=notes, then=then, then_steps=then_steps
                )
            case "lookup", AssignJob():
                return self._look_up_workers(job, app=app, step=step, notes=notes)
            case "lookup" | "recall" | "todo", ChangeJob():
                return self._change_by(route, job, app=app, destination=destination, step=step, notes=notes)
            case "lookup", _:
                return self._look_up_recipients(job, app=app, destination=destination, step=step, notes=notes)
            case _, ShareJob():
                return self._share(route, job, app=app, destination=destination, step=step, notes=notes)
            case _:
                return _goes(_turn(job, destination, step, notes))

    def _ring_workers(self, job: AssignJob, *, app: App, sender: str, step: int, notes: Mapping[str, str]) -> Ended:
        """Post the message beside the todo; whom the robot cannot ring yet is looked up first."""
        people = rung_by_lookup(self._directory.of(job.to)[0])
        ids, missing = self._directory.resolve(app.name, people, "user_id")
        if missing:
            return Ended(outcome=Snooze(why="looks people up", cause="lookup", sent=False), route="lookup")
        return self._webhook.attempt(
            _linked(job, app),
            sender=sender,
            step=step,
            before=first_part(notes),
            looked_up={who.label: Rung(user_id=user_id) for who, user_id in ids.items()},
        )

    def _unrung(self, job: AssignJob, app: App) -> bool:
        """Whether somebody must be looked up before a robot can ring them."""
        people = rung_by_lookup(self._directory.of(job.to)[0])
        return bool(people and self._directory.resolve(app.name, people, "user_id")[1])

    def _message_steps(self, job: AssignJob, then: Route | None) -> int:
        if then == "webhook":
            # How long an id is does not matter here, only that there will be one.
            people = rung_by_lookup(self._directory.of(job.to)[0])
            return self._webhook.steps(job, looked_up={who.label: Rung(user_id="0" * 32) for who in people})
        return len(render_robot(job)) if then == "group" else 0

    def _look_up_workers(self, job: AssignJob, *, app: App, step: int, notes: Mapping[str, str]) -> Ended:
        people, problem = self._todo.people_of(job, app)
        if problem:
            return Ended(outcome=Dead(why=problem, cause="recipients", sent=False))

        def stranger(who: Lookup, refused: Dead) -> Ended:
            # Work for somebody who does not exist is a mistake that a person must see; nothing has been made yet.
            return Ended(outcome=dataclasses.replace(refused, why=f"to: {unknown(who, refused)}"))

        # For the todo all of them; then, for the message that rings, those whom a robot cannot ring as they are.
        wanted: Wanted = "union_id" if self._directory.resolve(app.name, people, "union_id")[1] else "user_id"
        asked = people if wanted == "union_id" else rung_by_lookup(people)
        then: Route = "webhook" if TODO in notes else "todo"
        ended = self._ask(asked, wanted, app=app, step=step, notes=notes, then=then, stranger=stranger)
        if TODO in notes and isinstance(ended.outcome, Delivered):
            # An id was forgotten between the todo and its message, which begins after this step.
            return dataclasses.replace(ended, notes={**ended.notes, **begins_at(step + 1)})
        return ended

    def _change_by(
        self,
        route: Route,
        job: ChangeJob,
        *,
        app: App,
        destination: Destination,
        step: int,
        notes: Mapping[str, str],
    ) -> Ended:
        if route != "lookup":
            return self._change.attempt(job, app=app, destination=destination, step=step, notes=notes)
        people, problem = self._change.people_of(job)
        if problem:
            return Ended(outcome=Dead(why=problem, cause="recipients", sent=False))

        def stranger(who: Lookup, refused: Dead) -> Ended:
            return failed(job, dataclasses.replace(refused, why=f"to: {unknown(who, refused)}"))

        return self._ask(people, "union_id", app=app, step=step, notes=notes, then="todo", stranger=stranger)

    def _look_up_recipients(
        self, job: Job, *, app: App, destination: Destination, step: int, notes: Mapping[str, str]
    ) -> Ended:
        then = message_route(destination)
        progress = progress_of(notes, destination.users)
        people = self._directory.named([name for name in progress.left if name in destination.users])

        def stranger(who: Lookup, refused: Dead) -> Ended:
            # The others get their message.
            why = unknown(who, refused)
            after = progress.without({who.who.label: why})
            receipt = {f"person.{who.who.label}": why}
            return Ended(outcome=Delivered(receipt=receipt), steps=step + 2, notes=after.to_notes(), route="lookup")

        return self._ask(people, "user_id", app=app, step=step, notes=notes, then=then, stranger=stranger)

    def _ask(
        self,
        people: Sequence[Who],
        wanted: Wanted,
        *,
        app: App,
        step: int,
        notes: Mapping[str, str],
        then: Route,
        stranger: lookup.Stranger,
    ) -> Ended:
        return self._lookup.attempt(people, wanted, app=app, step=step, notes=notes, then=then, stranger=stranger)

    def _share(
        self,
        route: Route,
        job: ShareJob,
        *,
        app: App,
        destination: Destination,
        step: int,
        notes: Mapping[str, str],
    ) -> Ended:
        main, sharing = message_route(destination), self._sharing
        if sharing is None and job.file:
            return Ended(outcome=Dead(why="nothing here uploads files", cause="route", sent=False))
        if sharing and route == "upload":
            return sharing.upload(job, app=app, destination=destination, step=step, notes=notes, then=main)
        media = sharing.to_send(notes) if sharing else None
        if route != main or (sharing and media is None):
            return _goes(self._share_turn(destination, notes))
        try:
            if route == "notice":
                mark = mark_of(job.job_id) if destination.unique else ""
                bodies = notices(job, media, mark=mark) if media else (notice_share(job, mark=mark),)
                ended = self._notice.send(bodies, app=app, destination=destination, step=step, notes=notes)
            else:
                messages = robot_messages(job, media) if media else (robot_link(job),)
                by = self._group if route == "group" else self._people
                ended = by.send(messages, app=app, destination=destination, step=step, notes=notes)
        except InvalidJob as error:
            return Ended(outcome=Dead(why=str(error), cause="content", sent=False))
        return sharing.after(ended, media) if sharing and media else ended


def _turn(job: Job, destination: Destination, step: int, notes: Mapping[str, str]) -> Route:
    """Which route the job's next step takes."""
    match job:
        case SendJob():
            return ringing_route(destination) if need_of(job) == "ring" else message_route(destination)
        case AssignJob():
            return (_message_after(destination) or "todo") if TODO in notes else "todo"
        case ShareJob():
            return message_route(destination)
        case ChangeJob():
            return change_turn(job, step)


def _message_after(destination: Destination) -> Route | None:
    """How the people of a todo are told in the group, where there is one: a webhook robot rings them."""
    if destination.robots:
        return "webhook"
    return "group" if destination.conversation else None


def _linked(job: AssignJob, app: App) -> AssignJob:
    """The work with the address that its todo has."""
    return dataclasses.replace(job, url=detail_url(job, app))


#: In the notes: where the job was last sent on to without an attempt.
_SENT_ON = "sent_on"


def _goes(turn: Route) -> Ended:
    """It is another route's turn."""
    return Ended(outcome=Snooze(why=f"goes by {turn}", cause="route", sent=False), route=turn)


def _sent_on(ended: Ended, route: Route | None, notes: Mapping[str, str]) -> Ended:
    """A pace that does not know where a job is sent on to would send it back again and again: that costs attempts."""
    if not isinstance(ended.outcome, Snooze) or ended.outcome.sent or ended.route is None:
        return ended
    way = f"{route}>{ended.route}"
    if notes.get(_SENT_ON) != way:
        return dataclasses.replace(ended, notes={**ended.notes, _SENT_ON: way})
    why = (
        f"this worker's configuration says {ended.route}, and the fleet's pace {route or 'otherwise'}: do all workers read "
        "the same file, and were they restarted after it changed?"
    )
    return dataclasses.replace(ended, outcome=Retry(why=why, cause="configuration", sent=False))


def _kept(ended: Ended, notes: Mapping[str, str]) -> Ended:
    """What is the same after every step: how long the record is kept, and that a token has been good."""
    good = isinstance(ended.outcome, Delivered | Accepted)
    if TODO in notes or TODO in ended.notes:
        ended = dataclasses.replace(ended, keep_s=KEEP_S)
    if good:
        over = {name: none for name, none in ((REFUSED, "0"), (_SENT_ON, "")) if notes.get(name, none) != none}
        ended = dataclasses.replace(ended, notes={**ended.notes, **over})
    return ended
