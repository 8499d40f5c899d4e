"""Libraries that only an optional part of the package needs, and where they say files are to be kept."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

# By module: what the library is called, and the extra that installs it.
LIBRARIES = {
    "PIL.Image": ("Pillow", "data"),
    "fairlearn.reductions": ("fairlearn", "experiments"),
    "orbax.checkpoint": ("orbax-checkpoint", "checkpoints"),
    "pandas": ("pandas", "data"),
    "pooch": ("pooch", "data"),
    "pyarrow": ("pyarrow", "data"),
    "pyarrow.parquet": ("pyarrow", "data"),
    "matplotlib.figure": ("matplotlib", "estimators"),
    "ray": ("Ray", "ray"),
    "safetensors.numpy": ("safetensors", "estimators"),
    "scipy.stats": ("SciPy", "data"),
    "xlrd": ("xlrd", "data"),
}


def require(module: str, purpose: str) -> Any:
    """A module of an optional library, imported only when it is needed.

    Args:
        module: its dotted name, one of `LIBRARIES`.
        purpose: what needs it, as the subject of the message: "downloading".

    Raises:
        ModuleNotFoundError: where it is not installed, with how to install it.
    """
    library, extra = LIBRARIES[module]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        message = f"{purpose} needs {library}: pip install 'badrjax[{extra}]'"
        raise ModuleNotFoundError(message, name=error.name) from error


def user_cache() -> Path | None:
    """The user's cache directory for this package, or `None` without the library that knows where it is."""
    try:
        import platformdirs
    except ModuleNotFoundError:
        return None
    return platformdirs.user_cache_path("badrjax")
