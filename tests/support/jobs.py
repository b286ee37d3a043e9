"""Jobs for property tests: what applications may call the builders with, and what comes out."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

from dingqueue import EVERYONE, InvalidJob, assign_job, send_job, share_job
from dingqueue.contract import Job

#: What texts are made of: lines, marks, fences, tables, tokens, emoji that must stay whole, and wide characters.
SCRAPS = (
    "a", " ", "\n", "\n\n", "\r\n", "  \n", "word ", "行。", "磁盘快满了", "👨‍👩‍👧", "🇨🇳", "é", "é", "\t", "\x1b[31m", "\0",
    "```", "```py\n", "~~~\n", "`", "# ", "## 标题\n", "> ", "- ", "1. ", "***\n", "---\n", "===", "|", "| a | b |\n",
    "|---|---|\n", "| 1 | 2 |\n", "\\|", "**", "_", "[x](https://example.com/a_(1))", "![i](https://example.com/i.png)",
    "@13800000000", "@alice", "@user.1", "https://example.com/?a=1&b=中", "&nbsp;", "<font color=red>", "\u2028", "\ufeff",
)  # fmt: skip

names = st.sampled_from(["alice", "bob", "li.lei", "李雷"])
mobiles = st.sampled_from(["13800000000", "+86-13800000001", "+852-91234567", "+85291234567", "+1 212 555 0100"])
user_ids = st.sampled_from(["user:manager123", "user:0123456", "user:a.b@c"])
urls = st.sampled_from(
    [
        "https://example.com/a",
        "http://例子.测试/x_(1)?q=中",
        "https://u:p@example.com:8443/%20#f",
        "https://e.com/" + "a" * 3000,
    ]
)
instants = st.datetimes(
    min_value=datetime(1, 1, 2), max_value=datetime(8900, 12, 30),  # noqa: DTZ001 - hypothesis wants naive bounds
    timezones=st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)  # fmt: skip


def texts(*, most_scraps: int = 40) -> st.SearchStrategy[str]:
    """Texts that are not blank, now and then of a size that no single message can carry."""
    short = st.lists(st.sampled_from(SCRAPS), min_size=1, max_size=most_scraps).map("".join)
    size_chars = st.sampled_from([0, 0, 0, 10_000, 30_000])
    return st.builds(lambda text, size: text * max(1, size // len(text)), short, size_chars).filter(
        lambda text: bool(text.strip())
    )


def long_texts() -> st.SearchStrategy[str]:
    """Texts that no single message can carry."""
    scraps = (
        st.lists(st.sampled_from(SCRAPS), min_size=1, max_size=40).map("".join).filter(lambda text: bool(text.strip()))
    )
    return scraps.map(lambda text: text * (1 + 22_000 // len(text)))


def short_texts() -> st.SearchStrategy[str]:
    return (
        st.lists(st.sampled_from(SCRAPS), min_size=1, max_size=6).map("".join).filter(lambda text: bool(text.strip()))
    )


def people(*, everyone: bool = True, with_mobiles: bool = True) -> st.SearchStrategy[list[str]]:
    who = names | user_ids
    if with_mobiles:
        who |= mobiles
    if everyone:
        who |= st.just(EVERYONE)
    return st.lists(who, max_size=6)


terms = st.fixed_dictionaries(
    {},
    optional={
        "urgent": st.booleans(),
        "at": st.none() | instants,
        "expires_s": st.none() | st.integers(1, 10**6) | st.floats(0.001, 1e9),
        "key": st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(
            lambda key: bool(key.strip())
        ),
        "on_unknown": st.sampled_from(["resend", "hold"]),
    },
)
_options = {
    "too_long": st.sampled_from(["split", "split", "shorten", "refuse"]),
    "tables": st.sampled_from(["lines", "keep"]),
}
_cards = st.fixed_dictionaries(
    {
        "title": short_texts(),
        "text": texts(),
        "buttons": st.lists(st.fixed_dictionaries({"title": short_texts(), "url": urls}), min_size=1, max_size=4),
    },
    optional={"horizontal": st.booleans()},
)
_links = st.fixed_dictionaries(
    {"title": short_texts(), "text": texts(), "url": urls}, optional={"picture_url": urls | st.just("@media-id")}
)
_feeds = st.fixed_dictionaries(
    {
        "items": st.lists(
            st.fixed_dictionaries({"title": short_texts(), "url": urls, "picture_url": urls}), min_size=1, max_size=5
        )
    }
)


def _call(builder: Any, *arguments: Any) -> st.SearchStrategy[Any]:
    """The builder's jobs; calls that it refuses give None."""

    def build(options: dict[str, Any], more: dict[str, Any]) -> Job | None:
        try:
            return builder("ops", **options, **more)  # type: ignore[no-any-return]  # one of three builders
        except InvalidJob:
            return None

    return st.builds(build, *arguments)


def calls() -> st.SearchStrategy[Job | None]:
    """What the builders make of any call, None where they refuse it (for its size)."""
    return st.one_of(
        _call(send_job, st.fixed_dictionaries({"text": texts(), "mention": people(), **_options}), terms),
        # Chance alone brings them about too rarely.
        _call(
            send_job,
            st.builds(
                lambda form, text, mention: {form: text, "mention": mention},
                st.sampled_from(["text", "markdown"]),
                long_texts(),
                people(),
            ),
            terms,
        ),
        _call(
            send_job,
            st.fixed_dictionaries(
                {"markdown": texts(), "mention": people(), **_options}, optional={"title": short_texts()}
            ),
            terms,
        ),
        _call(send_job, st.fixed_dictionaries({"card": _cards, "mention": people(with_mobiles=False)}), terms),
        _call(send_job, st.fixed_dictionaries({"link": _links}), terms),
        _call(send_job, st.fixed_dictionaries({"feed": _feeds}), terms),
        _call(
            assign_job,
            st.fixed_dictionaries(
                {"subject": short_texts(), "to": people(everyone=False).filter(bool)},
                optional={
                    "due": instants,
                    "url": urls,
                    "description": texts(),
                    "priority": st.sampled_from(["low", "high", "urgent"]),
                },
            ),
            terms,
        ),
        _call(
            share_job,
            st.fixed_dictionaries(
                {"file": urls}, optional={"name": short_texts(), "note": texts(), "zip": st.booleans()}
            ),
            terms,
        ),
    )


def jobs() -> st.SearchStrategy[Job]:
    """Jobs that the builders accept."""
    return calls().filter(lambda job: job is not None)  # type: ignore[return-value]  # None is filtered out
