"""``file:PATH`` for a URL that holds a password."""

from __future__ import annotations

from pathlib import Path

import pytest

from dingqueue import Client
from dingqueue.environment import resolved


def test_a_text_is_itself_and_a_file_is_its_content(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text("redis://user:pw@host/0\n")

    assert resolved("redis://host/0") == "redis://host/0"
    assert resolved(f"file:{secret}") == "redis://user:pw@host/0"
    assert resolved(f"file://{secret}") == "redis://user:pw@host/0"


@pytest.mark.parametrize("content", [None, b"\xff\xfe\xff", b"secretword" * 10_000])
def test_a_file_that_cannot_be_read_is_named_and_not_quoted(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "url"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(ValueError, match=r"expected a .* found") as told:
        resolved(f"file:{file}")

    assert str(file) in str(told.value)
    assert "secretword" not in str(told.value)


def test_a_client_takes_its_url_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "url"
    file.write_text("http://not-redis\n")
    monkeypatch.setenv("DINGQUEUE_BROKER_URL", f"file:{file}")

    with pytest.raises(ValueError, match=r"DINGQUEUE_BROKER_URL: expected redis://, .* found a http:// URL"):
        Client()
