from __future__ import annotations

import asyncio

import pytest

from dingqueue import Client, InvalidJob
from dingqueue.nowhere import _KEPT


def test_a_console_shows_what_dingtalk_would_get_and_sends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Client("console://") as ding:
        job_id = ding.send("ops", "Deploy finished", mention=["13800000000"])
        ding.assign("ops", "Review", to=["alice"])
        status = ding.status(job_id)

    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"dingqueue: send to ops, job {job_id}\n" in shown.err
    assert "  rings 13800000000\n  | Deploy finished @13800000000\n" in shown.err
    assert "dingqueue: assign to ops" in shown.err
    assert status is not None
    assert status.state == "waiting"


def test_the_same_key_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    ding = Client("console://")

    assert ding.send("ops", "x", key="k") == ding.send("ops", "x", key="k")

    assert capsys.readouterr().err.count("dingqueue: send") == 1


def test_mistakes_show_there_too() -> None:
    with pytest.raises(InvalidJob):
        Client("null://").send("ops", "")


def test_null_forgets_and_does_not_grow(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DINGQUEUE_BROKER_URL", "null://")
    monkeypatch.setenv("DINGQUEUE_STATE_URL", "redis://nobody-asks-it")
    ding = Client()

    first, *_, last = ding.send_many({"destination": "ops", "text": f"{n}"} for n in range(_KEPT + 1))
    asyncio.run(ding.asend("ops", "one more"))

    assert ding.status(first) is None
    assert ding.status(last) is not None
    assert ding.wait(last, timeout_s=60) is not None, "and nobody waits for what does not end"
    assert capsys.readouterr().err == ""


def test_a_tests_outbox_goes_before_it(ding_outbox: object, capsys: pytest.CaptureFixture[str]) -> None:
    Client("console://").send("ops", "x")

    assert capsys.readouterr().err == ""
