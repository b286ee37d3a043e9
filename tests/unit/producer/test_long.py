"""Messages over DingTalk's 20,000 bytes: split, shortened or refused; and what the door promises about them."""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dingqueue import EVERYONE, InvalidJob, Mention, SendJob, assign_job, send_job
from dingqueue.contract import Job, Markdown, Text
from dingqueue.messages import MAX_BODY_BYTES, MAX_MENTIONS, MAX_PARTS, Rung, encode, render_webhook
from dingqueue.messages.markdown import close_fence
from support.jobs import jobs, texts


def shown(body: dict[str, Any]) -> str:
    inner = body[body["msgtype"]]
    return str(inner.get("content", inner.get("text")))


# The limit is on the bytes that are sent


@pytest.mark.parametrize(
    ("letter", "each_bytes"), [("x", 1), ("中", 3), ("😱", 4), ('"', 2), ("\n.", 3), ("\x1b", 6)], ids=ascii
)
def test_the_final_body_is_measured(letter: str, each_bytes: int) -> None:
    job = send_job("ops", "y", key="k")
    empty = len(encode(render_webhook(job).bodies[0])) - 1
    most = (MAX_BODY_BYTES - empty) // each_bytes

    def bodies(count: int) -> tuple[dict[str, Any], ...]:
        text = "y" * ((MAX_BODY_BYTES - empty) % each_bytes) + letter * count
        return render_webhook(SendJob(job_id=job.job_id, destination="ops", content=Text(text=text))).bodies

    (full,) = bodies(most)
    assert len(encode(full)) == MAX_BODY_BYTES
    assert len(bodies(most + 1)) == 2


def test_nine_thousand_chinese_characters_with_code_and_a_list() -> None:
    text = (
        "## 巡检\n\n" + "磁盘快满了，请尽快处理。\n" * 330 + "\n```sql\n" + "select 1;\n" * 700 + "```\n\n"
        + "- 第一项\n- 第二项\n" * 180 + "@13800000000 请看"
    )  # fmt: skip
    job = send_job("ops", markdown=text, mention=["13800000000", "user:u1"])

    rendered = render_webhook(job, keywords=("监控",))

    count = len(rendered.bodies)
    assert count == 2
    assert rendered.warnings == ("2 messages, each of which counts against the robot's limit",)
    for number, body in enumerate(rendered.bodies, start=1):
        assert len(encode(body)) <= MAX_BODY_BYTES
        assert body["msgUuid"] == f"{job.job_id}-{number}"
        assert body["markdown"]["title"] == f"({number}/{count}) 巡检"
        assert shown(body).startswith(f"({number}/{count}) [监控]\n\n")
        assert close_fence(shown(body)) == shown(body)
    rung = [body.get("at", {}) for body in rendered.bodies]
    assert [at.get("atUserIds") for at in rung] == [["u1"], None]
    assert [at.get("atMobiles") for at in rung] == [None, ["13800000000"]]
    assert sum(shown(body).count("@13800000000") for body in rendered.bodies) == 1


def test_parts_of_text_are_numbered_on_a_line_of_their_own() -> None:
    rendered = render_webhook(send_job("ops", "word " * 5000, mention=EVERYONE), keywords=("ops",))

    first, second = rendered.bodies
    assert shown(first).startswith("(1/2) [ops]\nword word")
    assert shown(second).startswith("(2/2) [ops]\nword")
    assert (first["at"], "at" in second) == ({"isAtAll": True}, False)


def test_a_keyword_that_is_in_one_part_is_added_to_the_other_only() -> None:
    first, second = render_webhook(
        send_job("ops", "word " * 3000 + "监控 " + "word " * 2000), keywords=("监控",)
    ).bodies

    assert shown(first).startswith("(1/2)\nword")
    assert shown(second).startswith("(2/2) [监控]\nword")


def test_a_person_whom_several_parts_name_is_rung_by_the_first_of_them() -> None:
    text = "word " * 4000 + "@13800000000 " + "word " * 4000 + "@13800000000 " + "word " * 100

    rung = ["at" in body for body in render_webhook(send_job("ops", text, mention="13800000000")).bodies]

    assert rung == [False, True, False]


def test_what_is_too_long_only_by_blanks_is_one_message() -> None:
    for options in ({"text": "x" + "\n" * 20_000}, {"markdown": "x" + " \n" * 20_000}, {"text": "x" + " " * 30_000}):
        for too_long in ("split", "shorten"):
            rendered = render_webhook(send_job("ops", **options, too_long=too_long))  # type: ignore[arg-type]  # texts
            assert [shown(body).rstrip() for body in rendered.bodies] == ["x"]
            assert rendered.warnings == ()


@pytest.mark.parametrize(
    ("options", "end"),
    [
        ({"text": "word " * 5000}, r"\n… \((\d,\d{3}) characters left out\)"),
        ({"markdown": "磁盘快满了。\n" * 2000}, r"\n\n……（略去 (\d,\d{3}) 字）"),
        ({"markdown": "```\n" + "x = 1\n" * 5000}, r"\n```\n\n… \((\d{2},\d{3}) characters left out\)"),
    ],
)
def test_shortened_with_a_note_of_what_is_missing(options: dict[str, Any], end: str) -> None:
    job = send_job("ops", **options, mention="user:u1", too_long="shorten")

    (body,) = render_webhook(job).bodies

    assert len(encode(body)) <= MAX_BODY_BYTES
    assert body["at"] == {"atUserIds": ["u1"]}
    assert body["msgUuid"] == job.job_id
    assert re.search(rf"{end}\s+@u1$", shown(body)), shown(body)[-80:]


def test_shortened_says_so() -> None:
    rendered = render_webhook(send_job("ops", "x" * 20_000, too_long="shorten"))

    (warning,) = rendered.warnings
    assert re.fullmatch(r"shortened: \d{3} characters are left out", warning)


@pytest.mark.parametrize("content", [{"text": "x" * 20_000}, {"markdown": "x" * 20_000}])
def test_refused(content: dict[str, Any]) -> None:
    with pytest.raises(InvalidJob, match="allow 'split' or 'shorten'") as caught:
        send_job("ops", **content, too_long="refuse")
    assert caught.value.field in content


def test_a_long_description_of_work_is_split_and_its_facts_come_first() -> None:
    job = assign_job(
        "p", "x" * 1000, to=["user:u1", "user:u2"], url="https://e.com/" + "a" * 4000, description="word " * 5000
    )

    first, *others = render_webhook(job).bodies

    assert first["at"] == {"atUserIds": ["u1", "u2"]}
    assert f"(https://e.com/{'a' * 4000})" in shown(first)
    assert others
    assert not any("at" in body for body in others)


def test_fifty_people_with_the_longest_ids_leave_room() -> None:
    people = [f"user:{number:0>64}" for number in range(MAX_MENTIONS)]

    bodies = render_webhook(send_job("ops", markdown="中" * 20_000, mention=people), keywords=("监" * 66,)).bodies

    assert [len(body.get("at", {}).get("atUserIds", [])) for body in bodies] == [MAX_MENTIONS] + [0] * (len(bodies) - 1)
    assert max(len(encode(body)) for body in bodies) <= MAX_BODY_BYTES


def test_where_people_leave_no_room_it_is_refused() -> None:
    mention = Mention(user_ids=tuple(f"{number:0>400}" for number in range(MAX_MENTIONS)))
    job = SendJob(job_id="j", destination="ops", content=Text(text="x"), mention=mention)

    with pytest.raises(InvalidJob, match="leave no room for the text"):
        render_webhook(job)


# The door is as narrow as the narrowest robot

PICTURE = "https://e.com/p.png"
UNCUT: dict[str, Callable[[str], SendJob]] = {
    "text": lambda text: send_job("ops", text, mention=["alice", "bob"], too_long="refuse"),
    "markdown": lambda text: send_job("ops", markdown=text, title="t", mention=["alice", "bob"], too_long="refuse"),
    "link": lambda text: send_job("ops", link={"title": "t", "text": text, "url": "https://e.com"}),
    "feed": lambda text: send_job(
        "ops", feed={"items": [{"title": text, "url": "https://e.com", "picture_url": PICTURE}]}
    ),
    "card": lambda text: send_job(
        "ops",
        card={"title": "t", "text": text, "buttons": [{"title": "b", "url": "https://e.com"}]},
        mention=["alice", "bob"],
    ),
}


@pytest.mark.parametrize("form", UNCUT)
def test_the_longest_that_is_accepted_fits_the_widest_robot_and_one_more_is_refused(form: str) -> None:
    job_of = UNCUT[form]

    def accepted(size: int) -> bool:
        try:
            return bool(job_of("x" * size))
        except InvalidJob:
            return False

    longest = bisect.bisect_left(range(20_000), True, key=lambda size: not accepted(size + 1))
    assert 19_000 < longest < 19_900

    widest = {"alice": Rung(user_id="a" * 64), "bob": Rung(user_id="b" * 64)}
    (body,) = render_webhook(job_of("x" * longest), people=widest, keywords=("监" * 66 + "ab",)).bodies
    assert len(encode(body)) == MAX_BODY_BYTES
    (plain,) = render_webhook(job_of("x" * longest), people=widest).bodies
    assert len(encode(plain)) < MAX_BODY_BYTES


# Properties of every message


def fleets() -> st.SearchStrategy[dict[str, Any]]:
    """What a fleet may add: keywords and people of every width."""
    rung = st.builds(
        Rung,
        mobile=st.sampled_from(["13811111111", "+86-13822222222", "+852-98765432"]),
        user_id=st.none() | st.sampled_from(["u", "9" * 64, "a.b@c-d_e"]),
    )
    return st.fixed_dictionaries(
        {
            "people": st.fixed_dictionaries(dict.fromkeys(("alice", "bob", "li.lei", "李雷"), rung)),
            "keywords": st.lists(
                st.sampled_from(["监控", "ops", "word", "k" * 200, "中" * 66, "👨‍👩‍👧" * 11]), max_size=3
            ),
        }
    )


@given(jobs(), fleets())
def test_what_the_door_accepts_every_fleet_can_render(job: Job, fleet: dict[str, Any]) -> None:
    rendered = render_webhook(job, **fleet)

    assert 1 <= len(rendered.bodies) <= 3 * MAX_PARTS
    assert all(len(encode(body)) <= MAX_BODY_BYTES for body in rendered.bodies)
    assert len({body["msgUuid"] for body in rendered.bodies}) == len(rendered.bodies)
    if keywords := fleet["keywords"]:
        for body in rendered.bodies:
            said = body["feedCard"]["links"][0]["title"] if body["msgtype"] == "feedCard" else shown(body)
            all_said = said + "".join(link["title"] for link in body.get("feedCard", {}).get("links", []))
            assert any(keyword in all_said for keyword in keywords)


@given(jobs(), fleets())
def test_everybody_is_rung_once_and_is_named_where_they_are_rung(job: Job, fleet: dict[str, Any]) -> None:
    bodies = render_webhook(job, **fleet).bodies
    rung = [
        (who, body)
        for body in bodies
        for field in ("atMobiles", "atUserIds")
        for who in body.get("at", {}).get(field, [])
    ]

    assert len({who for who, _ in rung}) == len(rung)
    assert all(f"@{who}" in shown(body) for who, body in rung)
    assert sum(body.get("at", {}).get("isAtAll", False) for body in bodies) <= 1


@given(jobs())
def test_without_the_fleets_people_it_can_be_shown(job: Job) -> None:
    assert render_webhook(job, check_names=False).bodies


def test_the_generator_reaches_every_kind_of_message() -> None:
    """That the properties above are about something.

    What is drawn depends on which modules the process has loaded: the rarest kind must be one job in twenty or so.
    """
    reached: set[tuple[str, bool]] = set()

    @settings(max_examples=300, derandomize=True, database=None)
    @given(jobs())
    def collect(job: Job) -> None:
        bodies = render_webhook(job, check_names=False).bodies
        reached.add((bodies[0]["msgtype"], len(bodies) > 1))

    collect()

    single = {(msgtype, False) for msgtype in ("text", "markdown", "link", "actionCard", "feedCard")}
    assert reached == single | {("text", True), ("markdown", True)}


@given(texts(), st.sampled_from(["text", "markdown"]))
def test_parts_are_in_order_and_give_the_content_back(text: str, field: str) -> None:
    content = Text(text=text) if field == "text" else Markdown(text=text)
    bodies = render_webhook(SendJob(job_id="j", destination="ops", content=content, tables="keep")).bodies

    said = []
    for number, body in enumerate(bodies, start=1):
        head = f"({number}/{len(bodies)})" if len(bodies) > 1 else ""
        assert shown(body).startswith(head)
        said.append(shown(body)[len(head) :])

    def words(one: str) -> str:
        return re.sub(r"[\s`~]", "", re.sub(r"^[ \t]*(`{3,}|~{3,})[^`\n]*$", "", one, flags=re.MULTILINE))

    assert words("\n".join(said)) == words(re.sub(r"\r\n?", "\n", text))
