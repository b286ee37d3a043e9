"""A storm as one message: how many, from when to when, which ones, which are over, and whom it rings."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dingqueue import EVERYONE, Mention, SendJob, ShareJob, assign_job, send_job, share_job
from dingqueue.contract import Job, Markdown, from_wire, to_wire
from dingqueue.jobs import checked
from dingqueue.messages import MAX_BODY_BYTES, MAX_MENTIONS, Rung, encode, render_webhook
from dingqueue.messages.digest import digest_of
from support.jobs import jobs

BEIJING = timezone(timedelta(hours=8))
NINE = datetime(2026, 11, 25, 9, tzinfo=BEIJING)


def waiting(*made: Job, every_s: float = 60) -> list[tuple[Job, datetime]]:
    return [(job, NINE + timedelta(seconds=every_s * number)) for number, job in enumerate(made)]


def text_of(digest: SendJob) -> str:
    assert isinstance(digest.content, Markdown)
    return digest.content.text


def lines_of(digest: SendJob) -> list[str]:
    return [line for line in text_of(digest).split("\n") if line.startswith("- ")]


def sends(*texts: str, **options: Any) -> list[SendJob]:
    return [send_job("ops", text, **options) for text in texts]


# What it says


def test_twenty_five_equal_alarms_of_twenty_five_machines() -> None:
    digest = digest_of(waiting(*sends(*(f"Disk full\ninstance a{number:02}" for number in range(1, 26))), every_s=0.2))

    assert isinstance(digest.content, Markdown)
    assert digest.content.title == "25 messages: Disk full"
    text = text_of(digest)
    assert text.startswith("### 25 messages in one\n2026-11-25 (Wed) 09:00 UTC+08:00\n\n- Disk full ×25 (09:00): ")
    assert "instance a01, instance a02, " in text
    assert text.endswith(", instance a24, instance a25"), "all of them: ten machines must not look like one"


def test_titles_that_differ_have_a_line_each() -> None:
    digest = digest_of(waiting(*sends(*(f"Disk full on a{number:02}" for number in range(1, 26)))))

    assert lines_of(digest) == [f"- Disk full on a{number:02} (09:{number - 1:02})" for number in range(1, 26)]
    assert "2026-11-25 (Wed) 09:00 UTC+08:00 to 2026-11-25 (Wed) 09:24 UTC+08:00" in text_of(digest)


def test_equal_messages_are_one_line_with_a_count_and_its_times() -> None:
    digest = digest_of(waiting(*sends("Backup failed", "Disk full", "Disk full", "Disk full")))

    assert lines_of(digest) == ["- Backup failed (09:00)", "- Disk full ×3 (09:01-09:03)"]


def test_chinese_messages_have_a_chinese_digest() -> None:
    digest = digest_of(waiting(*sends("磁盘快满了\n实例 a01", "磁盘快满了\n实例 a02")))

    assert isinstance(digest.content, Markdown)
    assert digest.content.title == "2 条消息：磁盘快满了"
    assert text_of(digest) == (
        "### 2 条消息合为一条\n2026-11-25（周三）09:00（UTC+08:00） 至 2026-11-25（周三）09:01（UTC+08:00）\n\n"
        "- 磁盘快满了 ×2 (09:00-09:01): 实例 a01, 实例 a02"
    )


def test_over_midnight_the_lines_have_no_times_that_could_mislead() -> None:
    digest = digest_of([(job, NINE + timedelta(hours=16 * number)) for number, job in enumerate(sends("a", "b"))])

    assert lines_of(digest) == ["- a", "- b"]
    assert "2026-11-25 (Wed) 09:00 UTC+08:00 to 2026-11-26 (Thu) 01:00 UTC+08:00" in text_of(digest)


def test_ten_machines_do_not_look_like_one_and_nine_of_them_are_over() -> None:
    down = [
        send_job("ops", markdown=f"**instance**: a{n:02}\nvalue: 91 %", title="[FIRING:1] Disk full")
        for n in range(1, 11)
    ]
    up = [
        send_job("ops", markdown=f"**instance**: a{n:02}\nvalue: 40 %", title="[RESOLVED] Disk full")
        for n in range(1, 10)
    ]

    (line,) = lines_of(digest_of(waiting(*down, *up)))

    assert line.startswith(
        "- Disk full ×19 (09:00-09:18): instance: a01 ×2 (recovered), instance: a02 ×2 (recovered), "
    )
    assert line.count("(recovered)") == 9
    assert line.endswith("instance: a10")


def test_a_storm_that_is_over_says_so_once() -> None:
    texts = [f"{status} Disk full\ninstance a{n}" for status in ("[FIRING]", "[RESOLVED]") for n in (1, 2)]

    assert lines_of(digest_of(waiting(*sends(*texts)))) == [
        "- Disk full ×4 (09:00-09:03) (recovered): instance a1 ×2, instance a2 ×2"
    ]


@pytest.mark.parametrize(
    ("on", "over", "title"),
    [
        ("[FIRING:2] Disk", "[RESOLVED] Disk", "Disk"),
        ("【告警】磁盘", "【已恢复】磁盘", "磁盘"),
        ("❌ Disk", "✅ Disk", "Disk"),
        ("🔥Disk", "🟢Disk", "Disk"),
        ("PROBLEM: Disk", "OK: Disk", "Disk"),
        ("DOWN - Disk", "UP - Disk", "Disk"),
        ("Disk", "Disk: recovered", "Disk"),
        ("Disk", "Disk (resolved)", "Disk"),
        ("磁盘", "磁盘 已恢复", "磁盘"),
        ("磁盘", "磁盘：恢复。", "磁盘"),
    ],
)
def test_the_words_for_over(on: str, over: str, title: str) -> None:
    recovered = "已恢复" if title == "磁盘" else "recovered"

    assert lines_of(digest_of(waiting(*sends(on, over)))) == [f"- {title} ×2 (09:00-09:01) ({recovered})"]
    assert lines_of(digest_of(waiting(*sends(over, on)))) == [f"- {title} ×2 (09:00-09:01)"]


@pytest.mark.parametrize(
    "text",
    ["OK great", "Up 3 days", "Error in line 3", "Alerting is fun", "All ok", "Recovered", "[OK]", "Look up", "恢复"],
)
def test_words_that_only_look_like_it_change_nothing(text: str) -> None:
    (line,) = lines_of(digest_of(waiting(*sends(text))))

    assert re.fullmatch(rf"- {re.escape(text)} \(09:00\)( \(recovered\))?", line)


def test_every_kind_of_job_has_its_line() -> None:
    digest = digest_of(
        waiting(
            send_job("ops", "Text\nmore", urgent=True),
            send_job("ops", markdown="## **Mark**down"),
            send_job("ops", link={"title": "Link", "text": "x", "url": "https://e.com/a_(1)"}),
            send_job(
                "ops", card={"title": "Card", "text": "x", "buttons": [{"title": "b", "url": "https://e.com/b"}] * 2}
            ),
            send_job(
                "ops", feed={"items": [{"title": "Feed", "url": "https://e.com/c", "picture_url": "https://e.com/p"}]}
            ),
            assign_job("ops", "Review", to="alice", url="https://e.com/d"),
            assign_job("ops", "审阅", to="alice"),
            share_job("ops", "https://e.com/report.pdf"),
            share_job("ops", "https://e.com/" + "a" * 600, name="far.pdf"),
            every_s=0,
        )
    )

    assert lines_of(digest) == [
        "- **紧急** Text (09:00)",
        "- Markdown (09:00)",
        "- Link (09:00) [打开](https://e.com/a_%281%29)",
        "- Card (09:00) [打开](https://e.com/b)",
        "- Feed (09:00)",
        "- Task: Review (09:00) [打开](https://e.com/d)",
        "- 任务：审阅 (09:00)",
        "- report.pdf (09:00) [打开](https://e.com/report.pdf)",
        "- far.pdf (09:00)",
    ]


def test_of_a_thousand_titles_the_first_and_the_last_are_shown() -> None:
    digest = digest_of(waiting(*sends(*(f"Title {number}" for number in range(1000))), every_s=1))

    lines = lines_of(digest)
    assert len(lines) == 41
    assert lines[0] == "- Title 0 (09:00)"
    assert lines[19] == "- Title 19 (09:00)"
    assert lines[20] == "- … 960 more lines, 960 messages"
    assert lines[21] == "- Title 980 (09:16)"
    assert lines[40] == "- Title 999 (09:16)"


def test_the_middle_of_a_storm_counts_its_messages() -> None:
    made = [f"Title {number}" for number in range(50)] + ["Title 25"] * 4

    assert "- … 10 more lines, 14 messages" in lines_of(digest_of(waiting(*sends(*made), every_s=0)))


# Whom it rings, and how it is handled


def test_everybody_is_still_rung() -> None:
    digest = digest_of(
        waiting(
            send_job("ops", "a", mention=["alice", "13800000000"]),
            send_job("ops", "b", mention=["user:u1", "alice"]),
            assign_job("ops", "c", to=["bob"]),
            share_job("ops", "https://e.com"),
            send_job("ops", "d", mention=EVERYONE),
        )
    )

    assert digest.mention == Mention(names=("alice", "bob"), mobiles=("13800000000",), user_ids=("u1",), everyone=True)
    (body,) = render_webhook(digest, people={"alice": Rung(user_id="a1"), "bob": Rung(mobile="13811111111")}).bodies
    assert body["at"] == {"atMobiles": ["13800000000", "13811111111"], "atUserIds": ["u1", "a1"], "isAtAll": True}


def test_people_of_urgent_ones_come_first_and_who_is_too_many_is_named() -> None:
    made = [send_job("ops", f"n {number}", mention=f"user:u{number}") for number in range(60)]
    made.append(send_job("ops", "fire", mention=["user:chief", "alice"], urgent=True))

    digest = digest_of(waiting(*made, every_s=0))

    assert digest.mention.user_ids == ("chief", *(f"u{number}" for number in range(48)))
    assert digest.mention.names == ("alice",)
    assert text_of(digest).endswith(
        "12 more people are not rung, for a message rings at most 50: "
        "u48, u49, u50, u51, u52, u53, u54, u55, u56, u57, u58, u59"
    )


def test_it_is_as_urgent_and_as_careful_as_the_most_of_its_members() -> None:
    plain, urgent, careful = (
        digest_of(waiting(*sends("a"), send_job("ops", "b", **options)))
        for options in ({}, {"urgent": True}, {"on_unknown": "hold"})
    )

    assert (plain.terms.urgent, plain.terms.on_unknown) == (False, "resend")
    assert urgent.terms.urgent
    assert careful.terms.on_unknown == "hold"
    assert (plain.terms.at, plain.terms.expires_s) == (None, None)


def test_the_same_jobs_are_the_same_digest() -> None:
    made = sends("a", "b")

    assert digest_of(waiting(*made)) == digest_of(waiting(*made))
    assert digest_of(waiting(*made)).job_id != digest_of(waiting(*reversed(made))).job_id
    assert digest_of(waiting(*made)).job_id not in {job.job_id for job in made}


def test_a_digest_is_of_one_destination() -> None:
    with pytest.raises(ValueError, match="not of 0"):
        digest_of([])
    with pytest.raises(ValueError, match="not of 2"):
        digest_of(waiting(send_job("ops", "a"), send_job("dev", "b")))


# Properties


@given(st.lists(st.tuples(jobs(), st.integers(0, 10**6)), min_size=1, max_size=60))
def test_any_storm_fits_one_message_of_any_robot(storm: list[tuple[Job, int]]) -> None:
    members = [(job, datetime.fromtimestamp(1_790_000_000 + at_s, UTC)) for job, at_s in storm]

    digest = digest_of(members)

    assert checked(digest) == digest  # the door renders it with the widest keyword and people
    assert from_wire(to_wire(digest)) == digest
    (body,) = render_webhook(digest, check_names=False).bodies
    assert len(encode(body)) <= MAX_BODY_BYTES
    assert "left out" not in body["markdown"]["text"]
    assert "略去" not in body["markdown"]["text"]
    assert f"{len(storm)}" in body["markdown"]["title"]
    rung = [*digest.mention.names, *digest.mention.mobiles, *digest.mention.user_ids]
    mentions = [
        job.mention if isinstance(job, SendJob) else job.to for job, _ in storm if not isinstance(job, ShareJob)
    ]
    wanted = {who for mention in mentions for who in (*mention.names, *mention.mobiles, *mention.user_ids)}
    assert set(rung) == wanted if len(wanted) <= MAX_MENTIONS else len(rung) == MAX_MENTIONS


def test_the_widest_storm_fits_one_message_of_the_widest_fleet() -> None:
    wide = "👨‍👩‍👧" * 28
    made = [
        send_job("ops", markdown=f"{wide}{a}\n{wide}{b}\n", title=f"{wide}{a}", mention=[f"user:{a:0>60}{b:0>4}"])
        for a in range(30)
        for b in range(30)
    ]  # fmt: skip

    digest = digest_of(waiting(*made, every_s=0.01))

    (body,) = render_webhook(digest, keywords=("监" * 66,)).bodies
    assert 10_000 < len(encode(body)) <= MAX_BODY_BYTES
    assert len(body["at"]["atUserIds"]) == MAX_MENTIONS
    assert "850 人未提醒" in body["markdown"]["text"] or "850 more people" in body["markdown"]["text"]
    assert "略去" not in body["markdown"]["text"]


def test_a_big_storm_takes_no_time() -> None:
    import time

    made = [send_job("ops", f"Disk full\ninstance a{number}\n" + "x\n" * 200) for number in range(500)]
    began_s = time.monotonic()

    digest_of(waiting(*made))

    assert time.monotonic() - began_s < 5
