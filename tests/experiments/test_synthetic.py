"""The two-objective problem: its geometry, its derivatives, the rules on it, and runs of them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import badrjax as bx
from experiments import synthetic, synthetic_rules, synthetic_runs

STARTS = np.array(synthetic.STARTS)
KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def in_double_precision(x64):
    """Everything here is in double precision, as in the experiment."""


def numpy_losses(x, y):
    turn = np.tanh(-y)
    first = np.log(max(abs(0.5 * (-x - 7) - turn), 5e-6)) + 6
    second = np.log(max(abs(0.5 * (-x + 3) + turn + 2), 5e-6)) + 6
    bowls = [((-x + s) ** 2 + 0.1 * (-y - 8) ** 2) / 10 - 20 for s in (7, -7)]
    upper, lower = max(np.tanh(0.5 * y), 0), max(np.tanh(-0.5 * y), 0)
    return np.array([upper * first + lower * bowls[0], upper * second + lower * bowls[1]])


def numpy_gradients(x, y):
    """Derivatives written out by hand, away from the line y = 0 and the bottoms of the valleys."""
    bend = 1 / np.cosh(y) ** 2
    if y > 0:
        inner = np.array([0.5 * (-x - 7) + np.tanh(y), 0.5 * (-x + 3) - np.tanh(y) + 2])
        cover, slope = np.tanh(y / 2), 0.5 / np.cosh(y / 2) ** 2
        value, by_x, by_y = np.log(np.abs(inner)) + 6, -0.5 / inner, np.array([bend, -bend]) / inner
    else:
        cover, slope = np.tanh(-y / 2), -0.5 / np.cosh(y / 2) ** 2
        value = np.array([(7 - x) ** 2, (7 + x) ** 2]) / 10 + (y + 8) ** 2 / 100 - 20
        by_x, by_y = np.array([x - 7, x + 7]) / 5, np.full(2, (y + 8) / 50)
    return np.stack([cover * by_x, slope * value + cover * by_y], axis=1)


def points(number=400, seed=0):
    return np.random.default_rng(seed).uniform(-11, 11, size=(number, 2))


batched_losses = jax.jit(jax.vmap(synthetic.losses))
batched_gradients = jax.jit(jax.vmap(synthetic.gradients))


@pytest.fixture(scope="module")
def front():
    with jax.enable_x64(True):
        return synthetic.pareto_front()


def test_losses_are_the_published_formulas():
    where = np.concatenate([points(), STARTS])
    np.testing.assert_allclose(batched_losses(where), [numpy_losses(*p) for p in where], rtol=1e-12, atol=1e-12)


def test_gradients_are_those_written_out_by_hand():
    where = points()
    np.testing.assert_allclose(batched_gradients(where), [numpy_gradients(*p) for p in where], rtol=1e-9, atol=1e-9)


def test_gradients_agree_with_differences():
    where, step = points(100, seed=1), 1e-6
    for axis in range(2):
        move = step * np.eye(2)[axis]
        difference = [(numpy_losses(*(p + move)) - numpy_losses(*(p - move))) / (2 * step) for p in where]
        np.testing.assert_allclose(batched_gradients(where)[:, :, axis], difference, rtol=1e-5, atol=1e-6)


def test_derivatives_are_finite_on_the_line_and_at_the_bottom_of_a_valley():
    bottom = np.array([2 * np.tanh(6.0) - 7, 6.0])  # the argument of the first logarithm is 0
    where = np.array([[0, 0], [3, 0], bottom, [1e3, 1e3], [-1e3, -1e3]])
    assert np.isfinite(batched_losses(where)).all()
    assert np.isfinite(batched_gradients(where)).all()
    # On the line the derivative is the mean of both sides.
    sides = [numpy_gradients(3.0, y) for y in (1e-9, -1e-9)]
    np.testing.assert_allclose(synthetic.gradients(jnp.array([3.0, 0.0])), np.mean(sides, axis=0), atol=1e-6)


def test_the_scale_multiplies():
    where = jnp.array([1.0, 2.0])
    np.testing.assert_allclose(synthetic.losses(where, 0.1), 0.1 * synthetic.losses(where))


def test_no_loss_is_below_its_floor():
    assert np.min(batched_losses(points(20_000))) > synthetic.LOSS_FLOOR


def test_the_front_lies_where_it_should(front):
    np.testing.assert_allclose(front.fair, [0, -8.3552], atol=2e-4)
    np.testing.assert_allclose(front.losses[len(front.losses) // 2], [-15.0916, -15.0916], atol=1e-4)
    np.testing.assert_allclose(front.theta[[0, -1], 0], [-7, 7], atol=1e-12)
    np.testing.assert_allclose(front.losses[-1], [-19.989, -0.399], atol=2e-3)
    np.testing.assert_allclose(front.losses[0], front.losses[-1][::-1], atol=1e-12)
    # The set bends by less than a tenth, for the slope of the losses by y depends on x a little.
    assert np.ptp(front.theta[:, 1]) < 0.1


def test_on_the_front_a_convex_combination_of_the_gradients_vanishes(front):
    grams = jax.vmap(bx.gramian)(batched_gradients(front.theta))
    shortest = jax.vmap(bx.min_norm_weights)(grams)
    updates = np.einsum("mk,mkd->md", shortest, batched_gradients(front.theta))
    assert np.abs(updates).max() < 1e-6
    # Newton's method has come to the digits that there are.
    mixed = [np.array([7 + x, 7 - x]) / 14 @ numpy_gradients(x, y)[:, 1] for x, y in front.theta]
    np.testing.assert_allclose(mixed, 0, atol=1e-12)
    np.testing.assert_allclose(shortest[:, 0], (1 + front.theta[:, 0] / 7) / 2, atol=1e-4)


def test_nothing_in_the_plane_is_better_than_the_front_for_both(front):
    values = np.asarray(batched_losses(points(20_000, seed=2)))
    better = np.all(values[:, None, :] < front.losses[None] - 1e-9, axis=2)
    assert not better.any()


def test_distances(front):
    where = np.stack([front.fair, front.fair + np.array([0, 1]), [20, front.theta[-1, 1]]])
    np.testing.assert_allclose(synthetic.distance_to_front(front, where), [0, 1, 13], atol=1e-3)
    np.testing.assert_allclose(synthetic.distance_to_fair_point(front, where)[:2], [0, 1], atol=1e-12)
    np.testing.assert_array_equal(synthetic.on_front(front, where), [True, False, False])


@pytest.mark.parametrize("number", [2, 10, 1])
def test_the_fair_point_must_be_among_the_points(number):
    with pytest.raises(ValueError, match="odd"):
        synthetic.pareto_front(number)


# The bargain.


def test_the_bargain_helps_both_losses_wherever_they_do_not_oppose_each_other():
    axis = np.linspace(-11, 11, 89)
    where = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    gradients = batched_gradients(where)
    grams = jax.vmap(bx.gramian)(gradients)
    solution = jax.jit(jax.vmap(bx.nash_weights))(grams)
    lengths = np.linalg.norm(gradients, axis=2)
    cosine = np.asarray(grams)[:, 0, 1] / lengths.prod(axis=1)
    apart = cosine > -1 + 1e-9
    assert apart.mean() > 0.95
    assert (cosine < 0).mean() > 0.1
    np.testing.assert_array_equal(np.asarray(solution.feasible)[apart], True)
    updates = np.einsum("mk,mkd->md", solution.weights, gradients)
    gains = np.einsum("mkd,md->mk", gradients, updates)
    assert (gains[apart] > 0).all()
    # Two players: a_k |g_k| = 1 / sqrt(1 + cos).
    expected = 1 / np.sqrt(1 + cosine[apart])
    for player in range(2):
        scaled = (np.asarray(solution.weights) * lengths)[apart, player]
        np.testing.assert_allclose(scaled, expected, rtol=1e-6)


@pytest.mark.parametrize(("step_length", "length"), [("bargain", np.sqrt(2)), ("unit", 1.0), ("nash_mtl", 1.0)])
def test_lengths_of_the_bargains_update(step_length, length):
    gradients = synthetic.gradients(jnp.array([3.0, -4.0]))
    gram = bx.gramian(gradients)
    weights = synthetic_rules.scaled_bargain(bx.nash_weights(gram).weights, gram, step_length)
    np.testing.assert_allclose(np.linalg.norm(bx.combine(gradients, weights)), length, rtol=1e-9)


def test_small_gradients_are_not_clipped():
    gradients = 1e-2 * synthetic.gradients(jnp.array([3.0, -4.0]))
    gram = bx.gramian(gradients)
    solved = np.asarray(bx.nash_weights(gram / jnp.linalg.norm(gram)).weights)
    np.testing.assert_allclose(
        synthetic_rules.scaled_bargain(bx.nash_weights(gram).weights, gram, "nash_mtl"), solved, rtol=1e-9
    )


@pytest.mark.parametrize(("rule", "expected"), [("nash", [0, 0]), ("nash_forml", [-1, 1])])
def test_where_no_bargain_exists_it_stops_or_follows_the_goal(rule, expected):
    def weights(gram):
        situation = synthetic_rules.Situation(jnp.array([1.0, 2.0]), gram, jnp.asarray(-21.0))
        return synthetic_rules.weights_at(rule, 5, "bargain", jnp.int32(0), KEY, situation)

    opposed, one_is_zero = [[4.0, -2], [-2, 1]], [[4.0, 0], [0, 0]]
    found, bargained = jax.jit(jax.vmap(weights))(jnp.array([opposed, one_is_zero]))
    np.testing.assert_allclose(found, [expected, expected])
    assert not bargained.any()


# The rules.


def golden_section(of):
    """Where a convex function on [0, 1] is least."""
    low, high, share = 0.0, 1.0, (np.sqrt(5) - 1) / 2
    for _ in range(90):
        left, right = high - share * (high - low), low + share * (high - low)
        low, high = (low, right) if of(left) < of(right) else (left, high)
    return min(0.0, (low + high) / 2, 1.0, key=of)


def numpy_cagrad(first, second, radius=0.5):
    """The mean gradient, and `radius` times its length along the mixture that helps the worse loss most."""
    mean = (first + second) / 2
    length = radius * np.linalg.norm(mean)

    def mixed(share):
        return share * first + (1 - share) * second

    chosen = mixed(golden_section(lambda share: mixed(share) @ mean + length * np.linalg.norm(mixed(share))))
    return mean + length * chosen / np.linalg.norm(chosen)


def numpy_direction(rule, x, y):
    """Directions by their definitions."""
    values, (first, second) = numpy_losses(x, y), numpy_gradients(x, y)
    worst, best = (first, second) if values[0] > values[1] else (second, first)
    conflict = min(first @ second, 0)
    shifted = values + 21
    by_rule = {
        "learning_to_reweight": (first + second) / 2,
        "forml": worst - best,
        "meta_group_dro": worst,
        "pcgrad": (first - conflict / (second @ second) * second + second - conflict / (first @ first) * first) / 2,
        "cagrad": numpy_cagrad(first, second),
        "mean": (first + second) / 2,
        "harmonic": (first / shifted[0] ** 2 + second / shifted[1] ** 2) / np.sum(1 / shifted**2),
    }
    return by_rule[rule]


@pytest.mark.parametrize(
    "rule", ["learning_to_reweight", "forml", "meta_group_dro", "pcgrad", "cagrad", "mean", "harmonic"]
)
def test_updates_are_the_rules_written_out(rule):
    where = points(60, seed=3)

    def update(theta):
        gradients = synthetic.gradients(theta)
        situation = synthetic_rules.Situation(synthetic.losses(theta), bx.gramian(gradients), jnp.asarray(-21.0))
        return bx.combine(gradients, synthetic_rules.rule_weights(rule, KEY, situation))

    expected = [numpy_direction(rule, *p) for p in where]
    # A golden section finds half the digits.
    close = {"rtol": 1e-5, "atol": 1e-5} if rule == "cagrad" else {"rtol": 1e-8, "atol": 1e-8}
    np.testing.assert_allclose(jax.jit(jax.vmap(update))(where), expected, **close)


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(ValueError, match="nash_forml"):
        synthetic_runs.check_names("nash_form", "bargain", "A")
    with pytest.raises(ValueError, match="unit"):
        synthetic_runs.check_names("nash", "units", "A")
    with pytest.raises(ValueError, match="reading"):
        synthetic_runs.check_names("nash", "unit", "C")


# Runs.


# At LLVM's level 0, which the suite sets, jaxlib 0.10.2 gets these loops wrong on CPUs for the goals that are a gap or
# a worst loss, whatever the number of lanes. At the default level all agree with NumPy, as the next test says.
OPTIMISED = {"xla_backend_optimization_level": 2}


def descend(rule, starts, rate=0.1, num_steps=1000, bargaining_steps=100, **options):
    run = partial(synthetic_runs.descend, rule=rule, num_steps=num_steps, bargaining_steps=bargaining_steps, **options)
    program = jax.jit(jax.vmap(run, (None, 0, None)), compiler_options=OPTIMISED)
    return jax.tree.map(np.asarray, program(KEY, jnp.asarray(starts), rate))


@pytest.mark.parametrize("num_lanes", [1, 6])
@pytest.mark.parametrize("rule", ["learning_to_reweight", "forml", "meta_group_dro", "pcgrad", "harmonic"])
def test_a_run_is_the_loop_in_numpy(rule, num_lanes):
    starts = STARTS[[5, 3, 4, 5, 3, 4]][:num_lanes]
    expected = starts.copy()
    for _ in range(60):
        expected -= 0.1 * np.array([numpy_direction(rule, *theta) for theta in expected])
    end, info = descend(rule, starts, num_steps=60)
    np.testing.assert_allclose(end, expected, rtol=1e-6, atol=1e-6)
    assert info.theta.shape == (num_lanes, 60, 2)


@pytest.mark.parametrize("goal", ["learning_to_reweight", "meta_group_dro"])
def test_bargaining_then_a_goal_ends_at_the_fair_point_from_everywhere(front, goal):
    end, info = descend(f"nash_{goal}", STARTS)
    assert synthetic.distance_to_fair_point(front, end).max() < 0.5
    assert info.bargained[:, :100].all()
    assert info.aligned[:, :100].all()
    assert not info.bargained[:, 100:].any()


def test_the_goal_alone_does_not_get_there_from_two_starts(front):
    end, _ = descend("learning_to_reweight", STARTS)
    near = synthetic.distance_to_fair_point(front, end) < 0.5
    np.testing.assert_array_equal(near, [False, True, False, True, True, True])


def test_bargaining_throughout_reaches_the_front_and_does_not_equalise(front):
    end, info = descend("nash", STARTS)
    assert synthetic.on_front(front, end).all()
    assert info.aligned[info.bargained].all()
    difference = np.abs(np.diff(batched_losses(end), axis=1))[:, 0]
    assert (np.delete(difference, 1) > 5).all()


@pytest.mark.parametrize("rule", ["nash_forml", "pcgrad"])
def test_a_batch_of_starts_is_each_start_alone(rule):
    together, _ = descend(rule, STARTS, num_steps=40, bargaining_steps=20)
    run = partial(synthetic_runs.descend, rule=rule, num_steps=40, bargaining_steps=20)
    single = jax.jit(run, compiler_options=OPTIMISED)
    alone = [single(KEY, jnp.asarray(start), 0.1)[0] for start in STARTS]
    np.testing.assert_allclose(together, alone, rtol=1e-9, atol=1e-9)


def test_a_first_stage_of_no_steps_is_the_goal_alone():
    alone, _ = descend("forml", STARTS, num_steps=50)
    staged, _ = descend("nash_forml", STARTS, num_steps=50, bargaining_steps=0)
    np.testing.assert_allclose(staged, alone, rtol=1e-9, atol=1e-9)


def test_scale_and_rate_trade_for_rules_of_the_gradients_length():
    plain, _ = descend("pcgrad", STARTS, num_steps=30)
    scaled, _ = descend("pcgrad", STARTS, rate=1.0, num_steps=30, reading="B")
    np.testing.assert_allclose(scaled, plain, rtol=1e-6, atol=1e-6)
    # The bargain's update has one length at every scale.
    plain, _ = descend("nash", STARTS, num_steps=10)
    scaled, _ = descend("nash", STARTS, num_steps=10, reading="B")
    np.testing.assert_allclose(scaled, plain, rtol=1e-6, atol=1e-6)
