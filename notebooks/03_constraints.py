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
# # Constraints and a performance budget on COMPAS
#
# FairLAB (Fontana, Naretto and Monreale) takes requirements, each a metric, an attribute or an intersection, and the
# largest gap $\tau$ between two of its groups, and a *budget* $\beta$: how much F1 may be given up for them,
#
# $$\max_w \ P(w) \quad \text{subject to} \quad \big|r_g(w) - r_h(w)\big| \le \tau \ \text{ for all pairs } g, h,
#   \qquad P(w) \ge p^* - \beta ,$$
#
# where $p^*$ is the best F1 of a model so far. It is solved by the augmented Lagrangian method; gradients see smooth
# rates, multipliers see hard ones. [More on the method](../docs/fairlab.md).
#
# COMPAS has no licence, so the package does not contain it. Put ProPublica's `compas-scores-two-years.csv` into
# `$BADRJAX_DATA/compas/`, or let `badrjax data fetch compas` do so; without it this notebook takes German Credit,
# with constraints of the same kind, and says so. COMPAS' label is a new *charge*, which is a record of policing as
# well as of conduct; [docs/datasets.md](../docs/datasets.md#compas) lists its flaws.

# %%
# %matplotlib inline
import os

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
from jax.tree_util import Partial
from matplotlib.figure import Figure

import badrjax as bx
from badrjax import plotting

matplotlib.rcParams["figure.dpi"] = 80

# %%
# A quick profile for tests; it shrinks the numbers below and nothing else.
QUICK = bool(os.environ.get("BADRJAX_NOTEBOOKS_QUICK"))
SEEDS, BUDGETS, ROUNDS, LOCAL_EPOCHS, RESAMPLES = (
    (1, [0.0, 0.1], 1, 2, 20) if QUICK else (3, [0.0, 0.02, 0.05, 0.1], 12, 10, 500)
)

# %%
try:
    data = bx.load_dataset("compas", sensitive=["sex", "race"], download=False)
    race = np.array(data.attributes["race"].names)[data.attributes["race"].ids]
    second = np.where(np.isin(race, ["African-American", "Caucasian"]), race, "Other")  # the rest are few
    attributes, other = {"sex": data.attributes["sex"], "race": second}, "race"
    print("COMPAS: 1 is a new charge within two years, which is unfavourable.")
except FileNotFoundError:
    data = bx.load_dataset("german", sensitive=["sex", "age"])
    attributes, other = dict(data.attributes), "age"
    print("COMPAS was not found: what follows is about German Credit, where 1 is a good risk, which is favourable.")

splits = bx.datasets.split(data, "random", seed=0, fractions=(0.5, 0.2, 0.3))
data = bx.datasets.standardise(data, splits.train)
print({name: len(rows) for name, rows in zip(("train", "validation", "test"), splits, strict=True)}, "rows")

# %% [markdown]
# ## Requirements become pairs
#
# Rates of predictions 1 by sex and by the other attribute may differ by 0.1 at most, in their intersections by 0.15;
# true positive rates by sex by 0.1.

# %%
REQUIREMENTS = [
    ("demographic_parity", "sex", 0.1),
    ("demographic_parity", other, 0.1),
    ("demographic_parity", ("sex", other), 0.15),
    ("equal_opportunity", "sex", 0.1),
]
constraints, cells = bx.fairness_constraints(REQUIREMENTS, attributes, data.y, rows=splits.train)
value_of = lambda group: constraints.group_names[group].split("=")[1]
pairs = [
    f"{constraints.requirement_names[r]}: {value_of(a)} / {value_of(b)}".replace("_", " ")
    for r, a, b in zip(constraints.requirement, constraints.left, constraints.right, strict=True)
]
batch_of = lambda rows: bx.Batch(jnp.asarray(data.x[rows]), jnp.asarray(data.y[rows]), jnp.asarray(cells.ids[rows]))
train, validation, test = map(batch_of, splits)
print(f"{len(pairs)} pairs of groups from {len(REQUIREMENTS)} requirements; training rows of the cells:")
print(dict(zip(cells.names, np.bincount(train.group, minlength=cells.num_groups).tolist(), strict=True)))

# %% [markdown]
# ## Seeds and budgets in one program
#
# First without constraints; from there with them. The budget is a number like any other, so `vmap` over budgets and
# seeds gives the whole trade-off as one compiled program.

# %%
model = bx.models.linear(data.x.shape[1])
adam = Partial(optax.adam, learning_rate=0.02)
sizes = bx.group_count(train.group, cells.num_groups)


@jax.jit
@jax.vmap
def plainly(seed):
    start, key = jax.random.split(jax.random.key(seed))
    method = bx.erm(bx.losses.cross_entropy(model), adam)
    run = bx.fit(key, method, model.init(start), train, num_epochs=LOCAL_EPOCHS, sampler=bx.shuffled(128))
    return run.state.params


def constrained(seed, params, budget):
    method = bx.fairlab(
        model, adam, constraints, validation, budget=budget, rounds=ROUNDS, local_epochs=LOCAL_EPOCHS, cell_sizes=sizes
    )
    sampler = bx.group_stratified(128, minimum=4, num_groups=cells.num_groups)
    run = bx.fit(
        jax.random.key(seed), method, params, train, num_epochs=ROUNDS * LOCAL_EPOCHS, sampler=sampler,
        evaluate=lambda state: state.multipliers.multipliers[: len(pairs)],
    )  # fmt: skip
    return run.state.best, run.state.best_performance, run.epochs, run.evaluations


seeds = jnp.arange(SEEDS)
plain = plainly(seeds)
over_seeds = jax.vmap(constrained, (0, 0, None))
best, best_performance, epochs, multipliers = jax.jit(jax.vmap(over_seeds, (None, None, 0), 1))(
    seeds, plain, jnp.array(BUDGETS)
)

# %% [markdown]
# What the method kept is within its budget on the validation rows, or the shortfall is told:

# %%
f1 = jax.vmap(jax.vmap(bx.constraints.f1_of_counts))(best.validation)  # f[seeds, budgets]
shortfall = np.maximum(0, np.asarray(best_performance - jnp.array(BUDGETS)[None] - f1))
assert np.allclose(shortfall, best.rank.shortfall, atol=1e-5)
for place, budget in enumerate(BUDGETS):
    kept = ", ".join(f"{float(value):.3f}" for value in f1[:, place])
    print(f"budget {budget:.2f}: validation F1 by seed {kept}; largest shortfall {shortfall[:, place].max():.3f}")

# %% [markdown]
# ## What it does on the test rows
#
# F1 (weighted) and the largest excess of a gap over its threshold, mean and range over seeds. At or below 0 all
# requirements hold *on these rows*.


# %%
def counts_of(params):
    predicted = (model.apply(params, test.x) > 0) * 1.0
    return bx.constraints.cell_counts(predicted, test.y, test.group, cells.num_groups)


def f1_and_excess(params):
    counts = counts_of(params)
    gaps = bx.constraints.requirement_gaps(constraints, bx.constraints.pair_gaps(constraints, counts))
    return bx.constraints.f1_of_counts(counts), jnp.nanmax(gaps - constraints.thresholds)


rows = {"without constraints": jax.vmap(f1_and_excess)(plain)}
for place, budget in enumerate(BUDGETS):
    rows[f"budget {budget:.2f}"] = jax.vmap(f1_and_excess)(jax.tree.map(lambda leaf, i=place: leaf[:, i], best.params))
for name, values in rows.items():
    shown = [f"{np.mean(value):.3f} [{np.min(value):.3f}, {np.max(value):.3f}]" for value in values]
    print(f"{name:20}  F1 {shown[0]}   largest excess {shown[1]}   ({SEEDS} seeds)")

# %%
points = np.array([[1 - np.asarray(f1s), np.asarray(excess)] for f1s, excess in rows.values()])  # f[rows, 2, seeds]
means = points.mean(axis=2)
axes = plotting.fronts(
    {"without constraints": means[:1], "a budget, mean over seeds": means[1:]},
    x_label="1 - weighted F1 on test rows (0 to 1)", y_label="largest excess of a gap (-1 to 1)",
)  # fmt: skip
for (x, y), label in zip(means[1:], BUDGETS, strict=True):
    axes.annotate(f"{label:.2f}", (x, y), xytext=(5, 5), textcoords="offset points", fontsize=8)
axes.plot(*points.swapaxes(0, 1).reshape(2, -1), "+", color="0.55", markersize=6, label="a seed", zorder=1)
axes.axhline(0, color="0.4", linewidth=0.8)
axes.get_legend().remove()
axes.legend(frameon=False, fontsize=9)
axes.figure

# %% [markdown]
# ## Multipliers
#
# A multiplier grows while its pair is too far apart and falls when it is not. Each round puts the pairs of one group
# in force, drawn among those that are violated most, so multipliers come and go. Large at the end would mean: not
# met.

# %%
axes = plotting.multipliers_over_time(multipliers[0, -1], pairs, most_named=5, x_label="epoch")
axes.figure

# %% [markdown]
# ## How sure is a gap?
#
# Each requirement's gap on the test rows for the first seed and the largest budget: bootstrap intervals over rows,
# and a tick where chance alone would put it in 1 of 20 cases if there were parity. The smaller the groups, the higher
# that floor; a threshold below the floor cannot be checked with so few rows. The counts are of the smallest group.

# %%
columns = {
    name: (column.ids if hasattr(column, "ids") else bx.encode_groups(column).ids)
    for name, column in attributes.items()
}
columns[("sex", other)] = bx.encode_groups(columns["sex"], columns[other]).ids
METRIC = {
    "demographic_parity": bx.metrics.demographic_parity_difference,
    "equal_opportunity": bx.metrics.equal_opportunity_difference,
}


def gap_of(requirement, predicted):
    metric, attribute, _ = requirement
    ids = columns[attribute][splits.test]
    number, groups = int(columns[attribute].max()) + 1, jnp.asarray(ids)
    interval = jax.jit(lambda predicted, y: bx.bootstrap(
        jax.random.key(1), lambda weight: METRIC[metric](y, predicted, groups, number, weight), y.size,
        num_samples=RESAMPLES,
    ))(predicted, test.y)  # fmt: skip
    floor = jax.jit(bx.noise_floor, static_argnums=4)(jax.random.key(2), test.y, predicted, groups, number)
    counted = ids if metric == "demographic_parity" else ids[np.asarray(test.y) == 1]
    return interval, getattr(floor, metric).quantile, np.bincount(counted, minlength=number).min()


figure = Figure(figsize=(6.4, 5.2), layout="constrained")
chosen = {"without constraints": jax.tree.map(lambda leaf: leaf[0], plain),
          f"budget {BUDGETS[-1]:.2f}": jax.tree.map(lambda leaf: leaf[0, -1], best.params)}  # fmt: skip
panels = figure.subplots(2, 1, sharex=True)
for axes, (name, params) in zip(panels, chosen.items(), strict=True):
    predicted = (model.apply(params, test.x) > 0).astype(int)
    intervals, floors, smallest = zip(*(gap_of(requirement, predicted) for requirement in REQUIREMENTS), strict=True)
    checks = bx.constraints.check_requirements(constraints, counts_of(params))
    assert np.allclose([one.estimate for one in intervals], [check.gap for check in checks], atol=1e-5)
    plotting.group_metrics(
        *(np.array([getattr(one, end) for one in intervals]) for end in ("estimate", "low", "high")),
        counts=smallest, names=[check.requirement.replace("_", " ") for check in checks],
        x_label="largest gap (0 to 1; 95% bootstrap)", floor=np.array(floors), axes=axes,
    )  # fmt: skip
    axes.plot(constraints.thresholds, range(len(checks)), "|", color="black", markersize=14, label="threshold")
    axes.set_title(f"{name}, seed 0 of {SEEDS}", fontsize=10)
handles = panels[0].get_legend_handles_labels()
for axes in panels:
    axes.get_legend().remove()
panels[0].set_xlabel("")
figure.legend(*handles, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
figure

# %% [markdown]
# A gap whose interval crosses its threshold is neither met nor missed by these rows. The constraint was asked for on
# training rows and judged on validation rows: that it holds there says less of the test rows the smaller its groups
# are.
