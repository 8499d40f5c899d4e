"""The results of a sweep as a table: the best settings, and means over seeds with intervals."""

from __future__ import annotations

import numbers
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from badrjax.checks import unknown_name
from badrjax.extras import require
from badrjax.results import mean_interval

if TYPE_CHECKING:
    import pandas as pd

_SEED = "seed"
_SUMMARY = ("mean", "half_width", "num", "num_diverged")
_SHOWN_NAMES = 4


@dataclass(frozen=True, eq=False, repr=False)
class SweepResult:
    """What the trials of a sweep gave, one row each.

    Attributes:
        table: a pandas frame with the columns below, in the order of the trials. Take `frame()` to change it.
        settings: columns of settings, `seed` among them.
        metrics: columns of results, named by their path in what `run` returned, such as `validation.accuracy`;
            results that are arrays are objects of NumPy arrays.
    """

    table: pd.DataFrame
    settings: tuple[str, ...]
    metrics: tuple[str, ...]

    def __post_init__(self) -> None:
        both = sorted(set(self.settings) & set(self.metrics))
        if both:
            raise ValueError(f"{both[0]!r} is the name of a setting and of a result; rename one")
        if _SEED not in self.settings:
            raise ValueError(f"settings must contain {_SEED!r}, got {', '.join(self.settings) or 'none'}")
        missing = [name for name in (*self.settings, *self.metrics) if name not in self.table.columns]
        if missing:
            raise ValueError(f"the table has no column {missing[0]!r}; its columns are {_listed(self.table.columns)}")

    def __repr__(self) -> str:
        return (
            f"SweepResult({len(self.table)} trials; settings {_listed(self.settings)}; metrics {_listed(self.metrics)})"
        )

    def frame(self) -> pd.DataFrame:
        """A copy of the table, arrays included."""
        copied = self.table.copy()
        for name in self.metrics:
            if copied[name].dtype == object:
                copied[name] = copied[name].map(_copy)
        return copied

    def best(
        self,
        metric: str,
        *,
        split: str,
        by: str | Sequence[str] = (),
        maximise: bool = True,
        allow_test: bool = False,
    ) -> pd.DataFrame:
        """The settings with the best mean over seeds.

        A setting is a row of all settings but the seed. One with a diverged seed (NaN or infinite) never wins;
        of equals the first in the table does. Choosing on the test split would make its numbers too good, so
        that must be asked for.

        Args:
            metric: name of the result within the split, such as "accuracy".
            split: what to choose on, such as "validation"; the column is `{split}.{metric}`.
            by: settings for each combination of which one best row is wanted.
            maximise: `False` where less is better.
            allow_test: `True` to choose by a result that has the word "test" in its name all the same.

        Returns:
            A row for each combination of `by` (or one): all settings but the seed (those of `by` first), `mean` and
            `half_width` (Student's 95% interval; NaN for a single seed), `num` (seeds) and `num_diverged` (of the
            winner, so 0).

        Raises:
            ValueError: for an unknown metric, split or setting, a test split, a metric that is no number a trial
                or that some trials do not report, or a combination in which every setting has a diverged seed.
            ModuleNotFoundError: where pandas is not installed.

        Warns:
            UserWarning: where settings differ in their number of seeds, for a mean over few is the best by chance.
        """
        by = self._checked_by(by)
        if not isinstance(split, str) or not split:
            raise ValueError(f"split must name what to choose on, such as 'validation', got {split!r}")
        if _SEED in by:
            raise ValueError("by cannot contain 'seed': the best setting has the best mean over its seeds")
        if allow_test is not True and _names_test(f"{split}.{metric}"):
            raise ValueError(
                f"'{split}.{metric}' names a test split, and settings chosen by its results look better than they "
                "are; choose on a validation split and report the test split, or pass allow_test=True"
            )
        values = self._numbers(self._column_of(metric, split))
        others = tuple(name for name in self.settings if name != _SEED and name not in by)
        scores = [(rows, _score(values[rows], maximise)) for rows in self._groups(by + others)]
        counts = sorted({len(rows) for rows, _ in scores})
        if len(counts) > 1:
            warnings.warn(
                f"settings have from {counts[0]} to {counts[-1]} seeds, and a mean over few is easily the best by "
                "chance; run all with the same seeds",
                stacklevel=2,
            )
        return self._summary(by + others, self._winners(by, scores), values, 0.95)

    def summarise(
        self, metric: str, *, by: str | Sequence[str], split: str | None = None, ci: float = 0.95
    ) -> pd.DataFrame:
        """Means with intervals over groups of trials.

        All trials that agree in `by` make a group: name every setting that was varied, so that only seeds are
        pooled, for the interval takes the trials of a group as repetitions of one thing.

        Args:
            metric: name of the result within the split, or a whole column, such as "test.accuracy".
            by: settings that tell groups apart; none for one group of all trials.
            split: such as "test"; `None` where `metric` is a whole column.
            ci: confidence level in `(0, 1)`.

        Returns:
            A row for each group, in the order of the table: the settings of `by`, `mean` and `half_width` (Student's
            interval; NaN for a single value), `num` (trials) and `num_diverged` (those of them that are NaN or
            infinite, and are left out of the mean).

        Raises:
            ValueError: for an unknown metric, split or setting, a level outside `(0, 1)`, or a metric that is no
                number a trial or that some trials do not report.
            ModuleNotFoundError: where pandas is not installed.
        """
        by = self._checked_by(by)
        if isinstance(ci, bool) or not isinstance(ci, numbers.Real) or not 0 < ci < 1:
            raise ValueError(f"ci must be a level in (0, 1), such as 0.95, got {ci!r}")
        values = self._numbers(self._column_of(metric, split))
        return self._summary(by, self._groups(by), values, float(ci))

    def _checked_by(self, by: str | Sequence[str]) -> tuple[str, ...]:
        if not isinstance(by, str | Iterable):
            raise TypeError(f"by must be a name or a list of names of settings, got {by!r}; () is none")
        names = (by,) if isinstance(by, str) else tuple(by)
        for name in names:
            if name not in self.settings:
                raise unknown_name("setting in by", name, self.settings)
        return tuple(dict.fromkeys(names))

    def _column_of(self, metric: str, split: str | None) -> str:
        if split is None:
            if metric not in self.metrics:
                raise unknown_name("metric", metric, self.metrics)
            return metric
        within = [name[len(split) + 1 :] for name in self.metrics if name.startswith(f"{split}.")]
        if not within:
            raise self._unknown_split(split)
        if metric not in within:
            raise unknown_name(f"metric of split {split!r}", metric, within)
        return f"{split}.{metric}"

    def _unknown_split(self, split: str) -> ValueError:
        paths = [name.split(".")[:-1] for name in self.metrics]
        splits = {".".join(path[:depth]) for path in paths for depth in range(1, len(path) + 1)}
        if splits:
            return unknown_name("split", split, splits)
        return ValueError(
            f"no result is of a split {split!r}: the results are {_listed(self.metrics)}; let run return them by "
            "split, such as {'validation': {'accuracy': ...}}"
        )

    def _numbers(self, column: str) -> np.ndarray:
        """A column of results as `f64[trials]`."""
        series = self.table[column]
        if series.dtype == object and (missing := [value is None for value in series]).count(True):
            row = missing.index(True)
            raise ValueError(
                f"{missing.count(True)} of {len(missing)} trials report no {column!r} (the first in row {row}), which "
                "is not the same as to diverge; let every program return it, or take the other rows out of frame()"
            )
        shapes = {np.shape(value) for value in series} - {()} if series.dtype == object else set()
        if shapes:
            raise ValueError(
                f"{column!r} holds arrays of shape {sorted(shapes)[0]}, one a trial; let run return the numbers that "
                "matter under names of their own, or take them out of frame()"
            )
        if getattr(series.dtype, "kind", "") == "c":
            raise ValueError(f"{column!r} holds complex numbers, which have no order")
        try:
            return series.to_numpy(dtype=np.float64, na_value=np.nan)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{column!r} does not hold numbers ({error})") from error

    def _groups(self, columns: Sequence[str]) -> list[np.ndarray]:
        """Rows of the trials that agree in `columns`, in the order of their first."""
        if not columns or self.table.empty:
            return [np.arange(len(self.table))] if len(self.table) else []
        codes = self.table.groupby(list(columns), sort=False, dropna=False).ngroup().to_numpy()
        order = np.argsort(codes, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
        return sorted(groups, key=lambda rows: int(rows[0]))

    def _winners(self, by: tuple[str, ...], scores: list[tuple[np.ndarray, float]]) -> list[np.ndarray]:
        """Rows of the best setting of each combination of `by`."""
        of_row = np.empty(len(self.table), dtype=int)
        for combination, rows in enumerate(self._groups(by)):
            of_row[rows] = combination
        tallest: dict[int, tuple[np.ndarray, float]] = {}
        for rows, score in scores:
            combination = int(of_row[rows[0]])
            if combination not in tallest or score > tallest[combination][1]:
                tallest[combination] = (rows, score)
        lost = [rows for rows, score in tallest.values() if score == -np.inf]
        if lost or not tallest:
            raise ValueError(self._all_diverged(by, lost))
        return [tallest[combination][0] for combination in sorted(tallest)]

    def _all_diverged(self, by: tuple[str, ...], lost: list[np.ndarray]) -> str:
        if not lost:
            return "there are no trials to choose from"
        where = ""
        if by:
            which = [", ".join(f"{name}={self.table[name].iloc[rows[0]]!r}" for name in by) for rows in lost]
            where = f" with {'; with '.join(which)}"
        return (
            f"every setting{where} has a diverged seed, so none is best; summarise counts the diverged seeds, and "
            "smaller steps may help"
        )

    def _summary(
        self, columns: Sequence[str], groups: Sequence[np.ndarray], values: np.ndarray, ci: float
    ) -> pd.DataFrame:
        pandas = require("pandas", "a table of results")
        for name in columns:
            if name in _SUMMARY:
                raise ValueError(
                    f"the setting {name!r} has the name of a column of the summary; rename it in the table"
                )
        firsts = self.table.iloc[[rows[0] for rows in groups]]
        intervals = [mean_interval(values[rows], ci=ci) for rows in groups]
        summary: dict[str, Any] = {name: firsts[name].reset_index(drop=True) for name in columns}
        summary["mean"] = [interval.mean for interval in intervals]
        summary["half_width"] = [interval.half_width for interval in intervals]
        summary["num"] = [len(rows) for rows in groups]
        summary["num_diverged"] = [interval.num_diverged for interval in intervals]
        return pandas.DataFrame(summary)


def _score(values: np.ndarray, maximise: bool) -> float:
    """How good a setting is, the more the better; minus infinity with a diverged seed."""
    if not np.isfinite(values).all():
        return -np.inf
    mean = float(np.sort(values).mean())  # sorted, so that equals tie in whatever order their seeds are
    return mean if maximise else -mean


def _names_test(column: str) -> bool:
    """Whether "test" is a word of a result's name, wherever it stands."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", column)
    return any(word.casefold().startswith("test") for word in words)


def _copy(value: Any) -> Any:
    return value.copy() if isinstance(value, np.ndarray) else value


def _listed(names: Any) -> str:
    names = [str(name) for name in names]
    more = f", and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return ", ".join(names[:_SHOWN_NAMES]) + more if names else "none"
