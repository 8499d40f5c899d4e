"""A small dataset of three groups, and problems whose objective is a mixture, so that one program serves many."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

import badrjax as bx
from badrjax import bilevel
from badrjax.models import linear

K, D = 3, 3
SIZES = (40, 20, 30)
NUM_ROWS = sum(SIZES)
CENTRE = np.array([0.5, 0.2, 0.3])


def dataset(targets=False):
    """Rows in random order, groups of different sizes, means and slopes; `targets` are floats, else classes overlap."""
    random = np.random.default_rng(0)
    group = random.permutation(np.repeat(np.arange(K), SIZES))
    x = random.normal(size=(NUM_ROWS, D)) + np.array([[0.0, 0.3, 0.0], [0.6, -0.4, 0.2], [-0.5, 0.0, 0.4]])[group]
    slopes = np.array([[1.5, -0.5, 0.3], [-0.4, 1.2, 0.5], [0.8, 0.6, -1.2]])[group]
    scores = np.sum(slopes * x, axis=1) + np.array([0.3, -0.5, 0.6])[group]
    noise = random.logistic(size=NUM_ROWS)
    y = scores + noise if targets else (scores + noise > 0).astype(np.int32)
    return bx.Batch(x, y, group.astype(np.int32), np.ones(NUM_ROWS))


def rows_of(data, rows):
    return jax.tree.map(lambda leaf: leaf[rows], data)


def single(data):
    """In single precision."""
    return jax.tree.map(lambda leaf: np.float32(leaf) if leaf.dtype == np.float64 else leaf, data)


def start(intercept=True):
    return linear(D, intercept=intercept).init(jax.random.key(0))


def flat(tree):
    """As `ravel_pytree`, in the precision it has."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def mixture(coefficients, objectives, params, batch):
    values = jnp.stack([objective(params, batch) for objective in objectives])
    return jnp.sum(jnp.where(coefficients == 0, 0.0, coefficients * values))


def mixed(data, objectives, *, num_groups=K, intercept=True, **options):
    """`problem(coefficients)` with the mixture of the objectives, each `(name, variant)` built by `bilevel.problem`."""
    model = linear(D, intercept=intercept)
    each = [
        bilevel.problem(model, data, num_groups=num_groups, objective=name, variant=variant, **options)
        for name, variant in objectives
    ]
    return each[0]._replace(objective=Partial(mixture, jnp.ones(len(each)), tuple(p.objective for p in each)))


def with_coefficients(problem, coefficients):
    _, objectives = problem.objective.args
    return problem._replace(objective=Partial(mixture, coefficients, objectives))
