"""Facts that all objectives of scores share: frequencies, padding, absent groups, order, numbering, derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from badrjax import objectives as ob
from tests.objectives import references

N, K = 12, 3
NAMES = (
    "demographic_parity",
    "equal_opportunity",
    "equalized_odds",
    "hsic",
    "disparate_mistreatment",
    "individual_fairness",
)
DEFAULTS = [
    *((name, None, "class") for name in NAMES),
    ("demographic_parity", None, "real"),
    ("individual_fairness", None, "real"),
]
# Of individual fairness both variants are the same function.
CASES = DEFAULTS + [(name, "badr", kind) for name, _, kind in DEFAULTS if name != "individual_fairness"]
EACH_DEFAULT = pytest.mark.parametrize("case", DEFAULTS, ids=lambda case: "-".join(map(str, case)))
# The other variant differs by an offset, or is held against its own reference where it is made.
EACH = pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[] if case[1] is None else pytest.mark.slow) for case in CASES],
    ids=lambda case: "-".join(map(str, case)),
)
# The ids as numbers are what these two are made of.
NUMBERED = {("hsic", "badr"), ("disparate_mistreatment", "badr")}


def bound(case):
    name, variant, _ = case

    def objective(scores, labels, groups, weight, sharpness):
        return getattr(ob, name)(scores, labels, groups, K, weight, sharpness, variant)

    return objective


WITH_GRADIENT = {case: jax.jit(jax.value_and_grad(bound(case))) for case in CASES}


def value_of(case, *args):
    # The program that also gives the gradient, so that each case compiles once.
    return WITH_GRADIENT[case](*args)[0]


@st.composite
def rows(draw):
    """Scores, class labels, real labels, groups and frequencies of `N` rows."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    groups = random.integers(0, draw(st.integers(1, K)), N)
    weight = random.integers(0, draw(st.integers(2, 4)), N)
    targets = random.normal(size=N) * draw(st.sampled_from([1.0, 5.0, 1e6]))
    if draw(st.booleans()):
        targets = np.round(targets)
    return random.normal(size=N) * 2, random.integers(0, 2, N), targets, groups, weight


def of_kind(case, drawn):
    scores, classes, targets, groups, weight = drawn
    return scores, (targets if case[2] == "real" else classes), groups, weight


def expected(case, scores, labels, groups, weight, sharpness=1.0):
    function = getattr(references, case[0])
    return references.of_frequencies(function, scores, labels, groups, weight, sharpness, case[1])


@EACH
@settings(deadline=None, max_examples=25)
@given(drawn=rows(), sharpness=st.sampled_from([0.3, 1.0, 7.0]), garbage=st.sampled_from([np.nan, np.inf, -1e300]))
def test_value_and_gradient_are_those_of_repeated_rows(case, drawn, sharpness, garbage):
    scores, labels, groups, weight = of_kind(case, drawn)
    value = expected(case, scores, labels, groups, weight, sharpness)
    slope = references.gradient(
        getattr(references, case[0]), scores, labels, groups, weight, sharpness=sharpness, variant=case[1]
    )
    padding = weight == 0
    spoilt = np.where(padding, garbage if labels.dtype.kind == "f" else 7, labels).astype(labels.dtype)
    with jax.enable_x64(True):
        got = WITH_GRADIENT[case](np.where(padding, garbage, scores), spoilt, groups, weight, sharpness)
    np.testing.assert_allclose(got[0], value, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(got[1], slope, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(np.asarray(got[1])[padding], 0)


@EACH
@settings(deadline=None, max_examples=25)
@given(drawn=rows(), seed=st.integers(0, 99))
def test_numbering_groups_and_ordering_rows_otherwise_change_nothing(case, drawn, seed):
    random = np.random.default_rng(seed)
    scores, labels, groups, weight = of_kind(case, drawn)
    order, numbers = random.permutation(N), random.permutation(K)
    if case[:2] in NUMBERED:
        numbers = np.arange(K)
    with jax.enable_x64(True):
        value, slope = WITH_GRADIENT[case](scores, labels, groups, weight, 1.0)
        moved = WITH_GRADIENT[case](scores[order], labels[order], numbers[groups][order], weight[order], 1.0)
    np.testing.assert_allclose(moved[0], value, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(moved[1], np.asarray(slope)[order], rtol=1e-9, atol=1e-13)


@EACH_DEFAULT
@settings(deadline=None, max_examples=15)
@given(drawn=rows())
def test_the_default_is_zero_at_parity_and_never_negative(case, drawn):
    scores, labels, groups, weight = of_kind(case, drawn)
    with jax.enable_x64(True):
        assert value_of(case, scores, labels, groups, weight, 1.0) >= 0
    # Of mistreatment it is parity that all err alike.
    signs = 2 * labels - 1 if case[0] == "disparate_mistreatment" else np.ones(N)
    for score in (0.0, 1.3, -1e4):
        with jax.enable_x64(True):
            value, slope = WITH_GRADIENT[case](score * signs, labels, groups, weight, 1.0)
        np.testing.assert_allclose(value, 0, atol=1e-12)
        np.testing.assert_allclose(slope, 0, atol=1e-11)


@EACH
def test_fewer_than_two_groups_are_zero_with_derivative_zero(case, x64):
    random = np.random.default_rng(0)
    scores, labels = random.normal(size=N), random.integers(0, 2, N)
    labels = labels if case[2] == "class" else labels * 0.7
    for groups, weight in [
        (np.full(N, 2), np.ones(N)),
        (np.arange(N) % K, np.zeros(N)),
        (np.arange(N) % K, np.eye(N)[1]),
    ]:
        value, slope = WITH_GRADIENT[case](scores, labels, groups, weight, 1.0)
        assert value == 0
        np.testing.assert_array_equal(slope, 0)


def test_no_rows_and_one_group_in_all_are_zero():
    for name, _, kind in (DEFAULTS[2], DEFAULTS[3], DEFAULTS[-1]):
        labels = np.array([0, 1, 1], float if kind == "real" else int)
        scores = jnp.array([1.0, 2.0, 4.0])
        assert getattr(ob, name)(scores, labels, np.zeros(3, int), 1) == 0
        if kind == "real":
            assert getattr(ob, name)(scores[:0], labels[:0], np.zeros(0, int), K) == 0


def a_problem(case):
    random = np.random.default_rng(3)
    scores, labels = random.normal(size=N), np.arange(N) % 2
    groups, weight = np.arange(N) // 2 % K, np.array([1, 2, 1, 1, 0, 3, 1, 1, 1, 2, 1, 1])
    return scores, (labels if case[2] == "class" else random.normal(size=N)), groups, weight


@EACH
def test_derivatives_agree_with_differences(case, x64):
    scores, labels, groups, weight = a_problem(case)
    plus, minus = (
        np.array([value_of(case, scores + h * step, labels, groups, weight, 1.3) for step in np.eye(N)])
        for h in (1e-5, -1e-5)
    )
    slope = WITH_GRADIENT[case](scores, labels, groups, weight, 1.3)[1]
    np.testing.assert_allclose(slope, (plus - minus) / 2e-5, atol=1e-8)


# The others are quadratic, and have their second derivatives in closed form in their own files.
@pytest.mark.parametrize("case", [c for c in DEFAULTS if c[0] in NAMES[:3]], ids=str)
def test_second_derivatives_agree_with_differences(case, x64):
    scores, labels, groups, weight = a_problem(case)
    hessian = jax.jit(jax.hessian(bound(case)))(scores, labels, groups, weight, 1.3)
    plus, minus = (
        np.array([WITH_GRADIENT[case](scores + h * step, labels, groups, weight, 1.3)[1] for step in np.eye(N)])
        for h in (1e-5, -1e-5)
    )
    np.testing.assert_allclose(hessian, (plus - minus) / 2e-5, atol=1e-8)


@EACH_DEFAULT
def test_lanes_equal_a_loop_and_a_failing_lane_stays_alone(case, x64):
    scores, labels, groups, weight = a_problem(case)
    lanes = np.stack([scores, 2 * scores, scores[::-1]])
    lane_groups = np.stack([groups, groups + 7, groups])
    values, slopes = jax.vmap(WITH_GRADIENT[case], in_axes=(0, None, 0, None, None))(
        lanes, labels, lane_groups, weight, 1.0
    )
    assert np.isnan(values[1])
    for i in (0, 2):
        value, slope = WITH_GRADIENT[case](lanes[i], labels, groups, weight, 1.0)
        np.testing.assert_allclose(values[i], value, rtol=1e-12)
        np.testing.assert_allclose(slopes[i], slope, rtol=1e-10, atol=1e-14)


@EACH
def test_dtype_follows_the_scores(case, x64):
    scores, labels, groups, weight = a_problem(case)
    for dtype, result in [(jnp.float64, jnp.float64), (jnp.float32, jnp.float32), (jnp.bfloat16, jnp.float32)]:
        for frequencies in (weight, weight.astype(np.float64), None):
            value = jax.eval_shape(bound(case), jnp.asarray(scores, dtype), labels, groups, frequencies, 1.0)
            assert value.dtype == result


# The sigmoid of such a score is 1 in every precision, so that rates have no digits to keep.
SHIFTABLE = [case for case in DEFAULTS if case[2] == "real" or case[0] not in NAMES[:3]]


@pytest.mark.parametrize("case", SHIFTABLE, ids=lambda case: "-".join(map(str, case)))
def test_scores_far_from_zero_keep_their_digits(case):
    scores, labels, groups, weight = a_problem(case)
    far = (scores + 1e4).astype(np.float32)
    value = expected(case, far.astype(float), labels, groups, weight)
    np.testing.assert_allclose(value_of(case, far, labels, groups, weight, 1.0), value, rtol=1e-5, atol=1e-30)


@EACH
def test_what_would_raise_is_nan_under_tracing(case, x64):
    scores, labels, groups, weight = a_problem(case)
    assert np.isfinite(value_of(case, scores, labels, groups, weight, 1.0))
    assert np.isnan(value_of(case, scores, labels, groups - 1, weight, 1.0))
    assert np.isnan(value_of(case, scores, labels, groups, weight - 1.0, 1.0))
    assert np.isnan(value_of(case, scores, labels, groups, np.where(weight > 1, np.nan, weight), 1.0))
    if case[0] in NAMES[:3]:
        assert np.isnan(value_of(case, scores, labels, groups, weight, -1.0))
    if case[2] == "class" and case[0] != "hsic" and case[:2] not in NUMBERED:
        assert np.isnan(value_of(case, scores, 2 * labels - 1, groups, weight, 1.0))
    if case[2] == "real" and case[0] == "individual_fairness":
        assert np.isnan(value_of(case, scores, np.where(weight == 3, np.inf, labels), groups, weight, 1.0))


@pytest.mark.parametrize("name", NAMES)
def test_wrong_input_is_named(name):
    objective = getattr(ob, name)
    scores, labels, groups = jnp.array([0.1, -1.0, 2.0]), jnp.array([0, 1, 1]), jnp.array([0, 1, 0])
    with pytest.raises(ValueError, match=r"unknown variant 'bard': did you mean 'badr'"):
        objective(scores, labels, groups, 2, variant="bard")
    with pytest.raises(TypeError, match="scores must hold floats"):
        objective(labels, labels, groups, 2)
    with pytest.raises(ValueError, match=r"scores must have one axis .* \(3, 1\)"):
        objective(scores[:, None], labels, groups, 2)
    with pytest.raises(ValueError, match="scores has 3, labels has 2"):
        objective(scores, labels[:2], groups, 2)
    with pytest.raises(ValueError, match=r"groups must lie in \[0, 1\), but row 1 has id 1"):
        objective(scores, labels, groups, 1)
    with pytest.raises(TypeError, match="groups must hold integer ids"):
        objective(scores, labels, groups * 1.0, 2)
    with pytest.raises(ValueError, match="weight must hold frequencies >= 0"):
        objective(scores, labels, groups, 2, jnp.array([1.0, -1.0, 1.0]))


@pytest.mark.parametrize("name", NAMES)
def test_boolean_labels_are_classes(name):
    # Group ids are never cast to the dtype of the labels, which as booleans would merge groups 1 and 2.
    scores, labels, groups, weight = a_problem((name, None, "class"))
    values = [
        getattr(ob, name)(jnp.asarray(scores, jnp.float32), jnp.asarray(y), groups, K, weight, variant="badr")
        for y in (labels, labels.astype(bool), labels.astype(np.uint8))
    ]
    assert values[0] == values[1] == values[2]
    # Here no function is jitted.
    np.testing.assert_allclose(values[0], expected((name, "badr"), scores, labels, groups, weight), rtol=1e-5)


def test_signatures_are_alike():
    for name in NAMES:
        names = getattr(ob, name).__code__.co_varnames[: getattr(ob, name).__code__.co_argcount]
        assert names == ("scores", "labels", "groups", "num_groups", "weight", "sharpness", "variant")
        assert getattr(ob, name).__defaults__ == (None, 1.0, None)


@pytest.mark.parametrize(("dtype", "num_groups"), [(np.uint8, 256), (np.int8, 128), (np.int8, 200)])
def test_ids_of_a_narrow_type_are_not_taken_for_outside(dtype, num_groups):
    random = np.random.default_rng(0)
    groups = np.arange(512) % min(num_groups, 1 + np.iinfo(dtype).max)
    scores, labels = random.normal(size=512).astype(np.float32), random.integers(0, 2, 512)
    for objective in (ob.equal_opportunity, ob.hsic):
        narrow = objective(scores, labels, groups.astype(dtype), num_groups)
        np.testing.assert_array_equal(narrow, objective(scores, labels, groups, num_groups))
        assert np.isfinite(narrow)


@EACH_DEFAULT
def test_the_derivative_by_the_weight_of_padding_is_zero(case):
    random = np.random.default_rng(1)
    scores, groups = random.normal(size=N).astype(np.float32), np.arange(N) % K
    labels = random.normal(size=N).astype(np.float32) if case[2] == "real" else np.arange(N) // K % 2
    weight = np.where(np.arange(N) == 5, 0.0, 2.0).astype(np.float32)
    slopes = jax.jit(jax.grad(lambda weight: bound(case)(scores, labels, groups, weight, 1.0)))(weight)
    assert slopes[5] == 0
    assert np.isfinite(slopes).all()
    assert np.abs(slopes).max() > 0
