"""Wilson's interval against its closed form, and where a normal one fails."""

import numpy as np
import pytest
from scipy import stats

from badrjax.results import wilson_interval


@pytest.mark.parametrize(("right", "rows"), [(0, 1), (1, 1), (3, 10), (17, 18), (400, 1000)])
@pytest.mark.parametrize("ci", [0.9, 0.95])
def test_it_is_where_the_score_test_stops_rejecting(right, rows, ci):
    low, high = wilson_interval(right / rows, rows, ci=ci)
    z = stats.norm.ppf(0.5 + ci / 2)
    for end in (low, high):
        if 0 < end < 1:
            assert abs(right / rows - end) / np.sqrt(end * (1 - end) / rows) == pytest.approx(z, rel=1e-6)
    assert 0 <= low <= right / rows <= high <= 1
    assert high > low


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="n"):
        wilson_interval(0.5, 0)
