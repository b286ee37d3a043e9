"""What DingTalk takes, and people then do not see or hear as the sender thinks. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from dingqueue_worker.sandbox import webhook
from dingqueue_worker.sandbox.model import Robot

_MOBILE = re.compile(r"1[0-9]{10}|\+[0-9]{1,4}-[0-9]{4,14}")
_MENTION = re.compile(r"(?<![\w@.])@(\+?[0-9][0-9-]{6,})(?![\w@-])")
_FENCE = re.compile(r"^ {0,3}(```+|~~~+).*?(?:^ {0,3}\1[^\n]*$|\Z)", re.MULTILINE | re.DOTALL)
#: A line break that DingTalk may drop: between two lines of words, without the two spaces that keep it.
_LOST_BREAK = re.compile(r"[^\s](?: ?)\n(?=[^\s#>*+\-|0-9])")
_TABLE = re.compile(r"^\s*\|?(?:\s*:?-+:?\s*\|)+\s*:?-*:?\s*$", re.MULTILINE)
_TAG = re.compile(r"<(/?[a-zA-Z][a-zA-Z0-9]*)\b[^>]*>")


def rung(robot: Robot | None, body: Any) -> list[str]:
    """Who is rung: numbers and user ids, ``everyone``."""
    if not isinstance(body, dict) or (robot and robot.external):
        return []
    msgtype, at = body.get("msgtype"), body.get("at")
    if msgtype not in {"text", "markdown", "actionCard"} or not isinstance(at, dict):
        return []
    text = webhook.searched_text(body)
    mobiles = _strings(at.get("atMobiles")) if msgtype != "actionCard" else []
    found = [one for one in [*mobiles, *_strings(at.get("atUserIds"))] if one and stands_in(text, one)]
    return [*dict.fromkeys(found), *(["everyone"] if at.get("isAtAll") is True and msgtype != "actionCard" else [])]


def _strings(value: Any) -> list[str]:
    """The strings of a list; of anything else, none: a refused message is looked at too."""
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def stands_in(text: str, who: str) -> bool:
    """Whether ``@who`` stands in the text by itself, not as the beginning of a longer number or id."""
    return re.search(rf"(?<![0-9A-Za-z_])@{re.escape(who)}(?![0-9A-Za-z_@-])", text) is not None


def warnings(robot: Robot | None, body: Any, raw: bytes) -> list[str]:
    """In words for people, the most important first."""
    if not isinstance(body, dict) or not isinstance(body.get("msgtype"), str):
        return []
    return [*_mentions(robot, body), *_markdown(body), *_links(body), *_transport(body, raw)]


def content_warnings(content: dict[str, Any]) -> list[str]:
    """The same for a message of an app, which carries no ``at``."""
    if content.get("msgtype") not in webhook.TYPES:
        return []
    words = webhook.searched_text(content)
    rings = [f"@{who} is only shown: an app's robot rings nobody" for who in dict.fromkeys(_MENTION.findall(words))]
    return [*rings, *_markdown(content), *_links(content)]


def _mentions(robot: Robot | None, body: dict[str, Any]) -> Iterator[str]:
    msgtype = body["msgtype"]
    given = body.get("at")
    at: dict[str, Any] = given if isinstance(given, dict) else {}
    mobiles, user_ids = _strings(at.get("atMobiles")), _strings(at.get("atUserIds"))
    text = webhook.searched_text(body)
    asked = bool(mobiles or user_ids or at.get("isAtAll"))
    if asked and msgtype in {"link", "feedCard"}:
        yield f"will not ring: DingTalk ignores `at` in a {msgtype} message"
    elif asked and robot and robot.external:
        yield "will not ring: a robot cannot mention anyone in a group with people of other organisations"
    elif msgtype == "actionCard" and (mobiles or at.get("isAtAll")):
        yield "may not ring: a card is documented to ring by user id only"
    else:
        for one in [*mobiles, *user_ids]:
            if not one.strip():
                yield "an empty string stands in `at`"
            elif not stands_in(text, one):
                yield f"will not ring {one}: @{one} does not stand in the text"
    for mobile in mobiles:
        if mobile.strip() and not _MOBILE.fullmatch(mobile):
            yield f"may not ring {mobile}: documented are 13800000000 and +852-91234567"
    for who in dict.fromkeys(_MENTION.findall(text)):
        if who not in mobiles and who not in user_ids:
            yield f"@{who} is only shown: it does not stand in `at`"
    if at.get("isAtAll") is True and msgtype in {"text", "markdown"}:
        yield "a group may allow only its admins to ring everyone"


def _markdown(body: dict[str, Any]) -> Iterator[str]:
    if body["msgtype"] not in {"markdown", "actionCard"}:
        return
    text = webhook.searched_text(body)
    prose = _FENCE.sub("", text)
    if _LOST_BREAK.search(prose):
        yield "a single line break may vanish: write two spaces before it, or a blank line"
    if _TABLE.search(prose):
        yield "phones may show the table as lines with pipes"
    if prose != text:
        yield "a code block is not in DingTalk's list of what it draws"
    if "~~" in prose:
        yield "~~strike-through~~ is not in DingTalk's list of what it draws"
    tags = {tag.lower().strip("/") for tag in _TAG.findall(prose)}
    if tags - {"font", "br"}:
        yield f"HTML is not drawn: <{'>, <'.join(sorted(tags - {'font', 'br'}))}>"
    if "data:image" in prose:
        yield "a picture within the text (data:) is not shown: DingTalk wants a public URL"


def _links(body: dict[str, Any]) -> Iterator[str]:
    text = str(body.get(body["msgtype"]) or "")
    hosts = {urlsplit(url).hostname or "" for url in re.findall(r"https?://[^\s'\"<>)\]]+", text) if _is_url(url)}
    local = sorted(host for host in hosts if host in {"localhost", "127.0.0.1"} or host.endswith(".local"))
    if local:
        yield f"a link to {', '.join(local)} opens on no other machine"


def _is_url(url: str) -> bool:
    try:
        urlsplit(url)
    except ValueError:
        return False
    return True


def _transport(body: dict[str, Any], raw: bytes) -> Iterator[str]:
    if body.get("msgUuid") is None:
        yield "no msgUuid: repeated after a lost answer, it would be a second message"
    if re.search(rb"(?<!\\)(?:\\\\)*\\u(?!00[01])[0-9a-fA-F]{4}", raw):
        yield "\\uXXXX costs twice the bytes of UTF-8, and DingTalk's list of error codes calls it illegal"
    if 0.9 * webhook.MAX_BODY_BYTES < len(raw) <= webhook.MAX_BODY_BYTES:
        yield f"{len(raw):,} of {webhook.MAX_BODY_BYTES:,} bytes"
    unknown = sorted(set(map(str, body)) - {"msgtype", "at", "msgUuid", *webhook.TYPES})
    if unknown:
        yield f"DingTalk does not know {', '.join(unknown)}"
    others = sorted(set(webhook.TYPES) & set(body) - {body["msgtype"]})
    if others:
        yield f"{', '.join(others)} is ignored: the msgtype is {body['msgtype']}"
