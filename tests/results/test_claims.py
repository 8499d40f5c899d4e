"""Claims that one method is better: exact cases, coverage over seeds and rows, and their verdicts."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from badrjax import metrics, results
from badrjax.results import Claim, Contrast
from badrjax.results.claims import paired_differences, wider_interval
from badrjax.results.contrasts import add_rows, interval, over_seeds, p_value
from badrjax.results.rows import resample_rows
from tests.results.cases import balanced_rows


def accuracy(labels):
    return lambda predictions, weight: metrics.accuracy(labels, predictions, weight)


def noisy(generator, labels, right, num_seeds):
    """Predictions `[S, n]` that are right with a chance."""
    return np.where(generator.uniform(size=(num_seeds, labels.size)) < right, labels, 1 - labels)


def test_over_seeds_it_is_the_paired_t_test():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 80)
    first, second = noisy(generator, labels, 0.9, 12), noisy(generator, labels, 0.8, 12)
    claim = results.compare_methods(accuracy(labels), first, second, seed=0, tolerance=0.02, num_resamples=50)
    scores = [(predictions == labels).mean(axis=1) for predictions in (first, second)]
    expected = stats.ttest_rel(*scores)
    assert claim.seeds.estimate == pytest.approx(np.mean(scores[0] - scores[1]), rel=1e-5)
    assert p_value(claim.seeds) == pytest.approx(expected.pvalue, rel=1e-4)
    np.testing.assert_allclose(interval(claim.seeds), expected.confidence_interval(0.95), rtol=1e-4)


def test_rows_widen_by_the_variance_of_a_mean_over_rows():
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 2, 300)
    first, second = noisy(generator, labels, 0.9, 8), noisy(generator, labels, 0.8, 8)
    claim = results.compare_methods(accuracy(labels), first, second, seed=0, tolerance=0.02)
    by_row = ((first == labels) * 1.0 - (second == labels)).mean(axis=0)
    expected = np.hypot(claim.seeds.standard_error, by_row.std() / np.sqrt(300))
    assert claim.wide.standard_error == pytest.approx(expected, rel=0.05)
    assert wider_interval(claim) == interval(claim.wide)


def test_copies_of_a_row_are_one_witness():
    generator = np.random.default_rng(2)
    labels = generator.integers(0, 2, 60)
    first, second = noisy(generator, labels, 0.9, 4), noisy(generator, labels, 0.7, 4)
    twice = np.concatenate([np.arange(60), np.arange(60)])
    options = {"seed": 0, "tolerance": 0.02, "num_resamples": 1000}
    once = results.compare_methods(accuracy(labels), first, second, **options)
    copies = results.compare_methods(accuracy(labels[twice]), first[:, twice], second[:, twice], rows=twice, **options)
    weighted = results.compare_methods(
        accuracy(labels), first, second, weight=np.full(60, 2), rows=range(60), **options
    )
    blind = results.compare_methods(accuracy(labels[twice]), first[:, twice], second[:, twice], **options)
    assert (copies.num_rows, blind.num_rows) == (60, 120)
    assert copies.wide.standard_error == pytest.approx(once.wide.standard_error, rel=0.05)
    assert weighted.wide.standard_error == pytest.approx(once.wide.standard_error, rel=0.05)
    assert blind.wide.standard_error < 0.85 * once.wide.standard_error


def test_metrics_of_groups_and_lower_is_better():
    generator = np.random.default_rng(3)
    labels, groups = balanced_rows(generator, 60)
    even = noisy(generator, labels, 0.8, 10)
    uneven = np.where(groups == 1, noisy(generator, labels, 0.6, 10), noisy(generator, labels, 0.95, 10))

    def by_group(predictions, weight):
        return metrics.group_balanced_accuracy(labels, predictions, groups, 2, weight)

    worst = lambda predictions, weight: jnp.min(by_group(predictions, weight))  # noqa: E731
    gap = lambda predictions, weight: jnp.ptp(by_group(predictions, weight))  # noqa: E731
    options = {"seed": 0, "tolerance": 0.03, "strata": 2 * groups + labels, "num_resamples": 300}
    for metric, better in ((worst, "higher"), (gap, "lower")):
        claim = results.compare_methods(metric, even, uneven, better=better, **options)
        assert interval(claim.wide)[0] > 0.05
        back = results.compare_methods(metric, uneven, even, better=better, **options)
        assert back.seeds.estimate == pytest.approx(-claim.seeds.estimate)


def simulated(key, num_seeds, num_rows):
    """Scores `[2, S, n]` of two methods on rows, whose true mean difference is 0.1."""
    keys = jax.random.split(key, 4)
    row = 0.5 * jax.random.normal(keys[0], (1, 1, num_rows))
    method_by_row = 0.4 * jax.random.normal(keys[1], (2, 1, num_rows))
    method_by_seed = 0.05 * jax.random.normal(keys[2], (2, num_seeds, 1))
    noise = 0.3 * jax.random.normal(keys[3], (2, num_seeds, num_rows))
    return jnp.array([0.1, 0.0])[:, None, None] + row + method_by_row + method_by_seed + noise, method_by_row


def coverage(num_seeds, num_rows=50, simulations=400):
    """How often each interval covers the difference given the rows, and over rows."""

    def one(key):
        (first, second), by_row = simulated(jax.random.fold_in(key, 0), num_seeds, num_rows)
        mean = lambda outputs, weight: jnp.sum(weight * outputs) / jnp.sum(weight)  # noqa: E731
        differences = lambda weight: paired_differences(mean, first, second, weight)  # noqa: E731
        weight, clusters = jnp.ones(num_rows), jnp.arange(num_rows)
        statistic = lambda weight: jnp.mean(differences(weight))  # noqa: E731
        resampled = resample_rows(key, statistic, weight, clusters, num_rows, num_resamples=200)
        return differences(weight), resampled.standard_error, 0.1 + jnp.mean(by_row[0] - by_row[1])

    keys = jax.random.split(jax.random.key(0), simulations)
    results_of_all = jax.jit(lambda keys: jax.lax.map(one, keys))(keys)
    given, over, narrow = [], [], []
    for differences, error, truth_here in zip(*map(np.asarray, results_of_all), strict=True):
        seeds = over_seeds(differences)
        low, high = interval(seeds)
        given.append(low <= truth_here <= high)
        narrow.append(low <= 0.1 <= high)
        low, high = interval(add_rows(seeds, float(error), num_rows))
        over.append(low <= 0.1 <= high)
    return np.mean(given), np.mean(over), np.mean(narrow)


@pytest.mark.parametrize("num_seeds", [5, 20])
def test_both_intervals_cover_what_they_are_for(num_seeds):
    given, over, narrow = coverage(num_seeds)
    assert 0.925 < given < 0.975
    assert 0.925 < over < 0.985
    # The interval over seeds says nothing of other rows.
    assert narrow < 0.9


def test_splits_drawn_anew_are_corrected():
    generator = np.random.default_rng(4)
    differences = generator.normal(0.1, 0.05, size=10)
    claim = results.compare_over_splits(differences, num_train=80, num_test=20, tolerance=0.02)
    variance = differences.var(ddof=1) * (1 / 10 + 20 / 80)
    half_width = stats.t.ppf(0.975, 9) * np.sqrt(variance)
    np.testing.assert_allclose(interval(claim.wide), [differences.mean() - half_width, differences.mean() + half_width])
    assert claim.wide.standard_error > claim.seeds.standard_error
    lower = results.compare_over_splits(-differences, num_train=80, num_test=20, tolerance=0.02, better="lower")
    assert lower == claim


def test_the_correction_holds_its_size_where_splits_share_their_rows():
    # Two predictors that are each right for a row by chance, so that neither is better; test rows drawn J times.
    generator = np.random.default_rng(5)
    rows = generator.normal(size=(600, 100))
    plain = corrected = 0
    for row in rows:
        differences = [row[generator.permutation(100)[:20]].mean() for _ in range(15)]
        claim = results.compare_over_splits(differences, num_train=80, num_test=20, tolerance=0.02)
        plain += p_value(claim.seeds) <= 0.05
        corrected += p_value(claim.wide) <= 0.05
    assert plain / 600 > 0.2
    assert corrected / 600 < 0.09


def test_diverged_pairs_are_counted_and_their_metric_ignored():
    generator = np.random.default_rng(6)
    labels = generator.integers(0, 2, 40)
    first, second = (noisy(generator, labels, p, 6).astype(float) for p in (0.9, 0.8))
    whole = results.compare_methods(accuracy(labels), first[:4].astype(int), second[:4].astype(int), seed=0,
                                    tolerance=0.02, num_resamples=100)  # fmt: skip
    first[4], second[5, 0] = np.nan, np.inf
    mean = lambda outputs, weight: jnp.sum(weight * (outputs == labels)) / jnp.sum(weight)  # noqa: E731
    claim = results.compare_methods(mean, first, second, seed=0, tolerance=0.02, num_resamples=100)
    assert (claim.num_seeds, claim.num_diverged) == (6, 2)
    assert claim.seeds == pytest.approx(whole.seeds, rel=1e-5)
    gone = results.compare_methods(mean, first * np.nan, second, seed=0, tolerance=0.02)
    assert gone.num_diverged == 6
    assert np.isnan(gone.wide).all()


def claim(estimate, error=0.01, *, wide=None, tolerance=0.02, num_diverged=0):
    wide = error if wide is None else wide
    return Claim(Contrast(estimate, error, 49), Contrast(estimate, wide, 60), tolerance, 50, num_diverged, 300)


def verdicts(**claims):
    frame = results.claim_table([({"claim": name}, c) for name, c in claims.items()])
    return dict(zip(frame["claim"], frame["verdict"], strict=True))


def test_each_verdict():
    found = verdicts(
        better=claim(0.1),
        worse=claim(-0.1),
        same=claim(0.0, 0.001),
        unclear=claim(0.01, 0.02),
        wide=claim(0.05, 0.01, wide=0.05),
        gone=claim(0.1, num_diverged=6),
        unknown=claim(np.nan, np.nan),
    )
    assert found == {
        "better": "SUPPORTED", "worse": "REFUTED", "same": "NON-INFERIOR", "unclear": "UNDECIDED",
        "wide": "UNDECIDED", "gone": "UNDECIDED", "unknown": "UNDECIDED",
    }  # fmt: skip


def test_without_any_difference_it_is_non_inferior():
    labels = np.array([0, 1, 1, 0])
    same = np.array([[0, 1, 0, 0]] * 3)
    equal = results.compare_methods(accuracy(labels), same, same, seed=0, tolerance=0.02, num_resamples=20)
    assert verdicts(a=equal) == {"a": "NON-INFERIOR"}


def test_claims_made_together_need_more():
    assert verdicts(a=claim(0.025))["a"] == "SUPPORTED"
    crowd = {f"other {i}": claim(0.0) for i in range(9)}
    assert verdicts(a=claim(0.025), **crowd)["a"] != "SUPPORTED"
    frame = results.claim_table([({"claim": str(i)}, claim(0.01 * i)) for i in range(5)])
    assert np.all((frame["low"] > 0) == (frame["p_holm"] <= 0.05))
    assert np.all(frame["high"] - frame["low"] >= frame["wide_high"] - frame["wide_low"] - 1e-12)


def test_the_table_and_its_markdown():
    frame = results.claim_table([({"claim": "a > b", "dataset": "adult"}, claim(0.1, num_diverged=1))])
    assert frame["note"].tolist() == ["1 of 50 pairs diverged"]
    text = results.claims_markdown(frame).splitlines()
    assert text[0].startswith("| claim | dataset | difference |")
    assert text[2].startswith("| a > b | adult | +0.100 | [+0.080, +0.120] |")


def test_across_datasets_both_settings_of_adult_have_one_vote():
    frame = pd.DataFrame(
        {
            "dataset": ["adult_sex", "adult_race", "bank", "credit", "broken"],
            "estimate": [0.1, 0.2, 0.1, -0.1, np.nan],
            "verdict": ["SUPPORTED", "SUPPORTED", "UNDECIDED", "REFUTED", "UNDECIDED"],
        }
    )
    found = results.across_datasets(frame, {"adult_sex": "adult", "adult_race": "adult"})
    assert found.counts == {"SUPPORTED": 2, "NON-INFERIOR": 0, "REFUTED": 1, "UNDECIDED": 2}
    assert found.signs[:3] == (2, 1, 0)
    assert results.across_datasets(frame).signs[:3] == (3, 1, 0)
    with pytest.raises(ValueError, match="not in the table"):
        results.across_datasets(frame, {"Adult": "adult"})
    with pytest.raises(ValueError, match="one row a data set"):
        results.across_datasets(pd.concat([frame, frame]))


def test_bad_arguments():
    labels, outputs = np.zeros(3, int), np.zeros((2, 3), int)
    good = {"seed": 0, "tolerance": 0.02}
    for first, second, options, message in [
        (outputs, outputs[:1], good, "outputs must be"),
        (outputs[0], outputs[0], good, "outputs must be"),
        (outputs, outputs, good | {"tolerance": -1}, "tolerance"),
        (outputs, outputs, good | {"better": "more"}, "better"),
        (outputs, outputs, good | {"rows": [0, 1]}, "rows must have"),
        (outputs, outputs, good | {"num_resamples": 0}, "num_resamples"),
    ]:
        with pytest.raises(ValueError, match=message):
            results.compare_methods(accuracy(labels), first, second, **options)
    for sizes in ({"num_train": 0, "num_test": 1}, {"num_train": 1, "num_test": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            results.compare_over_splits([0.1, 0.2], tolerance=0.02, **sizes)
    with pytest.raises(ValueError, match="one a split"):
        results.compare_over_splits([[0.1]], num_train=1, num_test=1, tolerance=0.02)
    with pytest.raises(ValueError, match="at least one claim"):
        results.claim_table([])
    with pytest.raises(ValueError, match="same names"):
        results.claim_table([({"a": "1"}, claim(0.1)), ({"b": "1"}, claim(0.1))])
