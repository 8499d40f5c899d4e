# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A new aggregator, plugged in
#
# An *aggregator* turns the gradients $g_1, \dots, g_K$ of $K$ losses into one update. All rules of this library are
# functions from the Gram matrix $M_{jk} = \langle g_j, g_k \rangle$ to weights $a$, with $u = \sum_k a_k g_k$. So a
# new one is a function of a $K \times K$ matrix, and fits wherever the others do. The example is the impartial rule
# of IMTL-G (Liu et al., *Towards Impartial Multi-Task Learning*, ICLR 2021): the update whose projections onto all
# unit gradients are equal,
#
# $$\Big\langle u, \frac{g_k}{\|g_k\|} \Big\rangle = \text{const} \quad\Longleftrightarrow\quad
#   a = D^{-1} b, \qquad C b = \mathbf{1}, \qquad D = \mathrm{diag}\,\|g_k\|, \qquad C = D^{-1} M D^{-1} .$$
#
# The library does not contain it; it is written here.

# %%
# %matplotlib inline
import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
from jax.tree_util import Partial
from matplotlib.figure import Figure

import badrjax as bx
from badrjax import plotting
from badrjax.results import mean_interval

matplotlib.rcParams["figure.dpi"] = 80

# %%
# A quick profile for tests; it shrinks the numbers below and nothing else.
QUICK = bool(os.environ.get("BADRJAX_NOTEBOOKS_QUICK"))
SEEDS, STEPS, EVERY, EPOCHS, RESAMPLES = (2, 4, 2, 1, 20) if QUICK else (5, 300, 15, 6, 500)

# %% [markdown]
# ## The rule
#
# A solve with the correlation matrix. `bx` rules also tell whether there is a solution; here that is whether the
# projections came out equal and positive. With conflicting gradients some weights may be negative.


# %%
class Impartial(NamedTuple):
    """What a bargain reports: weights, whether they solve the equations, and by how much they miss."""

    weights: jax.Array
    feasible: jax.Array
    residual: jax.Array


def impartial_weights(gram, present=None):
    present = jnp.ones(gram.shape[0], bool) if present is None else present
    both = present[:, None] & present[None, :]
    norm = jnp.sqrt(jnp.where(present, jnp.diagonal(gram), 1.0))
    correlation = jnp.where(both, gram / (norm[:, None] * norm[None, :]), jnp.eye(gram.shape[0]))
    b = jnp.linalg.solve(correlation, jnp.where(present, 1.0, 0.0))
    residual = jnp.max(jnp.abs(jnp.where(present, jnp.matmul(correlation, b, precision="highest") - 1, 0.0)))
    feasible = jnp.isfinite(b).all() & (residual < 1e-3)
    equal = present / jnp.maximum(present.sum(), 1)
    # Projections of 1 each; scaled so that the weights sum to 1 where they can.
    weights = jnp.where(present, b / norm, 0.0)
    total = jnp.sum(weights)
    weights = weights / jnp.where(jnp.abs(total) > 1e-3 * jnp.abs(weights).sum(), jnp.abs(total), 1.0)
    return Impartial(jnp.where(feasible, weights, equal), feasible, residual)


# %% [markdown]
# What it should be, checked on drawn gradients: equal projections; indifferent to the scale of a gradient; and for
# two players the direction of the Nash bargain, which is indifferent to scales and symmetric as well.

# %%
G = jax.random.normal(jax.random.key(0), (4, 50)) * jnp.array([[1.0], [10.0], [0.1], [3.0]])
update = bx.combine(G, impartial_weights(bx.gramian(G)).weights)
projections = bx.alignment(G, update) / jnp.linalg.norm(G, axis=1)
assert np.allclose(projections, projections[0], rtol=1e-3)
assert projections[0] > 0

direction = lambda G, rule: (lambda u: u / jnp.linalg.norm(u))(bx.combine(G, rule(bx.gramian(G)).weights))
assert np.allclose(
    direction(G, impartial_weights), direction(G * jnp.array([[5.0], [1], [1], [1]]), impartial_weights), atol=1e-4
)
assert np.allclose(direction(G[:2], impartial_weights), direction(G[:2], bx.nash_weights), atol=1e-4)
assert not np.allclose(direction(G, impartial_weights), direction(G, bx.nash_weights), atol=1e-4)

# %% [markdown]
# ## In an optimiser
#
# `bx.as_optax(rule)` makes it the first transformation of an optax chain, whose updates come in with one gradient a
# player. The task: four groups of sex and race in Adult (UCI, CC BY 4.0, bundled), one loss each, a small network.
# Rules differ in the length of their update, so each is brought to unit norm before the learning rate; only
# directions compete.

# %%
adult = bx.load_dataset("adult", sensitive=["sex", "race"], num_groups=4)
splits = bx.datasets.split(adult, "stratified", seed=0)
adult = bx.datasets.standardise(adult, splits.train)
train, test = bx.to_batch(adult, splits.train[: 1024 if QUICK else 8192]), bx.to_batch(adult, splits.test)
K, NAMES = adult.num_groups, ["other races", "Black", "White women", "White men"]
print(
    {
        name: f"{n} training, {m} test rows"
        for name, n, m in zip(NAMES, np.bincount(train.group), np.bincount(test.group), strict=True)
    }
)

model = bx.models.mlp(adult.x.shape[1], (32,))
losses = bx.losses.cross_entropy(model)
of_groups = lambda params, batch: bx.group_mean(losses(params, batch, None), batch.group, K)

RULES = {
    "mean": lambda gram: jnp.full(K, 1 / K),
    "min-norm": bx.min_norm_weights,
    "Nash": bx.nash_weights,
    "impartial (new)": impartial_weights,
}  # fmt: skip


def train_with(rule, seed, train, test):
    optimizer = optax.chain(bx.as_optax(rule, num_players=K), optax.normalize_by_update_norm(), optax.sgd(0.03))

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.jacrev(of_groups)(params, train), state, params)
        return (optax.apply_updates(params, updates), state), optax.tree.get(state, "weights")

    def block(carry, _):
        carry, weights = jax.lax.scan(step, carry, length=EVERY)
        return carry, (of_groups(carry[0], test), weights.mean(axis=0))

    params = model.init(jax.random.key(seed))
    (params, _), seen = jax.lax.scan(block, (params, optimizer.init(params)), length=STEPS // EVERY)
    return params, *seen


runs = {}
for name, rule in RULES.items():
    over_seeds = jax.vmap(lambda seed, train, test, rule=rule: train_with(rule, seed, train, test), (0, None, None))
    runs[name] = jax.jit(over_seeds)(jnp.arange(SEEDS), train, test)

# %% [markdown]
# The loss of the group that is worst off, on the test rows:

# %%
worst = {name: np.max(test_losses, axis=-1) for name, (_, test_losses, _) in runs.items()}
axes = plotting.trajectory(worst, y_label="worst group's test loss (nats)", x_label=f"block of {EVERY} steps")
axes.figure

# %% [markdown]
# The weights that the new rule gave:

# %%
axes = plotting.weights_over_time(runs["impartial (new)"][2], NAMES, x_label=f"block of {EVERY} steps")
axes.figure

# %% [markdown]
# Seeds share the rows, so rules are compared seed by seed: the difference of the worst group's last test loss to the
# mean rule, with Student's interval over seeds. An interval over seeds is about this split; other rows would add to
# it.

# %%
for name, values in worst.items():
    difference = mean_interval(values[:, -1] - worst["mean"][:, -1])
    print(f"{name:16} worst test loss {values[:, -1].mean():.4f}, minus the mean rule's "
          f"{difference.mean:+.4f} ± {difference.half_width:.4f} ({SEEDS} seeds)")  # fmt: skip

# %% [markdown]
# True positive rates of the groups on the test rows for the first seed, with counts of the rows labelled 1:


# %%
@jax.jit
def uncertainty(params, test):
    predicted = (model.apply(params, test.x) > 0).astype(int)
    rates = lambda weight: bx.metrics.by_group(test.y, predicted, test.group, K, weight).true_positive_rate
    interval = bx.bootstrap(jax.random.key(1), rates, test.y.size, num_samples=RESAMPLES)
    floor = bx.noise_floor(jax.random.key(2), test.y, predicted, test.group, K)
    return interval, floor.equal_opportunity.quantile


figure = Figure(figsize=(6.4, 4.8), layout="constrained")
panels = figure.subplots(2, 1, sharex=True)
for axes, name in zip(panels, ("mean", "impartial (new)"), strict=True):
    interval, floor = uncertainty(jax.tree.map(lambda leaf: leaf[0], runs[name][0]), test)
    plotting.group_metrics(
        interval.estimate, interval.low, interval.high, counts=np.bincount(test.group[test.y == 1]), names=NAMES,
        x_label="true positive rate (0 to 1; 95% bootstrap)", floor=floor, axes=axes,
    )  # fmt: skip
    axes.set_title(f"{name}, seed 0 of {SEEDS}", fontsize=10)
figure

# %% [markdown]
# ## In a published method
#
# `bx.nash_meta` asks its `bargain` for weights of the cells, given their hypergradients. Anything that returns
# `weights`, `feasible` and `residual` will do, so the new rule becomes a new meta-learning method in one line.

# %%
steering = bx.datasets.split(adult, "balanced", seed=0, validation_per_cell=20)
validation = bx.to_batch(adult, steering.validation)
rest = bx.to_batch(adult, steering.train[: 1024 if QUICK else 8192])
bargain = lambda gradients, present: impartial_weights(bx.gramian(gradients), present)


def meta(bargain, seed, rest, validation):
    sgd = Partial(optax.sgd, learning_rate=0.05)
    method = bx.nash_meta(
        losses, sgd, validation, goal="meta_group_dro", num_groups=K, bargaining_epochs=EPOCHS, bargain=bargain
    )
    start, key = jax.random.split(jax.random.key(seed))
    return bx.fit(key, method, model.init(start), rest, num_epochs=EPOCHS, sampler=bx.shuffled(256)).steps


clipped = {}
for name, rule in {"Nash": bx.nash_weights_from_gradients, "impartial (new)": bargain}.items():
    over_seeds = jax.vmap(lambda seed, *parts, rule=rule: meta(rule, seed, *parts), (0, None, None))
    steps = jax.jit(over_seeds)(jnp.arange(SEEDS), rest, validation)
    clipped[name] = steps.realised_aligned
    print(f"{name}: {100 * float(steps.feasible.mean()):.1f}% of the bargains had a solution, and with "
          f"{100 * float(steps.aligned.mean()):.1f}% of the updates every cell gains ({SEEDS} seeds)")  # fmt: skip
    assert np.all(np.asarray(steps.aligned) >= np.asarray(steps.feasible) - 1e-6)

# %% [markdown]
# That is before the update becomes weights of rows. Those cannot be negative, and clipping them at 0 takes some of the
# agreement away:

# %%
plotting.alignment_rates(clipped, bargaining_epochs=EPOCHS).figure

# %% [markdown]
# Where a rule has a solution its update helps every player. The two rules differ in how the gain is dealt out, and on
# these data and rows the differences above are what there is to say; a claim that one is better takes more splits, as
# in `badrjax.results.compare_over_splits`.
