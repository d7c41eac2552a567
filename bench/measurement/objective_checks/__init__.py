"""The checks of an objective: an objective at fault is found before an estimator is blamed for it.

Most checks are exact. The others compare means over samples: of the score, of ratios of densities and, if the states
of q cannot be summed, of values and gradients. Their bound holds for any law whose values stay within the range of the
samples, and each of them has the failure rate ``FAILURE_RATE``. A sample that is too heavy-tailed to tell is not
judged.
"""

from bench.measurement.objective_checks.run import CHECKS, QUICK, Check, check_own, judge
from bench.measurement.objective_checks.trial import Fault, NotJudged, ObjectiveTrial

__all__ = ["CHECKS", "QUICK", "Check", "Fault", "NotJudged", "ObjectiveTrial", "check_own", "judge"]
