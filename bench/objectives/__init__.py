"""Objectives: expectations E_{x~q}[f(x)], each with the point theta at which its gradient is measured."""

from bench.objectives._catalogue import catalogue
from bench.objectives._declarations import wrong_class, wrong_declarations
from bench.objectives._protocol import Objective, Problem, Theta, is_own
from bench.objectives.autoencoders.bernoulli_vae import BernoulliVAE
from bench.objectives.autoencoders.categorical_vae import CategoricalVAE
from bench.objectives.autoencoders.gaussian_vae import GaussianVAE
from bench.objectives.autoencoders.sigmoid_belief_network import SigmoidBeliefNetwork
from bench.objectives.bernoulli_quadratic import BernoulliQuadratic
from bench.objectives.best_of_k import BestOfK
from bench.objectives.beta_moment import BetaMoment
from bench.objectives.categorical_linear_quadratic import CategoricalLinearQuadratic
from bench.objectives.categorical_polynomial import CategoricalPolynomial
from bench.objectives.corridor import Corridor
from bench.objectives.dirichlet_multinomial import DirichletMultinomial
from bench.objectives.discontinuous import Discontinuous
from bench.objectives.exponential_moment import ExponentialMoment
from bench.objectives.gamma_quadratic import GammaQuadratic
from bench.objectives.gaussian_cosine import GaussianCosine
from bench.objectives.gaussian_exponential import GaussianExponential
from bench.objectives.gaussian_mixture import GaussianMixture
from bench.objectives.gaussian_quadratic import GaussianQuadratic
from bench.objectives.gaussian_then_categorical import GaussianThenCategorical
from bench.objectives.hierarchical_poisson import HierarchicalPoisson
from bench.objectives.importance_weighted import ImportanceWeighted
from bench.objectives.linear_quadratic_regulator import LinearQuadraticRegulator
from bench.objectives.logistic_regression import LogisticRegression
from bench.objectives.poisson_negative_binomial import PoissonNegativeBinomial
from bench.objectives.poisson_quadratic import PoissonQuadratic
from bench.objectives.policy_targets import policy_targets
from bench.objectives.qubo import Qubo
from bench.objectives.random_walk import RandomWalk
from bench.objectives.shared_bernoulli import SharedBernoulli
from bench.objectives.subset_quadratic import SubsetQuadratic
from bench.objectives.verifier import Verifier
from bench.objectives.von_mises_mean import VonMisesMean

__all__ = [
    "BernoulliQuadratic",
    "BernoulliVAE",
    "BestOfK",
    "BetaMoment",
    "CategoricalLinearQuadratic",
    "CategoricalPolynomial",
    "CategoricalVAE",
    "Corridor",
    "DirichletMultinomial",
    "Discontinuous",
    "ExponentialMoment",
    "GammaQuadratic",
    "GaussianCosine",
    "GaussianExponential",
    "GaussianMixture",
    "GaussianQuadratic",
    "GaussianThenCategorical",
    "GaussianVAE",
    "HierarchicalPoisson",
    "ImportanceWeighted",
    "LinearQuadraticRegulator",
    "LogisticRegression",
    "Objective",
    "PoissonNegativeBinomial",
    "PoissonQuadratic",
    "Problem",
    "Qubo",
    "RandomWalk",
    "SharedBernoulli",
    "SigmoidBeliefNetwork",
    "SubsetQuadratic",
    "Theta",
    "Verifier",
    "VonMisesMean",
    "catalogue",
    "is_own",
    "policy_targets",
    "wrong_class",
    "wrong_declarations",
]
