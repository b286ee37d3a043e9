"""Who is rung, and how the text must name them. Knows nothing of sizes or queues.

DingTalk rings a person when the number or user id stands in the text *and* in ``at``.
https://open.dingtalk.com/document/development/robot-message-type
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dingqueue.contract import Mention
from dingqueue.errors import InvalidJob
from dingqueue.messages.mobiles import documented_mobile
from dingqueue.messages.model import MAX_MENTIONS, Rung

#: No name of ``[people]`` can begin so.
_UNION = "union:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """People in DingTalk's own terms.

    Attributes:
        mobiles: As documented: ``13800000000``, ``+852-91234567``.
        user_ids: Staff user ids.
        everyone: The whole group.
        shown: Names that only the fleet can resolve: shown as ``@name``, ringing nobody.
        warnings: What a person should know.
    """

    mobiles: tuple[str, ...] = ()
    user_ids: tuple[str, ...] = ()
    everyone: bool = False
    shown: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def tokens(self) -> tuple[str, ...]:
        """What must stand in the text, each once."""
        return tuple(f"@{who}" for who in (*self.mobiles, *self.user_ids, *self.shown))

    def at(self, tokens: Sequence[str], *, everyone: bool) -> dict[str, Any]:
        """The ``at`` object that rings those of the tokens (and everyone, where everyone is to be rung); may be empty."""
        at: dict[str, Any] = {}
        if mobiles := [mobile for mobile in self.mobiles if f"@{mobile}" in tokens]:
            at["atMobiles"] = mobiles
        if user_ids := [user_id for user_id in self.user_ids if f"@{user_id}" in tokens]:
            at["atUserIds"] = user_ids
        if everyone and self.everyone:
            at["isAtAll"] = True
        return at


def resolve(
    mention: Mention, people: Mapping[str, Rung], *, check_names: bool, field: str, by_user_id: bool = False
) -> Ring:
    """The people of a mention, each once; empty strings are nobody.

    Args:
        mention: Whom to ring.
        people: The fleet's ``[people]``; and whoever was looked up by union id, under ``by_union_id``.
        check_names: Whether ``people`` is complete; where not, unknown names are only shown.
        field: The argument to blame.
        by_user_id: Prefer the user id (cards ring by nothing else) to the mobile.

    Raises:
        InvalidJob: An unknown name, a person who cannot be rung, a number that rings nobody, or more than 50.
    """
    mobiles = [_mobile(mobile, field) for mobile in mention.mobiles if mobile.strip()]
    user_ids = [user_id.strip() for user_id in mention.user_ids if user_id.strip()]
    shown: list[str] = []
    for name in filter(None, (name.strip() for name in (*mention.names, *map(by_union_id, mention.union_ids)))):
        person = people.get(name)
        if person is None and not check_names:
            shown.append(name)
        elif person is None and name.startswith(_UNION):
            raise InvalidJob(field, f"nothing rings {name}: write user:ID, a mobile or a name of [people]")
        elif person is None:
            raise InvalidJob(field, _unknown(name, people))
        elif person.user_id and (by_user_id or not person.mobile):
            user_ids.append(person.user_id)
        elif person.mobile:
            mobiles.append(_mobile(person.mobile, field))
        else:
            raise InvalidJob(field, f"{name} of [people] has neither a mobile nor a user_id, so nothing can ring them")
    ring = Ring(
        mobiles=tuple(dict.fromkeys(mobiles)),
        user_ids=tuple(dict.fromkeys(user_ids)),
        everyone=mention.everyone,
        shown=tuple(dict.fromkeys(shown)),
        warnings=tuple(
            f"{name} is shown by name here; the fleet's [people] decides how {name} is rung"
            for name in dict.fromkeys(shown)
        ),
    )
    if len(ring.tokens) > MAX_MENTIONS:
        raise InvalidJob(field, f"{len(ring.tokens)} people; DingTalk rings at most {MAX_MENTIONS} in one message")
    return ring


def by_union_id(union_id: str) -> str:
    """How somebody is called in ``people`` of whom only the union id was given."""
    return f"{_UNION}{union_id}"


def has_token(text: str, token: str) -> bool:
    """Whether the token stands in the text by itself, not as the beginning of a longer number or id."""
    return re.search(rf"(?<![0-9A-Za-z_]){re.escape(token)}(?![0-9A-Za-z_@-]|\.[0-9A-Za-z])", text) is not None


def _mobile(text: str, field: str) -> str:
    try:
        return documented_mobile(text)
    except ValueError as error:
        raise InvalidJob(field, str(error)) from error


def _unknown(name: str, people: Mapping[str, Rung]) -> str:
    near = difflib.get_close_matches(name, people, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "add them there, or write a mobile or user:ID"
    return f"{name!r} is not in the fleet's [people]: {hint}"
