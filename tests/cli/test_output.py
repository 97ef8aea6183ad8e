from __future__ import annotations

import json

import pytest

from pgtasks.cli.output import Output, clean


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ü 漢字", "plain ü 漢字"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("two\nlines\r", r"two\nlines\r"),
        ("\x9b2J", r"\x9b2J"),
        ("invoice\u202egnp.exe", r"invoice\u202egnp.exe"),
        ("lone \udc80", r"lone \udc80"),
        ("nul \x00", r"nul \x00"),
    ],
)
def test_what_would_harm_a_terminal_is_shown_escaped(text, shown):
    assert clean(text) == shown


def test_lines_may_be_kept():
    assert clean("a\tb\n\x1b[0m", lines=True) == "a\tb\n\\x1b[0m"


def test_a_table_without_a_terminal_is_columns_of_text(capsys):
    Output().table(("queue", "jobs"), [("mail", 3), ("a\nb", 40)])

    assert capsys.readouterr().out == "QUEUE  JOBS\nmail   3\na\\nb   40\n"


def test_a_table_on_a_terminal_takes_no_markup_from_its_cells(capsys, monkeypatch):
    monkeypatch.setattr(Output, "terminal", True)
    Output(color=False).table(("queue",), [("[red]mail[/red]",)])

    assert "[red]mail[/red]" in capsys.readouterr().out


def test_replies_are_shown_like_celerys(capsys):
    out = Output(color=False)
    out.reply("celery@one", {"ok": "pong"})
    out.reply("celery@two", {"error": "no \x1b such"})
    out.reply("celery@three", ["tasks.add", "tasks.\x1b"])
    out.reply("celery@four", [])
    out.reply("celery@five", {"pid": 5})

    assert capsys.readouterr().out.splitlines() == [
        "->  celery@one: OK",
        "        pong",
        "->  celery@two: ERROR",
        r"        no \x1b such",
        "->  celery@three: OK",
        "    * tasks.add",
        r"    * tasks.\x1b",
        "->  celery@four: OK",
        "    - empty -",
        "->  celery@five: OK",
        "    {",
        '        "pid": 5',
        "    }",
    ]


def test_json_is_safe_in_a_terminal(capsys):
    Output().json({"name": "\x1b[31m"})
    printed = capsys.readouterr().out

    assert "\x1b" not in printed
    assert json.loads(printed) == {"name": "\x1b[31m"}


def test_notes_are_kept_back_when_quiet(capsys):
    Output(quiet=True).note("by the way")
    Output().note("by the way")

    assert capsys.readouterr() == ("", "by the way\n")
