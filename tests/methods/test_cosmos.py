"""COSMOS: its objective and gradient, and the front and choice it leads to."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

import badrjax as bx
from badrjax.methods import COSMOSFront
from badrjax.methods.cosmos import cosine_similarity, requirement_objectives
from badrjax.methods.fairlab_problem import rank_of

N, F = 48, 3
UNIT_STEP = Partial(optax.sgd, learning_rate=1.0)
MANY = [
    ("demographic_parity", "a", 0.1),
    ("equal_opportunity", ("a", "b"), 0.1),
    ("equalized_odds", "b", 0.1),
    ("predictive_equality", "b", 0.1),
]
TWO = [("demographic_parity", "a", 0.1), ("equal_opportunity", "a", 0.1)]


def make_rows(seed=0, num_rows=N):
    """Attributes of two and three values, and labels that depend on the first, whose groups are unequal."""
    generator = np.random.default_rng(seed)
    a, b = generator.integers(0, 4, num_rows) // 3, generator.integers(0, 3, num_rows)
    x = generator.normal(size=(num_rows, F))
    x[:, 1] = a + 0.3 * generator.normal(size=num_rows)
    y = (x[:, 0] + 2.0 * a - 0.5 + 0.5 * generator.normal(size=num_rows) > 0).astype(int)
    return {"a": a, "b": b}, x, y


COLUMNS, X, Y = make_rows()
WEIGHT = np.random.default_rng(1).integers(0, 3, N).astype(float)


def constrained(requirements, columns=COLUMNS, labels=Y):
    constraints, cells = bx.fairness_constraints(requirements, columns, labels, minimum_count=1, small="drop")
    return constraints, jnp.asarray(cells.ids)


def batch_of(cells, weight=WEIGHT):
    return bx.Batch(jnp.asarray(X), jnp.asarray(Y), cells, jnp.asarray(weight))


def linear_params(num_inputs, seed=2):
    generator = np.random.default_rng(seed)
    return {
        "output": {
            "kernel": jnp.asarray(generator.normal(size=(num_inputs, 1))),
            "bias": jnp.asarray(generator.normal(size=1)),
        }
    }


def linear_method(constraints, optimizer=UNIT_STEP, **options):
    return bx.cosmos(bx.models.linear(F + 1 + constraints.thresholds.shape[0]), optimizer, constraints, **options)


# Compiled once for a method's program and shapes.
first_state = jax.jit(lambda method, params: method.init(jax.random.key(0), params))
take_step = jax.jit(lambda method, key, state, batch: method.step(key, state, batch))
objectives = jax.jit(requirement_objectives, static_argnames=("gap", "mapping"))


def step_once(method, params, batch, seed=3):
    return take_step(method, jax.random.key(seed), first_state(method, params), batch)


# An independent computation, in NumPy, by loops over the values of the attributes.


def mask_of(metric, y):
    masks = {
        "demographic_parity": [np.ones(len(y), bool)],
        "equal_opportunity": [y == 1],
        "predictive_equality": [y == 0],
        "equalized_odds": [y == 1, y == 0],
    }
    return masks[metric]


def by_hand(requirements, kernel, bias, preference, weight, gap, cosine_weight):
    z = X @ kernel[:F] + preference @ kernel[F:] + bias
    sigmoid = 1 / (1 + np.exp(-z))
    losses = [np.sum(weight * np.where(Y == 1, np.log1p(np.exp(-z)), np.log1p(np.exp(z)))) / np.sum(weight)]
    p = np.tanh(sigmoid) if gap == "published" else sigmoid
    for metric, attributes, _ in requirements:
        names = (attributes,) if isinstance(attributes, str) else attributes
        keys = list(zip(*(COLUMNS[name] for name in names), strict=True))
        gaps = []
        for first, second in itertools.combinations(sorted(set(keys)), 2):
            values = []
            for mask in mask_of(metric, Y):
                sides = [weight * mask * np.array([key == side for key in keys]) for side in (first, second)]
                if gap == "published":
                    values.append(abs(np.sum(sides[0] * p) - np.sum(sides[1] * p)) / np.sum(weight))
                elif min(side.sum() for side in sides) > 0:
                    values.append(abs(np.subtract(*(np.sum(side * p) / np.sum(side) for side in sides))))
            gaps += [max(values)] if values else []
        losses.append((np.mean(gaps) if gap == "mean" else max(gaps)) if gaps else 0.0)
    losses = np.array(losses)
    cosine = losses @ preference / np.linalg.norm(losses) / np.linalg.norm(preference)
    return losses, cosine, preference @ losses - cosine_weight * cosine


@pytest.mark.parametrize(
    ("gap", "requirements"), [("max", MANY), ("mean", MANY), ("published", TWO)], ids=["max", "mean", "published"]
)
def test_a_step_descends_the_objective_computed_by_hand(gap, requirements, x64):
    """Losses, cosine and loss agree with NumPy, and the step of unit length with its central differences."""
    constraints, cells = constrained(requirements)
    params = linear_params(F + 1 + len(requirements))
    method = linear_method(constraints, gap=gap, cosine_weight=0.7)
    state, info = step_once(method, params, batch_of(cells))
    preference = np.asarray(info.preference)
    flat = np.append(np.asarray(params["output"]["kernel"])[:, 0], np.asarray(params["output"]["bias"]))

    def expected(flat):
        return by_hand(requirements, flat[:-1], flat[-1], preference, WEIGHT, gap, 0.7)

    losses, cosine, loss = expected(flat)
    assert losses.min() > 1e-3
    np.testing.assert_allclose(info.losses, losses, rtol=1e-12)
    np.testing.assert_allclose([info.cosine, info.loss], [cosine, loss], rtol=1e-12)
    assert info.loss.dtype == jnp.float64
    moves = 1e-6 * np.eye(flat.size)
    differences = [(expected(flat + move)[2] - expected(flat - move)[2]) / 2e-6 for move in moves]
    moved = np.append(np.asarray(state.params["output"]["kernel"])[:, 0], np.asarray(state.params["output"]["bias"]))
    np.testing.assert_allclose(flat - moved, differences, rtol=1e-6, atol=1e-9)


# One small float32 problem for the conformance facts.

CONSTRAINTS, CELLS = constrained(MANY)
BATCH = jax.tree.map(lambda leaf: leaf.astype(jnp.float32) if leaf.dtype == jnp.float64 else leaf, batch_of(CELLS))
PARAMS = jax.tree.map(jnp.float32, linear_params(F + 5))
MOMENTUM = Partial(optax.sgd, learning_rate=0.1, momentum=0.9)
METHOD = linear_method(CONSTRAINTS, MOMENTUM)


def test_another_mapping_makes_the_probabilities():
    constraints, cells = constrained(TWO[:1])
    logits = jax.random.normal(jax.random.key(0), (N,))
    found = objectives(constraints, logits, batch_of(cells), mapping=bx.entmax15)
    p = np.asarray(bx.entmax15(jnp.stack([jnp.zeros(N), logits], axis=1)))[:, 1]
    means = [np.average(p[COLUMNS["a"] == value], weights=WEIGHT[COLUMNS["a"] == value]) for value in (0, 1)]
    np.testing.assert_allclose(found, [abs(means[0] - means[1])], rtol=1e-5)


def test_the_published_gap_is_zero_for_the_wrong_thing():
    """Thirty rows of one group, ten of the other: equal rates have a gap, and those in inverse proportion have none."""
    group, labels = np.repeat([0, 1], [30, 10]), np.tile([0, 1], 20)
    constraints, cells = constrained([("demographic_parity", "a", 0.1)], {"a": group}, labels)
    batch = bx.Batch(jnp.zeros((40, F)), jnp.asarray(labels), cells)

    def gap_of(first, second, gap):
        probability = np.arctanh(np.where(group == 0, first, second))  # whose tanh is the share
        logits = np.log(probability / (1 - probability))
        return float(objectives(constraints, jnp.asarray(logits, jnp.float32), batch, gap=gap)[0])

    np.testing.assert_allclose(gap_of(0.6, 0.6, "published"), 0.5 * 0.6, rtol=1e-5)
    np.testing.assert_allclose(gap_of(0.6, 0.6, "max"), 0.0, atol=1e-6)
    np.testing.assert_allclose(gap_of(0.2, 0.6, "published"), 0.0, atol=1e-6)
    np.testing.assert_allclose(gap_of(0.2, 0.6, "max"), np.arctanh(0.6) - np.arctanh(0.2), rtol=1e-5)


@pytest.mark.parametrize("gap", ["max", "mean"])
def test_a_requirement_that_cannot_be_measured_is_nothing(gap):
    """With rows labelled 1 in one group only, equal opportunity is 0 and moves nothing."""
    kept = (Y == 0) | ((COLUMNS["a"] == 0) & (COLUMNS["b"] == 0))
    batch = BATCH._replace(weight=jnp.asarray(kept, jnp.float32))

    @jax.jit
    def values_and_derivatives(logits):
        function = Partial(requirement_objectives, CONSTRAINTS, batch=batch, gap=gap)
        return function(logits), jax.jacrev(function)(logits)

    values, derivatives = values_and_derivatives(jnp.linspace(-2.0, 2.0, N))
    assert values[1] == 0
    np.testing.assert_array_equal(derivatives[1], np.zeros(N))
    assert np.all(np.delete(values, 1) > 1e-3)
    assert np.all(np.abs(derivatives).sum(axis=1)[[0, 2, 3]] > 1e-3)
    assert np.isfinite(derivatives).all()


def test_the_cosine_is_exact_where_squares_underflow_and_zero_at_zero():
    preference = jnp.array([0.2, 0.8])
    both = jax.jit(jax.vmap(jax.value_and_grad(cosine_similarity), (0, None)))
    losses = jnp.array([[4.0, 3.0], [4e-30, 3e-30], [0.0, 0.0], [0.0, 2.0], [jnp.nan, 1.0]])
    values, gradients = both(losses, preference)
    # Where fairness has more weight the cosine wants more of its loss: against the sum, so its weight must be small.
    assert gradients[0][1] > 0
    exact = (0.8 * 0.2 + 0.6 * 0.8) / np.sqrt(0.68)
    np.testing.assert_allclose(values[:4], [exact, exact, 0.0, 0.8 / np.sqrt(0.68)], rtol=1e-6)
    np.testing.assert_array_equal(gradients[2], [0.0, 0.0])
    np.testing.assert_allclose(gradients[1] * 1e-30, gradients[0], rtol=1e-5, atol=1e-7)
    assert np.isnan(values[4])


def assert_same_step(first, second, **tolerance):
    chex.assert_trees_all_close(first, second, **({"rtol": 1e-4, "atol": 1e-6} | tolerance))


def test_at_the_corner_of_the_task_it_is_erm():
    """All concentration on the first objective and no cosine: a step of `erm` at the preference (1, 0, ...)."""
    concentration = jnp.array([1.0, 1e-30, 1e-30, 1e-30, 1e-30])
    method = linear_method(CONSTRAINTS, MOMENTUM, concentration=concentration, cosine_weight=0.0)
    ours, info = step_once(method, PARAMS, BATCH)
    np.testing.assert_allclose(info.preference, [1, 0, 0, 0, 0], atol=1e-30)
    vanilla = bx.erm(bx.losses.cross_entropy(bx.models.linear(F + 5)), MOMENTUM)
    inputs = BATCH._replace(x=bx.preference_inputs(BATCH.x, jnp.eye(5)[0]))
    theirs, seen = step_once(vanilla, PARAMS, inputs)
    chex.assert_trees_all_close(ours.params, theirs.params, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose([info.loss, info.losses[0]], seen.loss, rtol=1e-5)


def test_padding_changes_nothing():
    plain = step_once(METHOD, PARAMS, BATCH)
    junk = bx.Batch(jnp.full((4, F), jnp.nan), jnp.full(4, -9), jnp.full(4, 99, BATCH.group.dtype), jnp.zeros(4))
    padded = jax.tree.map(lambda a, b: jnp.concatenate([a, b.astype(a.dtype)]), BATCH, junk)
    assert_same_step(plain, step_once(METHOD, PARAMS, padded))
    empty = BATCH._replace(weight=jnp.zeros(N))
    after, info = take_step(METHOD, jax.random.key(9), plain[0], empty)  # momentum is not zero here
    chex.assert_trees_all_equal(after, plain[0])
    np.testing.assert_array_equal(info.losses, np.zeros(5))
    assert info.loss == 0


def test_weights_are_frequencies_and_the_order_of_rows_does_not_matter():
    copies = np.repeat(np.arange(N), WEIGHT.astype(int))
    copies = np.concatenate([copies[::-1], np.zeros(N + 4 - copies.size, int)])
    repeated = jax.tree.map(lambda leaf: leaf[copies], BATCH)
    repeated = repeated._replace(weight=(jnp.arange(N + 4) < int(WEIGHT.sum())).astype(jnp.float32))
    assert_same_step(step_once(METHOD, PARAMS, BATCH), step_once(METHOD, PARAMS, repeated))


def test_other_names_for_the_groups_change_nothing():
    renamed = {"a": 1 - COLUMNS["a"], "b": (COLUMNS["b"] + 1) % 3}
    constraints, cells = constrained(MANY, renamed)
    assert not np.array_equal(cells, CELLS)
    other = step_once(linear_method(constraints, MOMENTUM), PARAMS, BATCH._replace(group=cells))
    assert_same_step(step_once(METHOD, PARAMS, BATCH), other)


def test_vmap_over_numbers_agrees_with_single_runs():
    """Over learning rate, concentration and cosine weight at once."""
    numbers = np.array([[0.05, 0.5, 0.01], [0.1, 0.1, 1.0], [0.1, 2.0, 0.0]], np.float32)
    keys = jax.random.split(jax.random.key(5), 4)

    def method_of(numbers):
        optimizer = Partial(optax.sgd, learning_rate=numbers[0], momentum=0.9)
        return linear_method(CONSTRAINTS, optimizer, concentration=numbers[1], cosine_weight=numbers[2])

    @jax.jit
    @jax.vmap
    def together(numbers):
        method = method_of(numbers)
        steps = jax.lax.scan(lambda state, key: method.step(key, state, BATCH), method.init(keys[0], PARAMS), keys)
        return steps[0], jax.tree.map(lambda leaf: leaf[-1], steps[1])

    lanes = jax.device_get(together(jnp.asarray(numbers)))
    for lane in range(3):
        method = method_of(jnp.asarray(numbers[lane]))
        state = first_state(method, PARAMS)
        for key in keys:
            state, info = take_step(method, key, state, BATCH)
        assert_same_step(jax.tree.map(lambda leaf, place=lane: leaf[place], lanes), (state, info))
    assert len(set(lanes[1].loss.tolist())) == 3


# A front that one network covers.

TRAIN_COLUMNS, TRAIN_X, TRAIN_Y = make_rows(6, 400)
FRONT_CONSTRAINTS, FRONT_CELLS = constrained([("demographic_parity", "a", 0.1)], TRAIN_COLUMNS, TRAIN_Y)
ROWS = bx.Batch(jnp.asarray(TRAIN_X, jnp.float32), jnp.asarray(TRAIN_Y), FRONT_CELLS)
NETWORK = bx.models.mlp(F + 2, hidden=(12,))


@pytest.fixture(scope="module")
def trained():
    method = bx.cosmos(NETWORK, Partial(optax.adam, learning_rate=0.02), FRONT_CONSTRAINTS, concentration=0.5)
    params = jax.jit(NETWORK.init)(jax.random.key(0))
    return bx.fit(jax.random.key(1), method, params, ROWS, num_epochs=60, sampler=bx.shuffled(100)).state.params


RAYS = bx.preference_rays(2, 25)


def front_of(params, preferences=RAYS, rows=ROWS, **options):
    return bx.cosmos_front(NETWORK, params, rows, FRONT_CONSTRAINTS, preferences, **options)


scores_at_all = jax.jit(jax.vmap(lambda params, ray: bx.scores_at(NETWORK, params, ROWS.x, ray), (None, 0)))


def test_one_network_covers_the_front(trained):
    """The more weight fairness has, the smaller the gap; the price is F1."""
    scores = scores_at_all(trained, RAYS)
    smooth = [float(objectives(FRONT_CONSTRAINTS, logits, ROWS)[0]) for logits in scores]
    assert np.all(np.diff(smooth) < 0.005)
    assert np.all(np.diff(smooth[::4]) < 0)
    assert smooth[0] > 3 * smooth[-1]
    front = front_of(trained)
    gaps, performance = np.asarray(front.gaps[:, 0]), np.asarray(front.performance)
    assert gaps[0] > gaps[20:].max() + 0.15
    assert performance[0] > performance[20:].max() + 0.04
    assert len(np.unique(gaps)) >= 10


def test_the_front_is_a_table_of_hard_rates_and_f1(trained):
    """Against NumPy, with frequencies, NaN in padding, and blocks that do not divide the rows."""
    weight = np.random.default_rng(3).integers(0, 3, 400).astype(float)
    rows = ROWS._replace(
        weight=jnp.asarray(weight, jnp.float32), x=jnp.where(jnp.asarray(weight == 0)[:, None], jnp.nan, ROWS.x)
    )
    front = front_of(trained, rows=rows, f1_average="macro", block_size=150)
    np.testing.assert_array_equal(front.preferences, RAYS)
    scores = np.asarray(scores_at_all(trained, RAYS))
    for at in (0, 12, 24):
        predicted = scores[at] > 0
        groups = [TRAIN_COLUMNS["a"] == value for value in (0, 1)]
        rates = [np.average(predicted[group], weights=weight[group]) for group in groups]
        np.testing.assert_allclose(front.gaps[at, 0], abs(rates[0] - rates[1]), atol=1e-6)
        pairs = [(TRAIN_Y == 1, predicted), (TRAIN_Y == 0, ~predicted)]
        f1 = [2 * weight @ (true & said) / (weight @ true + weight @ said) for true, said in pairs]
        np.testing.assert_allclose(front.performance[at], np.mean(f1), rtol=1e-5)


def test_a_model_that_diverged_shows_and_is_not_selected(trained):
    front = front_of(jax.tree.map(lambda leaf: leaf * jnp.nan, trained))
    assert np.isnan(front.performance).all()
    with pytest.raises(ValueError, match="diverged"):
        bx.select_preference(FRONT_CONSTRAINTS, front)


def some_front(seed):
    """A front of random numbers, coarse enough for ties, with gaps and performances that are not known."""
    generator = np.random.default_rng(seed)
    gaps = generator.integers(0, 4, (12, 4)) / 8
    gaps[generator.random((12, 4)) < 0.1] = np.nan
    performance = generator.integers(2, 6, 12) / 8
    performance[generator.integers(0, 12)] = np.nan
    return COSMOSFront(bx.preference_rays(5, 12), jnp.asarray(performance), jnp.asarray(gaps))


select = jax.jit(bx.select_preference, static_argnames="score")


@pytest.mark.parametrize(("score", "default"), [("squared", 0.5), ("linear", 10.0)])
@pytest.mark.parametrize("weight", [None, 0.0, 0.9])
def test_the_selected_preference_is_the_first_best_of_a_loop(score, default, weight, x64):
    thresholds = np.array([0.0, 0.125, 0.2, 1.0])
    constraints = CONSTRAINTS._replace(thresholds=jnp.asarray(thresholds))
    for seed in range(5):
        front = some_front(seed)
        best, place = -np.inf, None
        used = default if weight is None else weight
        for at in range(12):
            performance, excess = float(front.performance[at]), []
            for gap, threshold in zip(np.asarray(front.gaps[at]), thresholds, strict=True):
                excess.append(0.0 if np.isnan(gap) else max(0.0, gap - threshold))
            if score == "squared":
                value = used * performance - (1 - used) * sum(e**2 for e in excess)
            else:
                value = performance - used * sum(excess)
            if value > best + 1e-12:
                best, place = value, at
        picked = select(constraints, front, score=score, score_weight=weight)
        assert int(picked.position) == place
        np.testing.assert_allclose(picked.scores[place], best)
        np.testing.assert_array_equal(picked.preference, front.preferences[place])


@pytest.mark.parametrize("score", ["squared", "linear"])
def test_the_score_is_that_of_fairlab(trained, score):
    """FairLAB gives the same counts the same score."""
    model = bx.models.linear(F)
    fairlab = bx.fairlab(model, UNIT_STEP, FRONT_CONSTRAINTS, ROWS, score=score, score_weight=0.3, keep="score")
    picked = bx.select_preference(FRONT_CONSTRAINTS, front_of(trained), score=score, score_weight=0.3)
    for at in (0, 24):
        decided = (scores_at_all(trained, RAYS)[at] > 0).astype(jnp.float32)
        counts = bx.constraints.cell_counts(decided, ROWS.y, ROWS.group, FRONT_CONSTRAINTS.membership.shape[1])
        theirs = score_by_fairlab(fairlab.init.args[0], counts, jnp.float32(0)).score
        np.testing.assert_allclose(picked.scores[at], theirs, rtol=1e-5)


score_by_fairlab = jax.jit(rank_of)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"concentration": 0.0}, ValueError, "concentration must be positive"),
        ({"concentration": np.inf}, ValueError, "concentration must be positive"),
        ({"concentration": np.ones(2)}, ValueError, "one for each of 5 objectives"),
        ({"cosine_weight": -0.1}, ValueError, "cosine_weight must be >= 0"),
        ({"cosine_weight": np.ones(5)}, ValueError, "cosine_weight must be one number"),
        ({"gap": "maximum"}, ValueError, "did you mean 'max'"),
        ({"gap": "published"}, ValueError, "compares two groups"),
        ({"gap": "published", "mapping": bx.entmax15}, ValueError, "mapping must be None"),
        ({"mapping": "sigmoid"}, TypeError, "mapping must be a function"),
        ({"optimizer": 0.1}, TypeError, "optimizer"),
        ({"constraints": 3}, TypeError, "constraints must be those of"),
    ],
)
def test_bad_arguments_of_the_method_are_named(options, error, message):
    given = {"optimizer": UNIT_STEP, "constraints": CONSTRAINTS} | options
    with pytest.raises(error, match=message):
        bx.cosmos(bx.models.linear(F + 5), given.pop("optimizer"), given.pop("constraints"), **given)


def test_bad_arguments_of_the_helpers_are_named(trained):
    for wrong, message in [
        ((1, 25), "num_objectives must be at least 2"),
        ((2, 1), "num_rays must be at least 2"),
        ((8, 8), "num_rays must be at least 9"),
        ((2, 2.5), "num_rays must be a positive integer"),
    ]:
        with pytest.raises(ValueError, match=message):
            bx.preference_rays(*wrong)
    for wrong in ({"num_objectives": 2, "margin": 0.8}, {"num_objectives": 3, "margin": 0.1}):
        with pytest.raises(ValueError, match="margin must lie"):
            bx.preference_rays(**wrong)
    with pytest.raises(ValueError, match="x must have rows and columns"):
        bx.preference_inputs(jnp.ones(3), jnp.ones(2))
    with pytest.raises(ValueError, match=r"use jax\.vmap"):
        bx.preference_inputs(jnp.ones((3, 2)), jnp.ones((3, 2)))
    rays = bx.preference_rays(2, 3)
    for wrong, message in [
        (rays[0], r"preference\[None\]"),
        (bx.preference_rays(3, 4), r"rows of 2 numbers"),
        (2 * rays, "divide each by its sum"),
        (rays.at[0].set(jnp.nan), "simplex"),
    ]:
        with pytest.raises(ValueError, match=message):
            front_of(trained, wrong)
    with pytest.raises(ValueError, match="average"):
        front_of(trained, rays, f1_average="micro")
    with pytest.raises(ValueError, match="block_size"):
        front_of(trained, rays, block_size=0)
    with pytest.raises(TypeError, match=r"batch\.y must hold classes"):
        front_of(trained, rays, ROWS._replace(y=ROWS.y.astype(jnp.float32)))
    with pytest.raises(ValueError, match=r"batch\.group"):
        front_of(trained, rays, ROWS._replace(group=ROWS.group + 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score": "cubic"}, "unknown score"),
        ({"score_weight": 1.5}, r"\[0, 1\]"),
        ({"score": "linear", "score_weight": -1.0}, ">= 0 and finite"),
        ({"score_weight": np.ones(3)}, r"use jax\.vmap"),
        ({"constraints": FRONT_CONSTRAINTS}, "same constraints"),
    ],
)
def test_bad_arguments_of_the_selection_are_named(options, message):
    given = {"constraints": CONSTRAINTS} | options
    with pytest.raises(ValueError, match=message):
        bx.select_preference(given.pop("constraints"), some_front(0), **given)
