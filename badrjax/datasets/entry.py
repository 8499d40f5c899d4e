"""What the registry knows of a dataset."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from badrjax.datasets.dataset import Dataset
from badrjax.datasets.files import DataFile
from badrjax.datasets.tables import Column, Features


class Attribute(NamedTuple):
    """A sensitive attribute, as a recipe hands it over.

    Attributes:
        values: its value in each row; rows without one are left out when the attribute makes the groups.
        columns: columns of the raw table that give it away, left out with `sensitive_features="drop"`.
    """

    values: Column
    columns: tuple[str, ...]


class Prepared(NamedTuple):
    """A dataset as its recipe leaves it, before groups are made.

    Attributes:
        features: what a model is given.
        label: the label, `bool[n]`, `int[n]` (classes from 0) or `f[n]` (targets of a regression).
        label_name: what the label is.
        positive: the value of the raw label that became 1; empty for a regression.
        attributes: sensitive attributes by name, one at least for each of the entry's.
        domains: where rows come from (state, year, published part), by name.
        scale: the variant's own scaling, `None` for raw numbers.
        feature_shape: shape of one row of `features.x`, where it is no plain list of numbers.
        notes: what was left out or changed, for a person to read.
    """

    features: Features
    label: Shaped[np.ndarray, "n"]
    label_name: str
    positive: str
    attributes: Mapping[str, Attribute]
    domains: Mapping[str, Column] = {}
    scale: Callable[[Dataset], Dataset] | None = None
    feature_shape: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


class Flaw(NamedTuple):
    """A known flaw of a paper's preprocessing.

    Attributes:
        what: the flaw, in a sentence.
        kept_by: variants that keep it.
        default: what the default does instead.
    """

    what: str
    kept_by: tuple[str, ...]
    default: str


class Facts(NamedTuple):
    """What a variant has on the published files with default options; the tests check it there.

    Attributes:
        rows: number of rows.
        features: number of features.
        base_rate: share of rows with `y = 1`, rounded to four digits; `None` for a regression.
    """

    rows: int
    features: int
    base_rate: float | None


@dataclasses.dataclass(frozen=True)
class Option:
    """An option of one dataset's own.

    Attributes:
        default: its value where none is given.
        help: one line on what it does.
        values: permitted values; empty where `check` decides.
        check: `check(value) -> value`, which raises for a bad one and may normalise a good one. It also takes
            the text of the command line.
    """

    default: Any
    help: str
    values: tuple[str, ...] = ()
    check: Callable[[Any], Any] | None = None


class OfficialSplit(NamedTuple):
    """A published split of a dataset's rows.

    Attributes:
        sensitive: the attributes it was balanced over.
        file: its index file.
    """

    sensitive: tuple[str, ...]
    file: DataFile


@dataclasses.dataclass(frozen=True)
class Entry:
    """A dataset that `load_dataset` knows.

    Attributes:
        name: what `load_dataset` takes.
        title: one line on what the rows are.
        prepare: `prepare(contents, *, variant, **options) -> Prepared`, `contents` the verified bytes by path,
            of one of the alternatives of `files`, or of `bundle` alone.
        variants: preprocessings on offer with a line on each, the default first.
        sensitive: attributes that can make the groups with a line on each, the default first.
        source: where the data come from.
        licence: their terms.
        citation: how to cite them.
        files: the official files, as they lie below a data directory. Where the same data come in several
            forms, each form is an alternative, the preferred first.
        bundle: the copy that comes with the package, below its `bundled` directory.
        options: further options.
        files_of: `files_of(options) -> files`, where the files depend on the options.
        official_splits: published splits of the rows, by name.
        default_sensitive: attributes that make the groups where none is asked for, by variant; the first of
            `sensitive` where a variant is not listed.
        positive: what `y = 1` means, and whether it is good for the person.
        flaws: known flaws of the papers' preprocessings.
        facts: rows, features and base rate by variant.
        obtain: steps by which a person gets files that cannot be downloaded.
    """

    name: str
    title: str
    prepare: Callable[..., Prepared]
    variants: Mapping[str, str]
    sensitive: Mapping[str, str]
    source: str
    licence: str
    citation: str
    files: tuple[tuple[DataFile, ...], ...]
    bundle: DataFile | None = None
    options: Mapping[str, Option] = dataclasses.field(default_factory=dict)
    files_of: Callable[[Mapping[str, Any]], tuple[tuple[DataFile, ...], ...]] | None = None
    official_splits: Mapping[str, OfficialSplit] = dataclasses.field(default_factory=dict)
    default_sensitive: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    positive: str = ""
    flaws: tuple[Flaw, ...] = ()
    facts: Mapping[str, Facts] = dataclasses.field(default_factory=dict)
    obtain: str = ""

    @property
    def bundled(self) -> bool:
        """Whether a copy comes with the package."""
        return self.bundle is not None

    @property
    def default_variant(self) -> str:
        """The variant that is loaded where none is asked for."""
        return next(iter(self.variants))

    def alternatives(self, options: Mapping[str, Any]) -> tuple[tuple[DataFile, ...], ...]:
        """The official files for these options, form by form."""
        return self.files if self.files_of is None else self.files_of(options)
