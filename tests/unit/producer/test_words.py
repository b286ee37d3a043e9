"""The few words that we write ourselves, in the reader's language."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from dingqueue.messages.words import CHINESE, ENGLISH, about_file, readable, words_for


def test_chinese_beside_chinese_else_english() -> None:
    assert words_for("Review 合同") is CHINESE
    assert words_for("Review") is ENGLISH
    assert words_for("") is ENGLISH


@pytest.mark.parametrize(
    ("instant", "english", "chinese"),
    [
        (
            datetime(2026, 12, 1, 9, 5, 59, tzinfo=timezone(timedelta(hours=8))),
            "2026-12-01 (Tue) 09:05 UTC+08:00",
            "2026-12-01（周二）09:05（UTC+08:00）",
        ),
        (datetime(2026, 11, 29, tzinfo=UTC), "2026-11-29 (Sun) 00:00 UTC", "2026-11-29（周日）00:00（UTC）"),
        (
            datetime(2026, 1, 5, 23, tzinfo=timezone(-timedelta(hours=3, minutes=30))),
            "2026-01-05 (Mon) 23:00 UTC-03:30",
            "2026-01-05（周一）23:00（UTC-03:30）",
        ),
    ],
)
def test_an_instant_is_readable_in_its_own_offset(instant: datetime, english: str, chinese: str) -> None:
    assert readable(instant, ENGLISH) == english
    assert readable(instant, CHINESE) == chinese


@pytest.mark.parametrize(
    ("name", "url", "line"),
    [
        ("report.pdf", "https://example.com/x", "PDF file on example.com"),
        ("报表.xlsx", "https://example.com/x", "XLSX 文件，位于 example.com"),
        ("report", "https://user:pw@example.com:8443/x", "File on example.com"),
        ("说明", "https://example.com", "文件，位于 example.com"),
        ("example.com", "https://example.com", "File on example.com"),
        (".env", "https://example.com", "File on example.com"),
    ],
)
def test_a_line_about_a_file(name: str, url: str, line: str) -> None:
    assert about_file(name, url) == line
