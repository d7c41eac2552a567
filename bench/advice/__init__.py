"""Advice: which estimator to use on an objective, with how many samples, measured in rounds on fresh noise."""

from bench.advice.api import advise
from bench.advice.result import Advice

__all__ = ["Advice", "advise"]
