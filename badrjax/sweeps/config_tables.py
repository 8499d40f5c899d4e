"""Tables of a TOML file whose mistakes are named by file and key."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import jax
import numpy as np

from badrjax.checks import unknown_name
from badrjax.sweeps import designs
from badrjax.sweeps.training_runs import Setting, is_number, widths_as_text

Values = list[Any] | designs.Range

_KINDS = {
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    str: "text",
    tuple: "a list of widths such as [128, 64]",
    dict: "a table",
}
_RANGE_HINT = 'a range needs a design that draws, such as design = {kind = "sobol", num = 32, seed = 0} in [sweep]'


class ConfigError(ValueError):
    """A file that describes no sweep; the message names the file and the key."""


class Table:
    """A table of the file, which knows what it is called.

    Args:
        file: as it was named.
        name: of the table, with dots; empty for the whole file.
        content: of the table.
        draws: whether settings are drawn, so that they may be ranges.

    Raises:
        ConfigError: for a content that is no table.
    """

    def __init__(self, file: str, name: str, content: Any, draws: bool = False) -> None:
        self.file, self.name, self.content, self.draws = file, name, content, draws
        if not isinstance(content, dict):
            raise self.error("", f"must be a table, got {content!r}")

    def error(self, key: str, problem: object) -> ConfigError:
        """What is wrong with a key, or with the table where the key is empty."""
        return ConfigError(f"{self.file}: {'.'.join(filter(None, (self.name, key)))}: {problem}")

    def check_keys(self, known: Collection[str], needed: Collection[str] = (), what: str = "key") -> None:
        """Refuse unknown keys and miss needed ones."""
        for key in self.content:
            if key not in known:
                raise self.error(key, unknown_name(what, key, known))
        for key in needed:
            if key not in self.content:
                raise self.error(key, f"this {what} is missing")

    def table(self, key: str) -> Table:
        """A table within; an empty one where there is none."""
        name = ".".join(filter(None, (self.name, key)))
        return Table(self.file, name, self.content.get(key, {}), self.draws)

    def single(self, key: str, kind: type, default: Any = None) -> Any:
        """One value of a kind; the default where there is none, which must be there without a default."""
        if key not in self.content:
            if default is None:
                raise self.error(key, "this key is missing")
            return default
        value = self.content[key]
        if isinstance(value, list):
            raise self.error(key, f"one value is needed here, got a list {value!r}")
        return self._of_kind(key, value, kind)

    def name_of(self, key: str, known: Collection[str], default: str | None = None, what: str = "") -> str:
        """One of some names."""
        name = self.single(key, str, default)
        if name not in known:
            raise self.error(key, unknown_name(what or key, name, known))
        return name

    def whole(self, key: str, least: int, default: int | None = None) -> int:
        """A whole number that is not too small."""
        value = self.single(key, int, default)
        if value < least:
            raise self.error(key, f"must be at least {least}, got {value}")
        return value

    def values(self, key: str, setting: Setting) -> Values:
        """The values of a setting, or the range to draw them from."""
        given = self.content[key]
        if isinstance(given, dict):
            return _range(self.table(key), setting)
        several = isinstance(given, list) and (setting.kind is not tuple or isinstance((given or [0])[0], list))
        values = [self.value(key, value, setting) for value in (given if several else [given])]
        if not values:
            raise self.error(key, "the list is empty")
        if len(set(map(_as_run, values))) < len(values):
            raise self.error(key, f"a value is listed twice in {given!r}, in the precision of the run")
        return values

    def value(self, key: str, value: Any, setting: Setting) -> Any:
        """A value of a setting, checked."""
        value = self._of_kind(key, value, setting.kind)
        if setting.choices and value not in setting.choices:
            raise self.error(key, unknown_name("value", value, setting.choices))
        if setting.fits is not None and not setting.fits(value):
            raise self.error(key, f"must be {setting.allowed}, got {value!r}")
        rounded = _as_run(value)
        if not (setting.fits is None or setting.fits(rounded)) or (setting.kind is float and math.isinf(rounded)):
            dtype = jax.dtypes.canonicalize_dtype(np.float64)
            raise self.error(key, f"must be {setting.allowed or 'finite'}, and {value!r} is {rounded!r} in {dtype}")
        return widths_as_text(value) if setting.kind is tuple else value

    def _of_kind(self, key: str, value: Any, kind: type) -> Any:
        if kind is float and is_number(value):
            return float(value)
        widths = kind is tuple and isinstance(value, list) and all(type(width) is int for width in value)
        # Not `isinstance`, to which true is a whole number.
        if widths or (kind is not float and type(value) is kind):
            return value
        raise self.error(key, f"must be {_KINDS[kind]}, got {value!r}")


def _as_run(value: Any) -> Any:
    """A value in the precision of the run."""
    if not isinstance(value, float):
        return tuple(value) if isinstance(value, list) else value
    with np.errstate(over="ignore"):
        return float(np.asarray(value, jax.dtypes.canonicalize_dtype(np.float64)))


def _range(table: Table, setting: Setting) -> designs.Range:
    if setting.kind not in (float, int):
        raise table.error("", f"a range is for numbers, and this must be {_KINDS[setting.kind]}; give a list")
    table.check_keys(("low", "high", "scale"), ("low", "high"))
    if not table.draws:
        raise table.error("", f"{_RANGE_HINT}; or give a list of values")
    for key in ("low", "high"):
        if isinstance(table.content[key], list | dict):
            raise table.error(key, f"one value is needed here, got {table.content[key]!r}")
    low, high = (table.value(key, table.content[key], setting) for key in ("low", "high"))
    scale = table.name_of("scale", ("linear", "log"), "linear")
    if scale == "log" and setting.kind is int:
        raise table.error("scale", "whole numbers are drawn linearly; give a list such as [8, 32, 128]")
    # Before the order, for a range of logarithms that reaches 0 most often begins there.
    if scale == "log" and low <= 0:
        raise table.error("low", f"a log scale needs low above 0, got {low}; take a small number, or scale = 'linear'")
    if not _as_run(low) < _as_run(high):
        raise table.error("", f"needs low < high, got low = {low} and high = {high}")
    if setting.kind is int:
        try:
            return designs.integers(low, high + 1)
        except ValueError as error:
            raise table.error("", error) from error
    return designs.log_uniform(low, high) if scale == "log" else designs.uniform(low, high)
