"""A message as people see it in DingTalk, as HTML that can do nothing. Pure.

What comes from a message passes either the escaper or nh3; the pages' policy forbids scripts that are not their own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup, escape

#: What a link may open: pages, and DingTalk's own addresses.
SCHEMES = {"http", "https", "dingtalk", "mailto", "tel"}
_TAGS = {
    "p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "strong", "em", "a", "img", "ul", "ol", "li", "blockquote",
    "pre", "code", "font", "span",
}  # fmt: skip
_URL = re.compile(r"https?://[^\s<>\"'，。；）】》]+")
_MENTION = re.compile(r"(?<![\w@.])@(\+?[\w-]+(?:\.[\w-]+)*)")
_FONT = re.compile(
    r"<font\s+color=[\"']?(#[0-9a-fA-F]{3,8}|[a-zA-Z]{3,30})[\"']?\s*>|</font\s*>|<br\s*/?>", re.IGNORECASE
)


_NOTHING = Markup("")


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture by its address; shown only where the reader asked for pictures."""

    url: str
    words: str = ""

    @property
    def place(self) -> str:
        """Where it is, short."""
        return host_of(self.url) or self.url[:40]


@dataclass(frozen=True, slots=True)
class Button:
    """Something to press, and where it leads; "" where that is no address that a page may open."""

    words: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A message, ready for a template.

    Attributes:
        form: Which bubble it is.
        preview: What the conversation list and the notification show.
        html: The text, safe.
        title: Of a link or card.
        url: Where a link card leads.
        picture: Of a link card.
        buttons: Of a card.
        horizontal: The buttons stand side by side.
        items: Of a feed: title, address, picture.
    """

    form: Literal["text", "markdown", "link", "card", "feed", "file", "image", "todo", "raw"]
    preview: str = ""
    html: Markup = _NOTHING
    title: str = ""
    url: str = ""
    picture: Picture | None = None
    buttons: tuple[Button, ...] = ()
    horizontal: bool = False
    items: tuple[tuple[str, str, Picture], ...] = field(default=())


def show(body: Any, raw: str, rings: Sequence[str], *, pictures: bool) -> Shown:
    """The message; what cannot be drawn is shown raw.

    Args:
        body: Parsed, None where it is no JSON.
        raw: As it came.
        rings: Who is rung, to mark their names.
        pictures: Show them; else a note stands in each one's place, and nothing is fetched from anywhere.
    """
    msgtype = body.get("msgtype") if isinstance(body, dict) else None
    content = body.get(msgtype) if isinstance(msgtype, str) else None
    if not isinstance(content, dict):
        return Shown(form="raw", html=escape(raw))
    match msgtype:
        case "text":
            words = _str(content, "content")
            return Shown(form="text", preview=words, html=plain(words, rings))
        case "markdown":
            words = _str(content, "text")
            return Shown(
                form="markdown", preview=_str(content, "title"), html=markdown(words, rings, pictures=pictures)
            )
        case "link":
            title = _str(content, "title")
            picture = _str(content, "picUrl")
            return Shown(
                form="link", preview=title, title=title, html=escape(_str(content, "text")),
                url=safe_url(_str(content, "messageUrl")), picture=Picture(picture, title) if picture else None,
            )  # fmt: skip
        case "actionCard":
            return Shown(
                form="card", preview=_str(content, "title"), html=markdown(_str(content, "text"), rings, pictures=pictures),
                buttons=_buttons(content), horizontal=content.get("btnOrientation") == "1",
            )  # fmt: skip
        case "feedCard":
            links = content.get("links")
            items = tuple(_item(link) for link in links if isinstance(link, dict)) if isinstance(links, list) else ()
            return Shown(form="feed", preview=items[0][0] if items else "", items=items)
        case "file":
            return Shown(form="file", preview=_str(content, "fileName"), title=_str(content, "fileName"))
        case "sampleImageMsg":
            return Shown(form="image", picture=Picture(_str(content, "photoURL")))
        case "todo":
            urls = content.get("detailUrl")
            url = _str(urls, "pcUrl") or _str(urls, "appUrl") if isinstance(urls, dict) else ""
            words = escape(_str(content, "description"))
            return Shown(form="todo", title=_str(content, "subject"), html=words, url=safe_url(url))
        case _:
            return Shown(form="raw", html=escape(raw))


def _str(content: dict[str, Any], name: str) -> str:
    value = content.get(name)
    return value if isinstance(value, str) else "" if value is None else str(value)


def _buttons(content: dict[str, Any]) -> tuple[Button, ...]:
    if "singleTitle" in content:
        return (Button(_str(content, "singleTitle"), safe_url(_str(content, "singleURL"))),)
    buttons = content.get("btns")
    if not isinstance(buttons, list):
        return ()
    return tuple(
        Button(_str(one, "title"), safe_url(_str(one, "actionURL"))) for one in buttons if isinstance(one, dict)
    )


def _item(link: dict[str, Any]) -> tuple[str, str, Picture]:
    title = _str(link, "title")
    return title, safe_url(_str(link, "messageURL")), Picture(_str(link, "picURL"), title)


def safe_url(url: str) -> str:
    """The address if a page may open it, else ""."""
    try:
        return url if urlsplit(url.strip()).scheme.lower() in SCHEMES else ""
    except ValueError:
        return ""


def host_of(url: str) -> str:
    """The host's name, "" without one."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def plain(text: str, rings: Sequence[str]) -> Markup:
    """A text message: links can be opened, mentions are marked, line breaks stay."""
    html, at = Markup(""), 0
    for found in _URL.finditer(text):
        html += _mentions(text[at : found.start()], rings)
        html += Markup('<a href="{0}" rel="noopener noreferrer" target="_blank">{0}</a>').format(found[0])
        at = found.end()
    return html + _mentions(text[at:], rings)


def _mentions(text: str, rings: Sequence[str]) -> Markup:
    html, at = Markup(""), 0
    for found in _MENTION.finditer(text):
        html += escape(text[at : found.start()])
        html += Markup('<span class="{}">{}</span>').format(_mark(found[1], rings), found[0])
        at = found.end()
    html += escape(text[at:])
    return html


def _mark(who: str, rings: Sequence[str]) -> str:
    return "at rings" if who in rings else "at"


def markdown(text: str, rings: Sequence[str], *, pictures: bool) -> Markup:
    """DingTalk's part of markdown. Tables stay lines with pipes, HTML other than ``<font color>`` is dropped."""
    html = _MARKDOWN.render(text, {"rings": rings, "pictures": pictures})
    return Markup(  # noqa: S704  # nh3 has just cleaned it
        nh3.clean(
            html,
            tags=_TAGS,
            attributes={"a": {"href"}, "img": {"src", "alt"}, "font": {"color"}, "ol": {"start"}},
            allowed_classes={"span": {"at", "rings", "picture"}},
            url_schemes=SCHEMES,
            link_rel="noopener noreferrer",
            set_tag_attribute_values={
                "a": {"target": "_blank"},
                "img": {"loading": "lazy", "referrerpolicy": "no-referrer"},
            },
        )
    )


def _make_markdown() -> MarkdownIt:
    """CommonMark without indented code (DingTalk's hint for a soft break begins lines with two blanks)."""
    parser = MarkdownIt("commonmark", {"html": True}).disable(["code", "html_block"])
    parser.core.ruler.push("mentions", _mark_mentions)
    parser.add_render_rule("html_inline", _only_fonts)
    parser.add_render_rule("mention", _render_mention)
    parser.add_render_rule("image", _render_image)
    return parser


def _mark_mentions(state: Any) -> None:
    rings = state.env.get("rings", ())
    for block in state.tokens:
        if block.type == "inline" and block.children:
            block.children = [part for token in block.children for part in _split(token, rings)]


def _split(token: Token, rings: Sequence[str]) -> list[Token]:
    if token.type != "text" or "@" not in token.content:
        return [token]
    parts, at = [], 0
    for found in _MENTION.finditer(token.content):
        parts.append(Token("text", "", 0, content=token.content[at : found.start()]))
        parts.append(Token("mention", "", 0, content=found[0], info=_mark(found[1], rings)))
        at = found.end()
    return [*parts, Token("text", "", 0, content=token.content[at:])]


def _render_mention(_: RendererHTML, tokens: Sequence[Token], index: int, *__: Any) -> str:
    return Markup('<span class="{}">{}</span>').format(tokens[index].info, tokens[index].content)


def _render_image(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    if env["pictures"]:
        return renderer.image(tokens, index, options, env)
    src, alt = str(tokens[index].attrGet("src") or ""), tokens[index].content
    words = " · ".join(filter(None, (host_of(src) or "picture", alt)))
    return Markup('<span class="picture">{}</span>').format(words)


def _only_fonts(_: RendererHTML, tokens: Sequence[Token], index: int, *__: Any) -> str:
    return tokens[index].content if _FONT.fullmatch(tokens[index].content) else ""


_MARKDOWN = _make_markdown()
