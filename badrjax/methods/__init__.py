"""Methods: factories of `Method`, pytrees of pure functions. A file a method or family."""

from badrjax.methods.badr import BADRInfo, BADRState, adagrad_norm, badr
from badrjax.methods.badr_setup import badr_setup, badr_solution
from badrjax.methods.base import Method
from badrjax.methods.dro import dro
from badrjax.methods.erm import erm
from badrjax.methods.group_dro import group_dro
from badrjax.methods.meta_reweighting import meta_reweighting
from badrjax.methods.nash_meta import PROTOCOLS, forml, learning_to_reweight, meta_group_dro, nash_meta
from badrjax.methods.upper_level import GOALS

__all__ = [
    "GOALS",
    "BADRInfo",
    "BADRState",
    "PROTOCOLS",
    "Method",
    "adagrad_norm",
    "badr",
    "badr_setup",
    "badr_solution",
    "dro",
    "erm",
    "forml",
    "group_dro",
    "learning_to_reweight",
    "meta_group_dro",
    "meta_reweighting",
    "nash_meta",
]
