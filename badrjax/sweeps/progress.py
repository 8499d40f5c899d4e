"""How far a sweep is: a bar on a terminal, lines of JSON, or nothing."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import IO, Any, Literal, Self


class Progress:
    """Counts finished trials and shows nothing.

    Rates are of the trials finished since the start; those that were stored already do not count.

    Args:
        total: trials of the sweep.
        already: trials among them that were finished before.
        clock: seconds on a clock that never goes back.

    Attributes:
        total: trials of the sweep.
        done: trials finished so far, those finished before among them.
    """

    def __init__(self, total: int, already: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self.total, self.done = total, already
        self._already, self._clock, self._start = already, clock, clock()

    def advance(self, trials: int, seconds_busy: float) -> None:
        """Say that trials are finished.

        Args:
            trials: how many.
            seconds_busy: time spent on them.
        """
        self.done += trials

    def note(self, text: str) -> None:
        """Say something that a user should know."""

    def close(self) -> None:
        """Stop showing; harmless the second time."""

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._start

    @property
    def trials_per_second(self) -> float | None:
        """Trials finished a second since the start; `None` before any is."""
        seconds, finished = self.seconds, self.done - self._already
        return finished / seconds if finished > 0 and seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Seconds until all are finished at this rate; `None` while it is not known."""
        left = max(self.total - self.done, 0)
        rate = self.trials_per_second
        if left == 0:
            return 0.0
        return left / rate if rate is not None else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class JsonProgress(Progress):
    """Writes one line of JSON an event: "block", "note" and, last, "end"."""

    def __init__(self, total: int, already: int, clock: Callable[[], float], stream: IO[str]) -> None:
        super().__init__(total, already, clock)
        self._stream, self._closed = stream, False

    def note(self, text: str) -> None:
        """Write a "note" with its text."""
        self._write({"event": "note", "text": text})

    def advance(self, trials: int, seconds_busy: float) -> None:
        """Write a "block" with the counts after it."""
        super().advance(trials, seconds_busy)
        self._write({"event": "block", **self._state(), "trials": trials, "seconds_busy": seconds_busy})

    def close(self) -> None:
        """Write an "end", once."""
        if not self._closed:
            self._closed = True
            self._write({"event": "end", **self._state(), "seconds": self.seconds})

    def _state(self) -> dict[str, Any]:
        return {
            "done": self.done,
            "total": self.total,
            "trials_per_second": self.trials_per_second,
            "seconds_left": self.seconds_left,
        }

    def _write(self, event: dict[str, Any]) -> None:
        # Flushed, for whoever reads a pipe wants each event when it happens.
        print(json.dumps(event, allow_nan=False), file=self._stream, flush=True)


class BarProgress(Progress):
    """A bar of rich: trials finished, trials a second, time left."""

    def __init__(self, total: int, already: int, clock: Callable[[], float], stream: IO[str]) -> None:
        from rich import progress
        from rich.console import Console

        super().__init__(total, already, clock)
        self._bar = progress.Progress(
            progress.BarColumn(),
            progress.TextColumn("{task.completed:.0f}/{task.total:.0f} trials"),
            progress.TextColumn("{task.fields[rate]}"),
            progress.TextColumn("{task.fields[left]}"),
            console=Console(file=stream),
            auto_refresh=False,  # drawn when a block is finished: no thread, and nothing to race with
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bar.add_task("", total=total, completed=already, **self._texts())
        self._bar.start()
        self._bar.refresh()

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(text, markup=False, highlight=False)

    def advance(self, trials: int, seconds_busy: float) -> None:
        """Draw the bar further on."""
        super().advance(trials, seconds_busy)
        self._bar.update(self._task, completed=self.done, **self._texts())
        self._bar.refresh()

    def close(self) -> None:
        """Leave the bar as it is; harmless the second time."""
        self._bar.stop()

    def _texts(self) -> dict[str, Any]:
        rate, left = self.trials_per_second, self.seconds_left
        return {
            "rate": "" if rate is None else f"{rate:.3g} trials/s",
            "left": "" if left is None else f"{duration(left)} left",
        }


def make_progress(
    mode: bool | Literal["json"],
    total: int,
    *,
    already: int = 0,
    clock: Callable[[], float] = time.monotonic,
) -> Progress:
    """What shows how far a sweep is.

    Args:
        mode: `True` for a bar on standard error where that is a terminal and rich is installed, and nothing
            elsewhere; `False` for nothing; "json" for a line an event on standard output.
        total: trials of the sweep.
        already: trials among them that were finished before.
        clock: seconds on a clock that never goes back.

    Returns:
        A `Progress`, to be closed at the end: it is a context manager.

    Raises:
        ValueError: for an unknown mode, or counts other than `0 <= already <= total`.
    """
    if mode not in (True, False, "json"):
        raise ValueError(f"progress must be True, False or 'json', got {mode!r}")
    if not 0 <= already <= total:
        raise ValueError(f"of {total} trials {already} cannot have been finished already")
    if mode == "json":
        return JsonProgress(total, already, clock, sys.stdout)
    if mode and _is_terminal(sys.stderr) and _has_rich():
        return BarProgress(total, already, clock, sys.stderr)
    return Progress(total, already, clock)


def duration(seconds: float) -> str:
    """Seconds as a person says them, such as "1 h 05 min"."""
    whole = max(round(seconds), 0)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {whole % 60:02d} s" if minutes else f"{whole} s"


def _is_terminal(stream: Any) -> bool:
    # Not rich's own answer, which an environment variable can turn.
    return stream is not None and not stream.closed and stream.isatty()


def _has_rich() -> bool:
    try:
        import rich.progress  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True
