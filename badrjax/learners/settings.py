"""Which method is fitted, with what, by name: checked before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from badrjax import bilevel, objectives
from badrjax.checks import check_positive_integer, unknown_name
from badrjax.constraints import METRICS, Requirement
from badrjax.methods import GOALS
from badrjax.objectives import squared

Task = Literal["classification", "regression"]
TASKS: tuple[Task, ...] = ("classification", "regression")
MODELS = ("linear", "mlp")
_CLASSES = tuple(bilevel.SCORE_OBJECTIVES) + tuple(bilevel.LOSS_OBJECTIVES)
_NUMBERS = ("hsic", "individual_fairness", *bilevel.LOSS_OBJECTIVES)
_SOFT = tuple(name for name in bilevel.SCORE_OBJECTIVES if name not in squared.METRICS)


class About(NamedTuple):
    """What there is to know of a method before it is chosen.

    Attributes:
        summary: what it does, by mechanism.
        tasks: what it can be trained for.
        groups: whether it looks at groups.
        objectives: names of objectives by task; empty where it takes none.
        constraints: whether it needs constraints; a method with objectives needs one of these.
        model: the model where none is named.
        options: names of its own options, arguments of the function of its name.
        randomised: whether the predictor draws among several.
    """

    summary: str
    tasks: tuple[Task, ...] = TASKS
    groups: bool = True
    objectives: Mapping[str, tuple[str, ...]] = {}
    constraints: bool = False
    model: str = "linear"
    options: tuple[str, ...] = ()
    randomised: bool = False


_OF_NUMBERS = {
    "fraction", "step_size", "adjustment", "regularisation", "sharpness", "damping", "clip", "budget",
    "proximity_bound", "rounds", "local_epochs", "logit_scale", "patience", "fairness_weight", "follower_steps", "eps",
    "max_iter", "bargaining_epochs",
}  # fmt: skip
_OF_THE_LOOP = {"damping", "clip"}
_META = ("cells", "lookahead", "lookahead_dropout", "validation_dropout", "diagnostics", "fallback")

META = (*GOALS, "nash_meta")
"""Methods that weight examples by the derivative of an SGD step, and steer by rows held out of training."""

METHODS: Mapping[str, About] = {
    "erm": About("the mean loss of the rows, without a look at groups", groups=False, options=("reduction",)),
    "dro": About(
        "the worst tail of the losses in each batch, without a look at groups", groups=False,
        options=("fraction", "ball", "reduction", "whole_rows"),
    ),
    "group_dro": About(
        "descent on group losses with weights that follow the largest", options=("step_size", "adjustment")
    ),
    "learning_to_reweight": About("example weights that lower the mean validation loss of groups", options=_META),
    "forml": About("example weights that lower the gap between group validation losses", options=_META),
    "meta_group_dro": About("example weights that lower the largest group validation loss", options=_META),
    "nash_meta": About(
        "groups bargain over example weights first, then a goal takes over",
        options=("goal", "bargaining_epochs", *_META),
    ),
    "badr": About(
        "weights of groups for which an objective of the weighted risk minimiser is least: exactly for a linear model, "
        "in a single loop for a perceptron",
        objectives={"classification": _CLASSES, "regression": _NUMBERS},
        options=("regularisation", "sharpness", "variant", "damping", "clip"),
    ),
    "fairlab": About(
        "an augmented Lagrangian for largest gaps under a budget of F1", tasks=("classification",),
        constraints=True,
        options=("protocol", "budget", "proximity_bound", "rounds", "local_epochs", "logit_scale", "patience"),
    ),
    "fairbinn": About(
        "fairness layers descend on a disparity, the others on the loss", tasks=("classification",),
        objectives={"classification": (*squared.METRICS, *_SOFT)},
        model="mlp",
        options=("fairness_weight", "rule", "follower_steps"),
    ),
    "expgrad": About(
        "a distribution over models by exponentiated gradient on multipliers", tasks=("classification",),
        constraints=True, randomised=True, options=("eps", "max_iter"),
    ),
}  # fmt: skip
"""The methods that can be named."""


class Settings(NamedTuple):
    """What is fitted, and how; `checked` makes them.

    Attributes:
        task: `"classification"` (labels 0 and 1) or `"regression"`.
        method: a name in `METHODS`.
        objective: of `badr` and `fairbinn`: a name, see `METHODS[...].objectives`, or a function
            `(scores, labels, groups, num_groups, weight) -> f[]`; `None` for others.
        constraints: of `fairlab` and `expgrad`: largest gaps that are allowed.
        model: `"linear"` or `"mlp"`; where none is named, linear, but for `fairbinn`.
        hidden: widths of a perceptron's hidden layers.
        options: of the method, arguments of the function of its name.
        learning_rate: of Adam (of SGD with momentum for the meta-learning methods), `> 0`; `None` is the method's.
        batch_size: rows a batch, at most all.
        num_epochs: passes over the rows; `None` is as many as make 1000 steps, and 30 at least. Of `badr`:
            iterations of the single loop (a linear model has none).
        validation_fraction: of the rows, in `(0, 1)`, for methods that steer by rows held out of training.
        seed: of initial weights, the order of rows and what is held out.
    """

    task: Task = "classification"
    method: str = "erm"
    objective: str | Callable[..., Any] | None = None
    constraints: tuple[Requirement, ...] = ()
    model: str = "linear"
    hidden: tuple[int, ...] = (64, 32)
    options: Mapping[str, Any] = {}
    learning_rate: float | None = None
    batch_size: int = 256
    num_epochs: int | None = None
    validation_fraction: float = 0.2
    seed: int = 0


def checked(
    task: Task,
    method: str,
    *,
    objective: str | Callable[..., Any] | None = None,
    constraints: Iterable[Any] | None = None,
    model: str | None = None,
    hidden: Sequence[int] | int = (64, 32),
    options: Mapping[str, Any] | None = None,
    learning_rate: float | None = None,
    batch_size: int = 256,
    num_epochs: int | None = None,
    validation_fraction: float = 0.2,
    seed: int = 0,
) -> Settings:
    """Settings that fit together; see `Settings` for what each means.

    Raises:
        ValueError: for an unknown task, method, objective, model, metric or option (with the known ones), what the
            method needs and was not given or was given and does not take, and numbers out of range.
        TypeError: for constraints that are no `(metric, attributes, threshold)`.
    """
    if method not in METHODS:
        raise unknown_name("method", str(method), tuple(METHODS))
    about = METHODS[method]
    if task not in about.tasks:
        able = [name for name, other in METHODS.items() if task in other.tasks]
        raise ValueError(f"method {method!r} is not for {task}; these are: {', '.join(able)}")
    if model is not None and model not in MODELS:
        raise unknown_name("model", str(model), MODELS)
    if method == "fairbinn" and model == "linear":
        raise ValueError("method 'fairbinn' needs layers to share out: take model='mlp'")
    requirements = tuple(_as_requirement(item) for item in constraints or ())
    _check_needs(task, method, about, objective, requirements)
    _check_options(method, about, options or {})
    if method == "badr" and (model or about.model) == "linear":
        loop = {
            "num_epochs": num_epochs,
            "learning_rate": learning_rate,
            **dict.fromkeys(_OF_THE_LOOP & set(options or {}), 0),
        }
        if given := sorted(name for name, value in loop.items() if value is not None):
            raise ValueError(
                f"method 'badr' solves a linear model exactly and takes no {', '.join(given)}; model='mlp' has a loop"
            )
    widths = (hidden,) if isinstance(hidden, int | np.integer) else tuple(hidden)
    check_positive_integer(batch_size=batch_size, **{f"hidden[{i}]": width for i, width in enumerate(widths)})
    if num_epochs is not None:
        check_positive_integer(num_epochs=num_epochs)
    if learning_rate is not None and not 0 < learning_rate < np.inf:
        raise ValueError(f"learning_rate must be above 0, got {learning_rate}")
    if not 0 < validation_fraction < 1:
        raise ValueError(f"validation_fraction must lie in (0, 1), got {validation_fraction}")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be an integer in [0, 2**32), got {seed!r}")
    return Settings(
        task, method, objective, requirements, model or about.model, widths, dict(options or {}),
        learning_rate, int(batch_size), num_epochs, float(validation_fraction), int(seed),
    )  # fmt: skip


def _as_requirement(item: Any) -> Requirement:
    try:
        metric, attributes, threshold = item
    except (TypeError, ValueError) as error:
        raise TypeError(f"a constraint is (metric, attributes, threshold), got {item!r}") from error
    if metric not in METRICS:
        raise unknown_name("metric", str(metric), tuple(METRICS))
    if not 0 <= threshold <= 1:
        raise ValueError(f"the threshold of a constraint must lie in [0, 1], got {threshold}")
    names = (attributes,) if isinstance(attributes, str) else tuple(attributes)
    return Requirement(metric, names, float(threshold))


def _check_needs(task: Task, method: str, about: About, objective: Any, requirements: tuple[Requirement, ...]) -> None:
    known = about.objectives.get(task, ())
    if objective is not None and not known:
        takers = [name for name, other in METHODS.items() if other.objectives]
        raise ValueError(f"method {method!r} takes no objective; {' and '.join(takers)} do")
    if known and objective is None:
        raise ValueError(f"method {method!r} needs an objective: one of {', '.join(known)}")
    if objective is not None and not callable(objective) and objective not in known:
        raise unknown_name(f"objective of {method} for {task}", str(objective), known)
    if requirements and not about.constraints:
        takers = [name for name, other in METHODS.items() if other.constraints]
        raise ValueError(f"method {method!r} takes no constraints; {' and '.join(takers)} do")
    if about.constraints and not requirements:
        raise ValueError(
            f"method {method!r} needs constraints, such as ('demographic_parity', 'sex', 0.1): metric, attribute (or "
            "several for their intersection), largest gap"
        )
    if method == "expgrad" and len(requirements) > 1:
        raise ValueError("method 'expgrad' holds one constraint on one grouping; method 'fairlab' takes several")


def _check_options(method: str, about: About, options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if name not in about.options:
            raise unknown_name(f"option of {method}", str(name), about.options)
        if name in _OF_NUMBERS and isinstance(value, str | bool):
            raise ValueError(f"option {name} of {method} must be a number, got {value!r}")


def score_objective(objective: str | Callable[..., Any]) -> Callable[..., Any]:
    """The function behind an objective of scores, as `badrjax.losses.fairness` takes it."""
    return objective if callable(objective) else getattr(objectives, objective)
