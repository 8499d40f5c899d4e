"""Datasets by name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from badrjax.checks import unknown_name
from badrjax.datasets import adult
from badrjax.datasets.dataset import Dataset
from badrjax.datasets.entry import Entry
from badrjax.datasets.files import ENVIRONMENT_VARIABLE, data_directories, read_bundled, read_files
from badrjax.datasets.tables import attribute_names

_ENTRIES = {entry.name: entry for entry in (adult.ENTRY,)}


def list_datasets() -> list[str]:
    """Names that `load_dataset` takes, sorted."""
    return sorted(_ENTRIES)


def dataset_info(name: str) -> Entry:
    """What is known of a dataset without reading it: attributes, variants, options, source, licence, files.

    Raises:
        ValueError: for an unknown name, with the nearest known ones.
    """
    return _ENTRIES[_known("dataset", name, _ENTRIES)]


def load_dataset(
    name: str,
    *,
    sensitive: str | Sequence[str] | None = None,
    variant: str | None = None,
    data_home: str | os.PathLike[str] | None = None,
    **options: str,
) -> Dataset:
    """Load a dataset, prepared and with its groups.

    The official files are looked for below `data_home`, then below the directory that the environment
    variable `BADRJAX_DATA` names, and last the copy that comes with the package is taken, where there is one.
    Each file is checked by its SHA-256; one that is present and wrong is an error, never used and never
    passed over.

    Args:
        name: one of `list_datasets()`.
        sensitive: attribute that makes the groups, or several for their intersections; `None` takes the
            default (the first of `dataset_info(name).sensitive`). Groups are numbered in the order of their
            names.
        variant: preprocessing; `None` takes the first of `dataset_info(name).variants`.
        data_home: directory with the official files.
        **options: the dataset's own, see `dataset_info(name).options`.

    Raises:
        ValueError: for an unknown dataset, attribute, variant, option or value of it, with the nearest known
            ones; for a file with another SHA-256.
        FileNotFoundError: where a file is nowhere to be found.
    """
    entry = dataset_info(name)
    attributes = _attributes(entry, sensitive)
    chosen = entry.variants[0] if variant is None else _known(f"variant of {name}", variant, entry.variants)
    for option, value in options.items():
        permitted = entry.options[_known(f"option of {name}", option, entry.options)]
        _known(f"value of {option}", value, permitted)
    return entry.load(_contents(entry, data_home), sensitive=attributes, variant=chosen, **options)


def _attributes(entry: Entry, sensitive: str | Sequence[str] | None) -> tuple[str, ...]:
    if sensitive is None:
        return entry.sensitive[:1]
    kind = f"sensitive attribute of {entry.name}"
    return tuple(_known(kind, attribute, entry.sensitive) for attribute in attribute_names(sensitive))


def _contents(entry: Entry, data_home: str | os.PathLike[str] | None) -> dict[str, bytes]:
    instead = " or remove it to use the bundled copy" if entry.bundle else ""
    contents = read_files(entry.files, data_home, f"put the official file from {entry.source} in its place{instead}")
    if contents is not None:
        return contents
    if entry.bundle is not None:
        rebuild = f"python -m badrjax.datasets.bundled.build_{entry.name} RAW_DIR"
        return {entry.bundle.path: read_bundled(entry.bundle, f"reinstall badrjax, or rebuild it with `{rebuild}`")}
    looked = " or ".join(map(str, data_directories(data_home))) or "no directory, for none was named"
    raise FileNotFoundError(
        f"{entry.name} needs {', '.join(file.path for file in entry.files)}, none of which is there "
        f"(looked in {looked}); "
        f"get them from {entry.source} and name their directory in data_home or {ENVIRONMENT_VARIABLE}"
    )


def _known(kind: str, name: str, known: Iterable[str]) -> str:
    known = list(known)
    if name not in known:
        raise unknown_name(kind, name, known)
    return name
