"""The summary of a run as plain data, and the words for its status, verdict and flags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from math import isfinite
from typing import Any, NamedTuple


class Word(StrEnum):
    """A word in a record, such as a status. It equals its text, and is printed and stored as this text."""

    def __repr__(self) -> str:
        return repr(self.value)


class Status(Word):
    """A word for how far a variance and its interval can be trusted, such as OK or TAIL_WARNING."""

    OK = "OK"  # nothing speaks against the interval
    SMALL_R = "SMALL_R"  # fewer than 1000 replicates: the interval may be too narrow
    TAIL_WARNING = "TAIL_WARNING"  # tail index of at least 0.5: the upper limit allows for the unseen tail
    FEW_FOR_TAIL = "FEW_FOR_TAIL"  # tail index of at least 0.7, but not for certain: no upper limit
    RARE_LARGE_VALUES = "RARE_LARGE_VALUES"  # tail index of at least 0.7 on a finite support: no upper limit yet
    HEAVY_TAIL = "HEAVY_TAIL"  # tail index of at least 0.7 with 95 % confidence: a lower limit alone
    INFINITE_VARIANCE_SUSPECTED = "INFINITE_VARIANCE_SUSPECTED"  # of at least 1, so certain: no test of the bias holds
    DEGENERATE = "DEGENERATE"  # nothing varied; `unseen` bounds the probability of another value


class BiasVerdict(Word):
    """A word for what the data say about the bias of an estimator, such as BIASED or UNBIASED_WITHIN_TOL.

    The tolerance (TOL) is a fraction of the norm of the exact gradient.
    """

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


class Direction(Word):
    """A word for how a mean gradient's length and direction compare with the exact gradient's, such as TURNED.

    TURNED says that the direction is wrong.
    """

    UNBIASED = "unbiased"  # scale and direction are right within the tolerance
    SCALED = "scaled"  # the direction is right within the tolerance, the length is not that of the exact gradient
    TURNED = "turned"  # the direction is wrong
    UNDECIDED = "undecided"  # none of the others is shown
    POINTS_AWAY = "points away"  # the mean gradient has a negative component along the exact one


class Flag(Word):
    """A word that warns about a run (one measurement of an estimator on an objective), such as DISCRETE_TAIL.

    A run has any number of flags.
    """

    AT_FLOAT_RESOLUTION = "AT_FLOAT_RESOLUTION"  # the variance is so small that rounding may be all of it
    REFERENCE_NOISE = "REFERENCE_NOISE"  # the noise of a Monte Carlo reference is part of the bias bound
    DISCRETE_TAIL = "DISCRETE_TAIL"  # too few values for a tail index; a rare one may be unseen
    STUCK_COORDINATE = "STUCK_COORDINATE"  # a coordinate never varied and is off by more than rounding


FOUND = (BiasVerdict.BIASED, BiasVerdict.BIASED_WITHIN_TOL, BiasVerdict.DETERMINISTIC_BIASED)
"""Verdicts that say that a bias was found."""
HEAVY = (Status.HEAVY_TAIL, Status.INFINITE_VARIANCE_SUSPECTED)
"""Statuses of a variance for which only a lower limit is known, and no estimate."""
OPEN = (Status.FEW_FOR_TAIL, Status.RARE_LARGE_VALUES, *HEAVY)
"""Statuses of a variance without an upper limit."""


@dataclass(frozen=True)
class Summary:
    """Everything known about one estimator on one objective, as plain data.

    A value that is unknown or undefined is None. Let Σ be the covariance of one gradient, and w the squared distance of
    one gradient from the mean gradient. The total variance V is the trace of Σ, which is the mean of w. A field that
    ends in ``_low`` or ``_high`` is a confidence limit at the level ``confidence``.

    Args:
        replicates: number of gradients.
        size: number of coordinates of a gradient.
        blocks: number of blocks; the gradients of a block were summed together.
        confidence: level of the intervals and bounds.
        tolerance: the relative bias that counts as unbiased.
        dtype: dtype of the gradients.
        variance: V; None if ``status`` says that the tail of w is heavy (HEAVY_TAIL, INFINITE_VARIANCE_SUSPECTED). The
            upper limit is None if there is none, as for a heavy tail.
        se_log: standard error of ln V.
        cv2: variance/mean² of w.
        skewness: skewness of w.
        kurtosis: kurtosis of w.
        nu: degrees of freedom of V.
        rho: tr Σ²/V².
        trace_square: tr Σ².
        khat: tail index of w; None if the tail is discrete (has too few distinct values).
        status: how far V can be trusted.
        mean_norm: norm of the mean gradient.
        unseen: if V = 0, an upper bound of the probability that one more gradient would differ from those of the run.
        flags: further warnings.
        exact_norm: norm of the exact gradient.
        bias_norm: distance of the mean gradient from the exact one, noise included.
        bias_squared: unbiased estimate of the squared norm of the bias; it may be negative.
        bias_bound: upper bound of the norm of the bias. The lower bound, ``bias_low``, is 0 unless the test finds a
            bias.
        relative_bias_bound: ``bias_bound`` divided by ``exact_norm``.
        bias_per_sd_bound: ``bias_bound`` divided by the standard deviation √V.
        p_bias: p-value of "no bias", combined from ``p_max``, ``p_sum`` and ``p_projection``.
        p_max: p-value from the most significant coordinate.
        p_sum: p-value from an estimate of the squared norm of the bias, to which all coordinates add.
        p_projection: p-value from the component along the exact gradient.
        verdict: what the data say about the bias.
        replicates_needed: about how many replicates would settle the verdict; None unless it is INCONCLUSIVE.
        stuck_coordinates: indices of coordinates that never varied but differ from the exact gradient, at most 32 of
            them.
        stuck_count: number of all coordinates that never varied but differ from the exact gradient.
        mse: mean squared error of a gradient.
        snr: norm of the mean gradient, corrected for noise, divided by √V.
        cosine: mean cosine of a gradient and the exact one, over the first ``followed`` replicates.
        zero_rows: number of gradients that are 0 among the first ``followed`` replicates.
        followed: number of replicates at the start of the run for which the cosine and all other series were computed.
        alignment: cosine of the mean gradient and the exact one, corrected for noise.
        scale: component of the mean gradient along the exact one, as a fraction of the exact gradient's norm; 1 without
            a bias.
        angle: angle between the mean gradient and the exact one, corrected for noise. The lower limit is 0 unless the
            test finds a wrong direction.
        p_direction: p-value of "the direction is right".
        direction: what the data say about scale and direction.
        cut: 99 % quantile of w.
        truncated_at: c0, which takes the place of every larger w in the two fields below.
        truncated_mean: mean of min(w, c0).
        truncated_cv2: variance/mean² of min(w, c0).
        float_floor: a variance below this may be rounding alone.
        groups: for each parameter tensor, by its name: number of coordinates, variance, status and distance from the
            exact gradient.
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
    scale: float | None = None
    scale_low: float | None = None
    scale_high: float | None = None
    angle: float | None = None
    angle_low: float | None = None
    angle_high: float | None = None
    p_direction: float | None = None
    direction: Direction | None = None
    cut: float | None = None
    truncated_at: float | None = None
    truncated_mean: float | None = None
    truncated_cv2: float | None = None
    float_floor: float = 0.0
    groups: dict[str, dict[str, float | int | str | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Convert plain words to enum members; set the variances and upper limits that a status forbids to None."""
        own = {name: getattr(self, name) for name in ("status", "variance", "variance_high")}
        values = _allowed(own) | {
            "verdict": BiasVerdict(self.verdict),
            "direction": None if self.direction is None else Direction(self.direction),
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
        found = renamed(data)
        # A call with the field's own names is faster than one with equal texts from a file.
        return cls(**{name: found[name] for name in cls.__dataclass_fields__ if name in found})


class VarianceSummary(NamedTuple):
    """The fields of a `Summary` that comparisons of variances need. Reading these takes a tenth of the time of all.

    `Summary` explains the fields.
    """

    variance: float | None
    variance_low: float
    variance_high: float | None
    se_log: float
    nu: float
    status: Status
    unseen: float | None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> VarianceSummary:
        """Return the ``VarianceSummary`` of a run from the data of `Summary.to_json`; all other fields are ignored."""
        return cls(**_allowed({name: data.get(name) for name in cls._fields}))


RENAMED = {f"gain{end}": f"scale{end}" for end in ("", "_low", "_high")}
"""Names of fields in early records and baselines, with their present names."""


def renamed(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the data of a summary, or of an entry of a baseline, with the present names of all fields.

    ``data`` may come from an early version of this package, in which some fields had other names.
    """
    if data.keys().isdisjoint(RENAMED):
        return data
    return {RENAMED.get(name, name): value for name, value in data.items()}


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
