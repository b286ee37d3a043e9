"""A job as the messages of an enterprise app: of its robot, and work notifications. Pure.

Templates and fields: https://open.dingtalk.com/document/development/robot-message-type
and https://open.dingtalk.com/document/development/message-types-and-data-format
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, assert_never

from dingqueue.contract import AssignJob, Card, Feed, Job, Link, Markdown, Mention, SendJob, ShareJob, Text, TooLong
from dingqueue.errors import InvalidJob
from dingqueue.messages import split
from dingqueue.messages.markdown import close_fence, tables_as_lines, title_of, visible_breaks
from dingqueue.messages.model import encode
from dingqueue.messages.words import about_file, readable, words_for
from dingqueue.routes import NOTICES_HAVE_NO_FEEDS, ROBOT_HAS_NO_FEEDS

#: The ``msgParam`` of a robot's message, as JSON.
#: https://open.dingtalk.com/document/development/the-robot-sends-a-group-message
MAX_PARAM_BYTES = 15_000
#: The whole ``msg`` of a work notification, as JSON.
#: https://open.dingtalk.com/document/development/asynchronous-sending-of-enterprise-session-messages
MAX_NOTICE_BYTES = 2_048
#: What is longer is a file.
MAX_PARTS = 50
#: A card of the app's robot: one button, two side by side, or two to five below each other.
MAX_BUTTONS = 5
_WIDEST_NUMBER = f"({MAX_PARTS}/{MAX_PARTS}) "
#: Limits of a work notification's parts, in characters.
_NOTICE_TITLE, _NOTICE_LINK_TEXT, _NOTICE_CARD_TEXT, _NOTICE_BUTTON, _NOTICE_BUTTONS = 100, 500, 1_000, 20, 1_000
_NOTICE_SINGLE_URL, _NOTICE_BUTTON_URL = 500, 700

_PICTURES = frozenset({"jpg", "jpeg", "gif", "png", "bmp"})

Body: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RobotMessage:
    """One message of an app's robot: the template's key, and its fields, which travel as a JSON text."""

    key: str
    param: Mapping[str, str]

    @property
    def text(self) -> str:
        """``msgParam``: the fields as JSON in UTF-8, unescaped."""
        return encode(self.param).decode()


def render_robot(job: SendJob | AssignJob) -> tuple[RobotMessage, ...]:
    """A message, or the message that goes with a todo, as an app's robot says it; a long text takes several.

    An app's robot rings nobody: whoever is mentioned goes another way, or is refused before.

    Raises:
        InvalidJob: It cannot be said so; ``field`` names the argument.
    """
    if isinstance(job, AssignJob):
        return _work(job)
    match job.content:
        case Text(text=text):
            parts = _Long(text=text, markdown=False, field="text", limit_bytes=MAX_PARAM_BYTES)
            return tuple(parts.render(job.too_long, _robot_text))
        case Markdown(text=text, title=title):
            return _robot_markdown(_shown(text, job), title_of(title, text), job.too_long, field="markdown")
        case Link() as link:
            param = {"title": link.title, "text": link.text, "picUrl": link.picture_url, "messageUrl": link.url}
            return (_whole(RobotMessage("sampleLink", param), field="link"),)
        case Card() as card:
            return (_whole(_robot_card(card, _shown(card.text, job)), field="card"),)
        case Feed():
            raise InvalidJob("feed", ROBOT_HAS_NO_FEEDS)
        case other:
            assert_never(other)  # fmt: skip


def robot_file(name: str, media_id: str, extension: str) -> RobotMessage:
    """An uploaded file as an app's robot shows it; a picture is shown as one.

    Args:
        name: What people see.
        media_id: What the upload gave.
        extension: Of the type that it was uploaded as, without the dot.
    """
    if extension.lower() in _PICTURES:
        return RobotMessage("sampleImageMsg", {"photoURL": media_id})
    return RobotMessage("sampleFile", {"mediaId": media_id, "fileName": name, "fileType": extension})


def robot_link(job: ShareJob) -> RobotMessage:
    """A file by its URL, where it cannot be uploaded."""
    note = job.note or about_file(job.name, job.url)
    param = {"title": job.name, "text": note, "picUrl": "", "messageUrl": job.url}
    return _whole(RobotMessage("sampleLink", param), field="note")


def render_notice(job: SendJob, *, mark: str = "") -> tuple[Body, ...]:
    """A message as work notifications; a long text takes several.

    Args:
        job: What to say. Everybody who gets it is notified: nobody has to be mentioned.
        mark: Added to the text, so that it is not the same as another one of today.

    Raises:
        InvalidJob: It cannot be said so; ``field`` names the argument.
    """
    match job.content:
        case Text(text=text):
            parts = _Long(text=text, markdown=False, field="text", limit_bytes=MAX_NOTICE_BYTES, tail=mark)
            return tuple(parts.render(job.too_long, _notice_text))
        case Markdown(text=text, title=title):
            shown, head = _shown(text, job), title_of(title, text)[:_NOTICE_TITLE]
            parts = _Long(text=shown, markdown=True, field="markdown", limit_bytes=MAX_NOTICE_BYTES, tail=mark)
            return tuple(
                parts.render(
                    job.too_long,
                    lambda number, part: {"msgtype": "markdown", "markdown": {"title": number + head, "text": part}},
                )
            )
        case Link() as link:
            return (_small(_notice_link(link, mark), field="link"),)
        case Card() as card:
            return (_small(_notice_card(card, _tailed(_shown(card.text, job), mark, markdown=True)), field="card"),)
        case Feed():
            raise InvalidJob("feed", NOTICES_HAVE_NO_FEEDS)
        case other:
            assert_never(other)


def notice_file(media_id: str, extension: str) -> Body:
    """An uploaded file as a work notification; a picture is shown as one."""
    kind = "image" if extension.lower() in _PICTURES else "file"
    return {"msgtype": kind, kind: {"media_id": media_id}}


def notice_share(job: ShareJob, *, mark: str = "") -> Body:
    """A file by its URL, where it cannot be uploaded."""
    note = job.note or about_file(job.name, job.url)
    link = Link(title=job.name, text=note, url=job.url)
    return _small(_notice_link(link, mark), field="note")


# --- The app's robot ----------------------------------------------------------------------------------------------


def _robot_text(number: str, text: str) -> RobotMessage:
    return RobotMessage("sampleText", {"content": text})


def _robot_markdown(text: str, title: str, too_long: TooLong, *, field: str) -> tuple[RobotMessage, ...]:
    parts = _Long(text=text, markdown=True, field=field, limit_bytes=MAX_PARAM_BYTES)
    return tuple(
        parts.render(
            too_long, lambda number, part: RobotMessage("sampleMarkdown", {"title": number + title, "text": part})
        )
    )


def _robot_card(card: Card, text: str) -> RobotMessage:
    head = {"title": card.title, "text": text}
    buttons = card.buttons
    match len(buttons):
        case 0:
            raise InvalidJob("buttons", "a card has at least one")
        case 1:
            return RobotMessage(
                "sampleActionCard", {**head, "singleTitle": buttons[0].title, "singleURL": buttons[0].url}
            )
        case 2 if card.horizontal:
            for at, button in enumerate(buttons, start=1):
                head |= {f"buttonTitle{at}": button.title, f"buttonUrl{at}": button.url}
            return RobotMessage("sampleActionCard6", head)
        case count if count <= MAX_BUTTONS:
            for at, button in enumerate(buttons, start=1):
                head |= {f"actionTitle{at}": button.title, f"actionURL{at}": button.url}
            return RobotMessage(f"sampleActionCard{count}", head)
        case count:
            raise InvalidJob("buttons", f"{count} buttons; a card of an app's robot has at most {MAX_BUTTONS}")


def _work(job: AssignJob) -> tuple[RobotMessage, ...]:
    words = words_for(job.subject)
    title = words.task.format(subject=" ".join(job.subject.split()))
    facts = [words.to.format(people=", ".join(people_shown(job.to)))]
    if job.due:
        facts.append(words.due.format(when=readable(job.due, words)))
    if job.url:
        facts.append(words.link.format(url=job.url.replace("(", "%28").replace(")", "%29")))
    paragraphs = [f"### {title}", "\n".join(facts), job.description.strip()]
    text = tables_as_lines("\n\n".join(filter(None, paragraphs)))
    return _robot_markdown(close_fence(visible_breaks(text)), title, "split", field="description")


def people_shown(people: Mention) -> tuple[str, ...]:
    """People by the names that they were called by; of a mobile, which is nobody's business, its ends."""
    return (*people.names, *people.user_ids, *people.union_ids, *map(masked_mobile, people.mobiles))


def masked_mobile(mobile: str) -> str:
    """``138****0000``."""
    digits = len(mobile)
    return mobile if digits < 8 else f"{mobile[: digits - 8]}****{mobile[-4:]}"


def _whole(message: RobotMessage, *, field: str) -> RobotMessage:
    _refuse_over(len(message.text.encode()), MAX_PARAM_BYTES, field)
    return message


# --- Work notifications -------------------------------------------------------------------------------------------


def _notice_text(number: str, text: str) -> Body:
    return {"msgtype": "text", "text": {"content": text}}


def _notice_link(link: Link, mark: str) -> Body:
    text = _tailed(link.text, mark, markdown=False)
    if link.picture_url:
        inner = {"messageUrl": link.url, "picUrl": link.picture_url, "title": link.title, "text": text}
        _refuse_long(link.title, _NOTICE_TITLE, "title")
        _refuse_long(text, _NOTICE_LINK_TEXT, "text")
        return {"msgtype": "link", "link": inner}
    # A link of a work notification must have a picture; a card with one button needs none.
    _refuse_long(link.url, _NOTICE_SINGLE_URL, "url")
    inner = {"title": link.title, "markdown": f"### {link.title}\n\n{visible_breaks(text)}",
             "single_title": words_for(link.title).open, "single_url": link.url}  # fmt: skip
    return {"msgtype": "action_card", "action_card": inner}


def _notice_card(card: Card, text: str) -> Body:
    _refuse_long(text, _NOTICE_CARD_TEXT, "text")
    inner: Body = {"title": card.title, "markdown": text}
    if not card.buttons:
        raise InvalidJob("buttons", "a card has at least one")
    for at, button in enumerate(card.buttons):
        _refuse_long(button.title, _NOTICE_BUTTON, f"buttons[{at}].title")
        most = _NOTICE_SINGLE_URL if len(card.buttons) == 1 else _NOTICE_BUTTON_URL
        _refuse_long(button.url, most, f"buttons[{at}].url")
    if len(card.buttons) == 1:
        inner |= {"single_title": card.buttons[0].title, "single_url": card.buttons[0].url}
    else:
        listed = [{"title": button.title, "action_url": button.url} for button in card.buttons]
        _refuse_long(json.dumps(listed, ensure_ascii=False), _NOTICE_BUTTONS, "buttons")
        inner |= {"btn_orientation": "1" if card.horizontal else "0", "btn_json_list": listed}
    return {"msgtype": "action_card", "action_card": inner}


def _small(body: Body, *, field: str) -> Body:
    _refuse_over(len(encode(body)), MAX_NOTICE_BYTES, field)
    return body


# --- Both ---------------------------------------------------------------------------------------------------------


def _shown(text: str, job: Job) -> str:
    tables = job.tables if isinstance(job, SendJob) else "lines"
    return close_fence(visible_breaks(tables_as_lines(text) if tables == "lines" else text))


def _tailed(text: str, tail: str, *, markdown: bool) -> str:
    gap = "\n\n" if markdown else "\n"
    return f"{text}{gap}{tail}" if tail else text


def _refuse_over(size_bytes: int, limit_bytes: int, field: str) -> None:
    if size_bytes > limit_bytes:
        raise InvalidJob(
            field, f"{size_bytes:,} bytes as sent; DingTalk takes {limit_bytes:,} here, and this type cannot be cut"
        )


def _refuse_long(text: str, most: int, field: str) -> None:
    if len(text) > most:
        raise InvalidJob(field, f"{len(text):,} characters; a work notification takes {most:,} here")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Long:
    """A text that may take several messages. ``tail`` ends each of them."""

    text: str
    markdown: bool
    field: str
    limit_bytes: int
    tail: str = ""

    def render(self, too_long: TooLong, build: Callable[[str, str], Any]) -> list[Any]:
        """The messages, each within the limit.

        Args:
            too_long: What to do with more than one message of text.
            build: A message of a part's number (``(1/2)`` and a blank, or empty) and its text.
        """
        if not self.text.strip():
            raise InvalidJob(self.field, "is blank")
        whole = build("", self._tailed(self.text))
        size_bytes = _size_bytes(whole)
        if size_bytes <= self.limit_bytes:
            return [whole]
        room_bytes = self.limit_bytes - _size_bytes(build(_WIDEST_NUMBER, ""))
        room_bytes -= split.cost_bytes(f"{_WIDEST_NUMBER}\n\n\n\n{self.tail}")
        if room_bytes < split.MIN_PIECE_BYTES:
            raise InvalidJob(self.field, "the title leaves no room for the text")
        match too_long:
            case "refuse":
                said = f"{size_bytes:,} bytes as sent; DingTalk takes {self.limit_bytes:,} here: allow 'split' or 'shorten'"
                raise InvalidJob(self.field, said)
            case "shorten":
                return [build("", self._tailed(self._shortened(room_bytes)))]
            case "split":
                texts = self._split(room_bytes)
                numbers = [f"({at}/{len(texts)}) " if len(texts) > 1 else "" for at in range(1, len(texts) + 1)]
                return [
                    build(number, self._numbered(number, text)) for number, text in zip(numbers, texts, strict=True)
                ]
            case other:
                assert_never(other)

    def _tailed(self, text: str) -> str:
        return _tailed(text, self.tail, markdown=self.markdown)

    def _numbered(self, number: str, text: str) -> str:
        gap = "\n\n" if self.markdown else "\n"
        return self._tailed(f"{number.strip()}{gap}{text}" if number else text)

    def _split(self, room_bytes: int) -> list[str]:
        texts: list[str] = []
        for piece in split.pieces(self.text, limit_bytes=room_bytes, markdown=self.markdown):
            if len(texts) == MAX_PARTS:
                raise InvalidJob(self.field, f"more than {MAX_PARTS} messages of text; share it as a file or a link")
            texts.append(piece.text)
        return texts

    def _shortened(self, room_bytes: int) -> str:
        words = words_for(self.text)
        gap = "\n\n" if self.markdown else "\n"
        room_bytes -= split.cost_bytes(gap + words.left_out.format(count=len(self.text)))
        first = next(
            split.pieces(self.text, limit_bytes=max(room_bytes, split.MIN_PIECE_BYTES), markdown=self.markdown)
        )
        left_out = split.graphemes(" ".join(self.text[first.end :].split()))
        return first.text + gap + words.left_out.format(count=left_out) if left_out else first.text


def _size_bytes(message: RobotMessage | Body) -> int:
    return len(message.text.encode()) if isinstance(message, RobotMessage) else len(encode(message))
