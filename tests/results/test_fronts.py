"""Fronts that are chosen on validation rows and scored on test rows."""

import numpy as np
import pytest

from badrjax import pareto, results

REFERENCE = {"reference_point": [1.0, 1.0], "reference_front": [[0.0, 0.0], [0.1, 0.0]]}


def test_the_point_is_picked_on_validation_and_scored_on_test():
    validation, test = np.array([[0.3, 0.1], [0.1, 0.3], [0.2, 0.2]]), np.array([[9.0, 9.0], [5.0, 5.0], [0.0, 0.0]])
    row, scored = results.score_picked(validation, test, lambda points: int(np.argmin(points[:, 0])))
    assert (row, scored.tolist()) == (1, [5.0, 5.0])
    none, unknown = results.score_picked(validation, test, lambda points: None)
    assert none is None
    assert np.isnan(unknown).all()
    with pytest.raises(ValueError, match="both be"):
        results.score_picked(validation, test[:2], np.argmin)


def test_fronts_agree_with_those_of_the_package_seed_by_seed():
    generator = np.random.default_rng(0)
    first, second = generator.uniform(size=(2, 2, 3, 6, 2))  # validation and test, 3 seeds, 6 settings
    found = results.compare_fronts(first, second, **REFERENCE)
    for validation, test, volume, distance in zip(*first, found.first_hypervolume, found.first_igd_plus, strict=True):
        chosen = pareto.front(validation)
        assert volume == pytest.approx(float(pareto.hypervolume(test, np.ones(2), chosen)), rel=1e-5)
        reference = np.array(REFERENCE["reference_front"])
        assert distance == pytest.approx(float(pareto.igd_plus(test, reference, chosen)), rel=1e-5)
    gain = results.mean_interval(found.first_hypervolume - found.second_hypervolume)
    assert found.hypervolume_gain == gain


def test_gains_are_positive_where_the_first_is_better():
    points = np.random.default_rng(1).uniform(0.3, 0.9, size=(2, 5, 6, 2))
    found = results.compare_fronts(points - 0.2, points, **REFERENCE)
    assert found.hypervolume_gain.mean > 0
    assert found.igd_plus_gain.mean > 0


def test_a_front_that_only_shines_on_test_rows_gains_nothing():
    validation = np.tile([[0.2, 0.2], [0.5, 0.5]], (3, 1, 1))
    test = np.tile([[0.6, 0.6], [0.0, 0.0]], (3, 1, 1))
    found = results.compare_fronts((validation, test), (validation, test), **REFERENCE)
    np.testing.assert_allclose(found.first_hypervolume, 0.16, rtol=1e-5)


def test_seeds_without_a_point_are_counted():
    points = np.full((2, 3, 2, 2), 0.5)
    points[:, 0] = np.nan
    found = results.compare_fronts(points, np.full((2, 3, 2, 2), 0.5), **REFERENCE)
    assert found.first_hypervolume[0] == 0
    assert found.igd_plus_gain.num_diverged == 1


def test_bad_arguments():
    good = np.full((2, 3, 2, 2), 0.5)
    with pytest.raises(ValueError, match="first must be a pair"):
        results.compare_fronts(good[:, 0], good, **REFERENCE)
    with pytest.raises(ValueError, match="same seeds"):
        results.compare_fronts(good, good[:, :2], **REFERENCE)
