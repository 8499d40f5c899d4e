"""What numbers depend on beside arguments and code that calls: settings of JAX, versions, sources, the processor."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

LIBRARIES = ("jax", "jaxlib", "numpy", "optax", "flax", "lineax")
SETTINGS = (
    "jax_enable_x64", "jax_default_matmul_precision", "jax_default_prng_impl", "jax_threefry_partitionable",
    "jax_numpy_dtype_promotion",
)  # fmt: skip
"""Settings of JAX that change numbers."""


def settings() -> dict[str, str]:
    """The values of `SETTINGS`, those of this context."""
    return {name: str(getattr(jax.config, name)) for name in SETTINGS}


def versions() -> dict[str, Any]:
    """badrjax, by version and by a SHA-256 of its sources, and the versions of the libraries below it."""
    libraries = {name: version(name) for name in LIBRARIES}
    return {"badrjax": version("badrjax"), "badrjax_sources_sha256": sources(), "libraries": libraries}


def version(package: str) -> str:
    """The version of an installed package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def sources() -> str:
    """SHA-256 of the sources of this package."""
    return _sources_in(Path(__file__).parent)


def sources_around(function: Callable[..., Any]) -> dict[str, str]:
    """SHA-256 of the sources of the package, or of the file, that a function is from, by its name.

    What a function calls by name is mostly there. Empty for a function of this package, whose sources `versions` has,
    and for one that was typed in.
    """
    name = str(getattr(function, "__module__", "")).partition(".")[0]
    file = getattr(sys.modules.get(name), "__file__", None)
    places = [Path(place) for place in getattr(sys.modules.get(name), "__path__", [])]
    if name == __name__.partition(".")[0] or not (places or file):
        return {}
    if not places:
        return {name: hashlib.sha256(Path(str(file)).read_bytes()).hexdigest()} if Path(str(file)).is_file() else {}
    return {name: hashlib.sha256("".join(map(_sources_in, places)).encode()).hexdigest()}


@functools.cache
def _sources_in(package: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def compiler() -> dict[str, str]:
    """What the last bits on one kind of device depend on: flags of the compiler, and the processor of the host."""
    return {"XLA_FLAGS": os.environ.get("XLA_FLAGS", "").strip(), "processor": _processor()}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
