"""What the registry knows of a dataset."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from badrjax.datasets.dataset import Dataset
from badrjax.datasets.files import DataFile


@dataclasses.dataclass(frozen=True)
class Entry:
    """A dataset that `load_dataset` knows.

    Attributes:
        name: what `load_dataset` takes.
        title: one line on what the rows are.
        load: `load(contents, *, sensitive, variant, **options) -> Dataset`, `contents` the verified bytes by
            path, either of all of `files` or of `bundle` alone.
        sensitive: attributes that can make the groups, the default first.
        variants: preprocessings on offer, the default first.
        source: where the data come from.
        licence: their terms.
        citation: how to cite them.
        files: the official files, as they lie below a data directory.
        bundle: the copy that comes with the package, below its `bundled` directory.
        options: permitted values of each further option of `load`, the default first.
        official_splits: published split of the rows, by sensitive attributes.
    """

    name: str
    title: str
    load: Callable[..., Dataset]
    sensitive: tuple[str, ...]
    variants: tuple[str, ...]
    source: str
    licence: str
    citation: str
    files: tuple[DataFile, ...]
    bundle: DataFile | None = None
    options: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    official_splits: Mapping[tuple[str, ...], DataFile] = dataclasses.field(default_factory=dict)

    @property
    def bundled(self) -> bool:
        """Whether a copy comes with the package."""
        return self.bundle is not None
