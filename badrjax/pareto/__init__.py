"""Trade-offs between objectives, all to be minimised: who is dominated, how good a front is, and stationarity.

Points are rows `f[n, m]`, one a solution, one column an objective. `valid` `bool[n]` masks rows out; a row with NaN
(a lane that diverged) is masked out by itself. Nothing here holds an `[n, n]` array.
"""

from badrjax.pareto.distances import generational_distance_plus, igd_plus
from badrjax.pareto.dominance import Front, dominated, front, front_points
from badrjax.pareto.stationary import (
    StationarityCertificate,
    pareto_stationarity,
    pareto_stationarity_from_gradients,
)
from badrjax.pareto.volume import hypervolume

__all__ = [
    "Front",
    "StationarityCertificate",
    "dominated",
    "front",
    "front_points",
    "generational_distance_plus",
    "hypervolume",
    "igd_plus",
    "pareto_stationarity",
    "pareto_stationarity_from_gradients",
]
