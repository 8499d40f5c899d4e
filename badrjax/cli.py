"""The command line of the installed package: `badrjax train | predict | sweep | data | doctor`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from badrjax import __version__, cli_doctor, cli_sweep, cli_train
from badrjax.datasets import (
    Dataset,
    dataset_from_file,
    dataset_info,
    drop_small_groups,
    fetch_dataset,
    list_datasets,
    load_dataset,
    merge_small_groups,
    verify_dataset,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 1 for wrong files, 2 for a request that cannot be met."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except BrokenPipeError:  # whoever reads what is printed has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("badrjax: interrupted", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError, MemoryError, ModuleNotFoundError) as error:
        print(f"badrjax: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("badrjax", description="Fair machine learning research in JAX.")
    parser.add_argument("--version", action="version", version=f"badrjax {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    cli_train.add_to(commands)
    cli_sweep.add_to(commands)
    cli_doctor.add_to(commands)
    data = commands.add_parser("data", help="the datasets: list, info, fetch, verify")
    actions = data.add_subparsers(required=True, metavar="ACTION")
    actions.add_parser("list", help="names and titles").set_defaults(run=_list)
    _add_info(actions.add_parser("info", help="rows, features, base rate by group, licence and citation of one"))
    fetch = actions.add_parser("fetch", help="download official files into the user's cache, checked by SHA-256")
    fetch.add_argument("names", nargs="+", metavar="NAME")
    fetch.add_argument("--unpinned", action="store_true", help="take files without a published SHA-256 as they come")
    fetch.set_defaults(run=_fetch)
    verify = actions.add_parser("verify", help="check the SHA-256 of every file that is at hand")
    verify.add_argument("names", nargs="*", metavar="NAME", help="all datasets where none is named")
    verify.set_defaults(run=_verify)
    for action in (fetch, verify):
        _add_places(action)
    return parser


def _add_info(info: argparse.ArgumentParser) -> None:
    info.add_argument("name", help="a dataset, or a file of your own that ends in .csv, .csv.gz or .parquet")
    info.add_argument("--sensitive", nargs="+", metavar="ATTRIBUTE", help="attributes that make the groups")
    info.add_argument("--variant", help="preprocessing")
    info.add_argument("--min-group-rows", type=int, metavar="N", help="drop the rows of groups with fewer")
    info.add_argument("--num-groups", type=int, metavar="K", help="merge the smallest groups until K remain")
    info.add_argument("--label", metavar="COLUMN", help="of a file of your own: its label")
    info.add_argument("--favourable", metavar="VALUE", help="of a file of your own: the value that becomes 1")
    _add_places(info)
    info.set_defaults(run=_info)


def _add_places(action: argparse.ArgumentParser) -> None:
    action.add_argument("--data-home", metavar="DIRECTORY", help="where files are looked for before BADRJAX_DATA")
    action.add_argument(
        "-o", "--option", action="append", default=[], metavar="NAME=VALUE", help="of the dataset, e.g. year=2016"
    )


def _list(_: argparse.Namespace) -> None:
    for name in list_datasets():
        entry = dataset_info(name)
        where = " (bundled)" if entry.bundled else ""
        print(f"{name:20} {entry.title}{where}")


def _info(options: argparse.Namespace) -> None:
    if options.name.lower().endswith((".csv", ".csv.gz", ".parquet")):
        _describe(_own(options))
        return
    for name in ("label", "favourable"):
        if getattr(options, name) is not None:
            raise ValueError(
                f"--{name} is for a file of your own, which ends in .csv, .csv.gz or .parquet; {options.name} does not"
            )
    dataset = load_dataset(
        options.name,
        sensitive=_attributes(options),
        variant=options.variant,
        data_home=options.data_home,
        min_group_rows=options.min_group_rows,
        num_groups=options.num_groups,
        **_settings(options, options.name),
    )
    entry = dataset_info(options.name)
    print(entry.title)
    _describe(dataset)
    print(f"y = 1: {entry.positive}" if entry.positive else "y: a number")
    for kind, known in (("variant", entry.variants), ("attribute", entry.sensitive)):
        for name, meaning in known.items():
            print(f"{kind} {name}: {meaning}")
    for name, option in entry.options.items():
        print(f"option {name}: {option.help}")
    for flaw in entry.flaws:
        print(f"flaw (in {', '.join(flaw.kept_by)}): {flaw.what}; the default: {flaw.default}")


def _own(options: argparse.Namespace) -> Dataset:
    if options.label is None or options.sensitive is None:
        raise ValueError("a file of your own needs --label and --sensitive")
    for name in ("variant", "option", "data_home"):
        if getattr(options, name) not in (None, []):
            raise ValueError(f"--{name.replace('_', '-')} is for the datasets of `badrjax data list`")
    attributes = _attributes(options)
    assert attributes is not None
    dataset = dataset_from_file(options.name, label=options.label, sensitive=attributes, favourable=options.favourable)
    if options.min_group_rows is not None:
        dataset = drop_small_groups(dataset, options.min_group_rows)
    return dataset if options.num_groups is None else merge_small_groups(dataset, options.num_groups)


def _describe(dataset: Dataset) -> None:
    rows, features = dataset.x.shape
    variant = f" ({dataset.variant})" if dataset.variant else ""
    print(f"{dataset.name}{variant}: {rows:,} rows, {features:,} features")
    classes = np.issubdtype(dataset.y.dtype, np.integer)
    meaning = f", 1 = {dataset.favourable}; base rate" if classes else "; mean"
    print(f"label: {dataset.label_name}{meaning} {float(np.mean(dataset.y)):.4f}")
    print(f"groups by {' & '.join(dataset.sensitive)}:")
    kind = "base rate" if classes else "mean"
    for group, name in enumerate(dataset.group_names):
        members = dataset.group == group
        # The name comes last: that of a merger can be long.
        print(f"  {members.sum():>9,} rows, {kind} {float(np.mean(dataset.y[members])):.4f}  {name}")
    for note in dataset.notes:
        print(f"note: {note}")
    print(f"source: {dataset.source}\nlicence: {dataset.licence}\ncitation: {dataset.citation or 'none'}")


def _fetch(options: argparse.Namespace) -> None:
    for name in options.names:
        settings = _settings(options, name)
        at_hand = verify_dataset(name, data_home=options.data_home, **settings)
        if dataset_info(name).bundled and all(found.state != "wrong" for found in at_hand):
            print(f"{name}: comes with the package")
            continue
        paths = fetch_dataset(name, data_home=options.data_home, unpinned=options.unpinned, **settings)
        for path in paths:
            print(f"{name}: {path}")


def _verify(options: argparse.Namespace) -> int:
    wrong, shown = 0, set()
    if not options.names and options.option:
        raise ValueError("--option needs the names of the datasets that it is for")
    for name in options.names or list_datasets():
        settings = _settings(options, name)
        for found in verify_dataset(name, data_home=options.data_home, **settings):
            if found.file in shown:  # some datasets are made of the same files
                continue
            shown.add(found.file)
            wrong += found.state == "wrong"
            where = "" if found.path is None else f" {found.path}"
            sum_found = f" SHA-256 {found.sha256}" if found.state in ("wrong", "unpinned") else ""
            print(f"{name}: {found.state:8} {found.file.path}{where}{sum_found}")
    return 1 if wrong else 0


def _settings(options: argparse.Namespace, dataset: str) -> dict[str, Any]:
    """The options of a dataset, as they were written."""
    known = dataset_info(dataset).options
    settings = {}
    for text in options.option:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"an option is written NAME=VALUE, got {text!r}")
        if name not in known:
            listing = f"it has {', '.join(known)}" if known else "it has none of its own"
            raise ValueError(f"unknown option of {dataset} {name!r}: {listing}")
        if name in settings:
            raise ValueError(f"option {name} is given twice; separate several values by commas")
        settings[name] = value
    return settings


def _attributes(options: argparse.Namespace) -> tuple[str, ...] | None:
    """Attributes as separate words or joined by commas."""
    if options.sensitive is None:
        return None
    return tuple(name for text in options.sensitive for name in text.split(","))
