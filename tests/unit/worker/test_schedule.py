"""What beat asks for about files."""

from __future__ import annotations

from pathlib import Path

import pytest

from dingqueue_worker.app import create_app
from dingqueue_worker.settings import Settings


@pytest.mark.parametrize(("folder", "said"), [("files", "1 days dropped"), ("not-mounted", "make it, or mount it")])
def test_beat_drops_the_days_that_have_passed(tmp_path: Path, folder: str, said: str) -> None:
    (tmp_path / "files" / "20200101").mkdir(parents=True)
    (tmp_path / "files" / "29990101").mkdir()
    app = create_app(
        Settings(
            broker_url="redis://127.0.0.1:1/0",
            state_url="redis://127.0.0.1:1/0",
            files_url=f"file://{tmp_path}/{folder}",
        )
    )

    assert said in app.tasks["dingqueue.prune_files"]()

    assert app.conf.beat_schedule["prune files"]["task"] == "dingqueue.prune_files"
    left = {entry.name for entry in (tmp_path / "files").iterdir()}
    assert left == ({"29990101"} if folder == "files" else {"20200101", "29990101"})
