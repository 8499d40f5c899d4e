"""Checkpoints of one long run: what it is, how far it came, and the files that hold both."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from badrjax.environment import compiler, settings, version
from badrjax.extras import require

FORMAT = 1
# The last one may turn out to be unreadable, so the one before stays.
KEPT = 2
_ABOUT, _LOCK, _DRAFT = "run.json", "lock", ".draft-"
_NAME = re.compile(r"epoch_(\d{8,})")
_PROGRAM, _COMPILER = "program", "compiler"

Piece = Callable[[Any, int, int], tuple[int, Any, Any]]


class CheckpointError(RuntimeError):
    """A directory of checkpoints that cannot be used as it is; the message names the file and what to do."""


class Progress(NamedTuple):
    """How far a run came.

    Attributes:
        epoch: epochs that ran.
        state: leaves of the method's state, as NumPy arrays (random keys as their data).
        history: leaves of what was recorded, `[epoch, ...]`.
    """

    epoch: int
    state: list[np.ndarray]
    history: list[np.ndarray]


def check_directory(directory: Any) -> None:
    """Raise for what is no local directory, or where what writes checkpoints is not installed."""
    require("orbax.checkpoint", "a checkpoint")
    if not isinstance(directory, str | os.PathLike) or isinstance(os.fspath(directory), bytes):
        raise TypeError(f"checkpoint must be the path of a directory, got {directory!r}")
    if "://" in os.fspath(directory):
        raise ValueError(f"checkpoint must be a directory of this machine's file systems, got {directory!r}; mount it")


def run_in_pieces(
    directory: str | os.PathLike[str],
    about: Mapping[str, Any],
    piece: Piece,
    state: Any,
    kinds: Any,
    num_epochs: int,
    every: int,
) -> tuple[Any, Any]:
    """A run cut into pieces of `every` epochs, each stored when it is finished, from the last stored one on.

    Args:
        directory: made if it does not exist; holds this run only.
        about: what identifies the run, as `describe` gives it.
        piece: `piece(state, start, stop) -> (epoch, state, history)` runs the epochs from `start` to `stop`; `epoch`
            is less than `stop` when the method is done; the first `epoch - start` rows of `history` count.
        state: before the first epoch.
        kinds: shapes and dtypes of a piece's history.
        num_epochs: of the whole run.
        every: epochs a piece.

    Returns:
        The last state, and the history `[num_epochs, ...]`, with NaN (0 for integers) for epochs that did not run.

    Raises:
        CheckpointError: for a directory with another run, with unreadable checkpoints only, with more than
            `num_epochs` epochs, or that another process is using or that cannot be written.

    Warns:
        UserWarning: where the run goes on under other flags of XLA or on another processor, and for a checkpoint that
            cannot be read.
    """
    path = Path(directory).expanduser().absolute()
    with _only_process(path):
        _claim(path, about)
        progress = _last_readable(path, state, kinds)
        if progress is None:
            progress = Progress(0, pack(state), [blank[:0] for blank in _blank_rows(kinds, 0)])
        else:
            state = unpack(progress.state, state)
        if progress.epoch > num_epochs:
            raise CheckpointError(
                f"{path} holds {progress.epoch} epochs and num_epochs is {num_epochs}; ask for as many"
            )
        while progress.epoch < num_epochs:
            stop = min(progress.epoch + every, num_epochs)
            epoch, state, rows = piece(state, progress.epoch, stop)
            new = [leaf[: epoch - progress.epoch] for leaf in pack(rows)]
            history = [np.concatenate(both) for both in zip(progress.history, new, strict=True)]
            if epoch == progress.epoch:
                break  # the method was done when the last piece ended, which that checkpoint has
            progress = Progress(epoch, pack(state), history)
            _save(path, progress)
            if epoch < stop:
                break
    missing = _blank_rows(kinds, num_epochs - progress.epoch)
    history = [np.concatenate(both) for both in zip(progress.history, missing, strict=True)]
    return state, unpack(history, kinds)


def describe(arguments: Mapping[str, Any], options: Mapping[str, Any], program: str) -> dict[str, Any]:
    """What identifies a run: arguments, options, settings of JAX, program, versions and device.

    Args:
        arguments: pytrees by name; numbers are told as they are, arrays by their SHA-256.
        options: numbers and texts by name.
        program: text of the compiled program, which changes with all code that it came from.
    """
    about: dict[str, Any] = {"format": FORMAT}
    for name, tree in arguments.items():
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
            about[name + jax.tree_util.keystr(path)] = _fingerprint(leaf)
        members = tree if name == "method" else (tree,)
        about[f"code of {name}"] = [_name(member) for member in members if isinstance(member, Partial)]
    about.update(options)
    about.update(settings())
    about.update({f"version of {name}": version(name) for name in ("badrjax", "jax", "jaxlib")})
    about["device"] = f"{jax.default_backend()}: {jax.devices()[0].device_kind}"
    about[_COMPILER] = compiler()
    about[_PROGRAM] = hashlib.sha256(program.encode()).hexdigest()
    return about


def pack(tree: Any) -> list[np.ndarray]:
    """The leaves of `tree` on the host, random keys as their data."""
    data = jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, tree)
    return [np.asarray(leaf) for leaf in jax.device_get(jax.tree.leaves(data))]


def unpack(leaves: list[np.ndarray], like: Any) -> Any:
    """The inverse of `pack`: a tree of the structure, dtypes, kinds of keys and weak types of `like`."""
    kinds, structure = jax.tree.flatten(like)
    return jax.tree.unflatten(structure, [_on_device(leaf, kind) for leaf, kind in zip(leaves, kinds, strict=True)])


def _on_device(leaf: np.ndarray, kind: Any) -> jax.Array:
    if _is_key(kind):
        return jax.random.wrap_key_data(jnp.asarray(leaf), impl=jax.random.key_impl(jnp.zeros((), kind.dtype)))
    if getattr(kind, "weak_type", False):
        # A number of strong type would be another program, and might be promoted to another dtype.
        weak = jnp.full(leaf.shape, 0.0 if jnp.issubdtype(leaf.dtype, jnp.inexact) else 0)
        if weak.dtype == leaf.dtype:
            return weak.at[...].set(leaf)
    return jnp.asarray(leaf)


def _blank_rows(kinds: Any, num_rows: int) -> list[np.ndarray]:
    blank = [jnp.zeros((num_rows, *kind.shape[1:]), kind.dtype) for kind in jax.tree.leaves(kinds)]
    return [np.full_like(leaf, np.nan) if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf for leaf in pack(blank)]


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def _fingerprint(leaf: Any) -> str:
    (array,) = pack([leaf])
    what = f"{getattr(leaf, 'dtype', array.dtype)}{list(np.shape(leaf))}"
    if array.size == 1:
        return f"{array.reshape(-1)[0].item()!r} ({what})"
    return f"{what} {hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()}"


def _name(function: Partial) -> str:
    # Without its module, which is another one when a script is imported.
    return getattr(function.func, "__qualname__", type(function.func).__name__)


@contextmanager
def _only_process(directory: Path) -> Iterator[None]:
    """Held while a run writes to `directory`; the system lets go of it when the process dies, however it dies."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = (directory / _LOCK).open("a")
    except OSError as error:
        raise CheckpointError(f"{directory} cannot be written ({error}); take another directory") from error
    with file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CheckpointError(f"another process is running into {directory}; wait for it to end") from error
        except (ImportError, OSError):  # not every system has such locks
            pass
        yield


def _claim(directory: Path, about: Mapping[str, Any]) -> None:
    """Write down which run the directory is for, or see that it is for this one."""
    for draft in directory.glob(f"{_DRAFT}*"):
        shutil.rmtree(draft, ignore_errors=True) if draft.is_dir() else draft.unlink()
    path = directory / _ABOUT
    if path.exists():
        _check_same(path, about)
        return
    if foreign := sorted(entry.name for entry in directory.iterdir() if entry.name != _LOCK):
        raise CheckpointError(f"{directory} holds {foreign[0]!r} and no {_ABOUT}; take a directory of its own")
    draft = directory / f"{_DRAFT}{uuid.uuid4().hex}"
    try:
        with draft.open("x", encoding="utf-8") as file:
            file.write(json.dumps(about, indent=2) + "\n")
        _sync(draft)
        draft.rename(path)
        _sync(directory)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written ({error}); take another directory") from error


def _check_same(path: Path, about: Mapping[str, Any]) -> None:
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(there, dict):
            raise ValueError("no table of settings")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); take another directory") from error
    here = json.loads(json.dumps(about))
    different = [name for name in {**there, **here} if name != _COMPILER and there.get(name) != here.get(name)]
    # Everything else changes the program, too: it says something only when it stands alone.
    told = [name for name in different if name != _PROGRAM]
    if different:
        listing = "; ".join(f"{name} is {here.get(name)}, and was {there.get(name)}" for name in told[:4])
        listing += f"; and {len(told) - 4} more" if len(told) > 4 else ""
        raise CheckpointError(
            f"{path.parent} holds a run with other arguments: "
            + (listing or "the code of the method, of evaluate or record, or of what they call has changed")
            + ". Give the same arguments to go on with it, or another directory for a new run"
        )
    # Not refused: a run may have to move to another machine, and what it has computed is worth more than last bits.
    told = [
        f"{name} is {new!r}, and was {there[_COMPILER].get(name)!r}"
        for name, new in here[_COMPILER].items()
        if there[_COMPILER].get(name) != new
    ]
    if told:
        warnings.warn(
            f"the run in {path.parent} goes on under another compiler or processor ({'; '.join(told)}), so its last "
            "bits may not be those of an undisturbed run",
            stacklevel=5,
        )


def _checkpoints(directory: Path) -> list[tuple[int, Path]]:
    """Stored epochs with their paths, in order."""
    found = [(match, path) for path in directory.iterdir() if (match := _NAME.fullmatch(path.name))]
    return sorted((int(match[1]), path) for match, path in found)


def _last_readable(directory: Path, state: Any, kinds: Any) -> Progress | None:
    stored = _checkpoints(directory)
    for epoch, path in reversed(stored):
        try:
            return _load(path, epoch, state, kinds)
        except Exception as error:
            # Whatever orbax raises for a damaged file: it has no exception of its own for that.
            reason = f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
            warnings.warn(f"{path} cannot be read ({reason}); going back to the checkpoint before", stacklevel=5)
    if stored:
        raise CheckpointError(
            f"no checkpoint in {directory} can be read (the last is {stored[-1][1].name}); remove the directory to "
            "start over"
        )
    return None


def _load(path: Path, epoch: int, state: Any, kinds: Any) -> Progress:
    with require("orbax.checkpoint", "a checkpoint").PyTreeCheckpointer() as reader:
        stored = {name: np.asarray(leaf) for name, leaf in reader.restore(path).items()}
    if _digest(stored) != stored["digest"].tobytes():
        raise ValueError("its contents are not those that were written")
    data = pack(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), state))
    rows = _blank_rows(kinds, epoch)
    return Progress(
        epoch,
        [_stored_leaf(stored, f"state_{number:05d}", like) for number, like in enumerate(data)],
        [_stored_leaf(stored, f"history_{number:05d}", like) for number, like in enumerate(rows)],
    )


def _stored_leaf(stored: Mapping[str, np.ndarray], name: str, like: np.ndarray) -> np.ndarray:
    if like.size == 0:
        return like
    return np.frombuffer(stored[name].tobytes(), like.dtype).reshape(like.shape)


def _save(directory: Path, progress: Progress) -> None:
    stored: dict[str, np.ndarray] = {}
    for kind, leaves in (("state", progress.state), ("history", progress.history)):
        # Orbax stores no empty arrays, and gives scalars back as numbers of Python.
        stored |= {f"{kind}_{i:05d}": _plain(leaf.reshape(-1)) for i, leaf in enumerate(leaves) if leaf.size}
    stored["digest"] = np.frombuffer(_digest(stored), np.uint8)
    name = f"epoch_{progress.epoch:08d}"
    draft = directory / f"{_DRAFT}{uuid.uuid4().hex}"
    try:
        with require("orbax.checkpoint", "a checkpoint").PyTreeCheckpointer() as writer:
            writer.save(draft, stored)
        for folder, _, files in os.walk(draft, topdown=False):
            for written in (*(os.path.join(folder, file) for file in files), folder):
                _sync(written)
        _remove(directory / name)  # there is one only where it could not be read: each epoch is reached once
        draft.rename(directory / name)
        _sync(directory)
        for _, path in _checkpoints(directory)[:-KEPT]:
            _remove(path)
    except Exception as error:
        # A full disk is an OSError here and something else inside orbax.
        raise CheckpointError(
            f"{directory / name} cannot be written ({error}); the checkpoints before are intact"
        ) from error
    finally:
        for left in directory.glob(f"{draft.name}*"):  # orbax has a draft of its own beside ours
            shutil.rmtree(left, ignore_errors=True)


def _plain(leaf: np.ndarray) -> np.ndarray:
    """`leaf` in a dtype of NumPy's own, for files; bfloat16 and its like become bytes."""
    return leaf if leaf.dtype.isbuiltin == 1 else np.frombuffer(leaf.tobytes(), np.uint8)


def _digest(stored: Mapping[str, np.ndarray]) -> bytes:
    digest = hashlib.sha256()
    for name in sorted(stored):
        if name != "digest":
            digest.update(f"{name} {stored[name].size} ".encode())
            digest.update(np.ascontiguousarray(stored[name]).tobytes())
    return digest.digest()


def _remove(path: Path) -> None:
    """Remove a checkpoint in two moves, so that half of one never bears its name."""
    if path.exists():
        away = path.with_name(f"{_DRAFT}{uuid.uuid4().hex}")
        path.rename(away)
        shutil.rmtree(away, ignore_errors=True)


def _sync(path: str | os.PathLike[str]) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
