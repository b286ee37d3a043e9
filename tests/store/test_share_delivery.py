"""A share in an app's name, step by step: upload and message, what is said about it, and what happens in between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dingqueue import StoredFile, share_job
from dingqueue.contract import ShareJob
from dingqueue.files.source import content_of
from dingqueue.files.store import FileStore, open_store
from dingqueue_worker.outcome import Accepted, Dead, Delivered, Retry, Snooze
from dingqueue_worker.settings import Destination, Person
from support.acme import GROUP, NOTICE, PEOPLE, TOKEN, UPLOAD, acme, bodies, but, organisation
from support.answering import Reply
from support.state import State

PDF = b"%PDF-1.7 numbers"
PROJECT = Destination(name="project", app="acme", conversation="cid1", robots=("ops",))
REFUSED: Reply = (400, {"code": "invalidParameter.msgParam.invalid", "message": "mediaId is invalid"})
STALE: Reply = (200, {"errcode": 88, "sub_code": "40014", "sub_msg": "token"})


@pytest.fixture
def file_store(tmp_path: Path) -> Iterator[FileStore]:
    store = open_store(f"file://{tmp_path}", prefix="dq:", timeout_s=2)
    yield store
    store.close()


def shared(store: FileStore, name: str = "季度 Q3.pdf", *, data: bytes = PDF, to: str = "project", note: str = "") -> ShareJob:  # fmt: skip
    with content_of(data, name=name) as content:
        place = store.keep(content, keep_s=60)
        file = StoredFile(
            store=store.kind, id=place, name=content.name, size_bytes=content.size_bytes, sha256=content.sha256,
            type=content.type,
        )  # fmt: skip
    return share_job(to, file, note=note)


def params(far: Any, path: str) -> list[tuple[str, str]]:
    return [(body["msgKey"], body["msgParam"]) for body in bodies(far, path)]


def test_an_upload_and_its_message_are_two_steps_by_two_senders(state: State, file_store: FileStore) -> None:
    with acme(organisation(PROJECT), state, file_store=file_store) as one:
        ran = one.run(shared(file_store))

    assert ran.senders == ["app.acme.upload", "app.acme.group"]
    assert isinstance(ran.last, Accepted)
    assert ran.receipt()["media_id"].startswith("@media-")
    assert "process_query_key" in ran.receipt()
    [(key, param)] = params(one.far, GROUP)
    assert key == "sampleFile"
    assert param == f'{{"mediaId":"{ran.notes["media_id"]}","fileName":"季度 Q3.pdf","fileType":"pdf"}}'


def test_a_known_upload_is_sent_at_once(state: State, file_store: FileStore) -> None:
    with acme(organisation(PROJECT), state, file_store=file_store) as one:
        one.run(shared(file_store))
        ran = one.run(shared(file_store))

    assert ran.senders == ["app.acme.group"]
    assert len(one.far.of(UPLOAD)) == 1


def test_a_picture_is_shown_and_the_line_about_it_follows(state: State, file_store: FileStore) -> None:
    job = shared(file_store, "chart.png", data=b"\x89PNG\r\n\x1a\n" + bytes(40), note="Load of the day")
    with acme(organisation(PROJECT), state, file_store=file_store) as one:
        ran = one.run(job)

    assert ran.senders == ["app.acme.upload", "app.acme.group", "app.acme.group"]
    assert [key for key, _ in params(one.far, GROUP)] == ["sampleImageMsg", "sampleText"]
    assert one.far.of(UPLOAD)[0].query["type"] == "image"


@pytest.mark.parametrize("via", ["robot", "notice"])
def test_a_file_reaches_people(state: State, file_store: FileStore, via: Any) -> None:
    people = Destination(name="team", app="acme", users=("p1", "p2"), via=via)
    with acme(organisation(people), state, file_store=file_store) as one:
        ran = one.run(shared(file_store, to="team"))

    assert isinstance(ran.last, Accepted)
    if via == "notice":
        [body] = bodies(one.far, NOTICE)
        assert body["msg"] == {"msgtype": "file", "file": {"media_id": ran.notes["media_id"]}}
    else:
        [body] = bodies(one.far, PEOPLE)
        assert body["userIds"] == ["u1", "u2"]


def test_a_token_that_is_refused_costs_the_upload_nothing(state: State, file_store: FileStore) -> None:
    with acme(organisation(PROJECT), state, but(UPLOAD, STALE), file_store=file_store) as one:
        ran = one.run(shared(file_store))

    assert isinstance(ran.ends[0][1].outcome, Snooze)
    assert isinstance(ran.last, Accepted)
    assert len(one.far.of(TOKEN)) == 2
    assert len(one.far.of(UPLOAD)) == 2


def test_an_upload_that_nobody_saw_the_end_of_is_made_again(state: State, file_store: FileStore) -> None:
    """Whatever `on_unknown` says: nobody sees it."""
    job = share_job("project", shared(file_store).file, on_unknown="hold")  # type: ignore[arg-type]  # it has a file
    with acme(organisation(PROJECT), state, but(UPLOAD, None), file_store=file_store) as one:
        ran = one.run(job)

    assert isinstance(ran.ends[0][1].outcome, Retry)
    assert isinstance(ran.last, Accepted)


def test_an_upload_that_dingtalk_forgot_is_made_again_from_whatever_step(state: State, file_store: FileStore) -> None:
    with acme(organisation(PROJECT), state, but(GROUP, None, REFUSED), file_store=file_store) as one:
        ran = one.run(shared(file_store, note="For the board"))

    assert isinstance(ran.last, Accepted)
    assert len(one.far.of(UPLOAD)) == 2
    sent = [key for key, _ in params(one.far, GROUP)]
    assert sent[-2:] == ["sampleFile", "sampleText"]


def test_a_file_that_is_refused_again_is_dead_in_dingtalks_words(state: State, file_store: FileStore) -> None:
    with acme(organisation(PROJECT), state, but(GROUP, REFUSED, REFUSED), file_store=file_store) as one:
        ran = one.run(shared(file_store))

    assert isinstance(ran.last, Dead)
    assert "mediaId is invalid" in ran.last.why
    assert len(one.far.of(UPLOAD)) == 2


def test_a_file_over_a_notifications_limit_is_dead_before_it_is_sent(state: State, file_store: FileStore) -> None:
    notices = Destination(name="team", app="acme", users=("p1",), via="notice")
    with acme(organisation(notices), state, file_store=file_store) as one:
        ran = one.run(shared(file_store, to="team", data=PDF + bytes(11 * 2**20)))

    assert isinstance(ran.last, Dead)
    assert "at most 10,485,760 (10 MB)" in ran.last.why
    assert one.far.of(UPLOAD) == []


def test_a_file_for_a_destination_whose_app_has_no_one_to_write_to_is_dead(state: State, file_store: FileStore) -> None:
    todos_only = Destination(name="project", app="acme", robots=("ops",))
    with acme(organisation(todos_only), state, file_store=file_store) as one:
        ran = one.run(shared(file_store))

    assert isinstance(ran.last, Dead)
    assert "a webhook robot cannot carry a file" in ran.last.why


def test_people_are_looked_up_after_the_upload(state: State, file_store: FileStore) -> None:
    settings = organisation(Destination(name="team", app="acme", users=("p1", "bob")))
    known = {**settings.people, "bob": Person(name="bob", mobile="13800000099")}
    with acme(replace(settings, people=known), state, file_store=file_store) as one:
        ran = one.run(shared(file_store, to="team"))

    assert ran.senders == ["app.acme.upload", "app.acme.lookup", "app.acme.people"]
    assert bodies(one.far, PEOPLE)[0]["userIds"] == ["u1", "user-of-0099"]
    assert isinstance(ran.ends[0][1].outcome, Delivered)
