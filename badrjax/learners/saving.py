"""Predictors in a directory: arrays as safetensors, everything else as JSON. Nothing is pickled."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from pathlib import Path
from typing import Any

import jax
import numpy as np

from badrjax.constraints import Requirement
from badrjax.datasets.encodings import ColumnEncoding, Encoding
from badrjax.environment import version
from badrjax.extras import require
from badrjax.learners.settings import Settings
from badrjax.learners.trained import Trained
from badrjax.results.recording import write_atomically

ARRAYS, ABOUT = "model.safetensors", "model.json"
FORMAT = 1
_PARAMS = "params/"
_HISTORY = "history/"


def save(trained: Trained, directory: str | os.PathLike[str]) -> Path:
    """Write a predictor to `model.safetensors` and `model.json`.

    Args:
        trained: of `badrjax.learners.train`.
        directory: made if it does not exist; a predictor that is there is replaced.

    Returns:
        The path of `model.json`, which names the SHA-256 of the arrays.

    Raises:
        ModuleNotFoundError: without safetensors.
        OSError: where the directory cannot be written.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    content = require("safetensors.numpy", "keeping a model").save(_arrays(trained))
    temporary = folder / f".{ARRAYS}.{uuid.uuid4().hex}"
    temporary.write_bytes(content)
    os.replace(temporary, folder / ARRAYS)
    # Written last: arrays without it, or with that of others, are refused.
    about = _about(trained) | {"sha256": hashlib.sha256(content).hexdigest()}
    about["about_sha256"] = _digest(about)
    write_atomically(folder / ABOUT, json.dumps(about, indent=2, default=str) + "\n")
    return folder / ABOUT


def load(directory: str | os.PathLike[str]) -> Trained:
    """The predictor in a directory.

    Args:
        directory: that `save` or `badrjax train` wrote.

    Returns:
        `Trained`, without the `info` that is not numbers or text; an objective that was a function is its name.

    Raises:
        ValueError: for a directory without a predictor, another format or version of badrjax, arrays that are not
            those it was written with, or of other shapes.
        ModuleNotFoundError: without safetensors.
    """
    folder = Path(directory)
    about = _read_about(folder)
    try:
        content = (folder / ARRAYS).read_bytes()
    except OSError as error:
        raise ValueError(f"{folder / ARRAYS} cannot be read ({error}); train again") from error
    if hashlib.sha256(content).hexdigest() != about["sha256"]:
        raise ValueError(f"{folder / ARRAYS} is not the file that {ABOUT} was written with; train again")
    arrays = require("safetensors.numpy", "reading a model").load(content)
    try:
        return _trained(about, arrays)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / ABOUT} lacks what a model needs ({error}); train again") from error


def _read_about(folder: Path) -> dict[str, Any]:
    path = folder / ABOUT
    if folder.name == ABOUT:
        raise ValueError(f"{folder} is the file of a model; give the directory that it is in")
    if not path.is_file():
        raise ValueError(f"{folder} holds no {ABOUT}: it is not a directory that `badrjax train --out` wrote")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        stored, written = about["format"], str(about["badrjax"])
        kept = about.pop("about_sha256")
        about["sha256"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read as a model ({type(error).__name__}: {error}); train again") from error
    here = version("badrjax")
    if stored != FORMAT or written.split(".")[:2] != here.split(".")[:2]:
        raise ValueError(
            f"{path} was written by badrjax {written} (format {stored}), and this is {here} (format {FORMAT}); install "
            f"badrjax {written}, or train again"
        )
    if kept != _digest(about):
        raise ValueError(f"{path} has been changed since it was written; train again")
    return about


def _digest(about: dict[str, Any]) -> str:
    text = json.dumps(json.loads(json.dumps(about, default=str)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _arrays(trained: Trained) -> dict[str, np.ndarray]:
    arrays = {_PARAMS + name: np.ascontiguousarray(leaf) for name, leaf in _flat(trained.params).items()}
    arrays |= {"shift": trained.shift, "scale": trained.scale}
    if trained.mixture is not None:
        arrays |= {"probabilities": np.asarray(trained.mixture[0]), "constants": np.asarray(trained.mixture[1])}
    arrays |= {_HISTORY + name: np.ascontiguousarray(values) for name, values in trained.history.items()}
    return arrays


def _about(trained: Trained) -> dict[str, Any]:
    settings = trained.settings._asdict()
    if callable(settings["objective"]):
        settings["objective"] = getattr(settings["objective"], "__qualname__", "a function")
    encoding = None if trained.encoding is None else [column._asdict() for column in trained.encoding.columns]
    names = ("target", "feature_names", "group_names", "sensitive", "label_name", "favourable", "labels")
    versions = {name: version(name) for name in ("jax", "flax", "numpy")}
    return {
        "format": FORMAT, "badrjax": version("badrjax"), "libraries": versions, "settings": settings,
        "encoding": encoding, **{name: getattr(trained, name) for name in names},
        "info": {name: _plain(value) for name, value in trained.info.items()},
    }  # fmt: skip


def _trained(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> Trained:
    stored = about["settings"]
    settings = Settings(**{
        **stored,
        "hidden": tuple(stored["hidden"]),
        "constraints": tuple(Requirement(m, tuple(a), t) for m, a, t in stored["constraints"]),
    })  # fmt: skip
    encoding = None
    if about["encoding"] is not None:
        columns = (
            ColumnEncoding(c["name"], c["kind"], tuple(c["values"]), tuple(c["unseen"])) for c in about["encoding"]
        )
        encoding = Encoding(tuple(columns))
    mixture = None
    if "probabilities" in arrays:
        mixture = (jax.numpy.asarray(arrays["probabilities"]), jax.numpy.asarray(arrays["constants"]))
    found = Trained(
        settings, None, mixture, arrays["shift"], arrays["scale"], tuple(about["target"]),
        tuple(about["feature_names"]), tuple(about["group_names"]), tuple(about["sensitive"]), about["label_name"],
        about["favourable"], encoding, about["info"],
        {n.removeprefix(_HISTORY): v for n, v in arrays.items() if n.startswith(_HISTORY)},
        {name: tuple(names) for name, names in about["labels"].items()},
    )  # fmt: skip
    return found._replace(params=_params(found, arrays))


def _params(trained: Trained, arrays: dict[str, np.ndarray]) -> Any:
    """Parameters as the model's own tree; `ValueError` where a leaf is missing or has another shape."""
    like = jax.eval_shape(trained.model.init, jax.random.key(0))
    lead = () if trained.mixture is None else tuple(trained.mixture[0].shape)
    leaves = []
    for name, leaf in _flat(like).items():
        found = arrays.get(_PARAMS + name)
        if found is None or found.shape != lead + leaf.shape:
            shape = "none" if found is None else found.shape
            raise ValueError(f"parameter {name} must have shape {lead + leaf.shape}, and the file has {shape}")
        leaves.append(jax.numpy.asarray(found))
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _flat(tree: Any) -> dict[str, Any]:
    """Leaves by path, in the order of the tree."""
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {"/".join(str(getattr(key, "key", key)) for key in path): leaf for path, leaf in paths}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
