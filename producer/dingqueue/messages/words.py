"""The words that we write ourselves, in the language of what they stand beside: Chinese or English."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from dingqueue.messages.markdown import has_han


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """One language. Templates take keyword fields."""

    task: str
    to: str
    due: str
    link: str
    open: str
    everyone: str
    weekdays: tuple[str, ...]
    when: str
    left_out: str
    file: str
    typed_file: str


ENGLISH = Words(
    task="Task: {subject}",
    to="**To**: {people}",
    due="**Due**: {when}",
    link="**Link**: [Open]({url})",
    open="Open",
    everyone="everyone",
    weekdays=("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"),
    when="{date} ({weekday}) {time} {zone}",
    left_out="… ({count:,} characters left out)",
    file="File on {host}",
    typed_file="{type} file on {host}",
)
CHINESE = Words(
    task="任务：{subject}",
    to="**负责人**：{people}",
    due="**截止**：{when}",
    link="**链接**：[打开]({url})",
    open="打开",
    everyone="所有人",
    weekdays=("周一", "周二", "周三", "周四", "周五", "周六", "周日"),
    when="{date}（{weekday}）{time}（{zone}）",
    left_out="……（略去 {count:,} 字）",
    file="文件，位于 {host}",
    typed_file="{type} 文件，位于 {host}",
)


def words_for(text: str) -> Words:
    """Chinese beside Chinese characters, else English."""
    return CHINESE if has_han(text) else ENGLISH


def readable(instant: datetime, words: Words) -> str:
    """An aware instant for people, in the offset it was written in: ``2026-12-01 (Tue) 09:00 UTC+08:00``."""
    date, _, clock = instant.isoformat(timespec="minutes").partition("T")
    time, offset = clock[:5], clock[5:]
    zone = "UTC" if offset == "+00:00" else f"UTC{offset}"
    return words.when.format(date=date, weekday=words.weekdays[instant.weekday()], time=time, zone=zone)


def about_file(name: str, url: str) -> str:
    """A line that says what a file is and where: ``PDF file on example.com``."""
    words = words_for(name)
    host = urlsplit(url).hostname or ""
    suffix = PurePosixPath(name).suffix.lstrip(".")
    if suffix and name != host:  # the end of a host's name says nothing about the file
        return words.typed_file.format(type=suffix.upper(), host=host)
    return words.file.format(host=host)
