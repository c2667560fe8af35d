"""The bar: drawn on standard error in a terminal only, with words that may change on the way."""

import pytest

from vitrine.progress import bar


@pytest.mark.parametrize(("terminal", "drawn"), [("1", True), ("0", False)])
def test_the_bar_is_drawn_in_a_terminal_only_and_hands_everything_on(monkeypatch, capsys, terminal, drawn):
    monkeypatch.setenv("FORCE_COLOR", "1") if drawn else monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setenv("TTY_COMPATIBLE", terminal)
    assert list(bar(iter("abc"), "counting", 3)) == ["a", "b", "c"]
    out, err = capsys.readouterr()
    assert out == ""
    assert ("counting" in err) is drawn


def test_words_from_a_function_are_drawn_anew(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "120")
    dead = []
    list(map(dead.append, bar(range(3), lambda: f"fetching, {len(dead)} dead")))
    assert "fetching, 3 dead" in capsys.readouterr().err


def test_words_with_brackets_are_no_markup(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    list(bar(range(2), "[shop] reading"))
    assert "[shop] reading" in capsys.readouterr().err
