"""The command line of the installed package: `badrjax data list | info NAME | verify`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from badrjax import __version__
from badrjax.datasets import dataset_info, list_datasets, load_dataset


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status, 2 for a request that cannot be met."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, OSError) as error:
        print(f"badrjax: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("badrjax", description="Fair machine learning research in JAX.")
    parser.add_argument("--version", action="version", version=f"badrjax {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    data = commands.add_parser("data", help="the datasets: list, info, verify")
    actions = data.add_subparsers(required=True, metavar="ACTION")
    actions.add_parser("list", help="names and titles").set_defaults(run=_list)
    info = actions.add_parser("info", help="rows, features, groups, licence and citation of one")
    info.add_argument("name")
    info.add_argument("--sensitive", nargs="+", help="attributes that make the groups")
    info.add_argument("--data-home", help="directory with raw files, before BADRJAX_DATA and the bundled copy")
    info.set_defaults(run=_info)
    verify = actions.add_parser("verify", help="load every dataset that is at hand and check its SHA-256")
    verify.add_argument("--data-home", help="directory with raw files, before BADRJAX_DATA and the bundled copy")
    verify.set_defaults(run=_verify)
    return parser


def _list(_: argparse.Namespace) -> None:
    for name in list_datasets():
        entry = dataset_info(name)
        where = "bundled" if entry.bundle is not None else "needs its raw files"
        print(f"{name:24} {entry.title} ({where})")


def _info(options: argparse.Namespace) -> None:
    sensitive = tuple(options.sensitive) if options.sensitive else None
    dataset = load_dataset(options.name, sensitive=sensitive, data_home=options.data_home)
    rows, features = dataset.x.shape
    print(f"{dataset.name}: {rows:,} rows, {features} features")
    print(f"label: {dataset.label_name}, 1 = {dataset.favourable}; base rate {float(np.mean(dataset.y)):.4f}")
    print(f"groups by {' & '.join(dataset.sensitive)}:")
    for group, name in enumerate(dataset.group_names):
        members = dataset.group == group
        print(f"  {name:28} {members.sum():>8,} rows, base rate {float(np.mean(dataset.y[members])):.4f}")
    print(f"source: {dataset.source}\nlicence: {dataset.licence}\ncitation: {dataset.citation}")


def _verify(options: argparse.Namespace) -> None:
    for name in list_datasets():
        dataset = load_dataset(name, data_home=options.data_home)
        print(f"{name}: verified, {dataset.x.shape[0]:,} rows")
