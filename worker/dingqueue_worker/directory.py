"""Who is who: user ids and union ids of people, looked up once and kept for the fleet. Knows no job and no HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from dingqueue.contract import Mention
from dingqueue.messages import by_union_id, masked_mobile
from dingqueue_worker.settings import Person

#: What a person is asked for by, and what is wanted.
Kind: TypeAlias = Literal["mobile", "user_id", "union_id"]
Wanted: TypeAlias = Literal["user_id", "union_id"]
#: Somebody may leave, and their mobile be given to another.
KEEP_S = 7 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """Somebody, by whatever is known of them; ``label`` is how they were called, fit to be shown."""

    label: str
    user_id: str | None = None
    mobile: str | None = None
    union_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """The next thing to ask DingTalk about somebody: their ``wanted`` by their ``kind``."""

    who: Who
    kind: Kind
    value: str
    wanted: Wanted

    @property
    def by(self) -> str:
        """What was used to ask, in words for a person; a mobile keeps its ends only."""
        shown = masked_mobile(self.value) if self.kind == "mobile" else self.value
        return f"{self.kind.replace('_', ' ')} {shown}"


class KnownIds(Protocol):
    """What the directory needs of the store."""

    def known_ids(self, app: str, asked: Sequence[tuple[Wanted, Kind, str]]) -> list[str | None]: ...
    def keep_id(self, app: str, wanted: Wanted, kind: Kind, value: str, found: str, *, keep_s: float) -> None: ...
    def forget_ids(self, app: str, asked: Sequence[tuple[Wanted, Kind, str]]) -> None: ...


class Directory:
    """Resolves people of one organisation, as far as the fleet knows them."""

    def __init__(self, people: Mapping[str, Person], store: KnownIds) -> None:
        self._people, self._store = people, store

    def named(self, names: Sequence[str]) -> list[Who]:
        """People of the configuration; all names are known there."""
        return [_who(self._people[name]) for name in names]

    def of(self, mention: Mention) -> tuple[list[Who], list[str]]:
        """The people whom an application named, each once, and the names that nobody has."""
        found = [_who(self._people[name]) for name in mention.names if name in self._people]
        found += [Who(label=f"user:{user_id}", user_id=user_id) for user_id in mention.user_ids]
        found += [Who(label=by_union_id(union_id), union_id=union_id) for union_id in mention.union_ids]
        found += [Who(label=masked_mobile(mobile), mobile=mobile) for mobile in mention.mobiles]
        return list(dict.fromkeys(found)), [name for name in mention.names if name not in self._people]

    def resolve(self, app: str, people: Sequence[Who], wanted: Wanted) -> tuple[dict[Who, str], list[Lookup]]:
        """What is known, and what must be asked next.

        Args:
            app: Whose organisation: union ids are its own.
            people: Whom to resolve.
            wanted: ``user_id`` or ``union_id``.

        Returns:
            The ids of those who are known; one look-up for each of the others.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        if wanted == "user_id":
            users, missing = self._user_ids(app, people)
            return users, [missing[one] for one in people if one in missing]
        users, missing = self._user_ids(app, [one for one in people if not one.union_id])
        asked = list(users)
        known = self._store.known_ids(app, [("union_id", "user_id", users[one]) for one in asked])
        ids = {one: one.union_id for one in people if one.union_id}
        ids |= {one: found for one, found in zip(asked, known, strict=True) if found}
        lookups = [
            missing.get(one) or Lookup(who=one, kind="user_id", value=users[one], wanted="union_id")
            for one in people
            if one not in ids and (one in missing or one in users)
        ]
        return ids, lookups

    def _user_ids(self, app: str, people: Sequence[Who]) -> tuple[dict[Who, str], dict[Who, Lookup]]:
        given = {one: one.user_id for one in people if one.user_id}
        others = [lookup for one in people if not one.user_id and (lookup := _user_lookup(one))]
        known = self._store.known_ids(app, [(one.wanted, one.kind, one.value) for one in others])
        found = {one.who: value for one, value in zip(others, known, strict=True) if value}
        return given | found, {one.who: one for one in others if one.who not in found}

    def keep(self, app: str, lookup: Lookup, found: str) -> None:
        """Keep what DingTalk said.

        Raises:
            StoreUnavailable: Redis did not answer: it is asked again.
        """
        self._store.keep_id(app, lookup.wanted, lookup.kind, lookup.value, found, keep_s=KEEP_S)

    def forget(self, app: str, people: Sequence[Who]) -> None:
        """DingTalk does not know somebody any more: look all of them up again next time."""
        users, _ = self._user_ids(app, people)
        asked: list[tuple[Wanted, Kind, str]] = [("union_id", "user_id", user_id) for user_id in users.values()]
        asked += [(one.wanted, one.kind, one.value) for who in people if (one := _user_lookup(who))]
        self._store.forget_ids(app, asked)


def _user_lookup(who: Who) -> Lookup | None:
    if who.mobile:
        return Lookup(who=who, kind="mobile", value=who.mobile, wanted="user_id")
    if who.union_id:
        return Lookup(who=who, kind="union_id", value=who.union_id, wanted="user_id")
    return None


def rung_by_lookup(people: Sequence[Who]) -> list[Who]:
    """Those of whom only the union id is known: a robot rings by user id or mobile."""
    return [one for one in people if one.union_id and not (one.user_id or one.mobile)]


def nobody(person: Who) -> bool:
    """Whether nothing is known by which they could be asked for."""
    return not (person.user_id or person.mobile or person.union_id)


def _who(person: Person) -> Who:
    return Who(label=person.name, user_id=person.user_id, mobile=person.mobile, union_id=person.union_id)
