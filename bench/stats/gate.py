"""Tests of whether a variance has grown or a bias appeared, with few false alarms over a whole suite of cells.

The first stage is cheap: it flags cells with a fixed seed and tolerates no growth. Only the second stage sets the error
rate of the suite: it has a fresh seed, four times the replicates, a margin, and Holm's correction over all cells of the
baseline.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import expm1, log, sqrt

from bench.stats.quantiles import normal_quantile, normal_upper, t_quantile, t_upper
from bench.stats.variance import HEAVY_TAIL_INDEX, degrees_of_freedom

STAGE_ONE_VARIANCE, STAGE_ONE_BIAS = 0.05, 0.01  # p-values at which a cell is flagged for the second stage
STAGE_TWO_FACTOR = 4  # replicates of the second stage over those of the first
SCREENING = 10  # replicates of a baseline over those of the first stage, by default
ALPHA_VARIANCE, ALPHA_BIAS = 5e-4, 4e-4
"""Probability of a false alarm in a suite without faults: over all tests of variances, and over all tests of biases."""


@dataclass(frozen=True)
class GateCell:
    """The statistics of one cell that the gate compares, from the baseline or from a new run. Plain data.

    A cell is an estimator on an objective. The baseline is a file of accepted statistics. Let w be the squared distance
    of a gradient from the mean gradient.

    Args:
        replicates: number of gradients.
        variance: total variance, the mean of w.
        cv2: variance of w divided by the square of its mean.
        kurtosis: kurtosis of w.
        rho: tr Σ²/variance², with Σ the covariance of one gradient.
        khat: tail index of w; None if the largest w have too few distinct values to estimate it.
        truncated_at: a limit: a larger w counts as this number in the two statistics below. None if there is no limit.
        truncated_mean: mean of min(w, ``truncated_at``).
        truncated_cv2: variance of min(w, ``truncated_at``) divided by the square of its mean.
        float_floor: a variance up to this number may be rounding alone.
    """

    replicates: int
    variance: float
    cv2: float
    kurtosis: float
    rho: float
    khat: float | None
    truncated_at: float | None = None
    truncated_mean: float | None = None
    truncated_cv2: float | None = None
    float_floor: float = 0.0


class CellOutcome(StrEnum):
    """What became of the test of a cell (an estimator on an objective).

    TESTED: there is a p-value. PASS: no test is needed, because nothing varies in the new run. FAIL: no test is needed,
    because nothing varied in the baseline and something varies now. NOT_GATEABLE: no test is possible.
    """

    TESTED = "TESTED"  # there is a p-value
    PASS = "PASS"  # without a test: nothing varies in the new run
    FAIL = "FAIL"  # without a test: something varies that did not vary in the baseline
    NOT_GATEABLE = "NOT_GATEABLE"  # no test exists


@dataclass(frozen=True)
class CellTest:
    """The test whether the variance of one cell (an estimator on an objective) grew by more than a margin.

    The p-values are not yet corrected for the number of cells. Let w be the squared distance of a gradient from the
    mean gradient.

    Args:
        outcome: whether there was a test; if not, why not.
        p: p-value of the cell, which combines the two below. If ``outcome`` is PASS, it is 1, and if FAIL, it is 0.
            None if ``outcome`` is NOT_GATEABLE.
        p_variance: p-value of the hypothesis that the variance, the mean of w, grew by at most the margin. None if this
            was not tested.
        p_truncated: p-value of the hypothesis that the mean of min(w, c) grew by at most the margin, with a limit c
            that the baseline gives. None if this was not tested.
        reason: why there was no test, or a warning about a tested cell; may be empty.
    """

    outcome: CellOutcome
    p: float | None
    p_variance: float | None = None
    p_truncated: float | None = None
    reason: str = ""


def is_heavy(khat: float | None) -> bool:
    """Return whether a tail is so heavy that only a truncated variance can be compared: its index is at least 0.7.

    ``khat`` is the tail index. It is None if the tail has too few distinct values to estimate one; such a tail is not
    heavy.
    """
    return khat is not None and khat >= HEAVY_TAIL_INDEX


def default_margin(cv2: float) -> float:
    """Return the tolerated relative growth of a variance: 0.05 if `cv2` is at most 3, else 0.10.

    `cv2` is variance/mean² of the squared norms of the centred gradients.
    """
    return 0.05 if cv2 <= 3 else 0.10


def baseline_replicates(cv2: float) -> int:
    """Return the number of replicates of a cell in a baseline: 4e5 if `cv2` is above 10, else 1e5.

    `cv2` is variance/mean² of the squared norms of the centred gradients. A baseline is the file of accepted
    statistics; its replicates limit the power of every check.
    """
    return 400_000 if cv2 > 10 else 100_000


def replicates_for_power(cv2: float, growth: float, margin: float) -> float:
    """Return the number of replicates with which the gate's second stage finds a relative `growth` of a variance.

    The gate flags a cell (an estimator on an objective) in a first stage, and confirms the growth in a second one.
    `margin` is the growth that is tolerated. `cv2` is cv², the variance/mean² of the squared norms of the centred
    gradients. The number of replicates is::

        34 cv²/ln²((1 + growth)/(1 + margin))

    With this number, the growth is found with probability 0.9 if 200 cells share the level 1e-3. Raises ValueError if
    the growth is within the margin.
    """
    if growth <= margin:
        raise ValueError(f"growth within the margin is never detected (got growth {growth}, margin {margin}).")
    return 34 * cv2 / log((1 + growth) / (1 + margin)) ** 2


def variance_statistic(base: GateCell, new: GateCell, margin: float) -> tuple[float, float]:
    """Return the statistic z and the p-value of the one-sided test of `V_new ≤ (1 + m) V_base`, with m = `margin`.

    Index 0 is the baseline (the accepted statistics) and index 1 the new run, with R replicates and the estimated
    variance V̂. c² is the larger `cv2` of the two, ρ the larger `rho`, and κ the larger `kurtosis`::

        se² = c²(1/R₁ + 1/R₀) + 24 ρ (1/(R₁(R₁−1)) + 1/(R₀(R₀−1)))
        z = (ln(V̂₁/V̂₀) − ln(1 + m))/se
        ν = clip(2R₁/(κ − 1), 1, R₁ − 1)
        p = P(t > z) for Student's t with ν degrees of freedom

    The factor 24 takes the place of 2 in the variance of ln V̂. With 2, p would be too small if all squared norms of
    the centred gradients are equal.
    """
    c2, rho = max(base.cv2, new.cv2), max(base.rho, new.rho)
    z = _z(new.variance / base.variance, c2, rho, base.replicates, new.replicates, margin)
    return z, t_upper(z, degrees_of_freedom(new.replicates, max(base.kurtosis, new.kurtosis)))


def truncated_statistic(base: GateCell, new: GateCell, margin: float) -> tuple[float, float] | None:
    """Return the statistic z and the p-value of the one-sided test that the truncated mean grew by at most the margin.

    `base` has the accepted statistics, and `new` those of the new run. Let w be the squared norms of the centred
    gradients, and c0 = ``base.truncated_at``. The truncated mean is the mean of min(w, c0). The result is None unless
    ``new`` has the same ``truncated_at``. The p-value is from the normal distribution.

    If every w grows by a factor r, the truncated mean grows by at most r. So a variance within the margin implies a
    truncated mean within the margin. min(w, c0) is bounded, so the test is valid even if the variance is infinite.
    """
    if base.truncated_at is None or base.truncated_at != new.truncated_at:
        return None
    if not (base.truncated_mean and new.truncated_mean) or base.truncated_cv2 is None or new.truncated_cv2 is None:
        return None
    c2, rho = max(base.truncated_cv2, new.truncated_cv2), max(base.rho, new.rho)
    z = _z(new.truncated_mean / base.truncated_mean, c2, rho, base.replicates, new.replicates, margin)
    return z, normal_upper(z)


def _z(ratio: float, c2: float, rho: float, R0: int, R1: int, margin: float) -> float:
    return (log(ratio) - log(1 + margin)) / _standard_error(c2, rho, R0, R1)


def _standard_error(c2: float, rho: float, R0: int, R1: int) -> float:
    return sqrt(c2 * (1 / R1 + 1 / R0) + 24 * rho * (1 / (R1 * (R1 - 1)) + 1 / (R0 * (R0 - 1))))


def smallest_change(
    base: GateCell, *, screening: int, confirming: int, margin: float, cells: int, alpha: float, power: float = 0.9
) -> float | None:
    """Return the smallest relative growth of a variance that both stages of the gate find.

    The gate compares a cell (an estimator on an objective) with its accepted statistics. A cheap first stage flags the
    cell, and a second stage confirms the growth. Let w be the squared distance of a gradient from the mean gradient. A
    stage tests the variance (the mean of w), the truncated variance (the mean of min(w, ``base.truncated_at``)), or
    both. If both tests are possible, each has half of the stage's level, and the more sensitive one counts. The level
    of the first stage is 0.05.

    The result assumes that all w have grown by the same factor. The result is None if neither test is possible.

    Args:
        base: the accepted statistics of the cell, from the baseline.
        screening: number of replicates of the first stage.
        confirming: number of replicates of the second stage.
        margin: the relative growth that the second stage tolerates.
        cells: number of cells in the baseline; the level of the second stage is divided by it.
        alpha: level of the second stage for all cells together.
        power: the probability with which each stage finds the growth.
    """
    if base.variance == 0:
        return None
    tests = [] if is_heavy(base.khat) else [(base.cv2, False)]
    if base.truncated_mean and base.truncated_cv2 is not None:
        tests.append((base.truncated_cv2, True))
    found = []
    for c2, truncated in tests:
        stages = []
        for R, level, m in ((screening, STAGE_ONE_VARIANCE, 0.0), (confirming, alpha / cells, margin)):
            p = 1 - level / len(tests)
            z = normal_quantile(p) if truncated else t_quantile(p, degrees_of_freedom(R, base.kurtosis))
            stages.append(log(1 + m) + (z + normal_quantile(power)) * _standard_error(c2, base.rho, base.replicates, R))
        found.append(max(stages))
    return expm1(min(min(found), 700.0)) if found else None


def smallest_bias(
    error: float,
    replicates: int,
    *,
    cv2: float,
    size: int,
    screening: int,
    confirming: int,
    cells: int,
    alpha: float,
    power: float = 0.9,
) -> float:
    """Return the smallest bias along the exact gradient that both stages of the gate find.

    The bias is relative: a mean gradient of 1.03 times the exact gradient has the bias 0.03. A gradient with several
    coordinates gets three tests for a bias, each at a third of the stage's level; one of the three finds a bias along
    the exact gradient. The level of the first stage is 0.01. The component of a gradient along the exact one is assumed
    to have the kurtosis max(3, 1 + `cv2`).

    Args:
        error: standard error of the mean gradient's component along the exact one, divided by the exact gradient's
            norm; measured in a run.
        replicates: number of replicates of the run that gave ``error``.
        cv2: variance/mean² of the squared distances of the gradients from their mean.
        size: number of coordinates of the gradient.
        screening: number of replicates of the first stage, which flags cells (estimators on objectives).
        confirming: number of replicates of the second stage, which confirms the bias.
        cells: number of cells in the baseline; the level of the second stage is divided by it.
        alpha: level of the second stage for all cells together.
        power: the probability with which each stage finds the bias.
    """
    tests, kurtosis = 1 if size == 1 else 3, max(3.0, 1 + cv2)
    found = []
    for R, level in ((screening, STAGE_ONE_BIAS), (confirming, alpha / cells)):
        z = t_quantile(1 - level / (2 * tests), degrees_of_freedom(R, kurtosis)) + normal_quantile(power)
        found.append(z * error * sqrt(replicates / R))
    return max(found)


def gate_cell(base: GateCell, new: GateCell, margin: float) -> CellTest:
    """Test whether the variance of one cell (an estimator on an objective) grew by more than the margin.

    `base` has the cell's accepted statistics, from the baseline; `new` has the statistics of the new run.

    Let w be the squared distance of a gradient from the mean gradient. The variance is the mean of w; the truncated
    variance is the mean of min(w, ``base.truncated_at``). Each gets a test, with the p-values p_variance and
    p_truncated. The p-value of the cell is `2 min(p_variance, p_truncated)`, at most 1. p_truncated counts alone if the
    baseline's tail index is at least 0.7, and p_variance alone if w was not truncated. If neither test is possible, the
    cell is NOT_GATEABLE.

    There is no test if a variance is 0. The outcome is then FAIL if the variance was 0 in the baseline, and is now more
    than rounding can cause. Otherwise it is PASS.
    """
    if base.variance == 0:
        if new.variance > new.float_floor:
            return CellTest(CellOutcome.FAIL, 0.0, reason="DETERMINISTIC_BECAME_RANDOM")
        return CellTest(CellOutcome.PASS, 1.0, reason="nothing varies in either run")
    if new.variance == 0:
        return CellTest(CellOutcome.PASS, 1.0, reason="nothing varies any more: the baseline is stale")
    truncated = truncated_statistic(base, new, margin)
    p_truncated = None if truncated is None else truncated[1]
    if is_heavy(base.khat):
        if p_truncated is None:
            reason = "heavy tail, and no variance truncated at the baseline's cut"
            return CellTest(CellOutcome.NOT_GATEABLE, None, reason=reason)
        return CellTest(CellOutcome.TESTED, p_truncated, p_truncated=p_truncated, reason=_tail_note(base, new))
    _, p_variance = variance_statistic(base, new, margin)
    p = p_variance if p_truncated is None else min(1.0, 2 * min(p_variance, p_truncated))
    return CellTest(CellOutcome.TESTED, p, p_variance, p_truncated, _tail_note(base, new))


def _tail_note(base: GateCell, new: GateCell) -> str:
    appeared = new.khat is not None and new.khat >= 1 and not is_heavy(base.khat)
    return "warning: the new run's variance may be infinite, the baseline's was not" if appeared else ""


def is_stale(base: GateCell, new: GateCell, margin: float, alpha: float) -> bool:
    """Return whether the new variance is significantly below the baseline's variance divided by 1 + margin.

    `alpha` is the level of the test. A stale baseline (one whose accepted variance is too high) causes a notice, never
    a failure.
    """
    if base.variance == 0 or new.variance == 0:
        return new.variance < base.variance
    return variance_statistic(new, base, margin)[1] <= alpha


def holm(p: Mapping[str, float], *, cells: int, alpha: float) -> dict[str, tuple[bool, float]]:
    """Return Holm's correction of p-values for many tests: for every name in `p`, (rejected, adjusted p-value).

    The correction is over all K `cells` (estimators on objectives) of the baseline. A cell without a p-value in `p`
    counts as p = 1. Let p_(i) be the i-th smallest p-value. In ascending order, names are rejected until the first with
    p_(i) > α/(K − i + 1); α is `alpha`. The adjusted p-value is the running maximum of (K − i + 1) p_(i), at most 1.

    Raises ValueError if there are fewer cells than names. Source: Holm (1979), Scandinavian Journal of Statistics 6:65.
    """
    if cells < len(p):
        raise ValueError(f"the correction is over all cells of the baseline, at least {len(p)} (got {cells}).")
    out: dict[str, tuple[bool, float]] = {}
    adjusted, rejecting = 0.0, True
    for i, name in enumerate(sorted(p, key=lambda name: p[name])):
        rejecting = rejecting and p[name] <= alpha / (cells - i)
        adjusted = max(adjusted, min(1.0, (cells - i) * p[name]))
        out[name] = (rejecting, adjusted)
    return {name: out[name] for name in p}
