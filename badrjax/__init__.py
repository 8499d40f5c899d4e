"""badrjax: pure JAX functions for fair machine learning research, and the methods composed of them."""

from badrjax import datasets, losses, metrics, models, objectives
from badrjax.bargaining import (
    NashSolution,
    alignment,
    combine,
    gramian,
    min_norm_weights,
    nash_weights,
    nash_weights_from_gradients,
)
from badrjax.batches import Batch
from badrjax.datasets import Dataset, Splits, dataset_from_frame, load_dataset, to_batch
from badrjax.groups import Groups, encode_groups, group_count, group_mean, group_present
from badrjax.hypergradients import example_alignments, one_step_hypergradients
from badrjax.methods import (
    Method,
    dro,
    erm,
    forml,
    learning_to_reweight,
    meta_group_dro,
    meta_reweighting,
    nash_meta,
)
from badrjax.models import Model
from badrjax.samplers import Sampler, full_batch, group_balanced, in_order, shuffled
from badrjax.training import FitResult, fit, map_blocks

__version__ = "0.1.0"

__all__ = [
    # arrays
    "Batch",
    "Groups",
    "encode_groups",
    "group_count",
    "group_mean",
    "group_present",
    "losses",
    "metrics",
    "objectives",
    # optimisation
    "NashSolution",
    "alignment",
    "combine",
    "example_alignments",
    "gramian",
    "min_norm_weights",
    "nash_weights",
    "nash_weights_from_gradients",
    "one_step_hypergradients",
    # methods
    "Method",
    "Model",
    "dro",
    "erm",
    "forml",
    "learning_to_reweight",
    "meta_group_dro",
    "meta_reweighting",
    "models",
    "nash_meta",
    # running
    "FitResult",
    "Sampler",
    "fit",
    "full_batch",
    "group_balanced",
    "in_order",
    "map_blocks",
    "shuffled",
    # data
    "Dataset",
    "Splits",
    "dataset_from_frame",
    "datasets",
    "load_dataset",
    "to_batch",
]
