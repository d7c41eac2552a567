"""Comparisons of estimators: ratios of variances, variance times cost, ranks."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, inf, log, nan, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.stats.quantiles import normal_quantile, t_quantile, t_upper
from bench.stats.series import Array
from bench.stats.summary import HEAVY, OPEN, Status, Summary, VarianceSummary
from bench.stats.variance import clip, hall, hall_inverse

LARGEST_EXPONENT = log(sys.float_info.max)
ROUNDING = 1e-6
"""Two variances whose log ratio is this near to 0 may differ by the rounding of their gradients alone."""
FEWEST_BLOCKS = 8
"""Fewest blocks of a paired comparison."""
NUMBERS_AT_ONCE = 2**20
"""Most numbers of blocks that are compared at once."""
FEW_NUMBERS = 2**17
"""Most numbers of blocks of several groups that are compared at once: more would leave the cache."""
REFUSED = frozenset({Status.DEGENERATE, *HEAVY})


@dataclass(frozen=True, eq=False)
class ComparedRun:
    """What a comparison needs of a run, one measurement of an estimator on an objective.

    Gradients are summed in blocks. `block_rows` `[blocks]` is the number of gradients in each block, and `block_w`
    `[blocks]` the sum of w over them. In a block of n gradients, w is n/(n − 1) times the squared distance of a
    gradient from the mean of the block. `summary` has the statistics of the whole run.
    """

    summary: Summary | VarianceSummary
    block_rows: Array
    block_w: Array

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> ComparedRun:
        """Return the run of a record whose kind is ``moments``, from the `summary` and the `sums` in the record."""
        rows, w = (np.asarray(record["sums"][name], dtype=np.float64) for name in ("block_rows", "block_w"))
        return cls(VarianceSummary.from_json(record["summary"]), rows, w)

    @property
    def is_comparable(self) -> bool:
        """Whether the run has a variance to compare: something varied, and the tail is not heavy."""
        return self.summary.status not in REFUSED


@dataclass(frozen=True)
class LogRatio:
    """The logarithm of the ratio V_a/V_b of two variances, with its interval from `low` to `high`.

    `se` is the standard error, with `nu` degrees of freedom. `p` is the two-sided p-value of V_a = V_b. `paired` tells
    whether the two measurements were compared block by block, a block being a group of gradients.
    """

    value: float
    se: float
    nu: float
    low: float
    high: float
    p: float
    paired: bool

    @property
    def ratio(self) -> tuple[float, float, float]:
        """The ratio V_a/V_b with its lower and its upper limit; infinity above the range of floats."""
        return _exp(self.value), _exp(self.low), _exp(self.high)


def _exp(x: float) -> float:
    return exp(x) if x < LARGEST_EXPONENT else inf


def paired_log_ratio(
    rows: Array, w_a: Array, w_b: Array, variance_a: float, variance_b: float, *, confidence: float = 0.95
) -> LogRatio:
    """Return ln(V_a/V_b) for the variances of two estimators, a and b, that saw the same noise in the same blocks.

    A block is a group of replicates whose gradients are summed together. V̂_a and V̂_b are the estimates of the
    variances. For the gradient g_r of replicate r, in a block of `rows` replicates with the mean gradient ḡ::

        w_r = rows/(rows − 1) ‖g_r − ḡ‖²
        q_r = w_r(a)/V̂_a − w_r(b)/V̂_b

    q_r is the influence of replicate r on the log ratio; shared noise cancels in it. With q̄_k the mean of q over block
    k, q̄ the mean over all R replicates, and B blocks::

        σ̂² = Σ_k rows_k (q̄_k − q̄)²/(B − 1)
        se = σ̂/√R

    The interval is the union of Student's t interval and the interval from Hall's transform, which corrects t for
    skewness. Each limit is at least 1e-6 from the value, because a smaller difference can be the rounding of the
    gradients.

    Args:
        rows: number of replicates in each block, `[blocks]`.
        w_a: sum of w_r over each block for estimator a, `[blocks]`.
        w_b: sum of w_r over each block for estimator b, `[blocks]`.
        variance_a: the estimate V̂_a.
        variance_b: the estimate V̂_b.
        confidence: level of the interval.

    Raises:
        ValueError: there are fewer than 8 blocks, the numbers of blocks differ, or a variance is 0.
    """
    if not rows.shape == w_a.shape == w_b.shape:
        raise ValueError(f"paired estimators must have the same blocks (got {rows.size}, {w_a.size}, {w_b.size}).")
    if rows.size < FEWEST_BLOCKS:
        raise ValueError(f"a paired comparison needs at least 8 blocks (got {rows.size}): take more replicates.")
    _check_positive(variance_a, variance_b)
    value = log(variance_a / variance_b)
    se, nu, A = map(float, _paired(rows, w_a / variance_a - w_b / variance_b))
    return _log_ratio(value, se, nu, A, confidence, paired=True)


def independent_log_ratio(
    a: Summary | VarianceSummary, b: Summary | VarianceSummary, *, confidence: float = 0.95
) -> LogRatio:
    """Return the logarithm of the ratio V_a/V_b of the variances of two independent runs, with its interval.

    `a` and `b` are the summaries of the runs, and se_a and se_b the standard errors of ln V_a and ln V_b. The standard
    error of the log ratio is `√(se_a² + se_b²)`. Its degrees of freedom are those of the run that has fewer.
    `confidence` is the level of the interval.
    """
    V_a, V_b = _known(a), _known(b)
    _check_positive(V_a, V_b)
    se = sqrt(a.se_log**2 + b.se_log**2)
    return _log_ratio(log(V_a / V_b), se, min(a.nu, b.nu), 0.0, confidence, paired=False)


def compare(a: ComparedRun, b: ComparedRun, *, common: bool, confidence: float = 0.95) -> LogRatio:
    """Return log(variance of a / variance of b) with its confidence interval.

    A run is one measurement of an estimator; its gradients are summed in blocks. `common` says whether both runs used
    the same noise. If they did, and have at least 8 blocks of the same sizes, they are compared block by block.
    Otherwise they are compared as independent runs.

    If a variance has no upper confidence limit, the interval of the ratio is one-sided: this variance can be found to
    be the higher one, never the lower one. `confidence` is the level of the interval.
    """
    rows = a.block_rows
    if common and rows.size >= FEWEST_BLOCKS and np.array_equal(rows, b.block_rows):
        V_a, V_b = _known(a.summary), _known(b.summary)
        found = paired_log_ratio(rows, a.block_w, b.block_w, V_a, V_b, confidence=confidence)
    else:
        found = independent_log_ratio(a.summary, b.summary, confidence=confidence)
    if a.summary.status in OPEN:
        found = replace(found, high=inf, p=found.p if found.value > 0 else 1.0)
    if b.summary.status in OPEN:
        found = replace(found, low=-inf, p=found.p if found.value < 0 else 1.0)
    return found


def pool(ratios: Sequence[LogRatio], weights: Sequence[float], *, confidence: float = 0.95) -> LogRatio:
    """Return the weighted mean of independent log ratios, such as those of several seeds, with its interval.

    With the weights w_k, whose sum is scaled to 1, and the standard errors se_k with ν_k degrees of freedom (Welch and
    Satterthwaite)::

        se = √(Σ_k w_k² se_k²)
        ν = se⁴/Σ_k (w_k⁴ se_k⁴/ν_k)

    If one of the ratios has no upper limit, the mean has no upper limit. If one has no lower limit, the mean has none.

    Args:
        ratios: the log ratios, at least one.
        weights: positive weights that do not depend on the ratios, such as numbers of replicates.
        confidence: level of the interval.
    """
    w = np.asarray(weights, dtype=np.float64) / sum(weights)
    value = float(w @ [each.value for each in ratios])
    squares = (w * [each.se for each in ratios]) ** 2
    total, freedom = float(squares.sum()), np.array([each.nu for each in ratios])
    nu = total**2 / float((squares**2 / freedom).sum()) if total else float(freedom.min())
    found = _log_ratio(value, sqrt(total), nu, 0.0, confidence, paired=all(each.paired for each in ratios))
    if any(each.high == inf for each in ratios):
        found = replace(found, high=inf, p=found.p if value > 0 else 1.0)
    if any(each.low == -inf for each in ratios):
        found = replace(found, low=-inf, p=found.p if value < 0 else 1.0)
    return found


def _log_ratio(value: float, se: float, nu: float, A: float, confidence: float, *, paired: bool) -> LogRatio:
    upper, A = (1 + confidence) / 2, clip(A, -2, 2)
    if se == 0:
        off = 0.0 if value == 0 else ROUNDING
        return LogRatio(value, 0.0, nu, value - off, value + off, float(abs(value) <= ROUNDING), paired)
    t, z = t_quantile(upper, nu), normal_quantile(upper)
    low = min(value - t * se, value - se * hall_inverse(z, A), value - ROUNDING)
    high = max(value + t * se, value - se * hall_inverse(-z, A), value + ROUNDING)
    statistic = value / se
    p = 2 * t_upper(min(abs(statistic), abs(hall(statistic, A))), nu) if abs(value) > ROUNDING else 1.0
    return LogRatio(value, se, nu, low, high, min(1.0, p), paired)


def _known(summary: Summary | VarianceSummary) -> float:
    return nan if summary.variance is None else summary.variance


def _check_positive(variance_a: float, variance_b: float) -> None:
    if not (variance_a > 0 and variance_b > 0):
        raise ValueError(
            f"a ratio of variances needs both above 0 (got {variance_a} and {variance_b}): "
            "a cell in which nothing varied, or whose tail is heavy, cannot be compared."
        )


@functools.lru_cache(maxsize=2**15)  # a report asks several times for the same product
def work_normalised(
    variance: tuple[float, float, float | None], cost: tuple[float, float, float]
) -> tuple[float, float, float | None]:
    """Return a variance times the cost per replicate: the variance of a mean that takes one unit of work.

    Both arguments and the result are (value, low, high). The upper limit of the result is None if the variance has
    none. For the product E of a variance V and a cost c, with the lower limits V_low and c_low, the lower limit is::

        E exp(−√(ln²(V/V_low) + ln²(c/c_low)))

    The upper limit is built in the same way from the upper limits. The method is called variance estimates recovery
    (MOVER).

    Source: Glynn & Whitt (1992), Operations Research 40:505; Zou & Donner (2008), Statistics in Medicine 27:1693.
    """
    V, V_low, V_high = variance
    c, c_low, c_high = cost
    if not (V > 0 and c > 0 and c_low > 0):
        raise ValueError(f"work-normalised variance needs a variance and a cost above 0 (got {variance} and {cost}).")
    E = V * c
    low = 0.0 if V_low <= 0 else E * exp(-sqrt(log(V / V_low) ** 2 + log(c / c_low) ** 2))
    high = None if V_high is None else E * _exp(sqrt(log(V_high / V) ** 2 + log(c_high / c) ** 2))
    return E, low, high


def ranks(groups: Sequence[Sequence[ComparedRun]], common: Sequence[bool]) -> list[list[tuple[int, int] | None]]:
    """Return the 95 % intervals of the ranks by variance (`rank_intervals`) for the runs of each group.

    A run is one measurement of an estimator, and the runs on one objective are a group. Gradients are summed in blocks.
    `common` says for each group whether its runs used common noise. The result is None for a run that cannot be ranked,
    because its tail is heavy or nothing in it varied.

    Groups are compared in one pass if they are alike: the k-th runs of all these groups have blocks of the same sizes.
    Thousands of small groups, each in a pass of its own, would take ten times as long.
    """
    alike: dict[Any, list[int]] = {}
    for place, (runs, is_common) in enumerate(zip(groups, common, strict=True)):
        shape = [(run.is_comparable, run.block_rows.tobytes()) for run in runs]
        alike.setdefault((is_common, *shape), []).append(place)
    found = dict[int, list[tuple[int, int] | None]]()
    for (is_common, *shape), places in alike.items():
        numbers = len(shape) * sum(len(rows) // 8 for _, rows in shape)
        step = max(1, FEW_NUMBERS // max(numbers, 1))
        for start in range(0, len(places), step):
            some = places[start : start + step]
            comparisons, ranked = log_ratio_rows([groups[place] for place in some], common=is_common)
            found |= zip(some, rank_intervals(comparisons, ranked=ranked), strict=True)
    return [found[place] for place in range(len(groups))]


def log_ratio_rows(
    groups: Sequence[Sequence[ComparedRun]], *, common: bool
) -> tuple[Iterator[tuple[Array, Array]], NDArray[np.bool_]]:
    """Compare the variances of the n runs of each group, two by two; return the results, and which runs can be ranked.

    A run is one measurement of an estimator, and the runs on one objective are a group. Gradients are summed in blocks.
    A run cannot be ranked if its tail is heavy, or if nothing in it varied. In both cases its log ratios are 0 and its
    p-values 1. The groups must be alike: the k-th runs of all groups have blocks of the same sizes, and either all or
    none of them can be ranked. `common` says whether the runs of a group used common noise. If they did, two runs whose
    blocks have the same sizes are compared block by block.

    For each group, an n × n table has the comparison of run i with run j in row i and column j. The first result yields
    a few rows of these tables at a time, because whole tables would take too much memory for large n. It yields them as
    pairs of arrays, `[groups, rows, n]` each: log ratios and p-values. A log ratio is ln(V_i/V_j), where V_i is the
    variance of run i. The p-values are the two-sided ones of `compare`. The second result is an array of booleans,
    `[n]`: which runs can be ranked.

    Raises:
        ValueError: the summary of a run that can be ranked has no variance, or a variance that is not above 0.
    """
    ranked = np.array([run.is_comparable for run in groups[0]], dtype=np.bool_)
    return _rows(groups, ranked, common=common), ranked


def _rows(
    groups: Sequence[Sequence[ComparedRun]], ranked: NDArray[np.bool_], *, common: bool
) -> Iterator[tuple[Array, Array]]:
    n, first = len(ranked), groups[0]
    V, se, nu = (np.ones((len(groups), n)) for _ in range(3))
    for g, runs in enumerate(groups):
        for k in map(int, np.flatnonzero(ranked)):
            V[g, k], se[g, k], nu[g, k] = _known(runs[k].summary), runs[k].summary.se_log, runs[k].summary.nu
            _check_positive(V[g, k], V[g, k])
    open_ended = np.array([[run.summary.status in OPEN for run in runs] for runs in groups], dtype=np.bool_)
    alike: dict[bytes, list[int]] = {}
    for k, run in enumerate(first if common else []):
        if ranked[k] and run.block_rows.size >= FEWEST_BLOCKS:
            alike.setdefault(run.block_rows.tobytes(), []).append(k)
    paired = [
        (np.array(those), np.array([[runs[k].block_w for k in those] for runs in groups]) / V[:, those, None])
        for those in alike.values()
    ]
    step = max(1, NUMBERS_AT_ONCE // (n * max((run.block_rows.size for run in first), default=1)))
    for start in range(0, n, step):
        i = np.arange(start, min(start + step, n))
        error, freedom = np.sqrt(se[:, i, None] ** 2 + se[:, None] ** 2), np.minimum(nu[:, i, None], nu[:, None])
        skew = np.zeros_like(error)
        for those, relative in paired:
            mine = (those >= start) & (those < start + step)
            at: Any = (slice(None), *np.ix_(those[mine] - start, those))
            q = relative[:, mine, None] - relative[:, None]
            error[at], freedom[at], skew[at] = _paired(first[those[0]].block_rows, q)
        value = np.log(V[:, i, None] / V[:, None])
        p = _two_sided(value, error, freedom, skew)
        both = ranked[i, None] & ranked
        p[open_ended[:, i, None] & (value <= 0) | open_ended[:, None] & (value >= 0) | ~both] = 1.0
        p[abs(value) <= ROUNDING] = 1.0
        yield np.where(both, value, 0.0), p


def _paired(rows: Array, q: Array) -> tuple[Array, Array, Array]:
    """Return the standard errors of log ratios, their degrees of freedom and skewness/√R (`paired_log_ratio`).

    `q` `[..., blocks]` holds the sums of the influences over each block, `rows` `[blocks]` its number of replicates.
    """
    R, B = float(rows.sum()), rows.size
    d = q - rows * (q.sum(axis=-1, keepdims=True) / R)
    z = d / np.sqrt(rows)
    square = z * z  # numpy's z**4 and d**3 take several times as long as products
    squares = square.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        sigma = np.sqrt(squares / (B - 1))
        kurtosis = B * (square * square).sum(axis=-1) / squares**2
        skew = (d * d * d).sum(axis=-1) / sigma**3 / R**1.5
        freedom = np.where(kurtosis > 1, np.clip(2 * B / (kurtosis - 1), 1.0, B - 1.0), B - 1.0)
    return sigma / sqrt(R), freedom, np.where(sigma > 0, skew, 0.0)


def _two_sided(value: Array, se: Array, nu: Array, A: Array) -> Array:
    """Return the two-sided p-values of log ratios with standard errors `se`, as `compare` does for one of them."""
    from scipy.special import stdtr

    A = np.clip(A, -2, 2)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        t = value / se
        transformed = np.where(np.abs(A) < 1e-9, t, ((1 + A * t / 3) ** 3 - 1) / A + A / 6)
        p = np.minimum(1.0, 2 * stdtr(nu, -np.minimum(np.abs(t), np.abs(transformed))))
    found: Array = np.where(se == 0, (value == 0).astype(float), p)
    return found


def rank_intervals(
    comparisons: Iterable[tuple[Array, Array]], *, ranked: NDArray[np.bool_], confidence: float = 0.95
) -> list[list[tuple[int, int] | None]]:
    """Return confidence intervals, (lowest rank, highest rank), for the ranks of the n runs of each group.

    A run is one measurement of an estimator; the runs on one objective are a group. Runs are ranked by variance; rank 1
    is the smallest variance of the group. The lowest rank of a run is 1 plus the number of runs with a significantly
    smaller variance. The highest rank is the number of ranked runs minus the number of runs with a significantly larger
    variance. The level is corrected (Bonferroni), so that all intervals of a group hold together with probability
    `confidence`.

    Args:
        comparisons: pairs of arrays, `[groups, rows, n]` each. Row i and column j compare run i with run j. The first
            array has the log ratios ln(V_i/V_j) of their variances, the second has uncorrected p-values for the
            hypothesis V_i = V_j. Each pair has the next rows of all groups, until all n rows have come.
        ranked: which runs are ranked, `[n]`. A run that is not ranked gets None in place of an interval, and does not
            count in the ranks of the others.
        confidence: probability that all intervals of a group hold.

    Source: Mogstad, Romano, Shaikh & Wilhelm (2024), Review of Economic Studies.
    """
    n = int(ranked.sum())
    level = (1 - confidence) / max(n * (n - 1) / 2, 1)
    counts = [
        [(ranked & (p <= level) & sign).sum(axis=-1) for sign in (ratios > 0, ratios < 0)] for ratios, p in comparisons
    ]
    smaller, larger = (np.concatenate(each, axis=-1) for each in zip(*counts, strict=True))
    return [
        [(1 + s, n - g) if r else None for s, g, r in zip(*group, ranked, strict=True)]
        for group in zip(smaller.tolist(), larger.tolist(), strict=True)
    ]
