"""What an app's robot and work notifications are given to say: templates, fields, sizes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dingqueue.contract import (
    AssignJob,
    Button,
    Card,
    Content,
    Feed,
    FeedItem,
    Link,
    Markdown,
    Mention,
    SendJob,
    ShareJob,
    Text,
    TooLong,
)
from dingqueue.errors import InvalidJob
from dingqueue.messages import (
    MAX_NOTICE_BYTES,
    MAX_PARAM_BYTES,
    RobotMessage,
    encode,
    masked_mobile,
    notice_file,
    notice_share,
    render_notice,
    render_robot,
    robot_file,
    robot_link,
)

URL = "https://a.cn/x"


def send(content: Content, **more: Any) -> SendJob:
    return SendJob(job_id="j1", destination="team", content=content, **more)


def buttons(count: int, *, horizontal: bool = False) -> Card:
    named = tuple(Button(title=f"b{at}", url=f"https://a.cn/{at}") for at in range(1, count + 1))
    return Card(title="Choose", text="one", buttons=named, horizontal=horizontal)


def one(job: SendJob | AssignJob) -> RobotMessage:
    (message,) = render_robot(job)
    return message


# --- The app's robot ------------------------------------------------------------------------------------------------


def test_text_and_markdown_use_their_templates() -> None:
    assert one(send(Text(text="你好 😱"))) == RobotMessage("sampleText", {"content": "你好 😱"})
    assert one(send(Markdown(text="## Up\n\nall", title=""))) == RobotMessage(
        "sampleMarkdown", {"title": "Up", "text": "## Up\n\nall"}
    )


def test_the_fields_travel_as_a_json_text_in_plain_utf8() -> None:
    assert one(send(Text(text="你好"))).text == '{"content":"你好"}'


def test_markdown_shows_its_breaks_and_its_tables_as_in_a_webhook_message() -> None:
    text = one(send(Markdown(text="a\nb\n\n| n | v |\n|---|---|\n| x | 1 |"))).param["text"]

    assert "a  \n  b" in text
    assert "n: x" in text


def test_a_link_has_its_own_spelling() -> None:
    assert one(send(Link(title="t", text="x", url=URL, picture_url="https://a.cn/p.png"))).param == {
        "title": "t", "text": "x", "picUrl": "https://a.cn/p.png", "messageUrl": URL,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("count", "horizontal", "key", "fields"),
    [
        (1, False, "sampleActionCard", {"singleTitle", "singleURL"}),
        (2, False, "sampleActionCard2", {"actionTitle1", "actionURL1", "actionTitle2", "actionURL2"}),
        (2, True, "sampleActionCard6", {"buttonTitle1", "buttonUrl1", "buttonTitle2", "buttonUrl2"}),
        (3, True, "sampleActionCard3", {f"action{what}{at}" for at in (1, 2, 3) for what in ("Title", "URL")}),
        (4, False, "sampleActionCard4", {f"action{what}{at}" for at in range(1, 5) for what in ("Title", "URL")}),
        (5, False, "sampleActionCard5", {f"action{what}{at}" for at in range(1, 6) for what in ("Title", "URL")}),
    ],
)
def test_each_number_of_buttons_is_a_template_of_its_own(
    count: int, horizontal: bool, key: str, fields: set[str]
) -> None:
    message = one(send(buttons(count, horizontal=horizontal)))

    assert message.key == key
    assert message.param.keys() == {"title", "text", *fields}


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (buttons(6), "buttons"),
        (buttons(0), "buttons"),
        (Feed(items=(FeedItem(title="t", url=URL, picture_url=URL),)), "feed"),
        (Text(text=" "), "text"),
        (Link(title="t", text="x" * 15_000, url=URL), "link"),
        (Card(title="t", text="x" * 15_000, buttons=(Button(title="b", url=URL),)), "card"),
    ],
)
def test_what_an_apps_robot_cannot_say_is_refused_with_the_argument(content: Content, field: str) -> None:
    with pytest.raises(InvalidJob) as refused:
        render_robot(send(content))

    assert refused.value.field == field


def test_a_message_of_just_the_most_bytes_is_one_and_a_byte_more_is_two() -> None:
    empty = len('{"content":""}')

    assert len(render_robot(send(Text(text="x" * (MAX_PARAM_BYTES - empty))))) == 1
    assert len(render_robot(send(Text(text="x" * (MAX_PARAM_BYTES - empty + 1))))) == 2


def test_a_long_text_is_numbered_and_nothing_of_it_is_lost() -> None:
    text = "\n".join(f"line {at:05}" for at in range(4_000))

    parts = render_robot(send(Text(text=text)))

    assert [part.param["content"].split("\n", 1)[0] for part in parts] == [
        f"({at}/{len(parts)})" for at in range(1, len(parts) + 1)
    ]
    assert "\n".join(part.param["content"].split("\n", 1)[1] for part in parts) == text


@pytest.mark.parametrize("too_long", ["split", "shorten"])
@given(
    text=st.text(alphabet=st.sampled_from('a 漢😱\n\\"`'), min_size=3_000, max_size=6_000).filter(str.strip),
    markdown=st.booleans(),
)
def test_no_message_is_over_the_limit_whatever_is_said(too_long: TooLong, text: str, markdown: bool) -> None:
    content = Markdown(text=text, title="t") if markdown else Text(text=text)
    job = send(content, too_long=too_long)

    assert all(len(message.text.encode()) <= MAX_PARAM_BYTES for message in render_robot(job))
    assert all(len(encode(body)) <= MAX_NOTICE_BYTES for body in render_notice(job, mark="#1a2b3c4d"))


def test_refuse_and_shorten_are_kept() -> None:
    long = Text(text="word " * 6_000)

    with pytest.raises(InvalidJob, match="allow 'split' or 'shorten'"):
        render_robot(send(long, too_long="refuse"))
    (short,) = render_robot(send(long, too_long="shorten"))
    assert "characters left out" in short.param["content"]


def test_more_than_fifty_parts_is_a_file() -> None:
    with pytest.raises(InvalidJob, match="share it as a file"):
        render_notice(send(Text(text="x\n" * 60_000)))


def test_a_message_beside_a_todo_names_people_without_their_numbers() -> None:
    job = AssignJob(
        job_id="j1",
        destination="team",
        subject="Review",
        to=Mention(names=("alice",), mobiles=("13800001234", "+852-91234567"), user_ids=("u7",)),
        due=datetime(2026, 12, 1, 9, tzinfo=UTC),
        url="https://a.cn/(x)",
        description="soon",
    )

    message = one(job)

    assert message.param["title"] == "Task: Review"
    assert "**To**: alice, u7, 138****1234, +852-****4567" in message.param["text"]
    assert "[Open](https://a.cn/%28x%29)" in message.param["text"]
    assert "2026-12-01 (Tue) 09:00 UTC" in message.param["text"]
    assert "soon" in message.param["text"]


@pytest.mark.parametrize(
    ("mobile", "shown"), [("13800001234", "138****1234"), ("+852-91234567", "+852-****4567"), ("1234567", "1234567")]
)
def test_a_mobile_keeps_its_ends_only(mobile: str, shown: str) -> None:
    assert masked_mobile(mobile) == shown


def test_files_and_pictures_have_their_templates() -> None:
    assert robot_file("报表.xlsx", "@m1", "xlsx") == RobotMessage(
        "sampleFile", {"mediaId": "@m1", "fileName": "报表.xlsx", "fileType": "xlsx"}
    )
    assert robot_file("a.PNG", "@m1", "PNG") == RobotMessage("sampleImageMsg", {"photoURL": "@m1"})
    assert notice_file("@m1", "pdf") == {"msgtype": "file", "file": {"media_id": "@m1"}}
    assert notice_file("@m1", "jpg") == {"msgtype": "image", "image": {"media_id": "@m1"}}


def test_a_file_that_is_not_uploaded_is_a_link() -> None:
    job = ShareJob(job_id="j1", destination="team", url="https://a.cn/r.pdf", name="r.pdf")

    assert robot_link(job) == RobotMessage(
        "sampleLink", {"title": "r.pdf", "text": "PDF file on a.cn", "picUrl": "", "messageUrl": "https://a.cn/r.pdf"}
    )
    assert notice_share(job, mark="#1")["action_card"]["single_url"] == "https://a.cn/r.pdf"


# --- Work notifications -----------------------------------------------------------------------------------------------


def notice(content: Content, mark: str = "") -> dict[str, Any]:
    (body,) = render_notice(send(content), mark=mark)
    return body


def test_notifications_spell_in_snake_case() -> None:
    assert notice(Text(text="hi")) == {"msgtype": "text", "text": {"content": "hi"}}
    assert notice(Markdown(text="# hi", title="")) == {
        "msgtype": "markdown", "markdown": {"title": "hi", "text": "# hi"},
    }  # fmt: skip
    assert notice(buttons(1))["action_card"] == {
        "title": "Choose", "markdown": "one", "single_title": "b1", "single_url": "https://a.cn/1",
    }  # fmt: skip
    assert notice(buttons(2, horizontal=True))["action_card"]["btn_orientation"] == "1"
    assert notice(buttons(3))["action_card"]["btn_json_list"][2] == {"title": "b3", "action_url": "https://a.cn/3"}


def test_a_link_without_a_picture_becomes_a_card_for_notifications_need_one() -> None:
    with_picture = notice(Link(title="t", text="x", url=URL, picture_url="@media"))
    without = notice(Link(title="标题", text="x", url=URL))

    assert with_picture["link"] == {"messageUrl": URL, "picUrl": "@media", "title": "t", "text": "x"}
    assert without["action_card"]["single_title"] == "打开"
    assert without["action_card"]["single_url"] == URL


@pytest.mark.parametrize(
    "content", [Text(text="hi"), Markdown(text="hi"), Link(title="t", text="hi", url=URL), buttons(2)]
)
def test_the_mark_makes_the_same_text_another_one(content: Content) -> None:
    assert notice(content, "#1a2b3c4d") != notice(content)
    assert "#1a2b3c4d" in json.dumps(notice(content, "#1a2b3c4d"))


def test_every_part_of_a_long_notification_bears_the_mark() -> None:
    bodies = render_notice(send(Text(text="word " * 1_000)), mark="#1a2b3c4d")

    assert len(bodies) > 2
    assert all(body["text"]["content"].endswith("\n#1a2b3c4d") for body in bodies)


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (Feed(items=()), "feed"),
        (buttons(0), "buttons"),
        (Card(title="t", text="x" * 1_001, buttons=(Button(title="b", url=URL),)), "text"),
        (Card(title="t", text="x", buttons=(Button(title="b" * 21, url=URL),)), "buttons[0].title"),
        (Card(title="t", text="x", buttons=(Button(title="b", url=URL + "x" * 500),)), "buttons[0].url"),
        (Card(title="t", text="x", buttons=(Button(title="b", url=URL + "x" * 700),) * 2), "buttons[0].url"),
        (Card(title="t", text="x", buttons=(Button(title="b", url=URL + "x" * 300),) * 4), "buttons"),
        (Link(title="t" * 101, text="x", url=URL, picture_url=URL), "title"),
        (Link(title="t", text="x" * 501, url=URL, picture_url=URL), "text"),
        (Link(title="t", text="x" * 2_000, url=URL), "link"),
        (Link(title="t", text="x", url=URL + "x" * 500), "url"),
        (Text(text="\n"), "text"),
    ],
)
def test_what_a_notification_cannot_say_is_refused_with_the_argument(content: Content, field: str) -> None:
    with pytest.raises(InvalidJob) as refused:
        render_notice(send(content))

    assert refused.value.field == field
