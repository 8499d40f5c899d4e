"""Protocols as options, the settings of Table 3, and what each method is made of under them."""

import json
from dataclasses import fields, replace
from pathlib import Path

import jax
import numpy as np
import pytest

import badrjax as bx
from experiments import nash, nash_protocol
from experiments.nash_protocol import CODE, PAPER, SETTINGS, Protocol, allowed, changed, hyper_parameters

TARGETS = Path(nash.__file__).parent / "targets"


def test_the_protocols_differ_in_every_option():
    for field in fields(PAPER):
        assert getattr(PAPER, field.name) != getattr(CODE, field.name), field.name


def test_options_change_one_by_one():
    mixed = changed("code", ("cells=groups", "f1_term=false", "dro=tail_mean"))
    assert (mixed.cells, mixed.f1_term, mixed.dro, mixed.lookahead) == ("groups", False, "tail_mean", "optimizer")
    assert changed("paper", ()) == PAPER
    for field in fields(PAPER):
        for text, value in allowed(field.name).items():
            assert getattr(changed("paper", (f"{field.name}={text}",)), field.name) == value


@pytest.mark.parametrize(
    ("protocol", "changes", "message"),
    [
        ("papr", (), "did you mean 'paper'"),
        ("code", ("cell=groups",), "did you mean 'cells'"),
        ("code", ("cells=group",), "did you mean 'groups'"),
        ("code", ("f1_term=no",), "unknown value of f1_term"),
        ("code", ("cells",), "reads option=value"),
    ],
)
def test_unknown_options_are_named(protocol, changes, message):
    with pytest.raises(ValueError, match=message):
        changed(protocol, changes)


def test_table_3():
    assert hyper_parameters("adult_race", PAPER)[:5] == (0.0005, 0.4, 512, 50, 15)
    assert hyper_parameters("titanic_sex", PAPER)[:5] == (0.001, 0.4, 32, 50, 15)
    assert hyper_parameters("titanic_sex", CODE)[:5] == (0.001, 0.4, 128, 50, 49)
    assert hyper_parameters("credit_sex", CODE)[:5] == (0.001, 0.5, 512, 100, 99)
    assert hyper_parameters("student_sex", CODE)[:5] == (0.001, 0.05, 32, 50, 9)
    with pytest.raises(ValueError, match="did you mean 'adult_sex'"):
        hyper_parameters("adult_sx", PAPER)


def test_every_setting_has_its_cells_in_the_papers_table():
    table = json.loads((TARGETS / "nash_table4.json").read_text())
    assert {cell[0] for cell in table["cells"]} == set(SETTINGS)
    for name in SETTINGS:
        assert set(nash.paper_cells(name)) == {(m, k) for m in nash.METHODS for k in ("overall", "gap", "worst")}


def rows():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 3)).astype(np.float32)
    return bx.Batch(x, np.array([0, 1] * 4), np.repeat([0, 1], 4), np.ones(8, np.float32))


@pytest.mark.parametrize("protocol", [PAPER, CODE], ids=["paper", "code"])
def test_methods_follow_the_protocol(protocol):
    chosen = nash_protocol.HyperParameters(0.1, 0.1, 8, hidden=(4,))
    model = nash.make_model(3, chosen)
    made = {name: nash.make_method(name, model, rows(), 2, chosen, protocol=protocol) for name in nash.METHODS}
    settings = {name: made[name].step.args[0].value for name in (*nash.GOALS, *(f"nash_{g}" for g in nash.GOALS))}
    for name, found in settings.items():
        assert (found.cells, found.lookahead, found.lookahead_dropout) == (
            protocol.cells, protocol.lookahead, protocol.lookahead_dropout
        )  # fmt: skip
        assert found.bargains == name.startswith("nash_")
    stale = {name for name, found in settings.items() if found.batch_size is not None}
    assert stale == ({"nash_learning_to_reweight"} if protocol is CODE else set())
    state = made["dro"].init(jax.random.key(0), model.init(jax.random.key(0)))
    _, info = jax.jit(made["dro"].step)(jax.random.key(1), state, rows())
    # Three whole rows of eight are the worst 40%; the ball moves all weights.
    share = float(info.share)
    assert share == pytest.approx(3 / 8) if protocol is CODE else 0 < share < 1


def test_unknown_methods_are_named():
    chosen = nash_protocol.HyperParameters(0.1, 0.1, 8)
    with pytest.raises(ValueError, match="did you mean 'forml'"):
        nash.make_method("froml", nash.make_model(3, chosen), rows(), 2, chosen)


def test_runs_are_known_by_the_options_that_training_depends_on():
    assert nash_protocol.of_training(PAPER) == ()
    assert Protocol(**dict(nash_protocol.of_training(CODE))) == replace(CODE, auc=PAPER.auc, epoch=PAPER.epoch)
    read_off = nash_protocol.changed("code", ("epoch=last", "auc=scores"))
    assert nash_protocol.of_training(read_off) == nash_protocol.of_training(CODE)
    assert nash_protocol.of_training(nash_protocol.changed("paper", ("scaling=all",))) == (("scaling", "all"),)
