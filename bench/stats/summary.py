"""The summary of a run as plain data, and the words for its status, verdict and flags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from math import isfinite
from typing import Any


class Word(StrEnum):
    """A word in a record. It equals its text, and is printed and stored as its text."""

    def __repr__(self) -> str:
        return repr(self.value)


class Status(Word):
    """How far a variance and its interval can be trusted."""

    OK = "OK"  # nothing speaks against the interval
    SMALL_R = "SMALL_R"  # fewer than 1000 replicates: the interval may be too narrow
    TAIL_WARNING = "TAIL_WARNING"  # tail index of at least 0.5: the upper limit allows for the unseen tail
    FEW_FOR_TAIL = "FEW_FOR_TAIL"  # tail index of at least 0.7, but not for certain: no upper limit
    RARE_LARGE_VALUES = "RARE_LARGE_VALUES"  # tail index of at least 0.7 on a finite support: no upper limit yet
    HEAVY_TAIL = "HEAVY_TAIL"  # tail index of at least 0.7 with 95 % confidence: a lower limit alone
    INFINITE_VARIANCE_SUSPECTED = "INFINITE_VARIANCE_SUSPECTED"  # of at least 1, so certain: no test of the bias holds
    DEGENERATE = "DEGENERATE"  # nothing varied; `unseen` bounds the probability of another value


class BiasVerdict(Word):
    """What the data say about the bias; the tolerance is relative to the norm of the exact gradient."""

    UNBIASED_WITHIN_TOL = "UNBIASED_WITHIN_TOL"  # the upper bound of the bias is within the tolerance
    BIASED_WITHIN_TOL = "BIASED_WITHIN_TOL"  # a bias was found, and its upper bound is within the tolerance
    BIASED = "BIASED"  # a bias was found, and its upper bound is above the tolerance
    INCONCLUSIVE = "INCONCLUSIVE"  # no bias was found, but the upper bound is above the tolerance
    UNRELIABLE = "UNRELIABLE"  # the variance may be infinite, so no test holds
    DEGENERATE = "DEGENERATE"  # nothing varied, though the estimator is not known to be deterministic
    EXACT = "EXACT"  # a deterministic estimator agrees with the exact gradient up to rounding
    EXACT_WITHIN_TOL = "EXACT_WITHIN_TOL"  # it is off by more than the gradient's rounding, but within the tolerance
    DETERMINISTIC_BIASED = "DETERMINISTIC_BIASED"  # it is off by more than the tolerance
    NO_REFERENCE = "NO_REFERENCE"  # there is neither an exact gradient nor a reference


class Flag(Word):
    """A further warning about a run, one measurement of an estimator on an objective."""

    AT_FLOAT_RESOLUTION = "AT_FLOAT_RESOLUTION"  # the variance is so small that rounding may be all of it
    REFERENCE_NOISE = "REFERENCE_NOISE"  # the noise of a Monte Carlo reference is part of the bias bound
    DISCRETE_TAIL = "DISCRETE_TAIL"  # too few values for a tail index; a rare one may be unseen
    STUCK_COORDINATE = "STUCK_COORDINATE"  # a coordinate never varied and is off by more than rounding


HEAVY = (Status.HEAVY_TAIL, Status.INFINITE_VARIANCE_SUSPECTED)
"""Statuses of a variance for which only a lower limit is known, and no estimate."""
OPEN = (Status.FEW_FOR_TAIL, Status.RARE_LARGE_VALUES, *HEAVY)
"""Statuses of a variance without an upper limit."""


@dataclass(frozen=True)
class Summary:
    """Everything known about one estimator on one objective, as flat plain data. None: a value is unknown or undefined.

    Variance: `variance` is V, the trace of the covariance Σ of one gradient, with limits `variance_low` and
    `variance_high`. `variance` is None if `status` is in `HEAVY`. `variance_high` is None if there is no finite upper
    limit, and always if `status` is in `OPEN`.
    `cv2` (variance/mean²), `skewness`, `kurtosis`, `nu` (degrees of freedom) and the tail index `khat` (None: discrete
    tail) describe w, the squared norms whose mean is V. `se_log` is the standard error of ln V and `rho` is tr Σ²/V².
    If V = 0, `unseen` bounds the probability that another gradient differs.

    Bias: `bias_norm` is the distance of the mean gradient from the exact one, noise included. `bias_squared` is an
    unbiased estimate of the bias's squared norm, so it may be negative. `bias_bound` is an upper bound of the bias's
    norm at the level `confidence`, and `bias_low` a lower bound, which is 0 unless the test finds a bias.

    `gain` is the fraction of the exact gradient that the mean gradient recovers. `cosine` is the mean cosine of a
    gradient and the exact one, and `alignment` the cosine of the mean gradient and the exact one, corrected for noise.
    `cosine` and `zero_rows`, the number of gradients that are 0, cover the first `followed` replicates. `cut` is the
    99 % quantile of w; `truncated_mean` and `truncated_cv2` are the mean and cv² of min(w, `truncated_at`). `groups`
    has the size, variance, status and distance from the exact gradient of each parameter tensor.
    """

    replicates: int
    size: int
    blocks: int
    confidence: float
    tolerance: float
    dtype: str
    variance: float | None
    variance_low: float
    variance_high: float | None
    se_log: float
    cv2: float
    skewness: float
    kurtosis: float
    nu: float
    rho: float
    trace_square: float
    khat: float | None
    status: Status
    mean_norm: float
    unseen: float | None = None
    flags: list[Flag] = field(default_factory=list)
    exact_norm: float | None = None
    bias_norm: float | None = None
    bias_squared: float | None = None
    bias_bound: float | None = None
    bias_low: float | None = None
    relative_bias_bound: float | None = None
    bias_per_sd_bound: float | None = None
    p_bias: float | None = None
    p_max: float | None = None
    p_sum: float | None = None
    p_projection: float | None = None
    verdict: BiasVerdict = BiasVerdict.NO_REFERENCE
    replicates_needed: float | None = None
    stuck_coordinates: list[int] = field(default_factory=list)
    stuck_count: int = 0
    mse: float | None = None
    mse_low: float | None = None
    mse_high: float | None = None
    snr: float | None = None
    snr_low: float | None = None
    snr_high: float | None = None
    cosine: float | None = None
    cosine_low: float | None = None
    cosine_high: float | None = None
    zero_rows: int | None = None
    followed: int | None = None
    alignment: float | None = None
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    cut: float | None = None
    truncated_at: float | None = None
    truncated_mean: float | None = None
    truncated_cv2: float | None = None
    float_floor: float = 0.0
    groups: dict[str, dict[str, float | int | str | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Read plain words as their members, and drop every variance and upper limit that a status does not allow."""
        own = {name: getattr(self, name) for name in ("status", "variance", "variance_high")}
        values = _allowed(own) | {
            "verdict": BiasVerdict(self.verdict),
            "flags": [Flag(word) for word in self.flags],
            "groups": {name: _allowed(group) for name, group in self.groups.items()},
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def to_json(self) -> dict[str, object]:
        """Return the fields as plain data. Infinite values and NaN become None, so neither can reach a file."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Summary:
        """Return the summary from the data of `to_json`, ignoring names that are not fields."""
        known = {f.name for f in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in known})  # type: ignore[arg-type]


def finite(x: float) -> float | None:
    """Return x, or None if x is infinite or NaN."""
    return x if isfinite(x) else None


def _allowed(variance: Mapping[str, Any]) -> dict[str, Any]:
    """Return a variance's fields, with its status as a member and with only the numbers that this status allows."""
    status = Status(variance["status"])
    forbidden = ("variance", "variance_high") if status in HEAVY else ("variance_high",) if status in OPEN else ()
    return {**variance, "status": status} | dict.fromkeys(forbidden)


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, Word):
        return value.value
    return finite(value) if isinstance(value, float) else value
