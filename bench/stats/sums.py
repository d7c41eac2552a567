"""The sufficient statistics of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from bench.stats import series
from bench.stats.series import Array, Moments


@dataclass(frozen=True, eq=False)
class Sums:
    """Sufficient statistics of a run of `replicates` gradients: all that a summary, a comparison or the gate needs.

    A block is a set of gradients that are summed together. Let g be a gradient, Σ its covariance, g* the exact
    gradient, and h the part of g that is perpendicular to g*. In a block of n gradients, w is n/(n − 1) times the
    squared distance of g from the mean of the block. The mean of w is the total variance. A series has one number per
    gradient, such as w.

    Args:
        groups: number of coordinates of each parameter tensor, by name.
        replicates: number of gradients.
        centre: the vector that was subtracted from all gradients, `[size]`.
        coordinate: moments of the gradients minus ``centre``, up to the second.
        shape: moments of the gradients minus ``centre`` in the first 32 blocks, up to the fourth.
        w: moments of w.
        w_top: the largest w, in descending order.
        group_w: moments of the w of each parameter tensor.
        group_top: the largest w of each parameter tensor, in descending order.
        block_rows: number of gradients in each block, `[blocks]`.
        block_w: sum of w over each block, `[blocks]`, for comparisons under common noise.
        traces: estimates of tr Σ², each from a few gradients.
        error: moments of ‖g − g*‖²; None if there is no exact gradient.
        error_top: the largest ‖g − g*‖², in descending order.
        projection: moments of g*·(g − g*)/‖g*‖².
        across_M2: sum of the squared deviations of h from its mean, per coordinate, `[size]`. None if there is no exact
            gradient, it is 0, or g has one coordinate.
        across_traces: estimates of tr Σ_h², with Σ_h the covariance of h, each from a few gradients.
        cosine: moments of cos(g, g*).
        zero_rows: number of gradients that are 0.
        truncated: moments of min(w, ``truncate_at``).
        truncate_at: a limit of w, see ``truncated``; None if w is not truncated.
        martingale_T: sum of S·y over all blocks but the first, for a test of the bias. y is the sum of g − g* over the
            block, and S the sum of g − g* over all earlier blocks.
        martingale_Q: sum of (S·y)² over the same blocks.
        martingale_terms: number of these blocks; 0 if there is no exact gradient.
        across_T: sum of S·y over the same blocks if y and S are sums of h, the part of g perpendicular to g*.
        across_Q: sum of (S·y)² over the same blocks, with y and S as in ``across_T``.
        cut: the 99 % quantile of w; None if it is unknown.
        followed: number of gradients at the start of the run for which all series were computed. ``error``,
            ``projection``, ``cosine``, ``zero_rows``, ``group_w``, the largest values in ``error_top`` and
            ``group_top``, and the skewness and kurtosis of ``w`` and ``truncated`` cover these gradients only. In a
            longer run, ``across_M2`` is extrapolated: the sum of squared deviations of h over these gradients is
            multiplied by a ratio. The ratio is the sum of squared deviations of g over all gradients, divided by that
            over these gradients.
        block_error: mean of ‖g − g*‖² in each block of the whole run, `[blocks]`, if the run is longer than
            ``followed``.
        block_projection: mean of g*·(g − g*)/‖g*‖² in each block, `[blocks]`, if the run is longer than ``followed``.
        block_group_w: mean of the w of each parameter tensor in each block, `[blocks]`, if the run is longer than
            ``followed``.
    """

    groups: Mapping[str, int]
    replicates: int
    centre: Array
    coordinate: Moments
    shape: Moments
    w: Moments
    w_top: Array
    group_w: Mapping[str, Moments]
    group_top: Mapping[str, Array]
    block_rows: Array
    block_w: Array
    traces: Array
    error: Moments | None = None
    error_top: Array | None = None
    projection: Moments | None = None
    across_M2: Array | None = None  # noqa: N815
    across_traces: Array | None = None
    cosine: Moments | None = None
    zero_rows: int = 0
    truncated: Moments | None = None
    truncate_at: float | None = None
    martingale_T: float = 0.0  # noqa: N815
    martingale_Q: float = 0.0  # noqa: N815
    martingale_terms: int = 0
    across_T: float = 0.0  # noqa: N815
    across_Q: float = 0.0  # noqa: N815
    cut: float | None = None
    followed: int = 0
    block_error: Array | None = None
    block_projection: Array | None = None
    block_group_w: Mapping[str, Array] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Number of coordinates of the gradient."""
        return int(self.centre.size)

    @property
    def variance(self) -> float:
        """The total variance: the variances of all coordinates added up, the trace of a gradient's covariance."""
        return float(self.coordinate.M2.sum()) / (self.replicates - 1)

    @property
    def mean(self) -> Array:
        """Mean gradient `[size]`."""
        return self.centre + self.coordinate.mean

    def to_json(self) -> dict[str, object]:
        """Return the fields as plain data: numbers, lists, dicts or float64 arrays. `from_json` restores every bit."""
        return {name: _encode(getattr(self, name)) for name in self.__dataclass_fields__}

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Sums:
        """Return the sums from the data of `to_json`, in which arrays may have become lists."""
        missing = sorted(cls.__dataclass_fields__.keys() - data.keys() - LATER)
        if missing:
            raise ValueError(f"the sums lack {', '.join(missing)}: another version wrote them.")
        return cls(**{name: _decode(name, data[name]) for name in cls.__dataclass_fields__ if name in data})  # type: ignore[arg-type]


def _encode(value: object) -> object:
    if isinstance(value, Moments):
        return series.to_json(value)
    if isinstance(value, Mapping):
        return {k: _encode(v) for k, v in value.items()}
    return value


def _decode(name: str, value: object) -> object:
    if value is None:
        return None
    if name in _SERIES:
        return series.from_json(_table(name, value))
    if name == "group_w":
        return {group: series.from_json(_table(group, m)) for group, m in _table(name, value).items()}
    if name in ("group_top", "block_group_w"):
        return {group: np.asarray(top, dtype=np.float64) for group, top in _table(name, value).items()}
    return np.asarray(value, dtype=np.float64) if isinstance(value, list) else value


def _table(name: str, value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"the sums' field {name} must be a table of names and values (got {type(value).__name__}).")
    return value


LATER = frozenset({"across_M2", "across_traces", "across_T", "across_Q"})
"""Fields that early records lack."""
_SERIES = frozenset({"coordinate", "shape", "w", "error", "projection", "cosine", "truncated"})
