"""Calls timed in turn, so that what else the machine does falls on all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def seconds_in_turn(calls: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, np.ndarray]:
    """Seconds of each call, `f[repeats]`, after one that is not counted (it compiles)."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            begun = time.perf_counter()
            call()
            found[name].append(time.perf_counter() - begun)
    return {name: np.array(values) for name, values in found.items()}
