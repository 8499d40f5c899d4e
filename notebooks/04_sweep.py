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
# # Seeds times learning rates in one program
#
# A run is a pure function `run(key, **settings)`, so many runs are one `vmap` of it. `bx.sweep` does this for a table
# of trials. This notebook sweeps seeds and learning rates of a small network on Adult (UCI, CC BY 4.0, bundled),
# measures what the one program buys on this machine, and reads off the result with its uncertainty.

# %%
# %matplotlib inline
import os
import time

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
from jax.tree_util import Partial

import badrjax as bx
from badrjax import plotting

matplotlib.rcParams["figure.dpi"] = 80

# %%
# A quick profile for tests; it shrinks the numbers below and nothing else.
QUICK = bool(os.environ.get("BADRJAX_NOTEBOOKS_QUICK"))
SEEDS, RATES, EPOCHS, REBUILT, RESAMPLES = (
    (2, [0.01, 0.1], 1, 1, 20) if QUICK else (8, [0.001, 0.003, 0.01, 0.03, 0.1, 0.3], 10, 4, 500)
)

# %%
adult = bx.load_dataset("adult", sensitive="sex")
splits = bx.datasets.split(adult, "stratified", seed=0)
adult = bx.datasets.standardise(adult, splits.train)
rows = (splits.train[:4096], splits.validation, splits.test)
train, validation, test = (bx.to_batch(adult, part) for part in rows)
print(
    {name: part.y.size for name, part in zip(("train", "validation", "test"), (train, validation, test), strict=True)}
)

# %% [markdown]
# ## A run
#
# The learning rate is an argument, and the optimiser is made inside by `Partial(optax.sgd, ...)`, so that another
# rate is another number and not another program. The data are bound by `Partial`, too: they are arguments of the
# program, one copy for all lanes.

# %%
model = bx.models.mlp(adult.x.shape[1], (32,))


def measure(params, batch):
    predicted = (model.apply(params, batch.x) > 0).astype(int)
    return {
        "balanced_accuracy": bx.metrics.balanced_accuracy(batch.y, predicted),
        "equalized_odds_difference": bx.metrics.equalized_odds_difference(batch.y, predicted, batch.group, 2),
    }


def run(key, rate, train, validation, test):
    start, key = jax.random.split(key)
    method = bx.erm(bx.losses.cross_entropy(model), Partial(optax.sgd, learning_rate=rate, momentum=0.9))
    fitted = bx.fit(key, method, model.init(start), train, num_epochs=EPOCHS, sampler=bx.shuffled(128))
    measured = {name: measure(fitted.state.params, part) for name, part in (("validation", validation), ("test", test))}
    return measured | {"loss": fitted.steps.loss}


bound = Partial(run, train=train, validation=validation, test=test)
trials = bx.sweeps.cross(bx.sweeps.grid(rate=RATES), seed=range(SEEDS))
result = bx.sweep(bound, trials, progress=False)
table = result.frame()
print(f"{len(table)} trials: {len(RATES)} rates x {SEEDS} seeds")
assert len(table) == len(RATES) * SEEDS

# %% [markdown]
# A trial does not depend on what runs beside it: alone, it gives the same numbers, up to rounding.

# %%
single = jax.jit(run)
place = len(table) - 1
seed, rate = int(table["seed"][place]), float(table["rate"][place])
alone = single(jax.random.key(seed), jnp.float32(rate), train, validation, test)
np.testing.assert_allclose(table["loss"][place], alone["loss"], rtol=2e-2)
np.testing.assert_allclose(
    table["validation.balanced_accuracy"][place], alone["validation"]["balanced_accuracy"], atol=2e-2
)

# %% [markdown]
# ## What it buys
#
# Three ways to the same table, timed in turn in one go. *Rebuilt* is how scripts are often written: the rate is a
# Python number inside a function that is compiled anew for each trial (timed on a few trials). *One by one* compiles
# once and calls it for every trial. *Side by side* is the one program of all trials; it is compiled once, and timed
# with and without that.


# %%
def seconds(function):
    begun = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - begun


keys = jax.vmap(jax.random.key)(jnp.asarray(trials["seed"]))
rates = jnp.asarray(trials["rate"], jnp.float32)
together = jax.jit(jax.vmap(run, (0, 0, None, None, None)))


def rebuilt():
    return [
        jax.jit(lambda key, *parts, r=float(rates[i]): run(key, r, *parts))(keys[i], train, validation, test)
        for i in range(REBUILT)
    ]


def one_by_one():
    return [single(keys[i], rates[i], train, validation, test) for i in range(len(table))]


def side_by_side():
    return together(keys, rates, train, validation, test)


each_rebuilt = seconds(rebuilt) / REBUILT
with_compiling = seconds(side_by_side)
loop, at_once = [], []
for _ in range(1 if QUICK else 3):  # in turn, so that a busy moment hits both
    loop.append(seconds(one_by_one))
    at_once.append(seconds(side_by_side))
loop, at_once, number = min(loop), min(at_once), len(table)
print(f"device: {jax.default_backend()}, {os.cpu_count()} cores; {number} trials")
print(f"rebuilt:      {each_rebuilt:6.3f} s a trial")
print(f"one by one:   {loop / number:6.3f} s a trial")
print(f"side by side: {at_once / number:6.3f} s a trial, and once {with_compiling - at_once:.1f} s to compile")
print(f"rebuilt / side by side with its compiling: {each_rebuilt * number / with_compiling:.1f}")
print(f"one by one / side by side: {loop / at_once:.2f}")

# %% [markdown]
# Nearly all of the gain is in not compiling again. What remains is a matter of the device: on a few cores one lane
# keeps them busy already, and lanes side by side gain little or even lose; an accelerator is filled by them. The
# ratios are of this machine on the day of the run, which others shared. [Scaling](../docs/scaling.md) has the
# arithmetic.
#
# ## What it says
#
# Losses over epochs, with the range over seeds:

# %%
losses = {f"rate {rate:g}": np.stack(table["loss"][table["rate"] == rate].to_list()) for rate in RATES}
axes = plotting.trajectory(losses, y_label="training loss (nats)")
axes.figure

# %% [markdown]
# The rate is chosen on the validation rows, by the mean over seeds (`best` refuses to choose on test rows unless
# asked); the test rows are looked at for that rate alone. The interval is Student's over seeds: what another seed
# would give, on the same rows.

# %%
best = result.best("balanced_accuracy", split="validation")
rate = float(best["rate"].iloc[0])
for metric in ("balanced_accuracy", "equalized_odds_difference"):
    by_rate = result.summarise(metric, split="test", by="rate")
    chosen = by_rate[by_rate["rate"] == rate].iloc[0]
    print(
        f"rate {rate:g}, test {metric}: {chosen['mean']:.3f} ± {chosen['half_width']:.3f} ({int(chosen['num'])} seeds)"
    )

# %% [markdown]
# The other uncertainty is over rows. For the first seed of that rate: true positive rates by sex on the test rows
# with bootstrap intervals and counts of the rows labelled 1, beside the gap that these counts show by chance at
# parity.

# %%
key, sgd = jax.random.key(0), Partial(optax.sgd, learning_rate=jnp.float32(rate), momentum=0.9)
start, key = jax.random.split(key)
method = bx.erm(bx.losses.cross_entropy(model), sgd)
params = bx.fit(key, method, model.init(start), train, num_epochs=EPOCHS, sampler=bx.shuffled(128)).state.params


@jax.jit
def uncertainty(predicted, test):
    rates = lambda weight: bx.metrics.by_group(test.y, predicted, test.group, 2, weight).true_positive_rate
    interval = bx.bootstrap(jax.random.key(1), rates, test.y.size, num_samples=RESAMPLES)
    floor = bx.noise_floor(jax.random.key(2), test.y, predicted, test.group, 2)
    return interval, floor.equal_opportunity.quantile


interval, floor = uncertainty((model.apply(params, test.x) > 0).astype(int), test)
axes = plotting.group_metrics(
    interval.estimate, interval.low, interval.high, counts=np.bincount(test.group[test.y == 1]),
    names=adult.group_names, x_label="true positive rate (0 to 1; 95% bootstrap)", floor=floor,
)  # fmt: skip
axes.figure
