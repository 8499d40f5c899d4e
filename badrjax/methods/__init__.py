"""Methods: factories of `Method`, pytrees of pure functions. A file a method or family."""

from badrjax.methods.badr import BADRInfo, BADRState, adagrad_norm, badr
from badrjax.methods.badr_setup import badr_setup, badr_solution
from badrjax.methods.base import Method
from badrjax.methods.cosmos import COSMOSInfo, COSMOSState, cosmos
from badrjax.methods.cosmos_front import COSMOSFront, SelectedPreference, cosmos_front, scores_at, select_preference
from badrjax.methods.cosmos_preferences import preference_inputs, preference_rays
from badrjax.methods.dro import dro
from badrjax.methods.erm import erm
from badrjax.methods.fairbinn import FairBiNNInfo, FairBiNNState, fairbinn
from badrjax.methods.fairlab import fairlab
from badrjax.methods.fairlab_rounds import FairLABEpochInfo, FairLABState
from badrjax.methods.fairlab_step import FairLABInfo
from badrjax.methods.ffvae import FFVAEInfo, FFVAEState, ffvae
from badrjax.methods.ffvae_networks import FFVAENetworks, FFVAEParams, fair_features, ffvae_encoder, ffvae_networks
from badrjax.methods.group_dro import group_dro
from badrjax.methods.layers import follower_layers
from badrjax.methods.meta_reweighting import meta_reweighting
from badrjax.methods.nash_meta import PROTOCOLS, forml, learning_to_reweight, meta_group_dro, nash_meta
from badrjax.methods.upper_level import GOALS

__all__ = [
    "GOALS",
    "BADRInfo",
    "BADRState",
    "COSMOSFront",
    "COSMOSInfo",
    "COSMOSState",
    "FFVAEInfo",
    "FFVAENetworks",
    "FFVAEParams",
    "FFVAEState",
    "FairBiNNInfo",
    "FairBiNNState",
    "FairLABEpochInfo",
    "FairLABInfo",
    "FairLABState",
    "PROTOCOLS",
    "Method",
    "SelectedPreference",
    "adagrad_norm",
    "badr",
    "badr_setup",
    "badr_solution",
    "cosmos",
    "cosmos_front",
    "dro",
    "erm",
    "fairbinn",
    "fairlab",
    "fair_features",
    "ffvae",
    "ffvae_encoder",
    "ffvae_networks",
    "follower_layers",
    "forml",
    "group_dro",
    "learning_to_reweight",
    "meta_group_dro",
    "meta_reweighting",
    "nash_meta",
    "preference_inputs",
    "preference_rays",
    "scores_at",
    "select_preference",
]
