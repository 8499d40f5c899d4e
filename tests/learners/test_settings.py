"""What fits together, and what each refusal says."""

import inspect

import pytest

from badrjax import methods, reductions
from badrjax.learners import METHODS
from badrjax.learners.settings import checked

TWO = [("demographic_parity", attribute, 0.1) for attribute in ("sex", "race")]


def test_every_option_is_an_argument_of_the_function_of_its_name():
    for name, about in METHODS.items():
        factory = reductions.expgrad if name == "expgrad" else getattr(methods, name)
        known = set(inspect.signature(factory).parameters)
        if "options" in known:  # of the meta-learning methods, which hand them on
            known |= set(inspect.signature(methods.meta_reweighting).parameters)
        if name == "badr":  # these three are the problem's
            known |= {"regularisation", "sharpness", "variant"}
        assert set(about.options) <= known, name


@pytest.mark.parametrize(
    ("task", "method", "options", "message"),
    [
        ("classification", "badrr", {}, "unknown method 'badrr': did you mean 'badr'"),
        ("classification", "badr", {}, "needs an objective: one of demographic_parity"),
        ("classification", "badr", {"objective": "parity"}, "unknown objective of badr"),
        ("regression", "badr", {"objective": "equalized_odds"}, "unknown objective of badr for regression"),
        (
            "classification",
            "badr",
            {"objective": "hsic", "num_epochs": 5},
            "solves a linear model exactly and takes no num_e",
        ),
        ("classification", "badr", {"objective": "hsic", "options": {"clip": 1.0}}, "takes no clip"),
        ("classification", "erm", {"objective": "hsic"}, "takes no objective; badr and fairbinn do"),
        ("classification", "fairlab", {}, "needs constraints"),
        ("classification", "erm", {"constraints": [("demographic_parity", "sex", 0.1)]}, "takes no constraints"),
        ("classification", "fairlab", {"constraints": [("parity", "sex", 0.1)]}, "unknown metric"),
        ("classification", "fairlab", {"constraints": [("demographic_parity", "sex", 1.1)]}, r"lie in \[0, 1\]"),
        (
            "classification",
            "expgrad",
            {"constraints": [("demographic_parity", a, 0.1) for a in "ab"]},
            "one constraint",
        ),
        ("regression", "fairlab", {"constraints": [("demographic_parity", "a", 0.1)]}, "is not for regression"),
        ("classification", "fairbinn", {"objective": "hsic", "model": "linear"}, "take model='mlp'"),
        ("classification", "dro", {"options": {"fractoin": 0.1}}, "did you mean 'fraction'"),
        ("classification", "erm", {"learning_rate": 0.0}, "learning_rate must be above 0"),
        ("classification", "erm", {"batch_size": 0}, "batch_size must be a positive integer"),
        ("classification", "erm", {"hidden": (8, -1)}, r"hidden\[1\] must be a positive integer"),
        ("classification", "erm", {"validation_fraction": 1.0}, "validation_fraction"),
        ("classification", "erm", {"seed": -1}, "seed must be an integer"),
        ("classification", "erm", {"model": "tree"}, "unknown model"),
    ],
)
def test_refusals(task, method, options, message):
    with pytest.raises(ValueError, match=message):
        checked(task, method, **options)


def test_a_constraint_is_a_triple():
    with pytest.raises(TypeError, match="a constraint is"):
        checked("classification", "fairlab", constraints=["demographic_parity"])
