"""Many runs at once: designs of trials, blocks on devices, a store that survives, tables of results."""

from badrjax.sweeps.designs import choice, cross, grid, integers, log_uniform, sample, uniform
from badrjax.sweeps.errors import StoreError
from badrjax.sweeps.result import SweepResult
from badrjax.sweeps.store import Store
from badrjax.sweeps.sweep import sweep

__all__ = [
    "Store", "StoreError", "SweepResult",
    "sweep",
    "choice", "cross", "grid", "integers", "log_uniform", "sample", "uniform",
]  # fmt: skip
