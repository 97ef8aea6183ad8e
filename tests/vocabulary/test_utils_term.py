"""Pictures in the terminal."""

from __future__ import annotations

import io
import sys

import pytest

from pgtasks.utils import term


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "profile", "shows"),
    [(Terminal(), "x", True), (Terminal(), "", False), (io.StringIO(), "x", False)],
)
def test_are_shown_by_iterm_only(monkeypatch, stream, profile, shows):
    monkeypatch.setattr(sys, "stdin", stream)
    monkeypatch.setenv("ITERM_PROFILE", profile)

    assert term.supports_images() is shows


def test_are_not_shown_without_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)

    assert not term.supports_images()


def test_are_sent_as_an_escape_sequence_that_multiplexers_pass_on(monkeypatch, tmp_path):
    picture = tmp_path / "logo.png"
    picture.write_bytes(b"logo")
    command = "1337;File=inline=1;preserveAspectRatio=0:bG9nbw=="

    monkeypatch.setenv("TERM", "xterm")
    assert term.imgcat(str(picture)) == f"\n\033]{command}\a"
    monkeypatch.setenv("TERM", "screen-256color")
    assert term.imgcat(str(picture)) == f"\n\033Ptmux;\033\033]{command}\a\033\\"
