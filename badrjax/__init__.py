"""badrjax: pure JAX functions for fair machine learning research, and the methods composed of them."""

from badrjax import bilevel, datasets, hypergradients, losses, metrics, models, objectives, pareto, surrogates, sweeps
from badrjax.bargaining import (
    NashSolution,
    alignment,
    as_optax,
    cagrad_weights,
    combine,
    generalized_mean_weights,
    gramian,
    min_norm_weights,
    nash_weights,
    nash_weights_from_gradients,
    pcgrad_weights,
)
from badrjax.batches import Batch
from badrjax.blocks import in_blocks
from badrjax.checkpoints import CheckpointError
from badrjax.datasets import Dataset, Splits, dataset_from_frame, load_dataset, to_batch
from badrjax.groups import Groups, encode_groups, group_count, group_mean, group_present
from badrjax.hypergradients import (
    Estimator,
    HypergradientInfo,
    MinimiseInfo,
    argmin,
    argmin_with_info,
    example_alignments,
    implicit_hypergradient,
    implicit_hypergradient_with_info,
    lbfgs,
    newton,
    one_step_hypergradients,
)
from badrjax.lagrangian import (
    AugmentedLagrangian,
    AugmentedLagrangianInfo,
    AugmentedLagrangianState,
    augmented_lagrangian,
    dual_ascent,
)
from badrjax.methods import (
    Method,
    badr,
    badr_setup,
    badr_solution,
    dro,
    erm,
    forml,
    group_dro,
    learning_to_reweight,
    meta_group_dro,
    meta_reweighting,
    nash_meta,
)
from badrjax.models import Model
from badrjax.samplers import Sampler, full_batch, group_balanced, in_order, shuffled
from badrjax.sharding import deal, deal_order, fit_sharded, reference_order
from badrjax.status import Status, explain
from badrjax.streaming import StreamError, blockwise_value_and_grad, fit_stream, stream_from_arrays
from badrjax.surrogates import (
    Rates,
    entmax,
    entmax15,
    project_simplex,
    rates_present,
    soft_f1,
    soft_rates,
    sparsemax,
    wasserstein1,
)
from badrjax.sweeps import StoreError, SweepResult, sweep
from badrjax.training import FitResult, fit, map_blocks
from badrjax.uncertainty import (
    Bootstrap,
    NoiseFloor,
    bootstrap,
    noise_floor,
    noise_floor_from_counts,
    permutation_floor,
)

__version__ = "0.1.0"

__all__ = [
    # arrays
    "Batch",
    "Bootstrap",
    "Groups",
    "NoiseFloor",
    "Rates",
    "bootstrap",
    "encode_groups",
    "entmax",
    "entmax15",
    "group_count",
    "group_dro",
    "group_mean",
    "group_present",
    "losses",
    "metrics",
    "noise_floor",
    "noise_floor_from_counts",
    "objectives",
    "permutation_floor",
    "project_simplex",
    "rates_present",
    "soft_f1",
    "soft_rates",
    "sparsemax",
    "surrogates",
    "wasserstein1",
    # derivatives
    "Estimator",
    "HypergradientInfo",
    "MinimiseInfo",
    "argmin",
    "argmin_with_info",
    "example_alignments",
    "hypergradients",
    "implicit_hypergradient",
    "implicit_hypergradient_with_info",
    "lbfgs",
    "newton",
    "one_step_hypergradients",
    # trade-offs
    "AugmentedLagrangian",
    "AugmentedLagrangianInfo",
    "AugmentedLagrangianState",
    "NashSolution",
    "Status",
    "alignment",
    "as_optax",
    "augmented_lagrangian",
    "cagrad_weights",
    "combine",
    "dual_ascent",
    "explain",
    "generalized_mean_weights",
    "gramian",
    "min_norm_weights",
    "nash_weights",
    "nash_weights_from_gradients",
    "pareto",
    "pcgrad_weights",
    # methods
    "Method",
    "Model",
    "badr",
    "badr_setup",
    "badr_solution",
    "bilevel",
    "dro",
    "erm",
    "forml",
    "learning_to_reweight",
    "meta_group_dro",
    "meta_reweighting",
    "models",
    "nash_meta",
    # running
    "CheckpointError",
    "FitResult",
    "Sampler",
    "StreamError",
    "blockwise_value_and_grad",
    "deal",
    "deal_order",
    "fit",
    "fit_sharded",
    "fit_stream",
    "full_batch",
    "group_balanced",
    "in_blocks",
    "in_order",
    "reference_order",
    "map_blocks",
    "shuffled",
    "stream_from_arrays",
    "StoreError",
    "SweepResult",
    "sweep",
    "sweeps",
    # data
    "Dataset",
    "Splits",
    "dataset_from_frame",
    "datasets",
    "load_dataset",
    "to_batch",
]
