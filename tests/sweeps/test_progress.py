"""Progress: rates by an injected clock, lines of JSON, a bar on terminals only, no threads."""

import io
import json
import sys
import threading

import pytest

from badrjax.sweeps.progress import BarProgress, Progress, duration, make_progress


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock():
    return Clock()


def terminal_as_stderr(monkeypatch):
    """Called in a test's body: pytest takes standard error back after the fixtures."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("TTY_COMPATIBLE", raising=False)
    return screen


def test_rates_do_not_count_what_was_stored_already(clock):
    shown = make_progress(False, 100, already=40, clock=clock)
    assert (shown.done, shown.trials_per_second, shown.seconds_left) == (40, None, None)
    clock.now += 5
    shown.advance(20, 4.0)
    assert (shown.done, shown.trials_per_second, shown.seconds_left) == (60, 4.0, 10.0)
    clock.now += 5
    shown.advance(40, 4.0)
    assert (shown.done, shown.trials_per_second, shown.seconds_left) == (100, 6.0, 0.0)


def test_nothing_left_takes_no_time(clock):
    assert make_progress(False, 7, already=7, clock=clock).seconds_left == 0.0


def test_a_clock_that_stands_still_gives_no_rate(clock):
    shown = make_progress(False, 10, clock=clock)
    shown.advance(2, 0.0)
    assert shown.trials_per_second is None
    assert shown.seconds_left is None


def test_json_writes_a_line_an_event(clock, capsys):
    with make_progress("json", 10, already=2, clock=clock) as shown:
        shown.advance(1, 0.0)
        clock.now += 2
        shown.advance(3, 1.5)
        shown.note("half\nas wide")
    captured = capsys.readouterr()
    events = [json.loads(line) for line in captured.out.splitlines()]
    assert events == [
        {
            "event": "block", "done": 3, "total": 10, "trials_per_second": None, "seconds_left": None, "trials": 1,
            "seconds_busy": 0.0,
        },
        {
            "event": "block", "done": 6, "total": 10, "trials_per_second": 2.0, "seconds_left": 2.0, "trials": 3,
            "seconds_busy": 1.5,
        },
        {"event": "note", "text": "half\nas wide"},
        {"event": "end", "done": 6, "total": 10, "trials_per_second": 2.0, "seconds_left": 2.0, "seconds": 2.0},
    ]  # fmt: skip
    assert captured.err == ""


def test_closing_twice_says_so_once_and_after_an_error_too(clock, capsys):
    with pytest.raises(KeyboardInterrupt), make_progress("json", 10, clock=clock) as shown:
        raise KeyboardInterrupt
    shown.close()
    assert [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()] == ["end"]


@pytest.mark.parametrize("mode", [True, False])
def test_nothing_is_written_where_no_terminal_is(mode, clock, capsys):
    with make_progress(mode, 10, clock=clock) as shown:
        shown.advance(4, 1.0)
        shown.note("a note")
    assert capsys.readouterr() == ("", "")
    assert type(shown) is Progress


def test_a_terminal_gets_a_bar_and_no_thread(clock, monkeypatch, capsys):
    terminal = terminal_as_stderr(monkeypatch)
    before = set(threading.enumerate())
    with make_progress(True, 20, already=4, clock=clock) as shown:
        assert isinstance(shown, BarProgress)
        clock.now += 2
        shown.advance(8, 2.0)
        assert "12/20 trials" in terminal.getvalue()
        assert "4 trials/s" in terminal.getvalue()
        assert "2 s left" in terminal.getvalue()
        shown.note("width [8] now")
        assert set(threading.enumerate()) == before
    assert "width [8] now" in terminal.getvalue()
    assert "\x1b[?25h" in terminal.getvalue().rpartition("\x1b[?25l")[2]  # the cursor, once hidden, is back
    assert capsys.readouterr().out == ""


def test_a_forced_colour_does_not_make_a_terminal(clock, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    make_progress(True, 3, clock=clock).advance(1, 1.0)
    assert capsys.readouterr() == ("", "")


def test_without_rich_a_terminal_stays_quiet(clock, monkeypatch):
    terminal = terminal_as_stderr(monkeypatch)
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    with make_progress(True, 3, clock=clock) as shown:
        shown.advance(1, 1.0)
    assert terminal.getvalue() == ""


def test_no_standard_error_at_all_is_quiet(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    shown = make_progress(True, 3, clock=clock)
    shown.advance(1, 1.0)
    assert (type(shown), shown.done) == (Progress, 1)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [(("yes", 3), {}, "'json'"), ((True, -1), {}, "-1 trials"), ((True, 3), {"already": 4}, "already")],
)
def test_bad_arguments(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        make_progress(*arguments, **options)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3599.6, "1 h 00 min"), (3900, "1 h 05 min")],
)
def test_durations_are_said_by_their_two_largest_units(seconds, text):
    assert duration(seconds) == text
