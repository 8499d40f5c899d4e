"""Datasets by name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from badrjax.checks import unknown_name
from badrjax.datasets import (
    acs,
    adult,
    arrhythmia,
    bank,
    cifar,
    compas,
    crime,
    default_credit,
    german,
    health,
    law_school,
    meps,
    parkinsons,
    student,
    titanic,
)
from badrjax.datasets.assembly import Rules, assemble
from badrjax.datasets.dataset import Dataset
from badrjax.datasets.entry import Entry, Option, Prepared
from badrjax.datasets.fetching import fetch_file
from badrjax.datasets.files import (
    ENVIRONMENT_VARIABLE,
    DataFile,
    cache_directory,
    data_directories,
    find,
    read_bundled,
    read_file,
    read_files,
    sha256,
)
from badrjax.datasets.tables import attribute_names
from badrjax.datasets.verification import FileState, check_files

_MODULES = (
    acs, adult, arrhythmia, bank, cifar, compas, crime, default_credit, german, health, law_school, meps,
    parkinsons, student, titanic,
)  # fmt: skip
_ENTRIES = {entry.name: entry for module in _MODULES for entry in module.ENTRIES}


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
    standardise: Literal["none", "all"] | None = None,
    sensitive_features: Literal["keep", "drop"] = "keep",
    min_group_rows: int | None = None,
    num_groups: int | None = None,
    download: bool = True,
    **options: Any,
) -> Dataset:
    """Load a dataset, prepared and with its groups.

    Each official file is looked for below `data_home`, below the directory that the environment variable
    `BADRJAX_DATA` names, and in the user's cache; where none is there, the copy that comes with the package is
    taken; where there is no copy, the files are downloaded into the cache. Each file is checked by its
    SHA-256; one of the user's own that is present and wrong is an error, never used and never passed over.

    Args:
        name: one of `list_datasets()`.
        sensitive: attribute that makes the groups, or several for their intersections; `None` takes the
            variant's default. Groups are numbered in the order of their values; rows without a value are
            left out. The attributes one by one are in `Dataset.attributes`.
        variant: preprocessing; `None` takes the default, which leaks nothing from row to row.
        data_home: directory with official files, as they lie in `dataset_info(name).files`.
        standardise: "all" scales over all rows, "none" leaves the raw numbers, `None` does as the variant
            does. To scale by training rows only, see `badrjax.datasets.standardise`.
        sensitive_features: "drop" leaves the columns that give a chosen attribute away out of the features.
        min_group_rows: rows of groups with fewer are dropped; `None` keeps all (`drop_small_groups`).
        num_groups: the smallest groups are merged until so many remain; `None` merges none
            (`merge_small_groups`).
        download: whether missing files may be downloaded.
        **options: the dataset's own, see `dataset_info(name).options`.

    Raises:
        ValueError: for an unknown dataset, attribute, variant, option or value of it, with the nearest known
            ones; for a file with another SHA-256; for a rule about groups that cannot be met.
        FileNotFoundError: where a file is nowhere to be found.
        ConnectionError: where a download fails.
        ModuleNotFoundError: where reading needs a library that is not installed.
    """
    entry = dataset_info(name)
    chosen = entry.default_variant if variant is None else _known(f"variant of {name}", variant, entry.variants)
    attributes = _attributes(entry, sensitive, chosen)
    if standardise is not None:
        _known("value of standardise", standardise, ("none", "all"))
    _known("value of sensitive_features", sensitive_features, ("keep", "drop"))
    settings = _options(entry, options)
    contents = _contents(entry, settings, data_home, download)
    return assemble(
        entry,
        _prepared(entry, contents, chosen, settings),
        sensitive=attributes,
        variant=chosen,
        rules=Rules(standardise, sensitive_features, min_group_rows, num_groups),
        checksums={path: sha256(content) for path, content in contents.items()},
    )


def _prepared(entry: Entry, contents: Mapping[str, bytes], variant: str, settings: Mapping[str, Any]) -> Prepared:
    try:
        return entry.prepare(contents, variant=variant, **settings)
    except ValueError as error:
        if any(path in str(error) for path in contents):
            raise
        raise ValueError(f"{entry.name}, made of {', '.join(contents)}: {error}") from error


def fetch_dataset(
    name: str,
    *,
    data_home: str | os.PathLike[str] | None = None,
    unpinned: bool = False,
    progress: bool | None = None,
    **options: Any,
) -> list[Path]:
    """Download the official files of a dataset that are not at hand yet into the user's cache.

    Args:
        name: one of `list_datasets()`.
        data_home: directory to look in before the one of `BADRJAX_DATA` and the cache.
        unpinned: whether files without a published SHA-256 may be taken as they come.
        progress: whether a bar is shown; `None` shows it on a terminal.
        **options: the dataset's own, where its files depend on them.

    Returns:
        Where each file lies.

    Raises:
        ValueError: for unknown names, and as `load_dataset`; for a file that cannot be downloaded by a program.
        ConnectionError: where a download fails.
    """
    entry = dataset_info(name)
    files = _downloadable(entry.alternatives(_options(entry, options)))
    return [_at_hand(entry, file, data_home) or _fetch(entry, file, unpinned, progress) for file in files]


def _at_hand(entry: Entry, file: DataFile, data_home: str | os.PathLike[str] | None) -> Path | None:
    path = find(file, data_home)
    if path is not None:
        read_file(path, file, f"put the official file from {entry.source} in its place, or remove it")
    return path


def verify_dataset(name: str, *, data_home: str | os.PathLike[str] | None = None, **options: Any) -> list[FileState]:
    """Which official files of a dataset are at hand, and whether their SHA-256 is the published one.

    Args:
        name: one of `list_datasets()`.
        data_home: directory to look in before the one of `BADRJAX_DATA` and the cache.
        **options: the dataset's own, where its files depend on them.

    Raises:
        ValueError: for an unknown dataset or option, with the nearest known ones.
    """
    entry = dataset_info(name)
    return check_files(entry, _options(entry, options), data_home)


def _attributes(entry: Entry, sensitive: str | Sequence[str] | None, variant: str) -> tuple[str, ...]:
    if sensitive is None:
        return entry.default_sensitive.get(variant, (next(iter(entry.sensitive)),))
    kind = f"sensitive attribute of {entry.name}"
    return tuple(_known(kind, attribute, entry.sensitive) for attribute in attribute_names(sensitive))


def _options(entry: Entry, given: Mapping[str, Any]) -> dict[str, Any]:
    for name in given:
        if not entry.options:
            raise ValueError(f"unknown option of {entry.name} {name!r}: it has none of its own")
        _known(f"option of {entry.name}", name, entry.options)
    return {name: _value(entry.name, name, option, given.get(name)) for name, option in entry.options.items()}


def _value(dataset: str, name: str, option: Option, given: Any) -> Any:
    """The value of an option, its default where none is given."""
    value = option.default if given is None else given
    if option.values:
        return _known(f"value of {name}", str(value), option.values)
    try:
        return option.check(value) if option.check is not None else value
    except (TypeError, ValueError) as error:
        raise type(error)(f"option {name} of {dataset}: {error}") from error


def _contents(
    entry: Entry, options: Mapping[str, Any], data_home: str | os.PathLike[str] | None, download: bool
) -> dict[str, bytes]:
    instead = " or remove it to use the bundled copy" if entry.bundle else ""
    remedy = f"put the official file from {entry.source} in its place{instead}"
    alternatives = entry.alternatives(options)
    for files in alternatives:
        contents = read_files(files, data_home, remedy)
        if contents is not None:
            return contents
    files = _downloadable(alternatives)
    missing = [file for file in files if find(file, data_home) is None]
    if entry.bundle is not None and len(missing) == len(files):
        rebuild = "python -m badrjax.datasets.bundled.build RAW_DIR"
        return {entry.bundle.path: read_bundled(entry.bundle, f"reinstall badrjax, or rebuild it with `{rebuild}`")}
    if download and all(file.url for file in missing):
        _download(entry, missing, data_home)
    contents = read_files(files, data_home, remedy)
    if contents is None:
        raise FileNotFoundError(f"{_absence(entry, missing, data_home)}; {_how_to_get(entry)}")
    return contents


def _downloadable(alternatives: tuple[tuple[DataFile, ...], ...]) -> tuple[DataFile, ...]:
    """The first form of the data that a program can download; the first of all where there is none."""
    return next((files for files in alternatives if all(file.url for file in files)), alternatives[0])


def _download(entry: Entry, missing: Sequence[DataFile], data_home: str | os.PathLike[str] | None) -> None:
    try:
        for file in missing:
            _fetch(entry, file, unpinned=False, progress=None)
    except (ValueError, ConnectionError, ModuleNotFoundError) as error:
        raise FileNotFoundError(
            f"{_absence(entry, missing, data_home)}, and could not be downloaded: {error}; {_how_to_get(entry)}"
        ) from error


def _fetch(entry: Entry, file: DataFile, unpinned: bool, progress: bool | None) -> Path:
    if not file.url:
        raise ValueError(f"{file.path} cannot be downloaded by a program: {entry.obtain}")
    return fetch_file(file, unpinned=unpinned, progress=progress)


def _absence(entry: Entry, missing: Sequence[DataFile], data_home: str | os.PathLike[str] | None) -> str:
    cache = cache_directory()
    places = [*data_directories(data_home), *([cache] if cache else [])]
    looked = " or ".join(map(str, places)) or "no directory, for none was named"
    return f"{entry.name} needs {', '.join(file.path for file in missing)}, not to be found (looked in {looked})"


def _how_to_get(entry: Entry) -> str:
    steps = entry.obtain or f"get them from {entry.source}"
    return f"{steps}, and name their directory in data_home or {ENVIRONMENT_VARIABLE}"


def _known(kind: str, name: Any, known: Iterable[str]) -> str:
    known = list(known)
    if name not in known:
        raise unknown_name(kind, name, known)
    return name
