"""Every type of message, to the JSON that DingTalk gets."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from dingqueue import (
    EVERYONE,
    Button,
    Card,
    Feed,
    InvalidJob,
    Mention,
    SendJob,
    ShareJob,
    Text,
    assign_job,
    send_job,
    share_job,
)
from dingqueue.contract import AssignJob, Content, Job, Link
from dingqueue.messages import Rung, encode, render_webhook

PEOPLE = {
    "alice": Rung(mobile="13800000000", user_id="manager123"),
    "bob": Rung(user_id="bob01"),
    "zoe": Rung(mobile="+85291234567"),
    "ghost": Rung(),
}
BEIJING = timezone(timedelta(hours=8))


def body_of(job: Job, **fleet: Any) -> dict[str, Any]:
    """The only body, less the id that every body has."""
    (body,) = render_webhook(job, **{"people": PEOPLE} | fleet).bodies
    assert body.pop("msgUuid") == job.job_id
    return body


def test_text() -> None:
    assert body_of(send_job("ops", "磁盘 91 %\n第二行")) == {
        "msgtype": "text",
        "text": {"content": "磁盘 91 %\n第二行"},
    }


def test_markdown() -> None:
    assert body_of(send_job("ops", markdown="## Disk\n91 %\n80 %", title="Disk full")) == {
        "msgtype": "markdown",
        "markdown": {"title": "Disk full", "text": "## Disk\n91 %  \n  80 %"},
    }


def test_link() -> None:
    link = {"title": "Report", "text": "November", "url": "https://example.com/r?a=1&b=中"}
    wanted = {"title": "Report", "text": "November", "messageUrl": "https://example.com/r?a=1&b=中"}

    assert body_of(send_job("ops", link=link)) == {"msgtype": "link", "link": wanted}
    assert body_of(send_job("ops", link=link | {"picture_url": "@media-id"})) == {
        "msgtype": "link",
        "link": wanted | {"picUrl": "@media-id"},
    }


def test_a_card_with_one_button_is_one_whole_jump() -> None:
    card = {
        "title": "Deploy",
        "text": "main is **green**",
        "buttons": [{"title": "Open", "url": "https://example.com/"}],
    }

    assert body_of(send_job("ops", card=card)) == {
        "msgtype": "actionCard",
        "actionCard": {
            "title": "Deploy",
            "text": "main is **green**",
            "btnOrientation": "0",
            "singleTitle": "Open",
            "singleURL": "https://example.com/",
        },
    }


def test_a_card_with_several_buttons() -> None:
    buttons = (Button(title="Yes", url="https://example.com/yes"), Button(title="No", url="dingtalk://x/no"))

    assert body_of(send_job("ops", Card(title="Deploy?", text="Shall it?", buttons=buttons, horizontal=True))) == {
        "msgtype": "actionCard",
        "actionCard": {
            "title": "Deploy?",
            "text": "Shall it?",
            "btnOrientation": "1",
            "btns": [
                {"title": "Yes", "actionURL": "https://example.com/yes"},
                {"title": "No", "actionURL": "dingtalk://x/no"},
            ],
        },
    }


def test_feed() -> None:
    items = [
        {"title": "One", "url": "https://example.com/1", "picture_url": "https://example.com/1.png"},
        {"title": "二", "url": "https://example.com/2", "picture_url": "@media-id"},
    ]

    assert body_of(send_job("ops", feed={"items": items})) == {
        "msgtype": "feedCard",
        "feedCard": {
            "links": [
                {"title": "One", "messageURL": "https://example.com/1", "picURL": "https://example.com/1.png"},
                {"title": "二", "messageURL": "https://example.com/2", "picURL": "@media-id"},
            ]
        },
    }


def test_assigned_work_rings_its_people_in_the_group() -> None:
    job = assign_job(
        "project",
        "Review the\n contract",
        to=["alice", "bob"],
        due=datetime(2026, 12, 1, 9, tzinfo=BEIJING),
        url="https://example.com/c_(1)",
        description="Page 3 first.\nThen page 1.",
    )

    assert body_of(job) == {
        "msgtype": "markdown",
        "markdown": {
            "title": "Task: Review the contract",
            "text": (
                "### Task: Review the contract\n\n"
                "**To**: @13800000000 @bob01  \n"
                "  **Due**: 2026-12-01 (Tue) 09:00 UTC+08:00  \n"
                "  **Link**: [Open](https://example.com/c_%281%29)\n\n"
                "Page 3 first.  \n  Then page 1."
            ),
        },
        "at": {"atMobiles": ["13800000000"], "atUserIds": ["bob01"]},
    }


def test_assigned_work_is_written_in_the_language_of_its_subject() -> None:
    job = assign_job("project", "审阅合同", to="bob", due=datetime(2026, 12, 1, 9, tzinfo=BEIJING), url="https://e.com")

    assert body_of(job)["markdown"] == {
        "title": "任务：审阅合同",
        "text": (
            "### 任务：审阅合同\n\n"
            "**负责人**：@bob01  \n  **截止**：2026-12-01（周二）09:00（UTC+08:00）  \n  **链接**：[打开](https://e.com)"
        ),
    }


def test_work_for_everyone_can_only_come_from_elsewhere_and_rings_them() -> None:
    job = AssignJob(job_id="j", destination="p", subject="Clean up", to=Mention(everyone=True))

    body = body_of(job)

    assert "**To**: @everyone" in body["markdown"]["text"]
    assert body["at"] == {"isAtAll": True}


def test_a_shared_file_is_a_link_card() -> None:
    url = "https://example.com/d/%E5%AD%A3%E5%BA%A6%20%E6%8A%A5%E8%A1%A8.xlsx?sig=1"

    assert body_of(share_job("project", url)) == {
        "msgtype": "link",
        "link": {"title": "季度 报表.xlsx", "text": "XLSX 文件，位于 example.com", "messageUrl": url},
    }
    assert body_of(share_job("project", "https://example.com/", name="Home", note="Read it"))["link"] == {
        "title": "Home",
        "text": "Read it",
        "messageUrl": "https://example.com/",
    }
    assert body_of(share_job("project", "https://example.com/"))["link"] == {
        "title": "example.com",
        "text": "File on example.com",
        "messageUrl": "https://example.com/",
    }


def test_characters_arrive_as_they_are() -> None:
    text = "😱 ① ㎡ 𠮷 👨‍👩‍👧 🇨🇳 \u202e <b>&amp;</b>"

    sent = encode(body_of(send_job("ops", text)))

    assert json.loads(sent)["text"]["content"] == text
    assert text.encode() in sent
    assert b"\\u" not in sent


def test_the_same_job_gives_the_same_bodies() -> None:
    job = send_job("ops", markdown="行。\n" * 9000, mention=["alice", "bob"])

    first, again = (render_webhook(job, people=PEOPLE, keywords=("监控",)) for _ in range(2))

    assert first == again
    assert len(first.bodies) > 1


# Mentions


def test_a_person_is_rung_by_the_text_and_by_at() -> None:
    job = send_job("ops", "Disk full", mention=["13800000001", "user:u1", "alice", "zoe"])

    assert body_of(job) == {
        "msgtype": "text",
        "text": {"content": "Disk full @13800000001 @13800000000 @+852-91234567 @u1"},
        "at": {"atMobiles": ["13800000001", "13800000000", "+852-91234567"], "atUserIds": ["u1"]},
    }


def test_in_markdown_the_people_are_a_paragraph_at_the_end() -> None:
    body = body_of(send_job("ops", markdown="# Disk full", mention=["13800000000"]))

    assert body["markdown"]["text"] == "# Disk full\n\n@13800000000"
    assert body["at"] == {"atMobiles": ["13800000000"]}


@pytest.mark.parametrize("field", ["text", "markdown"])
@pytest.mark.parametrize(
    "text", ["@13800000000 look", "look, @13800000000!", "看@13800000000。", "a\n@13800000000\nb", "(@13800000000)"]
)
def test_who_is_named_in_the_text_is_not_named_again(field: str, text: str) -> None:
    content: dict[str, Any] = {field: text}

    body = body_of(send_job("ops", **content, mention="13800000000"))

    assert str(body[field].get("content", body[field].get("text"))).count("@13800000000") == 1
    assert body["at"] == {"atMobiles": ["13800000000"]}


@pytest.mark.parametrize("text", ["@138000000001", "x@13800000000", "@13800000000-1", "13800000000"])
def test_a_longer_token_is_somebody_else(text: str) -> None:
    assert body_of(send_job("ops", text, mention="13800000000"))["text"]["content"] == f"{text} @13800000000"


def test_a_name_in_code_rings_nobody_so_it_is_written_again() -> None:
    text = body_of(send_job("ops", markdown="```\n@13800000000\n```", mention="13800000000"))["markdown"]["text"]

    assert text == "```\n@13800000000\n```\n\n@13800000000"


def test_people_after_code_that_was_left_open_are_outside_of_it() -> None:
    text = body_of(send_job("ops", markdown="```\nx = 1", mention="13800000000"))["markdown"]["text"]

    assert text == "```\nx = 1\n```\n\n@13800000000"


@pytest.mark.parametrize("mention", [(), [], None, "", [""], ["  "], Mention()])
def test_nobody_is_invented(mention: Any) -> None:
    assert "at" not in body_of(send_job("ops", "hello", mention=mention))


def test_everyone() -> None:
    assert body_of(send_job("ops", "Fire drill", mention=EVERYONE))["at"] == {"isAtAll": True}
    assert body_of(send_job("ops", "Fire drill", mention=[EVERYONE, "bob"])) == {
        "msgtype": "text",
        "text": {"content": "Fire drill @bob01"},
        "at": {"atUserIds": ["bob01"], "isAtAll": True},
    }


def test_a_person_named_twice_is_rung_once() -> None:
    body = body_of(send_job("ops", "hello", mention=["alice", "13800000000", "+86-13800000000", "alice"]))

    assert body["text"]["content"] == "hello @13800000000"
    assert body["at"] == {"atMobiles": ["13800000000"]}


def test_fifty_people_and_no_more() -> None:
    fifty = [f"user:u{number}" for number in range(50)]

    assert len(body_of(send_job("ops", "hello", mention=fifty))["at"]["atUserIds"]) == 50
    with pytest.raises(InvalidJob, match="51 people; DingTalk rings at most 50") as caught:
        send_job("ops", "hello", mention=[*fifty, "alice"])
    assert caught.value.field == "mention"


def test_names_that_are_one_person_count_once() -> None:
    fifty = [f"user:u{number}" for number in range(49)]
    job = SendJob(
        job_id="j",
        destination="ops",
        content=Text(text="x"),
        mention=Mention(names=("alice", "chef"), user_ids=tuple(fifty)),
    )

    body = body_of(job, people=PEOPLE | {"chef": PEOPLE["alice"]})

    assert body["at"]["atMobiles"] == ["13800000000"]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("alicia", r"'alicia' is not in the fleet's \[people\]: did you mean alice\?"),
        ("nobody-near", r"add them there, or write a mobile or user:ID"),
        ("ghost", r"ghost of \[people\] has neither a mobile nor a user_id"),
    ],
)
def test_only_the_fleet_knows_who_its_people_are(name: str, problem: str) -> None:
    job = send_job("ops", "hello", mention=name)

    with pytest.raises(InvalidJob, match=problem) as caught:
        render_webhook(job, people=PEOPLE)
    assert caught.value.field == "mention"


def test_a_wrong_number_in_the_fleets_people_names_the_field() -> None:
    with pytest.raises(InvalidJob, match="no mainland mobile") as caught:
        render_webhook(assign_job("p", "x", to="li"), people={"li": Rung(mobile="12345678")})
    assert caught.value.field == "to"


def test_without_the_fleets_people_names_are_shown_with_a_warning() -> None:
    rendered = render_webhook(send_job("ops", "hello", mention=["li", "li"]), check_names=False)

    assert rendered.bodies[0]["text"]["content"] == "hello @li"
    assert "at" not in rendered.bodies[0]
    assert rendered.warnings == ("li is shown by name here; the fleet's [people] decides how li is rung",)


@pytest.mark.parametrize("who", ["13800000000", "user:u1", "alice", EVERYONE])
@pytest.mark.parametrize(
    "content",
    [
        {"link": {"title": "t", "text": "x", "url": "https://e.com"}},
        {"feed": {"items": [{"title": "t", "url": "https://e.com", "picture_url": "https://e.com/p"}]}},
    ],
    ids=["link", "feed"],
)
def test_what_cannot_ring_refuses_to_try(content: dict[str, Any], who: str) -> None:
    with pytest.raises(InvalidJob, match="rings nobody; send a text or markdown message") as caught:
        send_job("ops", **content, mention=who)
    assert caught.value.field == "mention"


CARD = {"title": "t", "text": "Deploy?", "buttons": [{"title": "Yes", "url": "https://e.com"}]}


def test_a_card_rings_by_user_id() -> None:
    body = body_of(send_job("ops", card=CARD, mention=["alice", "user:u1"]))

    assert body["actionCard"]["text"] == "Deploy?\n\n@u1 @manager123"
    assert body["at"] == {"atUserIds": ["u1", "manager123"]}
    with pytest.raises(InvalidJob, match="a card rings people by user id only") as caught:
        send_job("ops", card=CARD, mention="13800000000")
    assert caught.value.field == "mention"


def test_a_card_warns_about_whom_it_may_not_ring() -> None:
    rendered = render_webhook(send_job("ops", card=CARD, mention=["zoe", EVERYONE]), people=PEOPLE)

    assert rendered.bodies[0]["at"] == {"atMobiles": ["+852-91234567"], "isAtAll": True}
    assert [warning.split(";")[0] for warning in rendered.warnings] == [
        "1 of the people have no user_id in [people]",
        "DingTalk does not document that a card rings everyone",
    ]


def test_who_is_named_in_a_card_is_not_named_again() -> None:
    body = body_of(send_job("ops", card=CARD | {"text": "@u1, deploy?\n```\n@u2\n```"}, mention=["user:u1", "user:u2"]))

    assert body["actionCard"]["text"] == "@u1, deploy?\n```\n@u2\n```\n\n@u2"


# Keywords


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ({"text": "disk full"}, "[监控] disk full"),
        ({"text": "监 控"}, "[监控] 监 控"),
        ({"text": "监控: disk full"}, "监控: disk full"),
        ({"text": "the second: ops"}, "the second: ops"),
        ({"text": "Ops"}, "[监控] Ops"),
        ({"markdown": "# disk full"}, "[监控]\n\n# disk full"),
        ({"markdown": "disk full", "title": "监控"}, "[监控]\n\ndisk full"),
        ({"link": {"title": "监控", "text": "full", "url": "https://e.com"}}, "[监控] full"),
        ({"link": {"title": "t", "text": "监控", "url": "https://e.com"}}, "监控"),
        ({"card": CARD}, "[监控]\n\nDeploy?"),
    ],
)
def test_a_keyword_is_put_where_the_text_lacks_all_of_them(content: dict[str, Any], shown: str) -> None:
    body = body_of(send_job("ops", **content), keywords=("监控", "ops"))
    inner = body[body["msgtype"]]

    assert inner.get("content", inner.get("text")) == shown


def test_a_keyword_in_a_feed_goes_into_its_first_title() -> None:
    items = [{"title": title, "url": "https://e.com", "picture_url": "https://e.com/p"} for title in ("One", "Two")]
    job = send_job("ops", feed={"items": items})

    def titles(*keywords: str) -> list[str]:
        return [link["title"] for link in body_of(job, keywords=keywords)["feedCard"]["links"]]

    assert titles("ops") == ["[ops] One", "Two"]
    assert titles("Two") == ["One", "Two"]
    assert titles("") == ["One", "Two"]


def test_a_keyword_in_a_shared_file_and_in_assigned_work() -> None:
    assert (
        body_of(share_job("p", "https://e.com/a.pdf"), keywords=("ops",))["link"]["text"] == "[ops] PDF file on e.com"
    )
    assert body_of(assign_job("p", "x", to="bob"), keywords=("ops",))["markdown"]["text"].startswith(
        "[ops]\n\n### Task: x"
    )


def test_the_people_may_hold_the_keyword() -> None:
    assert body_of(send_job("ops", "hello", mention="user:ops1"), keywords=("ops",))["text"]["content"] == "hello @ops1"


# What no builder makes, but an older or other producer may have


def test_what_the_builders_refuse_is_refused_here_too() -> None:
    refused: list[tuple[Content, str]] = [
        (Text(text=" \n"), "text"),
        (Card(title="t", text="x", buttons=()), "buttons"),
        (Feed(items=()), "items"),
    ]
    for content, field in refused:
        with pytest.raises(InvalidJob) as caught:
            render_webhook(SendJob(job_id="j", destination="ops", content=content))
        assert caught.value.field == field
    with pytest.raises(InvalidJob, match="nobody to assign to"):
        render_webhook(AssignJob(job_id="j", destination="p", subject="x", to=Mention(names=("",), mobiles=(" ",))))


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (Link(title="t", text="中" * 6700, url="https://e.com"), "link"),
        (Card(title="t", text="x" * 20_000, buttons=(Button(title="b", url="https://e.com"),)), "card"),
        (Text(text="x" * 20_000), "text"),
    ],
    ids=["link", "card", "text"],
)
def test_what_may_not_be_cut_is_refused_with_its_size(content: Any, field: str) -> None:
    job = SendJob(job_id="j", destination="ops", content=content, too_long="refuse")

    with pytest.raises(
        InvalidJob, match=r"20,\d{3} bytes as sent, keyword and people included; DingTalk takes 20,000"
    ) as caught:
        render_webhook(job)
    assert caught.value.field == field


def test_a_file_that_is_all_note_is_refused_by_its_field() -> None:
    with pytest.raises(InvalidJob) as caught:
        render_webhook(ShareJob(job_id="j", destination="p", url="https://e.com", name="n", note="x" * 20_000))
    assert caught.value.field == "note"
