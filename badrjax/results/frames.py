"""Arrays of seeds out of tidy frames."""

from __future__ import annotations

from typing import Any

import numpy as np


def seed_values(frame: Any, **where: Any) -> np.ndarray:
    """The values of one metric as `f[N]`, or `f[N, E]` where the frame has a column `epoch`, in ascending order.

    Args:
        frame: a tidy pandas frame with columns `seed` and `value`, and perhaps `epoch`.
        **where: which rows, such as `dataset="adult_sex", method="forml", metric="test_overall"`.

    Raises:
        KeyError: for a column that is not there.
        ValueError: if no row is left, a seed or epoch occurs twice, or a seed lacks an epoch that others have. A seed
            that diverged must be there with NaN, for one that is missing would go unnoticed.
    """
    described = ", ".join(f"{name}={value!r}" for name, value in where.items())
    for name, value in where.items():
        frame = frame[frame[name] == value]
    if frame.empty:
        raise ValueError(f"no values with {described}")
    keys = ["seed", "epoch"] if "epoch" in frame.columns else ["seed"]
    if frame.duplicated(keys).any():
        raise ValueError(f"several values for one {' and '.join(keys)} with {described}; name more columns")
    frame = frame.sort_values(keys)
    shape = tuple(frame[key].nunique() for key in keys)
    if len(frame) != np.prod(shape):
        raise ValueError(f"some seeds lack epochs that others have, with {described}; store NaN for what diverged")
    return frame["value"].to_numpy(float).reshape(shape)
