"""The wire format: version 1 as released, and what is refused."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dingqueue import (
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
    StoredFile,
    Text,
    UnknownContract,
)
from dingqueue.contract import CONTRACT_VERSION, ChangeJob, Job, Terms, from_wire, to_wire
from dingqueue.messages import render_webhook
from support.jobs import jobs

GOLDEN = Path(__file__).parents[2] / "golden" / "contract" / "v1"
BEIJING = timezone(timedelta(hours=8))

#: One job for each file: every kind, every form of content, every option in every value.
RELEASED: dict[str, Job] = {
    "send-text": SendJob(job_id="job-1", destination="ops", content=Text(text='磁盘快满了 "91 %"\n👨‍👩‍👧 \\ \t')),
    "send-text-everything": SendJob(
        job_id="0b0f3f7e-6b7e-5b0a-9d55-3c1b5f0a1c11",
        destination="ops.alerts",
        content=Text(text="Disk full"),
        mention=Mention(
            names=("alice", "李雷"), mobiles=("13800000000", "+852-91234567"), user_ids=("u.1",), everyone=True
        ),
        too_long="shorten",
        tables="keep",
        terms=Terms(
            urgent=True,
            at=datetime(2026, 12, 1, 9, 0, 0, 250_000, tzinfo=BEIJING),
            expires_s=600,
            on_unknown="hold",
        ),
    ),
    "send-markdown": SendJob(
        job_id="job-2",
        destination="ops",
        content=Markdown(text="## 磁盘\n91 %", title="磁盘"),
        too_long="refuse",
        terms=Terms(at=datetime(2026, 12, 1, 1, tzinfo=UTC), expires_s=0.5),
    ),
    "send-link": SendJob(
        job_id="job-3",
        destination="ops",
        content=Link(title="Report", text="November", url="https://example.com/r?a=1&b=中", picture_url="@media-1"),
    ),
    "send-card": SendJob(
        job_id="job-4",
        destination="ops",
        content=Card(
            title="Deploy?",
            text="**main** is green",
            buttons=(
                Button(title="Yes", url="https://example.com/yes"),
                Button(title="No", url="dingtalk://dingtalkclient/page/link?url=https%3A%2F%2Fexample.com%2Fno"),
            ),
            horizontal=True,
        ),
        mention=Mention(user_ids=("manager123",)),
    ),
    "send-feed": SendJob(
        job_id="job-5",
        destination="ops",
        content=Feed(
            items=(
                FeedItem(title="One", url="https://example.com/1", picture_url="https://example.com/1.png"),
                FeedItem(title="二", url="https://example.com/2", picture_url="https://example.com/2.png"),
            )
        ),
    ),
    "assign": AssignJob(
        job_id="job-6",
        destination="project",
        subject="审阅合同",
        to=Mention(names=("alice",), mobiles=("13800000000",), user_ids=("bob",)),
        due=datetime(2026, 12, 1, 9, tzinfo=BEIJING),
        url="https://example.com/contract",
        description="Page 3 *first*.",
        terms=Terms(urgent=True),
    ),
    "assign-least": AssignJob(job_id="job-7", destination="project", subject="Review", to=Mention(names=("alice",))),
    "assign-priority": AssignJob(
        job_id="job-7", destination="project", subject="Review", to=Mention(names=("alice",)), priority="urgent"
    ),
    "assign-union": AssignJob(job_id="job-7", destination="p", subject="Review", to=Mention(union_ids=("a/b+c==",))),
    "change": ChangeJob(
        job_id="job-12",
        destination="project",
        of="job-6",
        action="reassign",
        left='{"todo": {"id": "任务1", "creator": "un1"}}',
        to=Mention(names=("bob",)),
        subject="Sign it",
        description="soon",
        due=datetime(2026, 12, 2, 9, tzinfo=BEIJING),
        terms=Terms(urgent=True),
    ),
    "change-least": ChangeJob(job_id="job-13", destination="project", of="job-1", action="recall"),
    "share": ShareJob(
        job_id="job-8",
        destination="project",
        url="https://example.com/%E6%8A%A5%E8%A1%A8.xlsx",
        name="报表.xlsx",
        note="For the board",
        terms=Terms(on_unknown="hold"),
    ),
    "share-least": ShareJob(job_id="job-9", destination="p", url="https://example.com/a.pdf", name="a.pdf"),
    "share-zip": ShareJob(
        job_id="job-10", destination="project", url="https://example.com/a.csv", name="a.csv", zip=True
    ),
    "share-file": ShareJob(
        job_id="job-11",
        destination="project",
        url="",
        name="季度报表(终稿).xlsx",
        note="For the board",
        file=StoredFile(
            store="folder",
            id="20261203/9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            name="季度报表(终稿).xlsx",
            size_bytes=20_971_520,
            sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            type="xlsx",
        ),
        terms=Terms(urgent=True),
    ),
}


def test_there_is_a_file_for_each_released_payload_and_no_other() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(RELEASED)


@pytest.mark.parametrize("name", RELEASED)
def test_payloads_as_released_are_read(name: str) -> None:
    assert from_wire((GOLDEN / f"{name}.json").read_text("utf-8")) == RELEASED[name]


@pytest.mark.parametrize("name", RELEASED)
def test_payloads_are_written_as_released(name: str) -> None:
    released = (GOLDEN / f"{name}.json").read_text("utf-8")

    assert to_wire(RELEASED[name]) + "\n" == released, (
        "version 1 is written differently now: workers in the field would not read it; raise CONTRACT_VERSION instead"
    )


def test_what_is_left_out_may_also_be_said() -> None:
    said = json.loads(to_wire(RELEASED["send-text"])) | {
        "mention": {"names": [], "mobiles": [], "user_ids": [], "everyone": False},
        "too_long": "split",
        "tables": "lines",
        "terms": {"urgent": False, "at": None, "expires_s": None, "on_unknown": "resend"},
    }

    assert from_wire(json.dumps(said)) == RELEASED["send-text"]


@given(jobs())
def test_the_wire_gives_the_job_back(job: Job) -> None:
    assert from_wire(to_wire(job)) == job


def test_a_due_time_keeps_the_offset_it_was_written_in() -> None:
    job = from_wire(to_wire(RELEASED["assign"]))

    assert isinstance(job, AssignJob)
    assert job.due is not None
    assert job.due.isoformat() == "2026-12-01T09:00:00+08:00"


def test_a_newer_version_is_refused_and_says_what_to_do() -> None:
    newer = json.loads(to_wire(RELEASED["send-text"])) | {"v": CONTRACT_VERSION + 1}

    with pytest.raises(UnknownContract, match=r"job contract 2, and this side reads 1: upgrade dingqueue here"):
        from_wire(json.dumps(newer))


@pytest.mark.parametrize(
    "wire",
    [
        "",
        "null",
        "[]",
        "5",
        '"v"',
        "{}",
        '{"v":"1"}',
        '{"v":0}',
        '{"v":true}',
        '{"v":1.0}',
        "{",
        "[" * 100_000,
        "\ud800",
    ],
    ids=range(13),
)
def test_what_is_no_job_is_refused(wire: str) -> None:
    with pytest.raises(UnknownContract, match="not a dingqueue job"):
        from_wire(wire)


def test_what_a_payload_lacks_is_not_told_with_its_text() -> None:
    damaged = json.loads(to_wire(RELEASED["send-text"]))
    damaged["content"] = {"form": "text", "text": ["salary 123"]}

    with pytest.raises(UnknownContract) as caught:
        from_wire(json.dumps(damaged))
    assert "salary" not in str(caught.value)
    assert "malformed job contract 1" in str(caught.value)


#: Values of every JSON type, and some that are nearly right.
WRONG: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    float("nan"),
    float("inf"),
    "",
    "x",
    "\ud800",
    [],
    ["x"],
    [1],
    {},
    {"form": "?"},
]


def _paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*([at] if at else []), *(path for key, part in inner for path in _paths(part, (*at, key)))]


@pytest.mark.parametrize("name", RELEASED)
def test_a_damaged_payload_is_refused_or_is_a_job_all_the_same(name: str) -> None:
    wire = to_wire(RELEASED[name])
    for path in _paths(json.loads(wire)):
        for wrong in [*WRONG, ...]:
            damaged = json.loads(wire)
            place = damaged
            for key in path[:-1]:
                place = place[key]
            if wrong is ...:
                del place[path[-1]]
            else:
                place[path[-1]] = wrong
            _refused_or_a_job(json.dumps(damaged))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["kind", "content", "terms", "to", "id"]), inner)
        ),
    )
)
def test_any_json_is_refused_or_a_job(data: Any) -> None:
    _refused_or_a_job(json.dumps({"v": 1, "kind": "send", "rest": data} | (data if isinstance(data, dict) else {})))


def _refused_or_a_job(wire: str) -> None:
    """Whatever comes out can be written, and rendered or refused: nothing falls over later."""
    try:
        job = from_wire(wire)
    except UnknownContract:
        return
    assert from_wire(to_wire(job)) == job
    with contextlib.suppress(InvalidJob):
        render_webhook(job, check_names=False)
