"""How sure a measured number is: intervals over rows, and the gaps to expect where there is parity.

`bootstrap` resamples rows by their weights, so that every metric that takes a `weight` gets an interval.
`noise_floor` and `permutation_floor` tell what a gap between groups comes to by chance alone: the largest of
many differences between small groups is far from 0 even where all groups are treated alike.
"""

from badrjax.uncertainty.noise_floors import Floor, NoiseFloor, noise_floor, noise_floor_from_counts
from badrjax.uncertainty.permutations import permutation_floor
from badrjax.uncertainty.resampling import Bootstrap, bootstrap

__all__ = [
    "Bootstrap",
    "Floor",
    "NoiseFloor",
    "bootstrap",
    "noise_floor",
    "noise_floor_from_counts",
    "permutation_floor",
]
