"""How many replicates to take: when a pilot run is tested, at which level, and how large the final run must be.

A run that stops as soon as its interval is narrow has often not seen its tail yet, so its variance is too low.
Published numbers therefore come from a fresh run, whose size is planned from a pilot.

Source: Chow & Robbins (1965), Annals of Mathematical Statistics 36:457; Glynn & Whitt (1992), Annals of Applied
Probability 2:180.
"""

from dataclasses import dataclass
from math import ceil, inf, log, sqrt

from bench.stats.quantiles import normal_quantile
from bench.stats.summary import Summary


@dataclass(frozen=True)
class PrecisionTarget:
    """The precision wanted for an estimator's variance, and the largest number of replicates to spend on it.

    Args:
        half_width: half the width of the variance's 95 % interval, divided by the variance; between 0 and 1.
        max_replicates: at least 1; a run has no more replicates even if the half-width is not reached.
    """

    half_width: float
    max_replicates: int = 1_000_000

    def __post_init__(self) -> None:
        if not 0 < self.half_width < 1:
            raise ValueError(f"precision is a fraction, such as 0.05 for ±5 % (got {self.half_width!r}).")
        if self.max_replicates < 1:
            raise ValueError(f"max_replicates must be at least 1 (got {self.max_replicates!r}).")


def look_schedule(maximum: int, first: int = 1000) -> list[int]:
    """Return the numbers of replicates at which a pilot run checks its precision, in ascending order.

    A pilot run is made only to plan a longer run. The first number is `first`, and each further number is twice the one
    before. The last number is `maximum`: ``[1000, 2000, 4000, 5000]`` for 5000. Raises ValueError if an argument is
    below 1.
    """
    if maximum < 1 or first < 1:
        raise ValueError(f"looks need at least one replicate (got first={first}, maximum={maximum}).")
    looks = []
    while first < maximum:
        looks.append(first)
        first *= 2
    return [*looks, maximum]


def half_width(summary: Summary) -> float:
    """Return half the width of a variance's confidence interval, divided by the variance: (high − low)/(2 variance).

    ``summary`` has the variance and the interval. The result is infinite if the variance is 0 or has no upper limit.
    """
    if summary.variance_high is None or not summary.variance:
        return inf
    return (summary.variance_high - summary.variance_low) / (2 * summary.variance)


def is_precise(summary: Summary, target: float) -> bool:
    """Return whether a run's variance is known well enough. Two conditions must hold.

    The relative half-width is at most `target`: half the width of the variance's confidence interval, divided by the
    variance. The tail index of the squared norms is below 1/2, or None. (None means that the largest norms have too few
    distinct values for an index.) ``summary`` has the statistics of the run.
    """
    return half_width(summary) <= target and (summary.khat is None or summary.khat < 0.5)


def planned_replicates(pilot: Summary, target: float) -> int:
    """Return the number of replicates at which a variance's confidence interval has the relative half-width `target`.

    The relative half-width is half the width of the interval, divided by the variance. The `pilot` is a run made only
    to plan a longer one. With its R replicates and its relative half-width h, the result is `1.2 R (h/target)²`, but at
    least 1000.

    If h is infinite, a different number takes its place in the formula: the standard error of the logarithm of the
    variance, times the normal quantile for the pilot's confidence.

    Source: Stein (1945), Annals of Mathematical Statistics 16:243, for planning in two stages.
    """
    if target <= 0:
        raise ValueError(f"the target must be a relative half-width above 0 (got {target}).")
    width = half_width(pilot)
    if width == inf:
        width = normal_quantile((1 + pilot.confidence) / 2) * pilot.se_log
    return max(1000, ceil(1.2 * pilot.replicates * (width / target) ** 2))


def spend(alpha: float, looks: int) -> float:
    """Return `alpha/looks`: the level of one test if `looks` tests together have the level `alpha` (Bonferroni).

    A run is tested once at each look at its data. Raises ValueError if `looks` is below 1.
    """
    if looks < 1:
        raise ValueError(f"there must be at least one look (got {looks}).")
    return alpha / looks


def confidence_sequence_radius(sd: float, n: int, alpha: float = 0.05, rho: float = 0.05) -> float:
    """Return the half-width of an asymptotic confidence sequence for a mean: intervals that hold for all n at once.

    For the first n values, whose standard deviation is σ̂, the half-width is::

        σ̂ √(2(nρ² + 1)/(n²ρ²) · ln(√(nρ² + 1)/α))

    Args:
        sd: σ̂, the standard deviation of one value.
        n: the number of values so far.
        alpha: α, the probability that at least one of the intervals for n = 1, 2, ... misses the mean.
        rho: ρ, which determines the n at which the sequence is narrowest.

    Source: Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (2024), Annals of Statistics 52:2613.
    """
    v = n * rho**2 + 1
    return sd * sqrt(2 * v / (n * rho) ** 2 * log(sqrt(v) / alpha))
