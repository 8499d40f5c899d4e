"""FairLAB: what it equals in limits, where it ends on convex problems, and how its rounds go."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

import badrjax as bx
from badrjax import constraints as bc
from badrjax.methods import fairlab_rounds
from badrjax.methods.fairlab_problem import Rank

from . import cases

N, F = 240, 4
MODEL = bx.models.linear(F)
ADAM = Partial(optax.adam, learning_rate=0.05)


def make_rows(seed, num_rows=N):
    """Two attributes, and labels that depend on one of them."""
    generator = np.random.default_rng(seed)
    a, b = generator.integers(0, 2, num_rows), generator.integers(0, 3, num_rows)
    x = generator.normal(size=(num_rows, F))
    x[:, 1] = a + 0.3 * generator.normal(size=num_rows)
    y = (x[:, 0] + 1.5 * a - 0.75 + 0.5 * generator.normal(size=num_rows) > 0).astype(int)
    return {"a": a, "b": b}, x, y


COLUMNS, X, Y = make_rows(0)


def constraints_of(threshold=0.1, metric="demographic_parity"):
    return bx.fairness_constraints(
        [(metric, "a", threshold), (metric, ("a", "b"), threshold), (metric, "b", threshold)], COLUMNS, Y
    )


CONSTRAINTS, CELLS = constraints_of()
CODES = np.unique(COLUMNS["a"] * 3 + COLUMNS["b"])


def batch_of(columns, x, y):
    cells = np.searchsorted(CODES, columns["a"] * 3 + columns["b"])
    return bx.Batch(jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.int32), jnp.asarray(cells, jnp.int32))


TRAIN, VALIDATION = batch_of(COLUMNS, X, Y), batch_of(*make_rows(1))
SAMPLER = bx.shuffled(60)


def make(**options):
    options = {"rounds": 4, "local_epochs": 4, "local_patience": 2, "patience": 4} | options
    optimizer, constraints = options.pop("optimizer", ADAM), options.pop("constraints", CONSTRAINTS)
    return bx.fairlab(MODEL, optimizer, constraints, VALIDATION, **options)


START = bx.fit(
    jax.random.key(9), bx.erm(bx.losses.cross_entropy(MODEL), ADAM), MODEL.init(jax.random.key(0)), TRAIN,
    num_epochs=15, sampler=SAMPLER,
).state.params  # fmt: skip


# One number of epochs for all, so that runs which differ in numbers only are one program.
def run(method, seed=0, num_epochs=100, params=START):
    return bx.fit(jax.random.key(seed), method, params, TRAIN, num_epochs=num_epochs, sampler=SAMPLER)


def f1_and_gaps(params, rows):
    decided = (MODEL.apply(params, rows.x) > 0).astype(jnp.float32)
    counts = bc.cell_counts(decided, rows.y, rows.group, CELLS.num_groups)
    return bc.f1_of_counts(counts), bc.requirement_gaps(CONSTRAINTS, bc.pair_gaps(CONSTRAINTS, counts))


def test_without_constraints_in_force_it_is_vanilla():
    """Thresholds of 1, no bound on performance and no proximity: every iterate is that of `erm`."""
    free = CONSTRAINTS._replace(thresholds=jnp.ones(3))
    method = make(constraints=free, performance_bound=-np.inf, proximity="off", local_epochs=100, local_patience=100)
    vanilla = bx.erm(bx.losses.cross_entropy(MODEL), ADAM)
    ours = run(method, num_epochs=5)
    theirs = run(vanilla, num_epochs=5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6),
        ours.state.local_params,
        theirs.state.params,
    )
    np.testing.assert_allclose(ours.steps.loss, theirs.steps.loss, rtol=2e-5)
    assert not np.asarray(ours.steps.lagrangian).any()


def quadratic(**options):
    """Least squares with the gap of the mean scores bounded: `min mean (x w - y)^2`, `|a w| <= tau`, in float64."""
    constraints, cells = bx.fairness_constraints([("demographic_parity", "a", 0.05)], COLUMNS, Y)
    data = bx.Batch(jnp.asarray(X), jnp.asarray(Y), jnp.asarray(cells.ids))
    model = bx.models.linear(F, intercept=False)
    method = bx.fairlab(
        model, Partial(optax.sgd, learning_rate=0.05), constraints, data, performance_bound=-np.inf, proximity="off",
        measure="soft", mapping=as_probabilities, loss=squared, logit_scale=1.0, rounds=1, local_epochs=3000,
        local_patience=3000, penalty=4.0, multiplier_step=4.0, multiplier_patience=0, **options,
    )  # fmt: skip
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), model.init(jax.random.key(0)))
    result = bx.fit(jax.random.key(0), method, params, data, num_epochs=2500, sampler=bx.full_batch(), record=nothing)
    hessian = 2 * X.T @ X / N
    free = np.linalg.solve(hessian, 2 * X.T @ Y / N)
    difference = X[COLUMNS["a"] == 1].mean(0) - X[COLUMNS["a"] == 0].mean(0)
    assert difference @ free > 0.05
    direction = np.linalg.solve(hessian, difference)
    multiplier = (difference @ free - 0.05) / (difference @ direction)
    return result.state, free - multiplier * direction, multiplier


def as_probabilities(scores):
    return jnp.stack([1 - scores[:, 1], scores[:, 1]], axis=1)


def squared(scores, labels):
    return (scores - labels) ** 2


def nothing(infos):
    return ()


def test_it_ends_at_the_kkt_point_of_a_convex_problem(x64):
    state, solution, multiplier = quadratic()
    (kernel,) = jax.tree.leaves(state.local_params)
    np.testing.assert_allclose(kernel.ravel(), solution, atol=1e-7)
    np.testing.assert_allclose(state.multipliers.multipliers[0], multiplier, rtol=1e-6)


def test_the_published_multipliers_only_rise_and_miss_it(x64):
    """Clamped violations cannot lower a multiplier, and their sum is penalised besides: it ends inside the bound."""
    state, _, multiplier = quadratic(multipliers="monotone", group_loss=False)
    assert abs(float(state.multipliers.multipliers[0]) - multiplier) > 0.05 * multiplier


def epochs_of(result):
    """Rows of the epochs that ran."""
    ran = np.isfinite(np.asarray(result.epochs.performance))
    return jax.tree.map(lambda leaf: np.asarray(leaf)[ran], result.epochs)


@pytest.mark.parametrize("protocol", ["default", pytest.param("paper", marks=pytest.mark.slow), "code"])
def test_rounds_follow_the_algorithm(protocol):
    result = run(make(protocol=protocol))
    epochs = epochs_of(result)
    starts = np.r_[True, epochs.round_ended[:-1]]
    np.testing.assert_array_equal(epochs.local_epoch == 0, starts)
    np.testing.assert_array_equal(epochs.round, np.cumsum(np.r_[0, epochs.round_ended[:-1]]))
    assert epochs.local_epoch.max() < 4
    for number in np.unique(epochs.round):
        assert len(np.unique(epochs.learner[epochs.round == number])) == 1
    assert (np.diff(epochs.best_performance) >= 0).all()
    assert int(result.state.round) <= 4
    first = f1_and_gaps(START, VALIDATION)[0]
    assert epochs.best_performance[0] >= first - 1e-6
    performance, gaps = f1_and_gaps(result.state.params, VALIDATION)
    np.testing.assert_allclose(epochs.best_gaps[-1], gaps, atol=1e-6)
    assert epochs.num_violated[-1] == (np.asarray(gaps) > np.asarray(CONSTRAINTS.thresholds)).sum()
    if protocol == "default":  # the start is within the budget, so what is kept is, too
        assert performance >= epochs.best_performance[-1] - 0.05 - 1e-6


def test_it_lowers_the_gaps_within_the_budget():
    result = run(make(rounds=10, local_epochs=10, local_patience=5, patience=10, budget=0.15))
    before, after = f1_and_gaps(START, VALIDATION), f1_and_gaps(result.state.params, VALIDATION)
    assert np.max(after[1]) < np.max(before[1]) - 0.2
    assert after[0] >= result.epochs.best_performance[0] - 0.15 - 1e-6


def test_a_larger_budget_and_other_thresholds_are_lanes_of_one_program():
    budgets, thresholds = jnp.array([0.02, 0.3]), jnp.array([0.05, 0.2])

    @jax.jit
    def trained(budget, threshold):
        constraints = CONSTRAINTS._replace(thresholds=jnp.full(3, threshold))
        return run(make(budget=budget, constraints=constraints, proximity="off"), num_epochs=8).state.params

    lanes = jax.vmap(trained)(budgets, thresholds)
    for lane in range(2):
        alone = trained(budgets[lane], thresholds[lane])
        jax.tree.map(lambda a, b, lane=lane: np.testing.assert_allclose(a[lane], b, rtol=1e-3, atol=1e-4), lanes, alone)


def test_requirements_that_cannot_be_met_end_in_a_compromise_with_bounded_multipliers():
    strict = CONSTRAINTS._replace(thresholds=jnp.zeros(3))
    method = make(constraints=strict, max_multiplier=1.5, multiplier_patience=0, budget=0.0, patience=100, rounds=8)
    result = run(method)
    epochs = epochs_of(result)
    assert epochs.largest_multiplier.max() <= 1.5
    assert epochs.num_at_bound.max() > 0
    assert epochs.num_violated[-1] == 3
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.state.params))


def test_a_fit_that_diverges_keeps_the_start_and_ends():
    method = make(optimizer=Partial(optax.adam, learning_rate=np.inf), patience=3)
    result = run(method)
    jax.tree.map(np.testing.assert_array_equal, result.state.params, START)
    assert bool(method.done(result.state))
    assert not np.isfinite(np.asarray(result.epochs.local_score)[1])


def test_a_learner_is_drawn_by_the_softmax_of_its_violation():
    problem = make(temperature=0.1).init.args[0]
    violations = jnp.full(CONSTRAINTS.left.shape[0], -1.0).at[0].set(0.3).at[3].set(0.1)
    keys = jax.random.split(jax.random.key(0), 4000)
    choose = jax.jit(jax.vmap(lambda problem, key: fairlab_rounds._choose_learner(problem, key, violations), (None, 0)))
    drawn = np.bincount(choose(problem, keys), minlength=len(CONSTRAINTS.group_names)) / 4000
    worst = np.nan_to_num(np.asarray(bc.group_violations(CONSTRAINTS, violations)))
    expected = np.where(worst > 0, np.exp(worst / 0.1), 0.0)
    np.testing.assert_allclose(drawn, expected / expected.sum(), atol=0.04)
    printed = make(temperature=0.1, selection="as_printed").init.args[0]
    drawn = np.bincount(choose(printed, keys), minlength=len(expected)) / 4000
    expected = np.exp(-0.1 * np.maximum(worst, 0))
    np.testing.assert_allclose(drawn, expected / expected.sum(), atol=0.04)


def test_without_a_violation_any_learner_may_be_drawn():
    problem = make().init.args[0]
    keys = jax.random.split(jax.random.key(0), 500)
    violations = jnp.full(CONSTRAINTS.left.shape[0], -0.1)
    drawn = jax.vmap(lambda key: fairlab_rounds._choose_learner(problem, key, violations))(keys)
    assert len(np.unique(drawn)) == len(CONSTRAINTS.group_names)


def test_multipliers_of_a_pair_are_kept_for_each_of_its_two_learners():
    method = make()
    problem = method.init.args[0]
    state = jax.jit(method.init)(jax.random.key(0), START)
    left, right = int(CONSTRAINTS.left[2]), int(CONSTRAINTS.right[2])
    num_pairs = CONSTRAINTS.left.shape[0]
    duals = state.multipliers.multipliers.at[:num_pairs].set(jnp.arange(1.0, num_pairs + 1))
    state = state._replace(
        learner=jnp.int32(left), multipliers=state.multipliers._replace(multipliers=duals), saved=state.saved * 0
    )
    saved = np.asarray(fairlab_rounds._saved_multipliers(problem, state))
    assert saved[2].tolist() == [3.0, 0.0]
    owned = np.asarray(bc.owned_pairs(CONSTRAINTS, jnp.int32(left)))
    assert not saved[~owned].any()
    again = state._replace(learner=jnp.int32(right), saved=jnp.asarray(saved))
    assert fairlab_rounds._saved_multipliers(problem, again)[2].tolist() == [3.0, 3.0]


def test_ranks_put_the_budget_before_the_score():
    def rank(shortfall, score):
        return Rank(jnp.float32(shortfall), jnp.float32(score))

    assert rank(0, -5).above(rank(0.1, 5))
    assert rank(0, 1).above(rank(0, 0))
    assert not rank(0, 1).above(rank(0, 1))
    assert rank(0, 0).above(rank(jnp.inf, -jnp.inf))


def test_cell_sizes_make_a_repeated_cell_count_once():
    """A step on rows of which a cell is repeated, weighted back, is the step on the rows."""
    sizes = bx.group_count(TRAIN.group, CELLS.num_groups)
    method = make(cell_sizes=sizes)
    state = jax.jit(method.init)(jax.random.key(0), START)
    # Away from the reference, so that distances are not 0.
    state = state._replace(local_params=jax.tree.map(lambda leaf: leaf + 0.3, START))
    repeats = np.where(np.asarray(TRAIN.group) == 1, 3, 1)
    rows = np.repeat(np.arange(N), repeats)
    more = jax.tree.map(lambda leaf: leaf[rows], TRAIN)
    step = jax.jit(lambda method, state, batch: method.step(jax.random.key(0), state, batch))
    (once, info), (again, other) = step(method, state, TRAIN), step(method, state, more)
    np.testing.assert_allclose(info.loss, other.loss, rtol=1e-5)
    np.testing.assert_allclose(info.lagrangian, other.lagrangian, rtol=1e-4)
    np.testing.assert_allclose(info.largest_distance, other.largest_distance, rtol=1e-4)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), once.local_params, again.local_params
    )


def shifted(tree, name, by):
    """The tree with its leaf of a name moved."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: leaf + by if name in str(path) else leaf, tree)


def test_step_gradients_agree_with_finite_differences(x64):
    """Of loss and Lagrangian, by a step of gradient descent of length 1."""
    data = TRAIN._replace(x=jnp.asarray(X))
    method = bx.fairlab(
        MODEL, Partial(optax.sgd, learning_rate=1.0), CONSTRAINTS, data, protocol="paper", penalty=3.0,
        multiplier_step=3.0, logit_scale=1.0, block_size=100,
    )  # fmt: skip
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), START)
    state = jax.jit(method.init)(jax.random.key(0), params)
    duals = jnp.linspace(0.0, 2.0, state.multipliers.multipliers.shape[0])
    moved = jax.tree.map(lambda leaf: leaf + 0.05, params)  # away from the reference, where the distance has its kink
    state = state._replace(
        local_params=moved, multipliers=state.multipliers._replace(multipliers=duals),
        in_force=jnp.ones_like(state.in_force),
    )  # fmt: skip
    step = jax.jit(lambda state: method.step(jax.random.key(0), state, data))
    after, _ = step(state)
    gradient = jax.tree.map(lambda a, b: a - b, moved, after.local_params)
    for name in ("kernel", "bias"):
        (before,) = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(moved) if name in str(path)]
        (slope,) = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(gradient) if name in str(path)]
        shift = jnp.zeros_like(before).at[(0,) * before.ndim].set(1e-6)

        def value(sign, name=name, shift=shift):
            local = shifted(moved, name, sign * shift)
            info = step(state._replace(local_params=local))[1]
            return info.loss + info.lagrangian

        np.testing.assert_allclose(slope[(0,) * before.ndim], (value(1) - value(-1)) / 2e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": -0.1}, "budget must be >= 0"),
        ({"proximity_bound": -1.0}, "proximity_bound must be >= 0"),
        ({"temperature": 0.0}, "temperature must be > 0"),
        ({"performance_bound": 1.2}, "performance_bound must be at most 1"),
        ({"score_weight": 1.2}, r"score_weight must lie in \[0, 1\]"),
        ({"multiplier_step": 5.0}, "exceeds twice the penalty"),
        ({"protocol": "text"}, "unknown protocol"),
        ({"aspiration": "hope"}, "unknown aspiration"),
        ({"f1_average": "micro"}, "unknown f1_average"),
        ({"rounds": 0}, "rounds must be at least 1"),
        ({"local_epochs": 2.5}, "local_epochs must be a whole number"),
        ({"cell_sizes": jnp.ones(3)}, "one weight a cell"),
        ({"cell_sizes": jnp.zeros(6)}, "cell_sizes are all 0"),
        ({"cell_sizes": -jnp.ones(6)}, "cell_sizes"),
        ({"budget": jnp.zeros(2)}, "use jax.vmap"),
        ({"block_size": 0}, "block_size"),
        ({"performance_penalty": 0.0}, "performance_penalty must be > 0"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make(**options)


@pytest.mark.parametrize("thresholds", [[0.1], [0.1, np.nan, 0.1], [-1.0, 0.1, 0.1], 0.1])
def test_replaced_thresholds_are_checked(thresholds):
    with pytest.raises(ValueError, match=r"constraints\.thresholds must"):
        make(constraints=CONSTRAINTS._replace(thresholds=jnp.asarray(thresholds)))


def test_rows_of_other_cells_or_labels_are_no_training():
    """Under tracing nothing can be raised: the counts are NaN, no iterate is scored, and the start is kept."""
    for wrong in (TRAIN._replace(group=TRAIN.group + 4), TRAIN._replace(y=TRAIN.y + 1)):
        result = bx.fit(jax.random.key(0), make(), START, wrong, num_epochs=100, sampler=SAMPLER)
        jax.tree.map(np.testing.assert_array_equal, result.state.params, START)
        assert not np.isfinite(np.asarray(result.epochs.train_gaps)).any()


def test_wrong_rows_are_named():
    with pytest.raises(TypeError, match="its first result"):
        bx.fairlab(MODEL, ADAM, (CONSTRAINTS, CELLS), VALIDATION)
    with pytest.raises(ValueError, match=r"validation\.group"):
        bx.fairlab(MODEL, ADAM, CONSTRAINTS, VALIDATION._replace(group=VALIDATION.group + 1))
    with pytest.raises(TypeError, match="classes 0 and 1"):
        bx.fairlab(MODEL, ADAM, CONSTRAINTS, VALIDATION._replace(y=VALIDATION.y.astype(jnp.float32)))
    with pytest.raises(ValueError, match=r"validation\.y"):
        bx.fairlab(MODEL, ADAM, CONSTRAINTS, VALIDATION._replace(y=VALIDATION.y + 1))
    with pytest.raises(ValueError, match="no row with weight"):
        bx.fairlab(MODEL, ADAM, CONSTRAINTS, VALIDATION._replace(weight=jnp.zeros(N)))


@pytest.mark.parametrize("dropout", [0.2, 0.0])
def test_the_conformance_case_has_its_constraint_in_force(dropout):
    method = cases.make("fairlab", dropout=jnp.float32(dropout))
    state = cases.init_state(method, jax.random.key(1), cases.init_params(jax.random.key(0), case="fairlab"))
    info = cases.take_step(method, jax.random.key(5), state, cases.rows(1, 12))[1]
    assert info.largest_violation > 1e-3
    assert info.lagrangian > 5e-4
