from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

from dingqueue_worker import cli
from dingqueue_worker.console import Commands, Exit, Instant, Seconds
from dingqueue_worker.located import located
from dingqueue_worker.tables import Row, picture, plain


def ran(body: Callable[[], Any], **options: Any) -> Any:
    @click.group(cls=Commands)
    def main() -> None: ...

    main.add_command(click.Command("go", callback=body))
    return CliRunner().invoke(main, ["go"], **options)


# What ends a command


def test_ctrl_c_ends_a_command_with_a_word_and_130() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    result = ran(interrupted)

    assert (result.exit_code, result.stderr) == (Exit.INTERRUPTED, "Error: interrupted\n")


def test_a_mistake_of_ours_shows_neither_a_traceback_nor_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    def stumbles() -> None:
        raise TypeError("the token SECPLANTED")

    result = ran(stumbles)

    assert result.exit_code == 1
    assert "a mistake in dingqueue itself: TypeError" in result.stderr
    assert "PLANTED" not in result.output
    assert "Traceback" not in result.output
    monkeypatch.setenv("DINGQUEUE_TRACEBACK", "1")
    assert isinstance(ran(stumbles).exception, TypeError)


def test_a_file_that_cannot_be_written_is_named() -> None:
    def writes() -> None:
        raise PermissionError(13, "Permission denied", "/etc/x")

    assert ran(writes).stderr == "Error: /etc/x: permission denied\n"


def test_a_question_that_nobody_can_answer_says_so() -> None:
    result = ran(lambda: click.confirm("Sure?", err=True))

    assert result.exit_code == Exit.USAGE
    assert "say --yes" in result.stderr


def test_a_terminal_that_knows_no_unicode_gets_question_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr("sys.stdout", shown)

    with pytest.raises(SystemExit):
        cli.main(["assign", "--help"], prog_name="dingqueue")

    shown.flush()
    assert b"--done 3f2a?" in shown.buffer.getvalue()


# The help


def test_every_command_stands_under_one_heading() -> None:
    context = click.Context(cli.main)
    placed = [name for names in cli._SECTIONS.values() for name in names]

    assert sorted(placed) == sorted(cli.main.list_commands(context))


def every_command() -> list[str]:
    found = []
    for name in cli.main.list_commands(click.Context(cli.main)):
        command = cli.main.get_command(click.Context(cli.main), name)
        found.append(name)
        if isinstance(command, click.Group):
            found += [f"{name} {below}" for below in command.commands]
    return found


@pytest.mark.parametrize("words", ["", *every_command()])
def test_help_is_whole_in_80_columns(words: str) -> None:
    result = CliRunner().invoke(cli.main, [*words.split(), "--help"], terminal_width=80)

    assert result.exit_code == 0
    assert "..." not in result.stdout.replace("[OPTIONS] COMMAND [ARGS]...", "")
    assert "``" not in result.stdout
    assert "\\b" not in result.stdout


# Kinds of values


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("1.5 h", 5400), ("30m", 1800), ("30min", 1800), ("2H", 7200), ("1d", 86_400), ("0", 0)],
)
def test_a_length_of_time_is_read(text: str, seconds: float) -> None:
    assert Seconds().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["soon", "", "-1", "1e999", "nan", "3 fortnights", "10ms"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="expected"):
        Seconds().convert(text, None, None)


def test_a_length_of_time_may_have_a_least() -> None:
    with pytest.raises(click.BadParameter, match="expected 1 s at least, found '0'"):
        Seconds(least=1).convert("0", None, None)


def test_an_instant_needs_its_offset_and_is_shown_with_one() -> None:
    assert Instant().convert("2026-12-01T09:00+08:00", None, None) == datetime(2026, 12, 1, 1, tzinfo=UTC)
    assert Instant().convert("2026-12-01 09:00:30+0800", None, None).utcoffset() == timedelta(hours=8)
    assert Instant().convert("2026-12-01T09:00Z", None, None) == datetime(2026, 12, 1, 9, tzinfo=UTC)
    with pytest.raises(click.BadParameter, match=r"by this machine's clock it is 2026-12-01T09:00[+-]\d\d:\d\d"):
        Instant().convert("2026-12-01T09:00", None, None)
    with pytest.raises(click.BadParameter, match="like 2026-12-01T09:00"):
        Instant().convert("tomorrow", None, None)


def test_a_wrong_address_is_named_after_where_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DINGQUEUE_STATE_URL", raising=False)
    monkeypatch.setenv("DINGQUEUE_BROKER_URL", "redis://127.0.0.1:abc/0")
    with pytest.raises(click.ClickException, match="DINGQUEUE_BROKER_URL: expected redis:"):
        located("redis://127.0.0.1:abc/0", None)
    with pytest.raises(click.ClickException, match="--broker-url: expected"):
        located("redis://:p/w@127.0.0.1/0", None)
    with pytest.raises(click.ClickException, match="--broker-url: expected redis://"):
        located("127.0.0.1:6379", None)
    with pytest.raises(click.ClickException, match="--state-url: expected redis://"):
        located("amqp://h", "amqp://h")
    monkeypatch.setenv("DINGQUEUE_STATE_URL", "redis://state")
    assert located("amqp://h", "redis://state").state_url == "redis://state"


# Tables


ROW = Row(cells=("ops", "1", ["robot.a 1/20", "robot.b 0/20"]), note=["rests until noon: moving [house]"])


def drawn(width: int) -> list[str]:
    page = Console(width=width, file=io.StringIO(), markup=False, color_system=None)
    with page.capture() as captured:
        page.print(picture(("LANE", "WAITING", "SENDERS", "STATE"), [ROW], width=width))
    return [line.rstrip() for line in captured.get().splitlines()]


def test_a_wide_terminal_gets_a_table() -> None:
    header, first, *_ = drawn(120)

    assert header.split() == ["LANE", "WAITING", "SENDERS", "STATE"]
    assert first.endswith("rests until noon: moving [house]")


def test_a_narrow_terminal_gets_all_of_it_in_lines() -> None:
    lines = drawn(40)

    assert lines[0] == "ops"
    assert max(map(len, lines)) <= 40
    said = " ".join(line.strip() for line in lines)
    assert "waiting 1" in said
    assert "rests until noon: moving [house]" in said


def test_in_a_pipe_it_is_the_same_table_and_no_line_is_folded() -> None:
    titles = ("LANE", "WAITING", "SENDERS", "STATE")
    rows = [
        ROW,
        Row(cells=("部署 👀", "12,345", "none"), note=["", "[bold]not a mark[/bold]", "x" * 300]),
        Row(cells=("a-much-longer-name", "-", []), note=[]),
    ]
    screen = Console(width=10_000, file=io.StringIO(), markup=False, emoji=False, highlight=False)
    with screen.capture() as page:
        screen.print(picture(titles, rows, numbers=frozenset({"WAITING"}), width=10_000))

    lines = list(plain(titles, rows, numbers=frozenset({"WAITING"})))

    assert lines == [line.rstrip() for line in page.get().splitlines()]
    assert list(plain(titles, [Row(cells=("a", "b\nc", "d\a"), note=["e"])]))[1].split() == ["a", "b", "c", "d", "e"]
