"""Results on the host: tidy frames, intervals over seeds, and where a number came from."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from badrjax.environment import versions


class Interval(NamedTuple):
    """A mean over seeds with its interval.

    Attributes:
        mean: over the finite values; NaN when there is none.
        half_width: of the interval; NaN for fewer than two finite values.
        num_finite: how many values are finite.
        num_diverged: how many are not.
    """

    mean: float
    half_width: float
    num_finite: int
    num_diverged: int


def mean_interval(values: Any, *, ci: float = 0.95, kind: Literal["student", "paper"] = "student") -> Interval:
    r"""Mean of one value a seed with a confidence interval.

    Args:
        values: `f[S]`; values that are not finite are diverged seeds: counted, and left out of the mean.
        ci: confidence level in `(0, 1)`.
        kind: `"student"`, `t * sd(ddof=1) / sqrt(S)`; or `"paper"`, `z * sd(ddof=0) / sqrt(S)`, the rule of the
            Nash-Meta-Learning paper, whose interval from five seeds covers 84.5%, not 95%.

    Raises:
        ValueError: for a level outside `(0, 1)`, an unknown kind, or values that are not one a seed.
    """
    if not 0 < ci < 1:
        raise ValueError(f"ci must lie in (0, 1), got {ci}")
    if kind not in ("student", "paper"):
        raise ValueError(f"kind must be 'student' or 'paper', got {kind!r}")
    values = np.asarray(values, float)
    if values.ndim != 1:
        raise ValueError(f"values must hold one number a seed, got shape {values.shape}")
    finite = values[np.isfinite(values)]
    count, diverged = finite.size, values.size - finite.size
    mean = float(finite.mean()) if count else float("nan")
    if count < 2:
        return Interval(mean, float("nan"), count, diverged)
    from scipy import stats  # takes most of a second, which importing the package should not

    quantile = stats.t.ppf(0.5 + ci / 2, count - 1) if kind == "student" else stats.norm.ppf(0.5 + ci / 2)
    half_width = quantile * finite.std(ddof=1 if kind == "student" else 0) / np.sqrt(count)
    return Interval(mean, float(half_width), count, diverged)


def provenance(*, settings: Mapping[str, Any], data: Mapping[str, str]) -> dict[str, Any]:
    """Where results come from: settings, versions, device, commit, data checksums and time.

    Args:
        settings: of the run, seeds among them.
        data: SHA-256 of each data set as it was trained on, by name (see `dataset_checksum`).
    """
    device = jax.devices()[0]
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": ["python", *sys.orig_argv[1:]],
        "settings": dict(settings),
        "data_sha256": dict(data),
        "commit": _commit(),
        "python": platform.python_version(),
        **versions(),
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
        "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()},
        "x64": bool(jax.config.read("jax_enable_x64")),
    }


def write_results(frame: Any, origin: Mapping[str, Any], directory: str | os.PathLike[str]) -> Path:
    """Write a tidy frame to `results.csv` with `provenance.json` beside it, each by an atomic rename.

    Args:
        frame: a pandas frame, one value a row.
        origin: see `provenance`.
        directory: made if it does not exist.

    Returns:
        The path of `results.csv`.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    write_atomically(directory / "provenance.json", json.dumps(origin, indent=2, default=str) + "\n")
    write_atomically(directory / "results.csv", frame.to_csv(index=False))
    return directory / "results.csv"


def dataset_checksum(arrays: Sequence[np.ndarray]) -> str:
    """SHA-256 over the shapes, dtypes and bytes of arrays, in order: names what was trained on."""
    import hashlib

    digest = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(array)
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """Write a text file by a rename, so that nobody sees half of it."""
    # Not by `mkstemp`, whose files only their owner may read.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _commit() -> str:
    """The commit of the checkout the package lies in, with `+changes` if it is not clean; "unknown" elsewhere."""
    run = ["git", "-C", str(Path(__file__).parent)]
    try:
        inside = subprocess.run([*run, "ls-files", "--error-unmatch", __file__], capture_output=True, timeout=10)
        if inside.returncode != 0:
            return "unknown"  # installed inside some other repository, say
        commit = subprocess.run([*run, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True)
        changes = subprocess.run([*run, "status", "--porcelain"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return commit.stdout.strip() + ("+changes" if changes.stdout.strip() else "")
