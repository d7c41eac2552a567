"""One failure rate, from which every statistical tolerance follows."""

from statistics import NormalDist

FAILURE_RATE = 1e-6
"""Probability with which a correct program may fail one family of statistical comparisons, over the seeds."""


def z_limit(comparisons: int = 1) -> float:
    """Return the |z| that any of so many standard normal scores exceeds with probability at most ``FAILURE_RATE``.

    Two-sided; Bonferroni, so the scores may depend on each other.
    """
    return -NormalDist().inv_cdf(FAILURE_RATE / (2 * comparisons))
