"""What the commands print: columns that fit, no colour where none is wanted, nothing that steers the terminal."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import click
import pytest
from click.testing import CliRunner

from agents.__main__ import COMMANDS, SECTIONS, main
from agents.tail_command import Event, events_in, lines_in
from agents.terminal import Column, age, cells, cut, plain_json, printable, table

COLUMNS = (Column("id"), Column("severity"), Column("title", yields=True), Column("n", right=True))
ROWS = [["1234abcd", "critical", "the provider refuses four of ten requests", "4"], ["2", "info", "長い題名", "12"]]


def test_columns_line_up_whatever_the_letters() -> None:
    lines = [click.unstyle(line) for line in table(COLUMNS, ROWS)]
    assert [cells(line) for line in lines] == [cells(lines[0])] * 3
    assert lines[1] == "1234abcd  critical  the provider refuses four of ten requests   4"


@pytest.mark.parametrize("width", [50, 60, 200])
def test_a_narrow_terminal_cuts_what_may_give_way(width: int) -> None:
    lines = [click.unstyle(line) for line in table(COLUMNS, ROWS, width)]
    assert max(map(cells, lines)) <= width
    assert all(line.startswith(row[0]) for line, row in zip(lines[1:], ROWS, strict=True))


def test_words_carry_their_colour_and_what_senders_wrote_carries_none() -> None:
    [_, line] = table(COLUMNS, [["1", "critical", "\x1b[2J\nred \u202e", "1"]])
    assert click.style("critical", fg="red", bold=True) in line
    assert "\\x1b[2J\\nred \\u202e" in line
    assert printable("\ud800") == "?"


@pytest.mark.parametrize(
    ("text", "width", "shown"), [("short", 5, "short"), ("longer", 5, "long…"), ("題名題", 5, "題名…"), ("x", 0, "")]
)
def test_what_is_cut_says_so(text: str, width: int, shown: str) -> None:
    assert cut(text, width) == shown


@pytest.mark.parametrize(("seconds", "said"), [(5, "5s"), (65, "1m"), (3_700, "1h 1m"), (90_000, "1d 1h"), (-5, "0s")])
def test_ages_have_two_units(seconds: int, said: str) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    assert age(start.isoformat(), (start + timedelta(seconds=seconds)).isoformat()) == said


def test_events_are_read_as_browsers_read_them() -> None:
    lines = [
        "retry: 2000",
        "",
        "event: changed",
        "id: 5",
        "data: [1,",
        "data: 2]",
        "",
        ": still here",
        "",
        "data:x",
        "",
    ]
    assert list(events_in(lines)) == [Event("changed", "[1,\n2]", "5"), Event("message", "x", "")]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_only_line_feeds_end_the_lines_of_events(size: int) -> None:
    """Others are part of what senders wrote: none of them begins a field."""
    title = "a\u2028event: reset\x85data: x\x0b\x0c\x1c\u2029"
    text = f"event: changed\r\ndata: {title}\r\n\r\n"
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    assert list(events_in(lines_in(pieces))) == [Event("changed", title, "")]


def test_json_for_other_programs_is_ascii() -> None:
    assert plain_json('{"a":"é\u009b\u202e"}'.encode()) == '{\n  "a": "\\u00e9\\u009b\\u202e"\n}'


def test_help_names_every_command_and_loads_none_of_them() -> None:
    shown = CliRunner().invoke(main, ["--help"]).output
    assert all(f"  {name} " in shown for name in main.list_commands(click.Context(main)))
    assert {name for names in SECTIONS.values() for name in names} <= set(main.list_commands(click.Context(main)))
    heavy = ["asyncio", "asyncpg", "httpx", "msgspec", "yaml", "rich", "aiokafka", "litestar"]
    code = f"import sys, agents.__main__; print(*[name for name in {heavy!r} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.split() == []


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_where_the_table_says(name: str) -> None:
    answer = CliRunner().invoke(main, [name, "--help"])
    assert answer.exit_code == 0, answer.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_how_to_complete(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "_INCIDENTS_COMPLETE" in CliRunner().invoke(main, ["completion", shell]).output
    asked = {"_INCIDENTS_COMPLETE": "zsh_complete", "COMP_WORDS": "incidents sho", "COMP_CWORD": "1"}
    monkeypatch.setattr(sys, "argv", ["incidents"])
    answer = CliRunner().invoke(main, [], prog_name="incidents", env=asked)
    assert answer.output.splitlines()[:2] == ["plain", "show"]
