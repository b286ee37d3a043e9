"""What DingTalk would get, before it is sent."""

from __future__ import annotations

import json
import socket

import pytest
from hypothesis import given

from dingqueue import EVERYONE, Client, InvalidJob, SendJob, Text, assign_job, send_job, share_job
from dingqueue.contract import Job
from dingqueue.messages import MAX_BODY_BYTES, Rung, encode, render_webhook
from dingqueue.preview import preview
from support.jobs import jobs


def test_a_preview_is_what_would_be_sent_with_its_size() -> None:
    job = send_job("ops", "磁盘快满了", mention="13800000000")

    shown = preview(job, keywords=("监控",))

    (body,) = render_webhook(job, keywords=("监控",)).bodies
    assert shown.bodies == (body,)
    assert shown.sizes_bytes == (len(encode(body)),)
    assert shown.warnings == ()


def test_it_connects_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("it connected")

    monkeypatch.setattr(socket.socket, "connect", refuse)

    assert Client("redis://192.0.2.1:6379/0").preview(send_job("ops", "hello")).bodies


def test_for_a_terminal() -> None:
    text = send_job("ops", "Disk full\n91 %", mention=["13800000000", "user:u1", "alice", EVERYONE], key="k")
    card = send_job(
        "ops", card={"title": "Deploy?", "text": "now", "buttons": [{"title": "Yes", "url": "https://e.com"}]}, key="k"
    )
    two = {
        "title": "Deploy?",
        "text": "now",
        "buttons": [{"title": t, "url": f"https://e.com/{t}"} for t in ("a", "b")],
    }
    feed = {"items": [{"title": "One", "url": "https://e.com/1", "picture_url": "https://e.com/p"}]}

    assert str(preview(text)) == (
        "message 1 of 1: text, 198 of 20,000 bytes\n"
        "  rings everyone\n  rings 13800000000\n  rings u1\n"
        "  | Disk full\n  | 91 %\n  | @13800000000 @u1 @alice\n"
        "warning: alice is shown by name here; the fleet's [people] decides how alice is rung"
    )
    assert str(preview(card)).endswith("bytes\n  in the conversation list: Deploy?\n  | now\n  | [Yes] <https://e.com>")
    assert str(preview(send_job("ops", card=two))).endswith("| [a] <https://e.com/a>\n  | [b] <https://e.com/b>")
    assert str(preview(send_job("ops", feed=feed))).endswith("bytes\n  | One <https://e.com/1>")
    assert str(preview(share_job("ops", "https://e.com/a.pdf"))).endswith(
        "bytes\n  | a.pdf\n  | PDF file on e.com\n  | <https://e.com/a.pdf>"
    )
    assert "  | ### Task: Review" in str(preview(assign_job("ops", "Review", to="alice")))


def test_with_the_fleets_people_names_are_rung() -> None:
    job = send_job("ops", "hello", mention="alice")

    assert "rings 13800000000" in str(preview(job, people={"alice": Rung(mobile="13800000000")}))
    with pytest.raises(InvalidJob, match="'alice' is not in the fleet's"):
        preview(job, people={})


@pytest.mark.parametrize(("parts", "minutes"), [(20, None), (21, 2), (41, 3)])
def test_many_parts_say_how_long_they_take(parts: int, minutes: int | None) -> None:
    text = "\n".join(["x" * 19_000] * parts)

    warnings = preview(send_job("ops", text)).warnings

    assert warnings[0] == f"{parts} messages, each of which counts against the robot's limit"
    assert warnings[1:] == ((f"at 20 messages a minute one robot needs {minutes} minutes",) if minutes else ())


def test_what_could_not_be_sent_cannot_be_previewed() -> None:
    with pytest.raises(InvalidJob):
        preview(SendJob(job_id="j", destination="ops", content=Text(text="x" * 20_000), too_long="refuse"))


@given(jobs())
def test_any_job_can_be_previewed(job: Job) -> None:
    shown = preview(job)

    json.dumps(shown.bodies)
    assert max(shown.sizes_bytes) <= MAX_BODY_BYTES
    assert str(shown).startswith(f"message 1 of {len(shown.bodies)}: ")
