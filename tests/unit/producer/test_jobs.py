"""What the builders refuse, by the argument's name, and what they make of the rest."""

from __future__ import annotations

import io
import json
import sys
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dingqueue import (
    EVERYONE,
    AssignJob,
    Button,
    Card,
    Feed,
    FeedItem,
    InvalidJob,
    Link,
    Markdown,
    Mention,
    SendJob,
    ShareJob,
    Text,
    assign_job,
    job_id_for,
    send_job,
    share_job,
)
from dingqueue.contract import Job, Terms
from dingqueue.jobs import JOB_ID_NAMESPACE, checked
from support.jobs import jobs

LINK = {"title": "t", "text": "x", "url": "https://example.com"}
BUTTON = {"title": "Open", "url": "https://example.com"}
CARD = {"title": "t", "text": "x", "buttons": [BUTTON]}
ITEM = {"title": "t", "url": "https://example.com", "picture_url": "https://example.com/p.png"}

send: Callable[..., SendJob] = send_job
assign: Callable[..., AssignJob] = assign_job
share: Callable[..., ShareJob] = share_job


def refusal(call: Callable[..., Job], *arguments: Any, **options: Any) -> InvalidJob:
    with pytest.raises(InvalidJob) as caught:
        call(*arguments, **options)
    assert str(caught.value) == f"{caught.value.field}: {caught.value.problem}"
    return caught.value


# Content


@pytest.mark.parametrize(
    ("options", "field", "problem"),
    [
        ({}, "text", "nothing to send: give text, markdown, link, card or feed"),
        ({"text": None}, "text", "nothing to send"),
        ({"text": ""}, "text", "is blank"),
        ({"text": " \n\t"}, "text", "is blank"),
        ({"text": "\u3000"}, "text", "is blank"),
        ({"text": b"hello"}, "text", "got bytes: decode them first"),
        ({"text": 5}, "text", "expected text, got int"),
        ({"text": {"a": 1}}, "text", "expected text, got dict"),
        ({"text": object()}, "text", "expected text, got object"),
        ({"text": "\ud83d"}, "text", "half of a surrogate pair"),
        ({"text": Text(text="")}, "text", "is blank"),
        ({"markdown": ""}, "markdown", "is blank"),
        ({"markdown": 5}, "markdown", "expected Markdown or a mapping with its fields, got int"),
        ({"markdown": Text(text="x")}, "markdown", "expected Markdown or a mapping with its fields, got Text"),
        ({"markdown": "x", "title": 5}, "title", "expected text, got int"),
        ({"markdown": Markdown(text="x"), "title": "t"}, "title", "an object brings its own"),
        ({"text": "x", "title": "t"}, "title", "goes with markdown='...' only"),
        ({"text": "x", "title": ""}, "title", "goes with markdown='...' only"),
        ({"text": "x", "markdown": "y"}, "markdown", "a message is one thing, and text was given too"),
        ({"link": LINK, "feed": {"items": [ITEM]}}, "feed", "a message is one thing, and link was given too"),
        ({"link": 5}, "link", "expected Link or a mapping"),
        ({"link": LINK | {"titel": "t"}}, "titel", "Link has no such field; did you mean title?"),
        ({"link": LINK | {"zzz": "t"}}, "zzz", "Link has no such field"),
        ({"link": {1: 2}}, "1", "Link has no such field"),
        ({"link": {"title": "t", "text": "x"}}, "url", "Link needs it"),
        ({"link": LINK | {"title": " "}}, "title", "is blank"),
        ({"link": LINK | {"text": None}}, "text", "expected text, got NoneType"),
        ({"link": LINK | {"url": "example.com"}}, "url", "begins with http:// or https:// or dingtalk://"),
        ({"link": LINK | {"url": "https://"}}, "url", "begins with http://"),
        ({"link": LINK | {"url": "https://[::1"}}, "url", "begins with http://"),
        ({"link": LINK | {"url": "javascript:alert(1)"}}, "url", "begins with http://"),
        ({"link": LINK | {"url": "https://example.com/a b"}}, "url", "white space or control characters"),
        ({"link": LINK | {"url": "https://example.com/\x00"}}, "url", "white space or control characters"),
        ({"link": LINK | {"url": "https://example.com/" + "a" * 4096}}, "url", "4,116 characters; at most 4,096"),
        ({"link": LINK | {"picture_url": "dingtalk://x/p"}}, "picture_url", "begins with http:// or https://"),
        ({"link": LINK | {"picture_url": "@"}}, "picture_url", "begins with http://"),
        ({"link": LINK | {"picture_url": None}}, "picture_url", "expected text, got NoneType"),
        ({"card": {"title": "t", "text": "x"}}, "buttons", "Card needs it"),
        ({"card": CARD | {"buttons": []}}, "buttons", "a card has at least one"),
        ({"card": CARD | {"buttons": BUTTON}}, "buttons", "expected a list of Button, got dict"),
        ({"card": CARD | {"buttons": [BUTTON, "x"]}}, "buttons[1]", "expected Button or a mapping, got str"),
        ({"card": CARD | {"buttons": [BUTTON, {"title": "x"}]}}, "buttons[1].url", "Button needs it"),
        ({"card": CARD | {"buttons": [BUTTON | {"link": ""}]}}, "buttons[0].link", "Button has no such field"),
        ({"card": CARD | {"buttons": [BUTTON, BUTTON | {"title": ""}]}}, "buttons[1].title", "is blank"),
        ({"card": CARD | {"buttons": [Button(title="x", url="x")]}}, "buttons[0].url", "begins with http://"),
        ({"card": CARD | {"horizontal": 1}}, "horizontal", "expected True or False, got int"),
        ({"card": CARD | {"text": "x" * 20_000}}, "card", "this type cannot be cut"),
        ({"feed": {"items": []}}, "items", "a feed has at least one"),
        ({"feed": {"items": [ITEM | {"picture_url": ""}]}}, "items[0].picture_url", "is blank"),
        ({"feed": {"items": [ITEM, ITEM | {"url": "ftp://example.com"}]}}, "items[1].url", "begins with http://"),
        ({"feed": {"items": [ITEM, FeedItem(title="", url="", picture_url="")]}}, "items[1].title", "is blank"),
        ({"text": "x", "too_long": "cut"}, "too_long", "expected one of split, shorten, refuse"),
        ({"text": "x", "too_long": "shortn"}, "too_long", "did you mean shorten?"),
        ({"text": "x", "too_long": None}, "too_long", "expected one of split"),
        ({"link": LINK, "too_long": "shorten"}, "too_long", "only text and markdown can be shortened"),
        ({"text": "x", "tables": True}, "tables", "expected one of lines, keep"),
        ({"text": "x" * 20_000, "too_long": "refuse"}, "text", "allow 'split' or 'shorten'"),
        ({"text": "x" * 1_100_000}, "text", "more than 50 messages of text; share it as a file or a link"),
        ({"markdown": "中" * 400_000}, "markdown", "more than 50 messages of text"),
    ],
)
def test_content_that_is_refused(options: dict[str, Any], field: str, problem: str) -> None:
    error = refusal(send, "ops", **options)

    assert error.field == field
    assert problem in error.problem


def test_the_text_is_in_no_refusal() -> None:
    for options in ({"text": "salary 123\ud83d"}, {"link": LINK | {"url": "https://e.com/?token=salary 123"}}):
        assert "salary" not in str(refusal(send, "ops", **options))


def test_content_may_be_an_object_or_a_mapping() -> None:
    def content(*arguments: Any, **options: Any) -> object:
        return send("ops", *arguments, **options).content

    link = Link(title="t", text="x", url="https://example.com")
    card = Card(title="t", text="x", buttons=(Button(title="Open", url="https://example.com"),))
    feed = Feed(items=(FeedItem(title="t", url="https://example.com", picture_url="https://example.com/p.png"),))
    assert content(link=LINK) == content(link=link) == content(link) == link
    assert content(card=CARD) == content(card=card) == content(card) == card
    assert content(card=CARD | {"buttons": (Button(**BUTTON),)}) == card
    assert content(feed={"items": [ITEM]}) == content(feed=feed) == content(feed) == feed
    assert content(markdown={"text": "x", "title": "t"}) == content(Markdown(text="x", title="t"))
    assert content(markdown="x", title="t") == Markdown(text="x", title="t")
    assert content("x") == content(Text(text="x")) == Text(text="x")


# Destination and key


@pytest.mark.parametrize(
    "call", [lambda to: send(to, "x"), lambda to: assign(to, "x", to="a"), lambda to: share(to, "https://e.com")]
)
@pytest.mark.parametrize("destination", ["", " ", "a b", "a/b", "a:b", "x" * 65, None, 5, b"ops", "ops\n"])
def test_a_destination_is_a_name(call: Callable[[Any], Job], destination: Any) -> None:
    assert refusal(call, destination).field == "destination"


@pytest.mark.parametrize("key", ["", " ", 5, b"k", "k" * 513, "\ud800"])
def test_a_key_is_text(key: Any) -> None:
    assert refusal(send, "ops", "x", key=key).field == "key"


def test_a_key_makes_the_id_and_the_id_stays_for_ever() -> None:
    assert (
        send("ops", "x", key="disk-db3").job_id
        == job_id_for("ops", "disk-db3")
        == "67984948-b53a-5c84-bd85-62f4da24dfa9"
    )
    assert job_id_for("ops", "k") == str(uuid.uuid5(JOB_ID_NAMESPACE, "3:ops:k"))
    assert send("ops", "x").job_id != send("ops", "x").job_id


def test_the_same_key_elsewhere_is_another_job() -> None:
    ids = {job_id_for(destination, key) for destination, key in [("a", "b:c"), ("a:b", "c"), ("a", "b"), ("b", "a")]}

    assert len(ids) == 4


# People


@pytest.mark.parametrize(
    ("mention", "problem"),
    [
        (5, "expected people as text or a list of texts, got int"),
        (b"alice", "got bytes"),
        ({"alice": 1}, "got dict"),
        ([5], "expected text, got int"),
        (["alice", None], "expected text, got NoneType"),
        (["alice", b"bob"], "got bytes: decode them first"),
        ("@alice", "no @ before it"),
        ("alice,bob", "one name each"),
        ("alice bob", "one name each"),
        ("onion:abc", "is neither a mobile, user:ID nor a name"),
        ("user:", "is no user id"),
        ("user:@x", "is no user id"),
        ("user:a b", "is no user id"),
        ("user:" + "x" * 65, "is no user id"),
        ("91234567", "for a user id write user:91234567"),
        ("12345678901", "is no mainland mobile"),
        ("+012-345678", "has no country code that exists"),
        (Mention(names=("a b",)), "one name each"),
        (Mention(names="alice"), "got str"),  # type: ignore[arg-type]  # the mistake that is meant
        (Mention(mobiles=("alice",)), "is no mobile number"),
        (Mention(user_ids=("a b",)), "is no user id"),
        (Mention(everyone="no"), "expected True or False"),  # type: ignore[arg-type]  # the mistake that is meant
    ],
)
def test_people_who_cannot_be_understood(mention: Any, problem: str) -> None:
    rung, assigned = refusal(send, "ops", "x", mention=mention), refusal(assign, "ops", "x", to=mention)

    assert problem in rung.problem
    assert problem in assigned.problem
    assert (rung.field, assigned.field) == ("mention", "to")


def test_people_are_sorted_by_how_they_are_rung() -> None:
    given_as = [
        "alice",
        " +86-13800000000 ",
        "user:u.1",
        "+85291234567",
        "１３８００００００００",
        "",
        EVERYONE,
        "alice",
        "李雷",
    ]
    mention = Mention(
        names=("alice", "李雷"), mobiles=("13800000000", "+852-91234567"), user_ids=("u.1",), everyone=True
    )

    assert send("ops", "x", mention=given_as).mention == mention
    assert send("ops", "x", mention=iter(given_as)).mention == mention
    assert send("ops", "x", mention=mention).mention == mention
    assert send("ops", "x", mention="alice").mention == Mention(names=("alice",))


@pytest.mark.parametrize("to", [None, (), [], [""], "", "  ", Mention(), Mention(names=("",))])
def test_work_needs_somebody(to: Any) -> None:
    error = refusal(assign, "project", "Review", to=to)

    assert error.field == "to"
    assert "nobody to assign to" in error.problem


def test_work_is_not_for_everyone() -> None:
    for to in (EVERYONE, ["alice", EVERYONE], Mention(everyone=True)):
        error = refusal(assign, "project", "Review", to=to)
        assert (error.field, "named people" in error.problem) == ("to", True)


# Work


@pytest.mark.parametrize(
    ("options", "field", "problem"),
    [
        ({"subject": ""}, "subject", "is blank"),
        ({"subject": "x" * 1025}, "subject", "1,025 bytes; DingTalk takes 1,024: say more in description"),
        ({"subject": "中" * 342}, "subject", "1,026 bytes"),
        ({"due": "2026-12-01"}, "due", "datetime.fromisoformat reads text"),
        ({"due": date(2026, 12, 1)}, "due", "expected an aware datetime, got date"),
        ({"due": datetime(2026, 12, 1, 9)}, "due", "a naive datetime"),  # noqa: DTZ001 - the mistake that is meant
        ({"due": 1_800_000_000}, "due", "expected an aware datetime, got int"),
        ({"url": "example.com"}, "url", "begins with"),
        ({"url": None}, "url", "expected text, got NoneType"),
        ({"description": None}, "description", "expected text"),
        ({"description": "x" * 1_100_000}, "description", "more than 50 messages"),
    ],
)  # fmt: skip
def test_work_that_is_refused(options: dict[str, Any], field: str, problem: str) -> None:
    error = refusal(assign, "project", **{"subject": "Review", "to": "alice"} | options)

    assert error.field == field
    assert problem in error.problem


# Files


@pytest.mark.parametrize(
    "file", [Path("report.pdf"), b"%PDF", bytearray(b"x"), memoryview(b"x"), io.BytesIO(), sys.stdin]
)
def test_a_job_by_itself_carries_no_content(file: Any) -> None:
    error = refusal(share, "project", file)

    assert error.field == "file"
    assert "Client.share takes it and stores it; a job by itself needs a URL" in error.problem


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"file": "report.pdf"}, "file"),
        ({"file": "dingtalk://x/y"}, "file"),
        ({"file": "file:///etc/passwd"}, "file"),
        ({"file": None}, "file"),
        ({"file": "https://e.com", "name": ""}, "name"),
        ({"file": "https://e.com", "name": b"x"}, "name"),
        ({"file": "https://e.com", "note": None}, "note"),
        ({"file": "https://e.com", "note": "x" * 20_000}, "note"),
    ],
)
def test_files_that_are_refused(options: dict[str, Any], field: str) -> None:
    assert refusal(share, "project", **options).field == field


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (
            "https://example.com/a/%E5%AD%A3%E5%BA%A6%E6%8A%A5%E8%A1%A8(%E7%BB%88%E7%A8%BF).xlsx?x=1#y",
            "季度报表(终稿).xlsx",
        ),
        ("https://example.com/a/b/", "b"),
        ("https://example.com", "example.com"),
        ("https://user:pw@example.com:8443/", "example.com"),
        ("https://example.com/%20", "example.com"),
        ("https://example.com/%FF.pdf", "\ufffd.pdf"),
        ("https://example.com/a%0Ab.pdf", "a b.pdf"),
    ],
)
def test_a_files_name_is_the_end_of_its_address(url: str, name: str) -> None:
    assert share("project", url).name == name


# Terms


@pytest.mark.parametrize(
    ("options", "field", "problem"),
    [
        ({"urgent": "yes"}, "urgent", "expected True or False, got str"),
        ({"urgent": None}, "urgent", "expected True or False"),
        ({"at": datetime(2026, 12, 1, 9)}, "at", "tzinfo=ZoneInfo('Asia/Shanghai')"),  # noqa: DTZ001 - the mistake that is meant
        ({"at": datetime(8901, 1, 1, tzinfo=UTC)}, "at", "milliseconds taken for seconds?"),
        ({"at": "now"}, "at", "expected an aware datetime, got str"),
        ({"at": timedelta(1)}, "at", "expected an aware datetime, got timedelta"),
        ({"expires_s": 0}, "expires_s", "over 0"),
        ({"expires_s": -1}, "expires_s", "over 0"),
        ({"expires_s": float("nan")}, "expires_s", "finite"),
        ({"expires_s": float("inf")}, "expires_s", "finite"),
        ({"expires_s": 10**400}, "expires_s", "finite"),
        ({"expires_s": True}, "expires_s", "expected a number of seconds, got bool"),
        ({"expires_s": "60"}, "expires_s", "expected a number of seconds, got str"),
        ({"expires_s": Decimal(60)}, "expires_s", "expected a number of seconds, got Decimal"),
        ({"expires_s": timedelta(1)}, "expires_s", "expected a number of seconds, got timedelta"),
        ({"on_unknown": "retry"}, "on_unknown", "expected one of resend, hold"),
        ({"on_unknown": None}, "on_unknown", "expected one of resend, hold"),
    ],
)  # fmt: skip
def test_terms_that_are_refused(options: dict[str, Any], field: str, problem: str) -> None:
    for error in (
        refusal(send, "ops", "x", **options),
        refusal(assign, "ops", "x", to="a", **options),
        refusal(share, "ops", "https://e.com", **options),
    ):
        assert error.field == field
        assert problem in error.problem


def test_an_unknown_option_is_a_type_error_as_everywhere() -> None:
    with pytest.raises(TypeError, match="retries"):
        send("ops", "x", retries=3)


class Stamp(datetime):
    """As libraries have them: more digits, another text."""

    def isoformat(self, sep: str = "T", timespec: str = "auto") -> str:
        return super().isoformat(sep, timespec) + "[Asia/Shanghai]"


@pytest.mark.parametrize(
    "instant",
    [
        datetime(2026, 12, 1, 9, tzinfo=ZoneInfo("Asia/Shanghai")),
        Stamp(2026, 12, 1, 9, tzinfo=ZoneInfo("Asia/Shanghai")),
        datetime(2026, 12, 1, 9, fold=1, tzinfo=timezone(timedelta(hours=8), "CST")),
    ],
)
def test_an_instant_keeps_its_offset_and_nothing_else(instant: datetime) -> None:
    at = send("ops", "x", at=instant).terms.at

    assert type(at) is datetime
    assert (
        repr(at) == "datetime.datetime(2026, 12, 1, 9, 0, tzinfo=datetime.timezone(datetime.timedelta(seconds=28800)))"
    )


def test_an_hour_that_comes_twice_is_the_one_that_was_meant() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    first, second = (datetime(2026, 10, 25, 2, 30, fold=fold, tzinfo=berlin) for fold in (0, 1))

    ats = [send("ops", "x", at=instant).terms.at for instant in (first, second)]

    assert [at and at.astimezone(UTC).hour for at in ats] == [0, 1]


# Jobs that come back, or were built by hand


@given(jobs())
def test_a_job_that_was_built_passes_again_unchanged(job: Job) -> None:
    assert checked(job) == job


@pytest.mark.parametrize(
    ("job", "field"),
    [
        (None, "job"),
        ("ops", "job"),
        ({"destination": "ops"}, "job"),
        (SendJob(job_id="", destination="ops", content=Text(text="x")), "job_id"),
        (SendJob(job_id="a b", destination="ops", content=Text(text="x")), "job_id"),
        (SendJob(job_id=5, destination="ops", content=Text(text="x")), "job_id"),  # type: ignore[arg-type]  # meant
        (SendJob(job_id="j", destination="o p", content=Text(text="x")), "destination"),
        (SendJob(job_id="j", destination="ops", content=Text(text="")), "text"),
        (SendJob(job_id="j", destination="ops", content=None), "text"),  # type: ignore[arg-type]  # meant
        (SendJob(job_id="j", destination="ops", content=Text(text="x"), mention=Mention(mobiles=("1",))), "mention"),
        (SendJob(job_id="j", destination="ops", content=Text(text="x"), terms=None), "terms"),  # type: ignore[arg-type]  # meant
        (SendJob(job_id="j", destination="ops", content=Text(text="x"), terms=Terms(expires_s=-1)), "expires_s"),
        (AssignJob(job_id="j", destination="ops", subject="x", to=Mention()), "to"),
        (ShareJob(job_id="j", destination="ops", url="x", name="x"), "file"),
    ],
)
def test_a_job_built_by_hand_is_checked_like_a_call(job: Any, field: str) -> None:
    assert refusal(checked, job).field == field


@given(
    st.dictionaries(
        st.sampled_from(["text", "markdown", "title", "link", "card", "feed", "mention", "at", "key"]),
        st.none()
        | st.integers()
        | st.text()
        | st.lists(st.text())
        | st.binary()
        | st.dictionaries(st.text(), st.text()),
    )
)
def test_whatever_is_given_is_a_job_or_refused(options: dict[str, Any]) -> None:
    try:
        job = send("ops", **options)
    except InvalidJob as error:
        json.dumps([error.field, error.problem])
    else:
        assert checked(job) == job
