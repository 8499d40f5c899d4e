"""Facts about dropout's masks: what a fair, independent coin would show, and what padding and tracing must not do.

Each statistical test runs on the hash and on threefry, its reference. Seeds are fixed, so a test passes or fails
for good; bounds are those a fair coin exceeds about once in ten thousand seeds.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from badrjax.models import dropout, mlp

NUM_KEYS, SHAPE = 2000, (24, 16)
RATES = (0.1, 0.5, 0.8)
UNLIKELY = 1e-4
BOTH = pytest.mark.parametrize("masks", ["hash", "threefry"])
# What a caller may number: the seeds themselves, the steps of a run, the keys of one split.
KEYS = {
    "seeds": lambda: jax.vmap(jax.random.key)(jnp.arange(NUM_KEYS)),
    "fold_in": lambda: jax.vmap(partial(jax.random.fold_in, jax.random.key(0)))(jnp.arange(NUM_KEYS)),
    "split": lambda: jax.random.split(jax.random.key(1), NUM_KEYS),
}
drop = jax.jit(dropout, static_argnames="masks")


@partial(jax.jit, static_argnames="masks")
def kept_by(keys, rate, masks):
    return jax.vmap(lambda key: dropout(key, jnp.ones(SHAPE), rate, masks) > 0)(keys)


@cache
def sample(masks, rate, keys="split"):
    """Which entries are kept, `bool[keys, rows, columns]`."""
    return np.asarray(kept_by(KEYS[keys](), rate, masks))


def share_kept(rate):
    return 1 - np.floor(rate * 2**16) / 2**16


def check_coin(kept, probability):
    """The number of heads in all."""
    test = scipy.stats.binomtest(int(kept.sum()), kept.size, probability)
    assert test.pvalue > UNLIKELY


def check_independent(first, second):
    """A chi-square test of the 2 x 2 table of paired coins."""
    table = [[np.sum(first & second), np.sum(first & ~second)], [np.sum(~first & second), np.sum(~first & ~second)]]
    assert scipy.stats.chi2_contingency(table, correction=False).pvalue > UNLIKELY


def check_dispersion(counts, num_coins, probability):
    """Counts of heads scatter as binomial ones do, neither more nor less."""
    squares = np.square(counts - num_coins * probability) / (num_coins * probability * (1 - probability))
    quantile = scipy.stats.chi2.cdf(squares.sum(), squares.size)
    assert UNLIKELY < quantile < 1 - UNLIKELY


@BOTH
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("keys", KEYS)
def test_every_entry_is_kept_with_the_same_probability(masks, rate, keys):
    kept = sample(masks, rate, keys)
    probability = share_kept(rate)
    check_coin(kept, probability)
    counts = kept.sum(axis=0).ravel()
    check_dispersion(counts, NUM_KEYS, probability)
    extreme = scipy.stats.binom.ppf([UNLIKELY / counts.size, 1 - UNLIKELY / counts.size], NUM_KEYS, probability)
    assert np.all((extreme[0] <= counts) & (counts <= extreme[1]))


@BOTH
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("distance", [1, 2, 3, 16, 17, 64, 128, 255, 256])
def test_neighbouring_entries_are_independent(masks, rate, distance):
    flat = sample(masks, rate).reshape(NUM_KEYS, -1)
    check_independent(flat[:, :-distance], flat[:, distance:])


@BOTH
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("lag", [1, 2, 3, 256])
def test_masks_of_consecutive_keys_are_independent(masks, rate, keys, lag):
    kept = sample(masks, rate, keys)
    check_independent(kept[:-lag], kept[lag:])
    # Nor is one the other moved along by an entry.
    flat = kept.reshape(NUM_KEYS, -1)
    check_independent(flat[:-lag, 1:], flat[lag:, :-1])


@BOTH
@pytest.mark.parametrize("rate", RATES)
def test_masks_of_two_layers_are_independent(masks, rate):
    keys = KEYS["split"]()
    layers = [
        np.asarray(kept_by(jax.vmap(lambda key, i=index: jax.random.fold_in(key, i))(keys), rate, masks))
        for index in range(3)
    ]
    check_independent(layers[0], layers[1])
    check_independent(layers[1], layers[2])
    check_independent(layers[0], layers[2])


@BOTH
@pytest.mark.parametrize("rate", RATES)
def test_rows_and_columns_do_not_move_together(masks, rate):
    kept, probability = sample(masks, rate), share_kept(rate)
    check_dispersion(kept.sum(axis=2).ravel(), SHAPE[1], probability)
    check_dispersion(kept.sum(axis=1).ravel(), SHAPE[0], probability)
    check_dispersion(kept.sum(axis=(1, 2)), SHAPE[0] * SHAPE[1], probability)


@BOTH
@pytest.mark.parametrize("keys", KEYS)
def test_no_pair_of_entries_is_correlated(masks, keys):
    # All pairs at once, in and across rows and columns.
    coins = np.where(sample(masks, 0.5, keys).reshape(NUM_KEYS, -1), 1.0, -1.0)
    size = coins.shape[1]
    scores = (coins.T @ coins / np.sqrt(NUM_KEYS))[np.triu_indices(size, 1)]
    assert np.max(np.abs(scores)) < scipy.stats.norm.isf(UNLIKELY / scores.size / 2)
    # The squares of independent pairs have mean 1 and variance 2.
    assert abs(np.mean(scores**2) - 1) < 4 * np.sqrt(2 / scores.size)


@BOTH
def test_runs_are_as_long_as_those_of_a_coin(masks):
    flat = sample(masks, 0.5).reshape(NUM_KEYS, -1)
    changes = np.sum(flat[:, 1:] != flat[:, :-1], axis=1)
    check_dispersion(changes, flat.shape[1] - 1, 0.5)


def test_thresholds_are_uniform_to_the_last_sixteenth_bit():
    # The lowest rate at which an entry is dropped is its bits: uniform over many rates at once.
    rates = jnp.arange(1, 64) / 64
    kept = np.stack([np.asarray(drop(jax.random.key(3), jnp.ones(20_000), rate)) > 0 for rate in rates])
    assert np.all(kept[1:] <= kept[:-1])
    counts = np.bincount(kept.sum(0), minlength=64)
    assert scipy.stats.chisquare(counts).pvalue > UNLIKELY


@BOTH
@pytest.mark.parametrize("rate", [1e-6, 0.1, 0.3, 1 / 3, 0.5, 0.9, 0.999, 1 - 2**-16])
def test_the_scale_makes_the_expectation_exact(masks, rate):
    x = jnp.full(200_000, 3.0)
    out = np.asarray(drop(jax.random.key(0), x, rate, masks=masks), float)
    # Rates are resolved to 2^-16, and entries are divided by the share truly kept.
    share = share_kept(np.float32(rate).astype(float))
    np.testing.assert_allclose(out[out != 0], 3 / share, rtol=1e-6)
    assert abs(share - (1 - rate)) <= 2**-16
    check_coin(out != 0, share)


@BOTH
def test_rate_zero_is_the_identity(masks):
    x = jax.random.normal(jax.random.key(0), (50, 3))
    np.testing.assert_array_equal(drop(jax.random.key(1), x, 0.0, masks=masks), x)
    np.testing.assert_array_equal(dropout(jax.random.key(1), x, 0, masks), x)


@BOTH
@pytest.mark.parametrize("rate", [0.9999, 1 - 2**-16, 1 - 2**-24, 0.99999999])
def test_rates_close_to_one_drop_nearly_everything(masks, rate):
    # The last of them is 1 in float32.
    out = np.asarray(drop(jax.random.key(0), jnp.ones(300_000), rate, masks=masks))
    assert np.all(np.isfinite(out))
    assert np.count_nonzero(out) < 300_000 * max(3 * (1 - rate), 5e-5)
    assert np.all(out[out != 0] <= 2**16)


@BOTH
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("rate", [0.0, 0.3, 0.999])
def test_half_precision_keeps_the_same_entries(masks, dtype, rate):
    key = jax.random.key(0)
    half = drop(key, jnp.ones(20_000, dtype), rate, masks=masks)
    full = np.asarray(drop(key, jnp.ones(20_000), rate, masks=masks))
    assert half.dtype == dtype
    np.testing.assert_array_equal(np.asarray(half, np.float32) != 0, full != 0)
    np.testing.assert_allclose(np.asarray(half, np.float32), full, rtol=4e-3)


@BOTH
def test_double_precision_keeps_the_same_entries(masks):
    single = np.asarray(drop(jax.random.key(0), jnp.ones(5000), 0.375, masks=masks))
    with jax.enable_x64(True):
        double = drop(jax.random.key(0), jnp.ones(5000), 0.375, masks=masks)
        assert double.dtype == np.float64
        np.testing.assert_allclose(double, single, rtol=1e-6)


@BOTH
def test_a_traced_rate_gives_the_same_masks_and_one_program(masks):
    traces = []

    @jax.jit
    def traced(key, x, rate):
        traces.append(None)
        return dropout(key, x, rate, masks)

    x = jax.random.normal(jax.random.key(0), (30, 4))
    for rate in (0.0, 0.25, 0.6):
        plain = drop(jax.random.key(1), x, rate, masks=masks)
        np.testing.assert_allclose(traced(jax.random.key(1), x, jnp.float32(rate)), plain, rtol=1e-6)
    assert len(traces) == 1


@BOTH
@pytest.mark.parametrize("trailing", [(), (5,), (3, 2)])
def test_appended_rows_change_no_mask_before_them(masks, trailing):
    x = np.random.default_rng(0).normal(size=(40, *trailing)).astype(np.float32)
    short, long = (drop(jax.random.key(1), x[:rows], 0.4, masks=masks) for rows in (23, 40))
    np.testing.assert_array_equal(short, long[:23])
    assert np.any(np.asarray(long) == 0)


@BOTH
def test_lanes_of_vmap_equal_single_ones(masks):
    keys, rates = jax.random.split(jax.random.key(0), 3), jnp.array([0.1, 0.5, 0.9])
    x = jax.random.normal(jax.random.key(1), (3, 20, 4))
    lanes = jax.jit(jax.vmap(partial(dropout, masks=masks)))(keys, x, rates)
    for lane in range(3):
        single = drop(keys[lane], x[lane], rates[lane], masks=masks)
        np.testing.assert_allclose(lanes[lane], single, rtol=1e-6)


def test_keys_of_the_old_kind_give_the_same_masks():
    x = jnp.ones((30, 4))
    old = jax.random.key_data(jax.random.key(7))
    np.testing.assert_array_equal(dropout(old, x, 0.5), dropout(jax.random.key(7), x, 0.5))


@BOTH
def test_the_derivative_is_the_mask(masks):
    x = jax.random.normal(jax.random.key(0), (30, 4))
    out = dropout(jax.random.key(1), jnp.ones_like(x), 0.3, masks)
    slope = jax.grad(lambda v: jnp.sum(dropout(jax.random.key(1), v, 0.3, masks)))(x)
    np.testing.assert_allclose(slope, out, rtol=1e-6)
    # Dropped entries let nothing through, not even from where x is not finite.
    dirty = jnp.where(out == 0, jnp.nan, x)
    assert np.all(np.isfinite(dropout(jax.random.key(1), dirty, 0.3, masks)))


@BOTH
def test_no_entries_at_all(masks):
    assert dropout(jax.random.key(0), jnp.zeros((0, 4)), 0.5, masks).shape == (0, 4)


@BOTH
def test_a_networks_layers_and_keys_differ(masks):
    # Identity-like layers show each layer's mask: scores are sums of those kept by both.
    network = mlp(64, (64, 64), 64, dropout=0.5, masks=masks)
    eye = {"kernel": jnp.eye(64), "bias": jnp.zeros(64)}
    params = {"hidden_0": eye, "hidden_1": eye, "output": eye}
    x = jnp.ones((500, 64))
    first, second = (np.asarray(jax.jit(network.apply)(params, x, key=jax.random.key(s))) for s in (0, 1))
    np.testing.assert_array_equal(np.unique(first), [0, 4])
    # Were both layers' masks the same, half would be kept.
    check_coin(first > 0, 0.25)
    check_independent(first > 0, second > 0)
