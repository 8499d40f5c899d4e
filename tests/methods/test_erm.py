"""ERM and the worst part of a batch, against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import badrjax as bx
from badrjax.methods.dro import tail_weights


def one_parameter(params, batch, key):
    """The loss of row i is `params * x_i`, so gradients are the features."""
    return params * batch.x[:, 0]


def step(method, features, weight=None):
    features = jnp.asarray(features, jnp.float32)[:, None]
    zeros = jnp.zeros(features.shape[0], jnp.int32)
    batch = bx.Batch(features, zeros, zeros, None if weight is None else jnp.asarray(weight, jnp.float32))
    state, info = method.step(None, method.init(None, jnp.float32(1)), batch)
    return 1 - float(state.params), info  # with learning rate 1: the gradient


@pytest.mark.parametrize(("reduction", "expected"), [("mean", 2.5), ("sum", 10.0), ("root", 5.0)])
def test_reductions_of_erm(reduction, expected):
    gradient, info = step(bx.erm(one_parameter, optax.sgd(1.0), reduction=reduction), [1, 2, 3, 4])
    assert gradient == pytest.approx(expected)
    assert info.loss == pytest.approx(2.5)
    assert info.share == 1


def test_dro_takes_the_worst_rows():
    dro = lambda **options: bx.dro(one_parameter, optax.sgd(1.0), **options)  # noqa: E731
    assert step(dro(fraction=0.5), [1, 4, 2, 3])[0] == pytest.approx(3.5)
    assert step(dro(fraction=0.5, reduction="sum"), [1, 4, 2, 3])[0] == pytest.approx(7)
    # 0.4 of four rows is 1.6 rows: the second counts by 0.6, or not at all with whole rows.
    assert step(dro(fraction=0.4, reduction="sum"), [1, 4, 2, 3])[0] == pytest.approx(4 + 0.6 * 3)
    assert step(dro(fraction=0.4, reduction="sum", whole_rows=True), [1, 4, 2, 3])[0] == pytest.approx(4)


def test_dro_with_all_rows_is_erm():
    features = [0.3, -1.0, 2.0]
    erm, dro = bx.erm(one_parameter, optax.sgd(1.0)), bx.dro(one_parameter, optax.sgd(1.0), fraction=jnp.float32(1))
    assert step(erm, features)[0] == pytest.approx(step(dro, features)[0])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-5, 5, width=32), min_size=6, max_size=6),
    st.lists(st.integers(0, 3), min_size=6, max_size=6),
    st.sampled_from([0.05, 0.3, 0.5, 0.77, 1.0]),
)
def test_tail_weights_equal_those_of_repeated_rows(losses, repeats, fraction):
    repeats = np.array(repeats)
    if repeats.sum() == 0:
        repeats[0] = 1
    losses = np.array(losses, np.float32)
    taken = tail_weights(jnp.asarray(losses), fraction, jnp.asarray(repeats, jnp.float32))
    assert np.all(taken >= 0)
    assert np.all(taken <= repeats)
    np.testing.assert_allclose(taken.sum(), fraction * repeats.sum(), rtol=1e-5)
    each = np.sort(np.repeat(losses, repeats))[::-1]
    budget = fraction * each.size
    share = np.clip(budget - np.arange(each.size), 0, 1)
    np.testing.assert_allclose(np.dot(taken, losses), np.dot(share, each), rtol=1e-4, atol=1e-4)


def test_padding_is_never_the_worst_row():
    method = bx.dro(one_parameter, optax.sgd(1.0), fraction=0.5, reduction="sum")
    assert step(method, [1, 4, 99], weight=[1, 1, 0])[0] == pytest.approx(4)


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1, float("nan")])
def test_fractions_out_of_range(fraction):
    with pytest.raises(ValueError, match="fraction"):
        bx.dro(one_parameter, optax.sgd(1.0), fraction=fraction)


def test_unknown_reduction():
    with pytest.raises(ValueError, match="reduction"):
        bx.erm(one_parameter, optax.sgd(1.0), reduction="average")


def test_fraction_can_be_swept():
    def gradient(fraction):
        return step_array(bx.dro(one_parameter, optax.sgd(1.0), fraction=fraction))

    def step_array(method):
        features = jnp.array([[1.0], [4.0], [2.0], [3.0]])
        batch = bx.Batch(features, jnp.zeros(4, jnp.int32), jnp.zeros(4, jnp.int32))
        return 1 - method.step(None, method.init(None, jnp.float32(1)), batch)[0].params

    np.testing.assert_allclose(jax.vmap(gradient)(jnp.array([0.25, 0.5, 1.0])), [4, 3.5, 2.5], rtol=1e-6)
