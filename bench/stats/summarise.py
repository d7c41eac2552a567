"""From the sufficient statistics of a run to its summary."""

from math import sqrt

import numpy as np

from bench.stats import variance
from bench.stats.against import Target, bias_fields, error_fields
from bench.stats.bias import ROUNDING, Reference
from bench.stats.direction import RIGHT, direction_fields
from bench.stats.layout import above_quantile
from bench.stats.series import Array
from bench.stats.summary import BiasVerdict, Flag, Summary, finite
from bench.stats.sums import Sums
from bench.stats.total import Total, status_of, tail_of, variance_interval, whole


def summarise(
    sums: Sums,
    *,
    exact: Array | None,
    dtype: str,
    exact_error: float = 0.0,
    deterministic: bool = False,
    finite_support: bool = False,
    reference: Reference | None = None,
    confidence: float = 0.95,
    tolerance: float = 0.01,
    significance: float = 0.001,
) -> Summary:
    """Return every interval, test and verdict of a run, one measurement of an estimator on an objective.

    Args:
        sums: the sufficient statistics of the run.
        exact: the exact gradient `[size]`; None if it is unknown.
        dtype: the dtype in which the gradients were sampled.
        exact_error: norm of the error of `exact` if that is an approximation, else 0.
        deterministic: whether the estimator was declared or shown to have no noise.
        finite_support: whether the distribution of the samples has finitely many values, so that the variance is
            finite for certain.
        reference: an independent Monte Carlo gradient in place of `exact`; its noise enters the bias bound and tests.
        confidence: level of every interval.
        tolerance: the relative bias that still counts as unbiased.
        significance: level of the test that calls an estimator BIASED; small, because a report holds many such tests.

    Raises:
        ValueError: both `exact` and `reference` are given, or a shape, `dtype` or `confidence` does not fit.
    """
    _check(sums, exact, reference, dtype, confidence)
    gradient = exact if reference is None else reference.mean
    target = None if gradient is None else Target(gradient, exact_error, reference)
    total = Total.of(sums, dtype, deterministic=deterministic, finite_support=finite_support)
    V, R, floor = total.V, total.R, total.resolution
    about: dict[str, object] = {}
    if target is not None:
        about |= bias_fields(total, target, confidence=confidence, tolerance=tolerance, significance=significance)
        about |= error_fields(total, target, confidence=confidence)
        about |= direction_fields(
            total,
            target,
            right=about.get("verdict") in RIGHT,
            confidence=confidence,
            tolerance=tolerance,
            significance=significance,
        )
    flags = {
        Flag.AT_FLOAT_RESOLUTION: 0 < V < floor,
        Flag.REFERENCE_NOISE: reference is not None,
        Flag.DISCRETE_TAIL: total.tail.discrete and V > 0,
        Flag.STUCK_COORDINATE: bool(about.get("stuck_count")),
    }
    known = exact if about.get("verdict") is BiasVerdict.UNBIASED_WITHIN_TOL else None
    interval = total.interval(confidence)
    summary: dict[str, object] = {
        "replicates": R,
        "size": sums.size,
        "blocks": int(sums.block_rows.size),
        "confidence": confidence,
        "tolerance": tolerance,
        "dtype": dtype,
        "variance": V,
        "variance_low": interval.low,
        "variance_high": finite(interval.high),
        "se_log": interval.se_log,
        **{name: getattr(total.shape, name) for name in ("cv2", "skewness", "kurtosis", "nu")},
        "rho": total.rho,
        "trace_square": total.trace_square,
        "khat": total.tail.khat,
        "status": total.status,
        "unseen": 1 - (1 - confidence) ** (1 / R) if V == 0 else None,
        "mean_norm": float(np.linalg.norm(sums.mean)),
        "followed": sums.followed,
        "cut": sums.cut,
        "float_floor": floor,
        "groups": _groups(total, target, confidence, finite_support=finite_support),
        "flags": [flag for flag, raised in flags.items() if raised],
    }
    summary |= about | _truncated(sums) | _signal_to_noise(total, known, confidence)
    return Summary(**summary)  # type: ignore[arg-type]


def _groups(
    total: Total, target: Target | None, confidence: float, *, finite_support: bool
) -> dict[str, dict[str, float | int | str | None]]:
    """Return variance and distance from the target per tensor of theta, with ρ = 1, its largest value."""
    sums = total.sums
    table: dict[str, dict[str, float | int | str | None]] = {}
    for (name, size), end in zip(sums.groups.items(), np.cumsum(list(sums.groups.values())), strict=True):
        part = slice(end - size, end)
        V = float(sums.coordinate.M2[part].sum()) / (sums.replicates - 1)
        if name in sums.group_w:
            part_w = sums.group_w[name]
            w = whole(sums, part_w, sums.block_group_w.get(name))
            tail = tail_of(part_w, sums.group_top[name], w)
            interval = variance_interval(V, variance.shape(w), 1.0, tail, confidence)
            status = status_of(V, tail, sums.replicates, sums.group_top[name], part_w.n, finite_support=finite_support)
        else:  # the only group is all of theta
            tail, interval, status = total.tail, total.interval(confidence), total.status
        table[name] = {
            "size": size,
            "variance": V,
            "variance_low": interval.low,
            "variance_high": finite(interval.high),
            "khat": tail.khat,
            "status": status,
            "bias_norm": None if target is None else float(np.linalg.norm(target.distance(sums)[part])),
        }
    return table


def _truncated(sums: Sums) -> dict[str, float | None]:
    """Return mean and cv² of min(w, c0): measured where the run had a c0, else at the 99 % quantile of w.

    At the quantile they follow from the moments of w and its largest values. If the values above c0 carry nearly all of
    the sum of squares, taking them out cancels digits: then only a run with a c0 measures the truncated moments.
    """
    if sums.truncated is not None:
        shape = variance.shape(sums.truncated)
        return {"truncated_at": sums.truncate_at, "truncated_mean": shape.mean, "truncated_cv2": shape.cv2}
    n, c0 = sums.w.n, sums.cut
    above = sums.w_top[: above_quantile(n)]
    if c0 is None or c0 <= 0 or above.size >= sums.w_top.size:
        return {}
    whole_mean = float(sums.w.mean)
    whole_square = float(sums.w.M2) / n + whole_mean**2
    mean = whole_mean - float((above - c0).sum()) / n
    square = whole_square - float((above**2 - c0**2).sum()) / n
    if mean <= 0 or square < 1e-4 * whole_square:
        return {}
    spread = max(square - mean**2, 0.0) * n / (n - 1)
    return {"truncated_at": c0, "truncated_mean": mean, "truncated_cv2": spread / mean**2}


def _signal_to_noise(total: Total, exact: Array | None, confidence: float) -> dict[str, float | None]:
    """Return the signal to noise ratio ‖μ‖/√V with its limits (Rainforth et al. 2018, ICML).

    With an exact gradient and the bias bounded, the limits are ‖g*‖ over those of √V. Otherwise they are
    `[L_μ/√V_high, U_μ/√V_low]`, with both pairs of limits at (1 + confidence)/2. The point estimate then has the noise
    taken out of ‖ḡ‖²: ‖ḡ‖/√V̂ itself never falls below 1/√R.
    """
    V, R, sums = total.V, total.R, total.sums
    if V == 0 or total.infinite:
        return {}
    if exact is not None:
        value = norm_low = norm_high = float(np.linalg.norm(exact))
        interval = total.interval(confidence)
    else:
        T, both = float(sums.mean @ sums.mean) - V / R, (1 + confidence) / 2
        norm_low, norm_high = total.norm_limits(sums.mean, T, None, (1 + both) / 2, (1 + both) / 2)
        value, interval = sqrt(max(T, 0.0)), total.interval(both)
    return {
        "snr": value / sqrt(V),
        "snr_low": norm_low / sqrt(interval.high),
        "snr_high": norm_high / sqrt(interval.low) if interval.low > 0 else None,
    }


def _check(sums: Sums, exact: Array | None, reference: Reference | None, dtype: str, confidence: float) -> None:
    if exact is not None and reference is not None:
        raise ValueError("summarise takes an exact gradient or a Monte Carlo reference (got both): give one.")
    for name, vector in (("exact", exact), ("reference.mean", None if reference is None else reference.mean)):
        if vector is not None and vector.shape != (sums.size,):
            raise ValueError(f"{name} has shape {vector.shape}, the gradients have {sums.size} coordinates.")
    if dtype not in ROUNDING:
        raise ValueError(f"dtype is one of {', '.join(ROUNDING)} (got {dtype!r}).")
    if not 0.5 < confidence < 1:
        raise ValueError(f"confidence lies between 0.5 and 1 (got {confidence}).")
