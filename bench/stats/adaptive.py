"""How many replicates: looks at a doubling schedule, the size of a fresh run, and what looking costs.

Stopping as soon as an interval is narrow selects runs that have not seen their tail yet, so that V̂ comes out low
(Chow & Robbins 1965, Annals of Mathematical Statistics 36:457; Glynn & Whitt 1992, Annals of Applied Probability
2:180). Published numbers therefore come from a fresh run of a size planned by the pilot (Stein 1945), the looks
only from doublings.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf, log, sqrt

from bench.stats.quantiles import normal_quantile
from bench.stats.summary import Summary


@dataclass(frozen=True)
class PrecisionTarget:
    """How precise a cell's variance should be, and how many replicates that may take.

    Args:
        half_width: half the width of the variance's 95 % interval, divided by the variance; between 0 and 1.
        max_replicates: the number of replicates at which a cell stops even if it has not reached the half-width.

    Raises:
        ValueError: an argument is out of range.
    """

    half_width: float
    max_replicates: int = 1_000_000

    def __post_init__(self) -> None:
        if not 0 < self.half_width < 1:
            raise ValueError(f"precision is a fraction, such as 0.05 for ±5 % (got {self.half_width!r}).")
        if self.max_replicates < 1:
            raise ValueError(f"max_replicates must be at least 1 (got {self.max_replicates!r}).")


def look_schedule(maximum: int, first: int = 1000) -> list[int]:
    """Numbers of replicates at which to look, `first·2^k` up to `maximum`, which is always the last.

    Raises ValueError if `maximum` is not positive.
    """
    if maximum < 1 or first < 1:
        raise ValueError(f"looks need at least one replicate (got first={first}, maximum={maximum}).")
    looks = []
    while first < maximum:
        looks.append(first)
        first *= 2
    return [*looks, maximum]


def half_width(summary: Summary) -> float:
    """Half the width of the variance's interval over V̂; infinite where there is no upper bound."""
    if summary.variance_high is None or summary.variance == 0:
        return inf
    return (summary.variance_high - summary.variance_low) / (2 * summary.variance)


def is_precise(summary: Summary, target: float) -> bool:
    """Whether to stop looking: the relative half-width is at most `target`, and k̂ < 1/2 (or the tail is discrete)."""
    return half_width(summary) <= target and (summary.khat is None or summary.khat < 0.5)


def planned_replicates(pilot: Summary, target: float) -> int:
    """Size of the fresh run, `R* = 1.2 R_pilot (half-width/h)²`, never below the pilot's own minimum of 1000.

    The half-width is that of the interval, with all that skewness and tail add to it, or z se_log where there is no
    upper end: with z se_log alone, half of the skewed cells would miss the target.

    Source: the two-stage idea is Stein's (1945), Annals of Mathematical Statistics 16:243.
    """
    if target <= 0:
        raise ValueError(f"the target is a relative half-width above 0 (got {target}).")
    width = half_width(pilot)
    if width == inf:
        width = normal_quantile((1 + pilot.confidence) / 2) * pilot.se_log
    return max(1000, ceil(1.2 * pilot.replicates * (width / target) ** 2))


def spend(alpha: float, looks: int) -> float:
    """Level of each of `looks` tests so that all of them together stay at α: α/looks (Bonferroni)."""
    if looks < 1:
        raise ValueError(f"there is at least one look (got {looks}).")
    return alpha / looks


def confidence_sequence_radius(sd: float, n: int, alpha: float = 0.05, rho: float = 0.05) -> float:
    """Return the half-width of an asymptotic confidence sequence for a mean, valid at all n at once.

    `σ̂ √(2(nρ² + 1)/(n²ρ²) · ln(√(nρ² + 1)/α))`; ρ sets where it is narrowest.

    Source: Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (2024), Annals of Statistics 52:2613.
    """
    v = n * rho**2 + 1
    return sd * sqrt(2 * v / (n * rho) ** 2 * log(sqrt(v) / alpha))
