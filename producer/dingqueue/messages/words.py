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
    digest_title: str
    digest_heading: str
    digest_span: str
    digest_recovered: str
    digest_urgent: str
    digest_open: str
    digest_more: str
    digest_more_lines: str
    digest_not_rung: str


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
    digest_title="{count:,} messages: {first}",
    digest_heading="### {count:,} messages in one",
    digest_span="{first} to {last}",
    digest_recovered="recovered",
    digest_urgent="**urgent**",
    digest_open="open",
    digest_more="and {count:,} more",
    digest_more_lines="… {count:,} more lines, {messages:,} messages",
    digest_not_rung="{count:,} more people are not rung, for a message rings at most {most}: {people}",
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
    digest_title="{count:,} 条消息：{first}",
    digest_heading="### {count:,} 条消息合为一条",
    digest_span="{first} 至 {last}",
    digest_recovered="已恢复",
    digest_urgent="**紧急**",
    digest_open="打开",
    digest_more="等 {count:,} 项",
    digest_more_lines="……另有 {count:,} 行，共 {messages:,} 条消息",
    digest_not_rung="一条消息最多提醒 {most} 人，另有 {count:,} 人未提醒：{people}",
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
