"""BADR's experiments on its single loop: convergence against a grid, and scalability."""

import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from experiments import badr_convergence, badr_made_up, badr_scalability
from experiments.badr_convergence import Trace, Truth

PLACES = np.linspace(0, 1, 101)


def bowl(least):
    """`V = (p - least)^2` over the weight p of the second group, as a grid of one seed."""
    return Truth(PLACES[None], (PLACES - least)[None] ** 2, 2 * (PLACES - least)[None])


def test_runs_are_judged_by_the_grid():
    truth = bowl(0.8)
    path = np.stack([[0.5, 0.5], [0.2, 0.8], [0.3, 0.7]])[None]
    run = {"path": path, "failed_at": np.array([-1])}
    run |= {kept: path[:, i] for kept, i in (("last", 2), ("average", 0), ("best", 1), ("chosen", 1))}
    found = badr_convergence.trace(run, truth)
    span = 0.8**2  # from 0 at 0.8 to 0.64 at 0
    np.testing.assert_allclose(found.values, [[0.3**2 / span, 0, 0.1**2 / span]], atol=1e-12)
    np.testing.assert_allclose([found.kept[name][0] for name in badr_convergence.KEPT],
                               [0.01 / span, 0.09 / span, 0, 0], atol=1e-12)  # fmt: skip
    # The slope at equal weights is the unit: a step of length 1 from 0.5 ends at the border.
    np.testing.assert_allclose(found.residuals, [[0.5, 0.0, 0.3]], atol=1e-12)
    np.testing.assert_allclose(found.over_best, 0.01 / span)
    assert not found.failed[0]


def test_the_residual_vanishes_at_a_border_that_the_slope_points_to():
    truth = Truth(PLACES[None], PLACES[None], np.ones((1, 101)))
    np.testing.assert_allclose(badr_convergence._residual(np.array([0.0, 0.4, 1.0]), truth, 0), [0.0, 0.4, 1.0])


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_rates_are_those_of_powers(power):
    steps = np.arange(1, 2001)
    # The mean so far of t^-p falls like t^-p for p < 1, and like 1/t beyond.
    residuals = np.tile(steps ** (-power / 2), (3, 1))
    expected = -min(power, 1.0)
    assert badr_convergence.rate(residuals) == pytest.approx(expected, abs=0.15 if power == 1 else 0.05)
    np.testing.assert_allclose(badr_convergence.mean_square(residuals)[0, :2], [1, (1 + 2**-power) / 2])


def test_made_up_rows_have_both_classes_in_every_group():
    for num_groups in (2, 32):
        data = badr_made_up.rows(640, num_groups, 1)
        again = badr_made_up.rows(640, num_groups, 1)
        np.testing.assert_array_equal(data.x, again.x)
        for group in range(num_groups):
            assert set(data.y[data.group == group]) == {0, 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": ("parity",)}, "metrics"),
        ({"algorithms": ()}, "algorithms"),
        ({"seeds": (1, 1)}, "seeds"),
        ({"num_steps": 30}, "num_steps"),
        ({"num_rows": 990}, "num_rows"),
        ({"grid_steps": 2}, "grid_steps"),
    ],
)
def test_bad_settings_of_convergence(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        badr_convergence.main(badr_convergence.Settings(out=tmp_path / "out", **changes), Console(quiet=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parts": ("people",)}, "parts"),
        ({"rows": (10,)}, "rows"),
        ({"groups": (1,)}, "groups"),
        ({"group_rows": 100}, "group_rows"),
        ({"states": ("XX",)}, "XX"),
        ({"seeds": ()}, "seeds"),
    ],
)
def test_bad_settings_of_scalability(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        badr_scalability.main(badr_scalability.Settings(out=tmp_path / "out", **changes), Console(quiet=True))


def test_convergence_tables_tell_the_worst_seed():
    still = np.full((2, 40), 0.1)
    kept = {name: np.array([0.002, 0.02]) for name in badr_convergence.KEPT}
    one = Trace(still, still, kept, np.array([0.1, 0.3]), np.array([False, True]))
    traces = {"hsic": {"gd": one, "sgd_published": one._replace(kept={name: np.zeros(2) for name in kept})}}
    text = badr_convergence.report(traces)
    assert "BADR-GD, last: NOT below 1% (2%)" in text
    assert "SGD as published, chosen: below 1% (0%)" in text
    assert "20 [30]" in text
    frame = badr_convergence.tidy(traces, (0, 1))
    assert frame.loc[frame["metric"] == "diverged", "value"].tolist() == [0.0, 1.0] * 2


@pytest.mark.slow
def test_convergence_from_rows_to_figures(tmp_path):
    settings = badr_convergence.Settings(
        metrics=("group_variance",),
        seeds=(0, 1),
        num_rows=1000,
        num_steps=200,
        grid_steps=50,
        out=tmp_path,
        cache=False,
    )
    frame = badr_convergence.main(settings, Console(file=io.StringIO()))
    values = frame.pivot_table(index=["method", "seed"], columns="metric", values="value")
    assert (values.loc["gd", "above_least_last"] < 0.01).all()
    assert (values["diverged"] == 0).all()
    of_state = values[["above_least_last", "above_least_average", "above_least_best"]].min(axis=1)
    # Chosen exactly; the grid is read between its points.
    assert (values["above_least_chosen"] <= of_state + 1e-3).all()
    assert {path.name for path in tmp_path.iterdir()} >= {"suboptimality.png", "stationarity.png", "tables.md"}


@pytest.mark.slow
def test_scalability_from_rows_to_figure(tmp_path):
    settings = badr_scalability.Settings(
        parts=("rows", "groups"), rows=(2000,), groups=(2, 3), group_rows=1000, out=tmp_path
    )
    frame = badr_scalability.main(settings, Console(file=io.StringIO()))
    assert isinstance(frame, pd.DataFrame)
    values = frame.pivot_table(index=["table", "groups"], columns=["metric", "method"], values="value")
    assert (values["seconds"] > 0).all(axis=None)
    assert (values["above_least"] > -1e-12).all(axis=None)
    assert (values["above_least", "exact"] < 1e-6).all()
    assert np.isfinite(values["last_over_own_best"]["sgd"]).sum() == 2  # of two groups only
    text = (tmp_path / "tables.md").read_text()
    assert "## rows" in text
    assert "## groups" in text
