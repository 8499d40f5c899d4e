"""What is read off runs."""

import numpy as np
import pytest

from experiments import reading

NAN = np.nan


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([[0.6, 0.9, 0.7], [0.6, 0.7, 0.8]], 1),
        ([[0.6, 0.9, 0.7], [NAN] * 3], 1),  # a seed that diverged from the start hides no epoch
        ([[0.6, 0.9, 0.7], [0.1, 0.1, NAN]], 1),  # nor does one that diverged raise the mean by leaving it
        ([[0.6, NAN, 0.7], [0.6, 0.5, NAN]], 2),
        ([[NAN] * 3] * 2, 2),
    ],
)
def test_the_best_epoch_is_that_of_the_seeds_that_stay_finite(scores, expected):
    assert reading.best_epoch(np.array(scores)) == expected


def test_intervals_say_what_diverged():
    assert reading.interval_text(np.array([0.5, 0.6])) == "0.550 ±0.635"
    assert reading.interval_text(np.array([0.5, NAN]), "+.2f") == "+0.50 (1 diverged)"
    assert reading.interval_text(np.array([NAN, NAN])) == "2 diverged"
    assert reading.interval_text(np.array([NAN, NAN]), nothing="-") == "-"
