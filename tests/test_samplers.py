"""Samplers: every row as often as promised, at random where promised."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import badrjax as bx
from badrjax.ordering import stable_order


@partial(jax.jit, static_argnames="sampler")
def compiled(sampler, key, group):
    return sampler.positions(key, group)


def positions(sampler, group, seed=0):
    return np.asarray(compiled(sampler, jax.random.key(seed), jnp.asarray(group)))


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([1, 7, 12]), st.sampled_from([1, 3, 4, 12]), st.sampled_from(["pad", "drop"]))
def test_shuffled_and_in_order_cover_every_row_once(num_rows, batch_size, remainder):
    batch_size = min(batch_size, num_rows)
    for make in (bx.shuffled, bx.in_order):
        batches = positions(make(batch_size, remainder), np.zeros(num_rows, np.int32))
        used = batches[batches >= 0]
        assert len(set(used.tolist())) == used.size
        expected = num_rows if remainder == "pad" else num_rows // batch_size * batch_size
        assert used.size == expected
        assert batches.shape == (make(batch_size, remainder).num_steps(num_rows), batch_size)


def test_in_order_keeps_the_order():
    np.testing.assert_array_equal(positions(bx.in_order(3), np.zeros(7, np.int32)), [[0, 1, 2], [3, 4, 5], [6, -1, -1]])


def test_full_batch_is_one_step():
    np.testing.assert_array_equal(positions(bx.full_batch(), np.zeros(3, np.int32)), [[0, 1, 2]])


def test_shuffled_draws_each_order_equally_often():
    orders = jax.vmap(lambda key: bx.shuffled(3).positions(key, jnp.zeros(3, jnp.int32))[0])(
        jax.random.split(jax.random.key(1), 6000)
    )
    _, counts = np.unique(np.asarray(orders), axis=0, return_counts=True)
    assert counts.size == 6
    # Chi-square with five degrees of freedom; its 99.9% point is 20.5.
    assert ((counts - 1000) ** 2 / 1000).sum() < 20.5


@pytest.mark.parametrize("make", [bx.shuffled, bx.in_order])
def test_padding_rows_never_appear(make):
    group = np.array([0, -1, 0, -1, -1, 1], np.int32)
    used = positions(make(2), group)
    assert sorted(used[used >= 0].tolist()) == [0, 2, 5]


@pytest.mark.parametrize("make", [bx.shuffled, bx.in_order])
@pytest.mark.parametrize("remainder", ["pad", "drop"])
def test_padding_rows_add_batches_of_padding_only(make, remainder):
    group = np.array([-1, 0, 0, -1, 0, 0, 0, -1, -1, -1], np.int32)
    batches = positions(make(4, remainder), group)
    counts = (batches >= 0).sum(axis=1)
    assert counts.tolist() == ([4, 1, 0] if remainder == "pad" else [4, 0])


def test_in_order_keeps_the_order_around_padding():
    group = np.array([0, -1, 1, -1, 0], np.int32)
    np.testing.assert_array_equal(positions(bx.in_order(2), group), [[0, 2], [4, -1], [-1, -1]])


def test_numpy_integers_are_sizes():
    assert bx.shuffled(np.int64(4)) == bx.shuffled(4)


def test_shuffled_puts_padding_last_so_that_early_batches_are_full():
    group = np.where(np.arange(50) % 2, -1, 0).astype(np.int32)
    batches = positions(bx.shuffled(5), group)
    assert (batches[:5] >= 0).all()
    assert (batches[5:] == -1).all()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=30, max_size=30), st.sampled_from([4, 7]), st.integers(0, 5))
def test_group_balanced_shares_every_batch(groups, batch_size, seed):
    group = np.array(groups, np.int32)
    batches = positions(bx.group_balanced(batch_size, 4), group, seed)
    present = np.unique(group)
    for batch in batches:
        counts = np.array([(group[batch] == k).sum() for k in present])
        assert counts.sum() == batch_size
        assert counts.max() - counts.min() <= 1
    for k in present:
        dealt = batches.reshape(-1)[group[batches.reshape(-1)] == k]
        times = np.array([(dealt == row).sum() for row in np.flatnonzero(group == k)])
        assert times.max() - times.min() <= 1  # a row comes back only when the deck is used up


@pytest.mark.parametrize("num_rows", [1, 2, 257, 70_000])
def test_orders_by_digits_are_stable_sorts(num_rows):
    random = np.random.default_rng(num_rows)
    for num_bits, values in ((32, random.integers(0, 2**32, num_rows)), (3, random.integers(0, 8, num_rows))):
        values[: num_rows // 3] = values[-1]
        found = jax.jit(stable_order, static_argnums=1)(values.astype(np.uint32), num_bits)
        np.testing.assert_array_equal(found, np.argsort(values, kind="stable"))


def test_group_balanced_gets_its_groups_from_the_data():
    with pytest.raises(ValueError, match="leaves groups out"):
        bx.group_balanced(2, 3)
    data = bx.Batch(jnp.ones((6, 1)), jnp.zeros(6, jnp.int32), jnp.array([0, 0, 0, 0, 1, 2]))
    model = bx.models.linear(1)
    method = bx.erm(bx.losses.squared(model), optax.sgd(0.1))
    params = model.init(jax.random.key(0))
    float_data = data._replace(y=jnp.zeros(6))
    result = bx.fit(jax.random.key(0), method, params, float_data, num_epochs=1, sampler=bx.group_balanced(3))
    assert np.isfinite(result.steps.loss).all()
    with pytest.raises(ValueError, match="leaves groups out"):
        bx.fit(jax.random.key(0), method, params, float_data, num_epochs=1, sampler=bx.group_balanced(2))
    with pytest.raises(ValueError, match="made for 2 groups"):
        bx.fit(jax.random.key(0), method, params, float_data, num_epochs=1, sampler=bx.group_balanced(3, 2))


@pytest.mark.parametrize("minimum", [1, 3])
def test_group_stratified_covers_every_row_and_has_each_group_in_each_batch(minimum):
    groups = jnp.asarray([0] * 40 + [1] * 9 + [2] + [4] * 30 + [-1] * 5)  # group 3 is empty, padding last
    sampler = bx.group_stratified(20, minimum, num_groups=5)
    positions = np.asarray(jax.jit(sampler.positions)(jax.random.key(0), groups))
    assert positions.shape == (-(-85 // (20 - 5 * minimum)), 20)
    shuffled, dealt = positions[:, : 20 - 5 * minimum], positions[:, 20 - 5 * minimum :]
    assert sorted(shuffled[shuffled >= 0].tolist()) == list(range(80))
    owners = np.asarray(groups)
    for rest, extra in zip(shuffled, dealt, strict=True):
        if (rest >= 0).any():
            counts = np.bincount(owners[extra], minlength=5)
            assert counts[3] == 0
            assert (counts[[0, 1, 2, 4]] >= minimum).all()
        else:
            assert (extra == -1).all()


def test_group_stratified_reads_its_groups_and_wants_room():
    data = bx.Batch(jnp.zeros((30, 2)), jnp.zeros(30, int), jnp.arange(30) % 3)
    method = bx.erm(bx.losses.cross_entropy(bx.models.linear(2)), optax.sgd(0.1))
    params = bx.models.linear(2).init(jax.random.key(0))
    with pytest.raises(ValueError, match="at least 13"):
        bx.fit(jax.random.key(0), method, params, data, num_epochs=1, sampler=bx.group_stratified(12, 4))
    with pytest.raises(ValueError, match="minimum must be a positive integer"):
        bx.group_stratified(12, 0)
