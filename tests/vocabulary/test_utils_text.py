"""Text: shortened, indented, filled in, and made of anything."""

from __future__ import annotations

import pytest

from pgtasks.utils import text


@pytest.mark.parametrize(
    ("value", "maxlen", "shown"),
    [("abcdef", 10, "abcdef"), ("abc def ghi", 6, "abc..."), ("abcdefghi", 3, "abc...")],
)
def test_a_text_is_cut_at_a_space_if_there_is_one(value, maxlen, shown):
    assert text.truncate(value, maxlen) == shown


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [((None, 3), "???"), (("abcdefghi", 6), "abc..."), (("abcdefghi", 6, None), "abcdef")],
)
def test_an_abbreviation_has_room_for_its_ellipsis(arguments, shown):
    assert text.abbr(*arguments) == shown


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (None, "???"),
        ("feeds.tasks.refresh", "feeds.tasks.refresh"),
        ("a.very.long.way.to.feeds.tasks.refresh", "a.very.lon[.]refresh"),
    ],
)
def test_a_task_name_is_shortened_from_the_left(name, shown):
    assert text.abbrtask(name, 20) == shown


@pytest.mark.parametrize(
    ("task", "chain", "shown"),
    [
        ("x.add", "x.add(1) | x.mul(2) | x.div(3)", "x.add(1) | mul(2) | div(3)"),
        ("app.add", "app.add(1) | webapp.mul(2)", "app.add(1) | webapp.mul(2)"),
        ("app.add", "app.add(1) | my-app.mul(2)", "app.add(1) | my-app.mul(2)"),
        ("app.add", "app.add(1) | sub.app.mul(2)", "app.add(1) | sub.app.mul(2)"),
        ("add", "add(1.5) | x.mul(2.5)", "add(1.5) | x.mul(2.5)"),
    ],
)
def test_a_module_is_named_once(task, chain, shown):
    assert text.remove_repeating_from_task(task, chain) == shown


@pytest.mark.parametrize(
    ("template", "filled"),
    [("%n", "w1"), ("%n@%h", "w1@box"), ("100%%", "100%"), ("%%n", "%n"), ("%%%n", "%w1")],
)
def test_a_template_is_filled_in_once(template, filled):
    assert text.simple_format(template, {"n": "w1", "h": lambda: "box"}) == filled


def test_a_template_with_an_unknown_key_is_answered_with_the_known():
    with pytest.raises(ValueError, match=r"Unknown format %x in string '%x'.*%h, %n"):
        text.simple_format("%x", {"n": "w1", "h": "box"})


def test_filling_in_leaves_the_keys_alone():
    keys = {"n": "w1"}
    text.simple_format("%n", keys)

    assert keys == {"n": "w1"}


def test_paragraphs():
    assert text.indent("a\nb", 2) == "  a\n  b"
    assert text.dedent("    a\n  b\n        c") == "a\n  b\n    c"
    assert text.join(["a", "", "b"]) == "a\nb"
    assert text.fill_paragraphs("one two\nten", 4) == "one\ntwo\nten"
    assert text.ensure_newlines("a\nb") == "a\nb\n"
    assert text.str_to_list("a,b") == ["a", "b"]
    assert text.str_to_list(["a"]) == ["a"]
    assert text.pluralize(1, "task") == "task"
    assert text.pluralize(0, "task") == "tasks"
    assert text.match_case("a", "B") == "A"


def test_values_for_the_terminal():
    assert text.pretty([1]) == "[1]"
    assert text.pretty(("a",)) == "\n    ('a',)"
    assert text.pretty({"a": 1}) == "\n 'a': 1}"


class TestAnythingAsText:
    def test_bytes_are_decoded_and_what_is_no_utf8_replaced(self):
        assert text.safe_str(b"caf\xc3\xa9") == "café"
        assert text.safe_str(b"caf\xe9") == "caf\ufffd"

    def test_objects_are_shown_and_texts_handed_back(self):
        assert text.safe_str({"a": 1}) == "{'a': 1}"
        assert text.safe_str("é") == "é"

    def test_an_object_that_cannot_be_shown_is_described(self):
        class Shy:
            def __repr__(self):
                raise KeyError("no")

        assert text.safe_repr(Shy()).startswith("<Unrepresentable")
        assert "KeyError('no')" in text.safe_str(Shy())

    def test_a_buffer_takes_text_and_bytes(self):
        buffer = text.WhateverIO(b"a")
        buffer.seek(0, 2)
        buffer.write("b")
        buffer.write(b"c")

        assert buffer.getvalue() == "abc"
