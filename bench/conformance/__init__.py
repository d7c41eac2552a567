"""The conformance suite: checks for pytest that every estimator must pass.

Two lines in a test file run all checks on an estimator::

    class TestMine(Conformance):
        estimator = Mine()

If the estimator serves none of the distribution families in ``CASES``, set ``cases`` to problems of your own.
"""

from bench.conformance.cases import CASES, Case, quadrature, support
from bench.conformance.suite import Conformance, checks, suite

__all__ = ["CASES", "Case", "Conformance", "checks", "quadrature", "suite", "support"]
