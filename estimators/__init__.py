"""Monte Carlo estimators of the gradient of an expectation: ``value = RLOO(n=4)(f, q)``, then ``value.backward()``."""

from estimators._adapt import adapt
from estimators._axes import spread, totals
from estimators._catalogue import aliases, catalogue
from estimators._densities import log_prob, logits, probs, score
from estimators._draws import draw, rdraw
from estimators._fields import PlainFields
from estimators._integrand import Integrand
from estimators._laws import inner
from estimators._learned import checked_state
from estimators._noise import gumbel, logistic, normal, uniform
from estimators._parameters import parameters
from estimators._protocol import Estimator, State, command_line_name
from estimators._refusals import (
    InvalidIntegrand,
    InvalidLoss,
    InvalidParameter,
    NotDifferentiable,
    Refusal,
    UnsupportedFamily,
)
from estimators._relaxations import harden, perturbed, squash
from estimators._rows import one, rows
from estimators._surrogate import carry, grad_only, inject, inject_at, through
from estimators.antithetic_score_function import AntitheticScoreFunction
from estimators.arm import ARM
from estimators.arms import ARMS
from estimators.arsm import ARSM
from estimators.bit_flip import BitFlip
from estimators.bound import Bound
from estimators.carms import CARMS
from estimators.chain import Chain, log_probs, widths
from estimators.darn import DARN
from estimators.delta_method import DeltaMethod
from estimators.disarm import DisARM
from estimators.distributions import Drawable
from estimators.double_control_variate import DoubleControlVariate
from estimators.doubly_reparameterized import DoublyReparameterized
from estimators.enumeration import Enumeration
from estimators.evolution_strategies import SPSA, EvolutionStrategies
from estimators.exponential_arrival import ExponentialArrival
from estimators.forward_gradient import ForwardGradient
from estimators.gapped_straight_through import GappedStraightThrough
from estimators.generalized_reparameterization import GeneralizedReparameterization
from estimators.go import GO
from estimators.grpo import GRPO
from estimators.gumbel_rao import GumbelRao
from estimators.gumbel_softmax import GumbelSoftmax, StraightThroughGumbelSoftmax
from estimators.hessian_control_variate import HessianControlVariate
from estimators.layers import Layers
from estimators.local_expectation import LocalExpectation
from estimators.measure_valued import MeasureValued
from estimators.mixture import ReparameterizedMixture
from estimators.multi_sample import PKPO, MultiSample
from estimators.muprop import MuProp
from estimators.nested import Nested
from estimators.nvil import NVIL
from estimators.policies import Policy, RecurrentPolicy, TablePolicy
from estimators.policy_gradient import PolicyGradient
from estimators.policy_presets import (
    CISPO,
    DAPO,
    GSPO,
    OPO,
    PPO,
    DrGRPO,
    OptimalTokenBaseline,
    ReinforcePlusPlus,
    ReMax,
)
from estimators.policy_return import PolicyReturn
from estimators.quadratic_control_variate import QuadraticControlVariate
from estimators.rebar import REBAR
from estimators.reinmax import ReinMax
from estimators.rejection_reparameterization import RejectionReparameterization
from estimators.relax import RELAX
from estimators.reparameterization import Reparameterization
from estimators.repeated import Repeated
from estimators.returns import Return
from estimators.rloo import RLOO
from estimators.rodeo import RODEO
from estimators.score_function import ScoreFunction
from estimators.self_critical import SelfCritical
from estimators.set_function import SetFunction
from estimators.simple import SIMPLE
from estimators.sticking_the_landing import StickingTheLanding
from estimators.stochastic_ad import StochasticAD
from estimators.straight_through import StraightThrough
from estimators.subset import Subset
from estimators.sum_and_sample import SumAndSample
from estimators.token_sequence import TokenSequence
from estimators.transformer_policy import TransformerPolicy
from estimators.unordered_set import UnorderedSet
from estimators.vimco import VIMCO
from estimators.von_mises import ReparameterizedVonMises

__all__ = [
    "ARM", "ARMS", "ARSM", "CARMS", "CISPO", "DAPO", "DARN", "GO", "GRPO", "GSPO", "NVIL", "OPO", "PKPO", "PPO",
    "REBAR", "RELAX", "RLOO", "RODEO", "SIMPLE", "SPSA", "VIMCO", "AntitheticScoreFunction", "BitFlip", "Bound",
    "Chain", "DeltaMethod", "DisARM", "DoubleControlVariate", "DoublyReparameterized", "DrGRPO", "Drawable",
    "Enumeration", "Estimator", "EvolutionStrategies", "ExponentialArrival", "ForwardGradient", "GappedStraightThrough",
    "GeneralizedReparameterization", "GumbelRao", "GumbelSoftmax", "HessianControlVariate", "Integrand",
    "InvalidIntegrand", "InvalidLoss", "InvalidParameter", "Layers", "LocalExpectation", "MeasureValued", "MuProp",
    "MultiSample", "Nested", "NotDifferentiable", "OptimalTokenBaseline", "PlainFields", "Policy", "PolicyGradient",
    "PolicyReturn", "QuadraticControlVariate", "ReMax", "RecurrentPolicy", "Refusal", "ReinMax", "ReinforcePlusPlus",
    "RejectionReparameterization", "Reparameterization", "ReparameterizedMixture", "ReparameterizedVonMises",
    "Repeated", "Return", "ScoreFunction", "SelfCritical", "SetFunction", "State", "StickingTheLanding", "StochasticAD",
    "StraightThrough", "StraightThroughGumbelSoftmax", "Subset", "SumAndSample", "TablePolicy", "TokenSequence",
    "TransformerPolicy", "UnorderedSet", "UnsupportedFamily", "adapt", "aliases", "carry", "catalogue", "checked_state",
    "command_line_name", "draw", "grad_only", "gumbel", "harden", "inject", "inject_at", "inner", "log_prob",
    "log_probs", "logistic", "logits", "normal", "one", "parameters", "perturbed", "probs", "rdraw", "rows", "score",
    "spread", "squash", "through", "totals", "uniform", "widths",
]  # fmt: skip
