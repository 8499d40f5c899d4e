"""One option of the protocol at a time: which changes there are, what they share, and what is said of a cell."""

import pandas as pd
import pytest
from rich.console import Console

from experiments import nash, nash_causes, nash_protocol
from experiments.nash_causes import AFFECTED, changes_of, moved, to_markdown


def test_every_option_can_be_a_cause():
    assert set(AFFECTED) == set(vars(nash_protocol.PAPER))
    assert all(set(methods) <= set(nash.METHODS) for methods in AFFECTED.values())


@pytest.mark.parametrize("protocol", ["paper", "code"])
def test_changes_are_all_other_values(protocol):
    own = nash_protocol.PROTOCOLS[protocol]
    found = list(changes_of(protocol, tuple(AFFECTED)))
    assert len(set(found)) == len(found) == sum(len(nash_protocol.allowed(name)) - 1 for name in AFFECTED)
    assert all(nash_protocol.changed(protocol, (change,)) != own for change in found)


def cell(change, ours, verdict, method="DRO"):
    return {"change": change, "dataset": "adult_sex", "method": method, "metric": "overall", "paper": 0.8,
            "ours": ours, "verdict": verdict}  # fmt: skip


def test_causes_are_the_changes_under_which_a_cell_comes_out():
    frame = pd.DataFrame([
        cell("", 0.7, "NOT REPRODUCED"), cell("dro=tail_mean", 0.8, "REPRODUCED"),
        cell("dro=chi_square", 0.75, "NOT REPRODUCED"),
        cell("f1_term=false", 0.8, "REPRODUCED"),  # cannot change DRO: sampling noise, and no cause
        cell("", 0.8, "REPRODUCED", "Baseline"), cell("epoch=last", 0.8, "REPRODUCED", "Baseline"),
    ])  # fmt: skip
    (row,) = moved(frame).to_dict("records")
    assert (row["method"], row["comes out under"], row["of changes"]) == ("DRO", "dro=tail_mean (0.800, REPRODUCED)", 2)
    assert row["range"] == "0.750 to 0.800"
    assert "| adult_sex | DRO | overall | 0.800 | 0.700 | dro=tail_mean (0.800, REPRODUCED) | 2 |" in to_markdown(
        moved(frame)
    )
    assert moved(frame[frame.change != "dro=tail_mean"])["comes out under"].tolist() == ["none"]


def settings(folder, **changes):
    defaults = {
        "datasets": ("adult_sex",), "methods": ("baseline",), "options": ("baseline", "epoch", "hyper_parameters"),
        "seeds": 2, "epochs": 1, "block": 2, "split": "balanced", "store": folder / "runs", "out": folder / "out",
        "cache": False,
    }  # fmt: skip
    return nash_causes.Settings(**defaults | changes)


@pytest.mark.slow
def test_the_script_trains_only_what_a_change_changes(tmp_path):
    frame = nash_causes.main(settings(tmp_path), Console(quiet=True))
    # Adult has the same hyper-parameters in the code, and the epoch is read off the same runs.
    assert frame.change.unique().tolist() == ["", "baseline=mean", "epoch=last", "epoch=validation"]
    found = sorted(folder.name for folder in (tmp_path / "runs").iterdir())
    assert found == ["adult_sex-code-balanced0-1epochs", "adult_sex-code-baseline_mean-balanced0-1epochs"]
    assert (tmp_path / "out" / "causes.md").exists()


def test_unknown_options_are_named(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'epoch'"):
        nash_causes.main(settings(tmp_path, options=("epochs",)), Console(quiet=True))
    with pytest.raises(ValueError, match="options must name at least one"):
        nash_causes.main(settings(tmp_path, options=()), Console(quiet=True))
