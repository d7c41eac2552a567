"""The conformance suites: checks for pytest that every estimator and every objective must pass.

Two lines in a test file run all checks on an estimator, two more all checks on an objective::

    class TestMine(Conformance):
        estimator = Mine()


    class TestMyObjective(ObjectiveConformance):
        objective = MyObjective()

If the estimator serves none of the distribution families in ``CASES``, set ``cases`` to problems of your own.
"""

from bench.conformance.cases import CASES, Case, quadrature, support
from bench.conformance.objective import ObjectiveConformance
from bench.conformance.suite import Conformance, checks, suite

__all__ = ["CASES", "Case", "Conformance", "ObjectiveConformance", "checks", "quadrature", "suite", "support"]
