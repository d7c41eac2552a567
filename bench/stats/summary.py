"""What is known about a run, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from math import isfinite

HEAVY = ("HEAVY_TAIL", "INFINITE_VARIANCE_SUSPECTED")
"""Statuses whose variance has a lower limit that can be trusted, and nothing else."""


@dataclass(frozen=True)
class Summary:
    """What is known about one estimator on one objective, as flat plain data.

    Variance: `variance` is V̂, the trace of the covariance of one gradient, in [`variance_low`, `variance_high`]
    (None: no finite upper bound; not to be shown where `status` is in `HEAVY`); `se_log`, `cv2`, `skewness`,
    `kurtosis`, `nu` belong to the squared norms it is a mean of, `rho` = tr Σ²/V², `khat` is their tail index (None:
    discrete tail). `unseen` bounds, where V̂ = 0, the probability of another value.

    Bias: `bias_norm` = ‖ḡ − g*‖ contains noise; `bias_squared` = T does not, and may be negative; `bias_bound` is
    an upper bound of the bias at `confidence`, `bias_low` a lower one, 0 unless the test rejects. `verdict` is one
    of BIASED, BIASED_WITHIN_TOL, UNBIASED_WITHIN_TOL, INCONCLUSIVE, UNRELIABLE (k̂ ≥ 1), DEGENERATE (V̂ = 0), EXACT
    and DETERMINISTIC_BIASED (declared deterministic), NO_REFERENCE (no exact gradient).

    `gain` is the fraction of the exact gradient that the mean recovers, `cosine` the mean of cos(g_r, g*),
    `alignment` the noise-corrected cosine of the mean. The cosine and `zero_rows`, the gradients that are 0, are of the
    first `followed` replicates. `cut` is the 99 % quantile of the squared norms;
    `truncated_mean` and `truncated_cv2` are those of min(w, `truncated_at`). None always stands for "not known" or
    "does not exist".
    """

    replicates: int
    size: int
    blocks: int
    confidence: float
    tolerance: float
    dtype: str
    variance: float
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
    status: str
    mean_norm: float
    unseen: float | None = None
    flags: list[str] = field(default_factory=list)
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
    verdict: str = "NO_REFERENCE"
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

    def to_json(self) -> dict[str, object]:
        """Plain data; what does not exist or is infinite is None, so that no NaN can reach a file."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Summary:
        """Read `to_json`'s data back; names it does not know are left out."""
        known = {f.name for f in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in known})  # type: ignore[arg-type]


def finite(x: float) -> float | None:
    """Return x, or None where it is infinite or NaN."""
    return x if isfinite(x) else None


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return finite(value) if isinstance(value, float) else value
