"""Tables, compiled functions and comparisons that the tests of uncertainty share."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from badrjax.uncertainty import bootstrap, noise_floor_from_counts

N = 40
# Rows of most tables, for one compilation; weight 0 fills them up.
ROWS = 120
S = 2000
KEY = jax.random.key(0)


def filled(column, rest=0):
    return np.concatenate([column, np.full(ROWS - len(column), rest, column.dtype)])


def mean_of(values, weight):
    return jnp.sum(jnp.where(weight > 0, weight * values, 0.0)) / jnp.sum(weight)


def identity(weight):
    return weight


@partial(jax.jit, static_argnames=("num_samples", "num_clusters", "max_draws", "batch_size"))
def interval_of_mean(key, values, weight, strata=None, clusters=None, **options):
    return bootstrap(key, Partial(mean_of, values), weight, strata=strata, clusters=clusters, **options)


@partial(jax.jit, static_argnames=("num_samples", "num_clusters", "max_draws", "batch_size"))
def resamples(key, weight, strata=None, clusters=None, **options):
    return bootstrap(key, identity, weight, strata=strata, clusters=clusters, **options).samples


def assert_same(left, right, **tolerances):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerances), left, right)


def assert_mean(draws, expected):
    """The mean of independent draws is within five standard errors of what is expected."""
    draws = np.asarray(draws, float)
    error = draws.std(axis=0, ddof=1) / np.sqrt(draws.shape[0])
    np.testing.assert_array_less(np.abs(draws.mean(axis=0) - expected), 5 * error + 1e-6)


floor_from_counts = jax.jit(noise_floor_from_counts, static_argnames="num_samples")


def table_of(seed):
    random = np.random.default_rng(seed)
    labels, predictions, groups = random.integers(0, 2, (3, N))
    return labels, predictions, groups + random.integers(0, 2, N)
