"""`badrjax doctor`: what this machine and environment have, for a person or for a report of a fault."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
from typing import Any

import jax

from badrjax.datasets import dataset_info, list_datasets, verify_dataset
from badrjax.environment import LIBRARIES, settings, version
from badrjax.extras import LIBRARIES as OPTIONAL
from badrjax.extras import user_cache


def add_to(commands: Any) -> None:
    """Add the command `doctor` to those of a parser (`argparse.ArgumentParser.add_subparsers`)."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "doctor", help="devices, versions, settings of JAX, and which datasets are at hand"
    )
    parser.set_defaults(run=run_command)


def run_command(_: argparse.Namespace) -> int:
    """Print what is found; returns 1 where a library of the core is missing or a data file is wrong, else 0."""
    print(f"badrjax {version('badrjax')}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    missing = [name for name in LIBRARIES if version(name) == "not installed"]
    print("core: " + ", ".join(f"{name} {version(name)}" for name in LIBRARIES))
    for line in _optional():
        print(line)
    try:
        devices = jax.devices()
        print(f"devices: {len(devices)} x {devices[0].device_kind} ({devices[0].platform}), {os.cpu_count()} cores")
    except RuntimeError as error:  # a backend that is installed and cannot start
        print(f"devices: none can be used ({error})")
        missing.append("a device")
    print("settings of JAX: " + ", ".join(f"{name} {value}" for name, value in settings().items()))
    print(f"cache: {user_cache() or 'none (platformdirs is not installed)'}")
    print(f"BADRJAX_DATA: {os.environ.get('BADRJAX_DATA') or 'not set'}")
    wrong = _datasets()
    return 1 if missing or wrong else 0


def _optional() -> list[str]:
    """Libraries of the extras that are missing, by extra."""
    lacking: dict[str, list[str]] = {}
    for module, (library, extra) in OPTIONAL.items():
        if importlib.util.find_spec(module.partition(".")[0]) is None:
            lacking.setdefault(extra, []).append(library)
    if not lacking:
        return ["extras: all libraries are there"]
    return [f"not installed: {', '.join(sorted(set(names)))} (pip install 'badrjax[{extra}]')"
            for extra, names in lacking.items()]  # fmt: skip


def _datasets() -> bool:
    """Print which datasets are at hand; whether a file is wrong."""
    try:
        states = {name: {found.state for found in verify_dataset(name)} for name in list_datasets()}
    except ModuleNotFoundError as error:
        print(f"data: not looked at ({error})")
        return False
    wrong = sorted(name for name, found in states.items() if "wrong" in found)
    there = {"verified", "unpinned"}
    # A bundled dataset has one of its files in the package and needs no other.
    ready = sorted(n for n, found in states.items() if found <= there or (dataset_info(n).bundled and found & there))
    absent = sorted(set(states) - set(ready) - set(wrong))
    print(f"data at hand: {', '.join(ready) or 'none'}")
    print(f"data not at hand, or in part: {', '.join(absent) or 'none'} (`badrjax data fetch NAME`)")
    if wrong:
        print(f"data with a wrong SHA-256: {', '.join(wrong)} (`badrjax data verify NAME`)")
    return bool(wrong)
