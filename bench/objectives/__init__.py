"""Objectives: expectations E_{x~q}[f(x)] with the point theta at which their gradient is measured."""

from bench.objectives._catalogue import catalogue
from bench.objectives._protocol import Objective, Problem, Theta
from bench.objectives.bernoulli_quadratic import BernoulliQuadratic
from bench.objectives.bernoulli_vae import BernoulliVAE
from bench.objectives.categorical_linear_quadratic import CategoricalLinearQuadratic
from bench.objectives.categorical_polynomial import CategoricalPolynomial
from bench.objectives.gaussian_cosine import GaussianCosine
from bench.objectives.gaussian_exponential import GaussianExponential
from bench.objectives.gaussian_quadratic import GaussianQuadratic
from bench.objectives.logistic_regression import LogisticRegression

__all__ = [
    "BernoulliQuadratic",
    "BernoulliVAE",
    "CategoricalLinearQuadratic",
    "CategoricalPolynomial",
    "GaussianCosine",
    "GaussianExponential",
    "GaussianQuadratic",
    "LogisticRegression",
    "Objective",
    "Problem",
    "Theta",
    "catalogue",
]
