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
# # Composing primitives: from group losses to a hypergradient to bargaining weights
#
# Every method of this library is a composition of small pure functions. This notebook builds one by hand: a
# meta-reweighting step in the spirit of *Fairness-Aware Meta-Learning via Nash Bargaining* (Zeng et al., NeurIPS
# 2024). Each formula is followed by an `assert` that checks it on the numbers at hand.
#
# The data are Adult (UCI, CC BY 4.0, bundled): is a person's income above 50,000 dollars? The players are the four
# *cells* of sex and label.

# %%
# %matplotlib inline
import os

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
from matplotlib.figure import Figure

import badrjax as bx
from badrjax import plotting

matplotlib.rcParams["figure.dpi"] = 80

# %%
# A quick profile for tests; it shrinks the numbers below and nothing else.
QUICK = bool(os.environ.get("BADRJAX_NOTEBOOKS_QUICK"))
SEEDS, STEPS, EVERY, RESAMPLES = (2, 6, 3, 20) if QUICK else (5, 400, 20, 500)

# %%
adult = bx.load_dataset("adult", sensitive="sex")
splits = bx.datasets.split(adult, "balanced", seed=0, validation_per_cell=100, replacement="needed")
adult = bx.datasets.standardise(adult, splits.train)  # scaled by the training rows alone
train, validation, test = (bx.to_batch(adult, rows) for rows in splits)
CELLS = [f"{sex}, {income}" for sex in adult.group_names for income in ("up to 50k", "above 50k")]
K = len(CELLS)
cell_of = lambda batch: 2 * batch.group + batch.y
for name, batch in (("train", train), ("validation", validation), ("test", test)):
    print(f"{name:10}", dict(zip(CELLS, np.bincount(cell_of(batch), minlength=K).tolist(), strict=True)))

# %% [markdown]
# The validation set steers the method. The paper takes 3 rows a cell, with which the outcome depends on who these 12
# people are; here there are 100.
#
# ## 1. Group losses
#
# With a loss $\ell_i(\theta)$ an example, the loss of cell $k$ is the mean over its rows,
#
# $$L_k(\theta) = \frac{\sum_i w_i\,[c_i = k]\,\ell_i(\theta)}{\sum_i w_i\,[c_i = k]}.$$

# %%
model = bx.models.mlp(adult.x.shape[1], (64,))
losses = bx.losses.cross_entropy(model)  # (params, batch, key) -> one loss a row
params = model.init(jax.random.key(0))


def of_cells(params, batch):
    return bx.group_mean(losses(params, batch, None), cell_of(batch), K)


by_hand = np.asarray(losses(params, validation, None))
by_hand = [by_hand[np.asarray(cell_of(validation)) == k].mean() for k in range(K)]
assert np.allclose(of_cells(params, validation), by_hand, rtol=1e-5)
np.round(by_hand, 3)

# %% [markdown]
# ## 2. What one training example does to each cell
#
# Take one gradient step on a batch in which example $i$ counts $\epsilon_i$, $\theta(\epsilon) = \theta - \eta \sum_i
# \epsilon_i \nabla \ell_i(\theta)$. At $\epsilon = 0$
#
# $$\frac{\partial L_k(\theta(\epsilon))}{\partial \epsilon_i}
#   = -\eta\,\langle \nabla \ell_i(\theta), \nabla L_k(\theta) \rangle .$$
#
# Nothing is unrolled: it is one forward-mode product a cell. The check differentiates through the step itself.

# %%
step_size = 0.1
batch = jax.tree.map(lambda leaf: leaf[:512], train)
gradients = jax.jacrev(of_cells)(params, validation)  # leaves lead with K
G = bx.one_step_hypergradients(lambda p: losses(p, batch, None), params, gradients, step_size=step_size)


def after_step(epsilon):
    slope = jax.grad(lambda p: epsilon @ losses(p, batch, None))(params)
    return of_cells(jax.tree.map(lambda p, g: p - step_size * g, params, slope), validation)


through_the_step = jax.jacrev(after_step)(jnp.zeros(512))
assert np.allclose(G, through_the_step, atol=1e-5)
G.shape

# %% [markdown]
# ## 3. A bargain between the cells
#
# The rows $g_k$ of $G$ seldom agree. The Nash bargaining solution weighs them so that the product of all gains is
# largest; with the Gram matrix $M = G G^\top$ its weights solve
#
# $$M a = 1 / a, \qquad u = \sum_k a_k g_k, \qquad \langle g_k, u \rangle = 1 / a_k > 0 .$$
#
# So every cell gains, the one with the smaller weight more. (Navon et al., *Multi-Task Learning as a Bargaining
# Game*, ICML 2022.)

# %%
bargain = bx.nash_weights_from_gradients(G)
update = bargain.weights @ G
assert bool(bargain.feasible)
assert np.allclose(bargain.weights * (bx.gramian(G) @ bargain.weights), 1, atol=1e-3)
assert np.allclose(bx.alignment(G, update), 1 / bargain.weights, rtol=1e-3)
dict(zip(CELLS, np.round(np.asarray(bargain.weights / bargain.weights.sum()), 3).tolist(), strict=True))

# %% [markdown]
# ## 4. A method in thirty lines
#
# Examples whose weight lowers the bargained loss count, $w_i \propto \max(-u_i, 0)$; the others do not. This is the
# whole training run: it draws batches, weighs the cells, weighs the examples, steps, and reports. `jax.vmap` runs all
# seeds at once.

# %%
optimizer = optax.sgd(0.1)


def weights_of_rows(params, batch):
    gradients = jax.jacrev(of_cells)(params, validation)
    G = bx.one_step_hypergradients(lambda p: losses(p, batch, None), params, gradients, step_size=step_size)
    bargain = bx.nash_weights_from_gradients(G)
    rows = jnp.maximum(-bargain.weights @ G, 0)
    gains = -G @ rows  # what clipping at 0 left of the alignment
    seen = bargain.weights / bargain.weights.sum(), bargain.feasible, (gains > 0).all()
    return rows / rows.sum(), seen


def step(bargains, carry, key):
    params, state = carry
    rows = jax.random.randint(key, (256,), 0, train.y.size)
    batch = jax.tree.map(lambda leaf: leaf[rows], train)
    weight, seen = weights_of_rows(params, batch)
    weight = weight if bargains else jnp.full(256, 1 / 256)
    slope = jax.grad(lambda p: weight @ losses(p, batch, None))(params)
    change, state = optimizer.update(slope, state)
    return (optax.apply_updates(params, change), state), seen


def run(bargains, seed):
    start, *keys = jax.random.split(jax.random.key(seed), 1 + STEPS // EVERY)
    params = model.init(start)
    few_steps = lambda carry, key: jax.lax.scan(lambda c, k: step(bargains, c, k), carry, jax.random.split(key, EVERY))
    epoch = lambda carry, key: (lambda c, seen: (c, (of_cells(c[0], test), *seen)))(*few_steps(carry, key))
    return jax.lax.scan(epoch, (params, optimizer.init(params)), jnp.stack(keys))


runs = {name: jax.jit(jax.vmap(lambda seed, b=b: run(b, seed)))(jnp.arange(SEEDS)) for name, b in
        (("plain", False), ("bargained", True))}  # fmt: skip

# %% [markdown]
# What the run saw. The weights of the four players, averaged over each block of steps; then how often the update
# helps every cell, before its negative part is cut off and after. Before, that is whenever the bargain has a
# solution. After, it is seldom so: no example can count less than nothing, and this takes most of the agreement away.

# %%
(_, (cell_losses, players, feasible, aligned)) = runs["bargained"]
assert np.allclose(players.sum(-1), 1, atol=1e-4)
axes = plotting.weights_over_time(
    players.mean(axis=2), CELLS, x_label=f"block of {EVERY} steps", y_label="bargaining weight"
)
axes.figure

# %%
axes = plotting.alignment_rates({"the bargain": np.mean(feasible, axis=2), "clipped at 0": np.mean(aligned, axis=2)})
axes.set_xlabel(f"block of {EVERY} steps")
axes.figure

# %% [markdown]
# The loss on the test rows of the cell that is worst off. In this run bargaining lowers it at once and then lets it
# rise again, with seeds that differ more and more. The published method bargains for some epochs only and goes on
# with another goal.

# %%
worst = {name: np.max(seen[0], axis=-1) for name, (_, seen) in runs.items()}
axes = plotting.trajectory(worst, y_label="worst cell's test loss (nats)", x_label=f"block of {EVERY} steps")
axes.figure

# %% [markdown]
# ## 5. What it means for people, with its uncertainty
#
# Balanced accuracy by sex on the test rows, of the first seed, with bootstrap intervals over rows. The band is as
# wide as the gap that chance alone reaches in 19 of 20 cases where sex plays no part (permuted within labels): two
# dots inside it do not differ by more than that.


# %%
@jax.jit
def uncertainty(predicted, test):
    of_groups = lambda group, weight=None: bx.metrics.group_balanced_accuracy(test.y, predicted, group, 2, weight)
    interval = bx.bootstrap(
        jax.random.key(1), lambda weight: of_groups(test.group, weight), test.y.size, num_samples=RESAMPLES
    )
    gap = lambda group: jnp.ptp(of_groups(group))
    floor = bx.permutation_floor(jax.random.key(2), gap, test.group, strata=test.y, num_samples=RESAMPLES)
    return interval, gap(test.group), floor.quantile


figure = Figure(figsize=(6.4, 4.2), layout="constrained")
for name, axes in zip(runs, figure.subplots(2, 1, sharex=True), strict=True):
    first = jax.tree.map(lambda leaf: leaf[0], runs[name][0][0])
    interval, gap, floor = uncertainty((model.apply(first, test.x) > 0).astype(int), test)
    plotting.group_metrics(
        interval.estimate, interval.low, interval.high, counts=np.bincount(test.group), names=adult.group_names,
        x_label="balanced accuracy (0 to 1; 95% bootstrap)", floor=floor, axes=axes,
    )  # fmt: skip
    axes.set_title(f"{name}, seed 0 of {SEEDS}", fontsize=10)
    print(f"{name}: gap {gap:.3f}, noise floor {floor:.3f} (95%)")
figure

# %% [markdown]
# An interval over rows says nothing of other seeds or other validation rows. The whole method, with its two stages,
# diagnostics and published variants, is `bx.nash_meta`; [the page of the paper](../docs/reproduction.md) says which
# of its numbers come out here.
