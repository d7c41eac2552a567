"""The sufficient statistics of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from bench.stats import series
from bench.stats.series import Array, Moments


@dataclass(frozen=True, eq=False)
class Sums:
    """Sufficient statistics of a run of `replicates` gradients: all data for a summary, a comparison or the gate.

    `groups` has the number of coordinates of each parameter tensor. `coordinate` has the moments of the gradients minus
    `centre`; `shape` has the moments, the third and fourth too, of the first 32 blocks. `w` has the moments of the
    squared distances of gradients from their block's mean, times rows/(rows − 1), and `group_w` those of each parameter
    tensor. `w_top`, `group_top` and `error_top` are the largest values of the series, largest first. `block_rows` and
    `block_w` `[blocks]` are the number of gradients and the sum of w of each block, for comparisons under common noise.
    `traces` are estimates of tr Σ², Σ being the covariance of one gradient. `martingale_T`, `martingale_Q` and
    `martingale_terms` belong to the sum test of the bias. `cut` is the 99 % quantile of w. If there is an exact
    gradient g*, and g is a gradient, `error` has the moments of ‖g − g*‖², `projection` of g*·(g − g*)/‖g*‖² and
    `cosine` of cos(g, g*). `zero_rows` counts the gradients that are 0. `truncated` has the moments of min(w,
    `truncate_at`).

    `error`, `projection`, `cosine`, `zero_rows`, the series of groups, and the skewness and kurtosis of `w` and
    `truncated` cover the first `followed` gradients. If the run is longer, `block_error`, `block_projection` and
    `block_group_w` `[blocks]` have the mean of each block of the whole run.
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
    cosine: Moments | None = None
    zero_rows: int = 0
    truncated: Moments | None = None
    truncate_at: float | None = None
    martingale_T: float = 0.0  # noqa: N815
    martingale_Q: float = 0.0  # noqa: N815
    martingale_terms: int = 0
    cut: float | None = None
    followed: int = 0
    block_error: Array | None = None
    block_projection: Array | None = None
    block_group_w: Mapping[str, Array] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Length of the gradient."""
        return int(self.centre.size)

    @property
    def variance(self) -> float:
        """Total variance: the sum of `M2/(replicates − 1)` over coordinates, the trace of a gradient's covariance."""
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
        missing = sorted(cls.__dataclass_fields__.keys() - data.keys())
        if missing:
            raise ValueError(f"the sums lack {', '.join(missing)}: another version wrote them.")
        return cls(**{name: _decode(name, data[name]) for name in cls.__dataclass_fields__})  # type: ignore[arg-type]


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


_SERIES = frozenset({"coordinate", "shape", "w", "error", "projection", "cosine", "truncated"})
