"""The conformance suite: what every estimator must do, as checks that pytest runs.

A test file of two lines puts an estimator through all of it::

    class TestMine(Conformance):
        estimator = Mine()

An estimator that serves none of the families here brings problems of its own (``cases``).
"""

from bench.conformance.cases import CASES, Case, quadrature, support
from bench.conformance.suite import Conformance, checks, suite

__all__ = ["CASES", "Case", "Conformance", "checks", "quadrature", "suite", "support"]
