"""Options of the methods that reweight training examples, and what is refused of them before any tracing."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from badrjax.checks import check_positive_integer, is_concrete, unknown_name

LookaheadStep = Literal["optimizer", "sgd"]
LookaheadDropout = Literal["same", "fresh", "off"]
Diagnostics = Literal["epoch", "step", "off"] | int
Fallback = Literal["goal", "previous"]


def check_stages(fallback: str, batch_size: Any, bargaining_epochs: Any, bargain: Any) -> None:
    """Refuse a bargaining stage that cannot be; see `badrjax.meta_reweighting`.

    Raises:
        ValueError: for a fallback without its batch size or the other way round, negative epochs, or a bargain without
            a stage.
    """
    if (fallback == "previous") != (batch_size is not None):
        raise ValueError("fallback='previous' and batch_size go together: it keeps one number for each row of a batch")
    if batch_size is not None:
        check_positive_integer(batch_size=batch_size)
    if bargaining_epochs is not None and is_concrete(bargaining_epochs) and np.any(np.asarray(bargaining_epochs) < 0):
        raise ValueError(f"bargaining_epochs must be 0 or more, got {bargaining_epochs}")
    if bargain is not None and bargaining_epochs is None:
        raise ValueError("bargain is asked in the bargaining stage, and there is none: give bargaining_epochs too")


def check_options(**options: str | int) -> None:
    """Refuse unknown values of the options by name; see `badrjax.meta_reweighting`.

    Raises:
        ValueError: with the nearest names.
    """
    known = {
        "cells": ("groups", "cells"),
        "lookahead": ("optimizer", "sgd"),
        "lookahead_dropout": ("same", "fresh", "off"),
        "diagnostics": ("epoch", "step", "off"),
        "fallback": ("goal", "previous"),
    }
    for name, value in options.items():
        if name == "diagnostics" and isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= 1:
            continue
        if value not in known[name]:
            raise unknown_name(name, str(value), known[name])
