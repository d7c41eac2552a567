"""The sufficient statistics of a run to everything that is said about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from math import inf, isfinite, sqrt

import numpy as np

from bench.stats import bias, series, variance
from bench.stats.bias import BiasTests, Reference
from bench.stats.layout import ZERO_NORM, above_quantile
from bench.stats.quantiles import t_quantile
from bench.stats.series import Array, Moments
from bench.stats.summary import Summary
from bench.stats.sums import Sums
from bench.stats.tail import Tail, few_values, fit_tail
from bench.stats.variance import Interval, Shape

ROUNDING = {"float32": 1e-6, "float64": 1e-12}  # values closer than this part of the largest are one
STUCK_LISTED = 32  # stuck coordinates named; their count is always complete


def summarise(
    sums: Sums,
    *,
    exact: Array | None,
    dtype: str,
    exact_error: float = 0.0,
    deterministic: bool = False,
    reference: Reference | None = None,
    confidence: float = 0.95,
    tolerance: float = 0.01,
    significance: float = 0.001,
) -> Summary:
    """Every interval, test and verdict of a run.

    Arguments: `exact` `[size]`, the exact gradient g* with absolute error `exact_error` in norm, or None; `dtype`,
    in which the gradients were sampled; `deterministic`, whether the estimator is declared, or was shown, to have no
    noise; `reference`, an independent Monte Carlo gradient in the place of an exact one, whose noise then enters the
    bias bound and the tests; `tolerance`, the relative bias that still counts as unbiased; `significance`, the level of
    the test that calls a cell BIASED: small, since a report holds many cells.

    Raises ValueError if both `exact` and `reference` are given, or a shape does not fit.
    """
    _check(sums, exact, reference, dtype, confidence)
    target = reference.mean if reference is not None else exact
    flags: list[str] = []
    V, R = sums.variance, sums.replicates
    floor = _resolution(sums.mean, dtype)
    if 0 < V < floor:
        flags.append("AT_FLOAT_RESOLUTION")
    if reference is not None:
        flags.append("REFERENCE_NOISE")
    constant = V == 0 or (deterministic and floor > V)
    tail = _tail(sums.w, sums.w_top)
    if floor > V or (sums.error_top is not None and few_values(sums.error_top, sums.followed, ROUNDING[dtype])):
        tail = replace(tail, khat=None, upper=None)  # atoms, or rounding alone: there is no tail to fit
    if tail.discrete and V > 0:
        flags.append("DISCRETE_TAIL")
    trace_square = _trace_square(sums.traces, V, sums.size, R)
    total = _Total(sums, V, variance.shape(sums.w), tail, trace_square, confidence)
    interval = total.interval(confidence)
    truncated = _truncated(sums)
    summary: dict[str, object] = {
        "replicates": R,
        "size": sums.size,
        "blocks": int(sums.block_rows.size),
        "confidence": confidence,
        "tolerance": tolerance,
        "dtype": dtype,
        "variance": V,
        "variance_low": interval.low,
        "variance_high": _bounded(interval.high),
        "se_log": interval.se_log,
        "cv2": total.shape.cv2,
        "skewness": total.shape.skewness,
        "kurtosis": total.shape.kurtosis,
        "nu": total.shape.nu,
        "rho": total.rho,
        "trace_square": trace_square,
        "khat": tail.khat,
        "status": total.status,
        "unseen": 1 - (1 - confidence) ** (1 / R) if V == 0 else None,
        "mean_norm": float(np.linalg.norm(sums.mean)),
        "followed": sums.followed,
        "cut": sums.cut,
        "float_floor": floor,
        "groups": _groups(total, target),
        "flags": flags,
        **truncated,
    }
    if target is not None:
        verdict = _bias(total, target, dtype, exact_error, deterministic, constant, reference, tolerance, significance)
        summary |= verdict | _against(total, target, reference, constant and deterministic)
        if verdict["stuck_count"]:
            flags.append("STUCK_COORDINATE")
    known = target if reference is None and summary.get("verdict") == "UNBIASED_WITHIN_TOL" else None
    summary |= _snr(total, known)
    return Summary(**summary)  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Total:
    """The total variance of a run with what its intervals need."""

    sums: Sums
    V: float
    shape: Shape
    tail: Tail
    trace_square: float
    confidence: float

    @property
    def R(self) -> int:  # noqa: N802
        return self.sums.replicates

    @property
    def rho(self) -> float:
        return self.trace_square / self.V**2 if self.V > 0 else 1.0

    @property
    def status(self) -> str:
        return variance.status(self.V, self.tail.khat, self.R)

    @property
    def infinite(self) -> bool:
        return self.status == "INFINITE_VARIANCE_SUSPECTED"

    def interval(self, confidence: float) -> Interval:
        """Limits of the variance; no upper one where k̂ ≥ 1 or where nothing varied."""
        return _variance_interval(self.V, self.shape, self.rho, self.tail, confidence)

    def scalar(self) -> Shape | None:
        """Return the shape of the gradient itself where D = 1."""
        if self.sums.size != 1:
            return None
        first, g = self.sums.shape, self.sums.coordinate
        kurtosis = float(series.kurtosis(first)[0])
        return Shape(
            n=self.R,
            mean=float(self.sums.mean[0]),
            variance=self.V,
            cv2=0.0,
            skewness=float(series.skewness(first)[0]),
            kurtosis=kurtosis,
            nu=variance.degrees_of_freedom(g.n, kurtosis),
        )


def _variance_interval(V: float, shape: Shape, rho: float, tail: Tail, confidence: float) -> Interval:
    if V == 0:
        return Interval(0.0, 0.0, inf, 0.0)
    interval = variance.positive_mean_interval(
        V, shape, rho=rho, confidence=confidence, tail_upper=_tail_upper(tail, shape.n)
    )
    if tail.khat is not None and tail.khat >= 1:
        return Interval(V, interval.low, inf, interval.se_log)
    return interval


def _tail_upper(tail: Tail, replicates: int) -> float | None:
    """Return the tail's bound where it is used: with at least 1000 replicates, or a tail index of 1/2."""
    if tail.khat is None or not (replicates >= variance.SMALL_REPLICATES or tail.khat >= 0.5):
        return None
    return tail.upper


def _tail(values: Moments, top: Array) -> Tail:
    return fit_tail(top, float(values.mean) * values.n, values.n)


def _whole(sums: Sums, part: Moments, means: Array | None) -> Moments:
    """Return a series over all rows, from its followed ones and, where there are others, the means of all blocks."""
    return part if means is None else series.stretch(part, means, sums.block_rows)


def _scaled(tail: Tail, part: Moments, whole: Moments) -> Tail:
    """Return the tail of followed rows with its bound, which is one of their mean, held against that of all rows."""
    bound = tail.upper
    return tail if part is whole or bound is None else replace(tail, upper=bound * float(whole.mean / part.mean))


def _trace_square(traces: Array, V: float, size: int, replicates: int) -> float:
    """Mean of the estimates of tr Σ², clipped to what is possible, [V²/min(D, R − 1), V²]; V² without estimates."""
    if traces.size == 0:
        return V**2
    return variance.clip(float(traces.mean()), V**2 / min(size, replicates - 1), V**2)


def _resolution(mean: Array, dtype: str) -> float:
    """Return the variance below which rounding may be all there is: a standard deviation of ten roundings of the mean.

    100 q², with q² = Σ_j ulp(|ḡ_j|)²/12 the variance that storing the samples alone gives, or, where f loses digits
    before, 100 ε² ‖ḡ‖².
    """
    ulp = np.spacing(np.abs(mean).astype(dtype)).astype(np.float64)
    return 100 * max(float((ulp**2).sum() / 12), float(np.finfo(dtype).eps ** 2 * (mean**2).sum()))


def _truncated(sums: Sums) -> dict[str, float | None]:
    """Mean and cv² of min(w, c0): measured where the run had a c0, else at the 99 % quantile from the largest values.

    Taking the values above c0 out of the moments cancels digits where they carry nearly all of the sum of squares;
    there the truncated moments have to be measured with a c0.
    """
    if sums.truncated is not None:
        shape = variance.shape(sums.truncated)
        return {"truncated_at": sums.truncate_at, "truncated_mean": shape.mean, "truncated_cv2": shape.cv2}
    n, c0 = sums.w.n, sums.cut
    above = sums.w_top[: above_quantile(n)]
    if c0 is None or c0 <= 0 or above.size >= sums.w_top.size:
        return {}
    whole_mean = float(sums.w.mean)
    mean = whole_mean - float((above - c0).sum()) / n
    square = float(sums.w.M2) / n + whole_mean**2 - float((above**2 - c0**2).sum()) / n
    if mean <= 0 or square < 1e-4 * (float(sums.w.M2) / n + whole_mean**2):
        return {}
    spread = max(square - mean**2, 0.0) * n / (n - 1)
    return {"truncated_at": c0, "truncated_mean": mean, "truncated_cv2": spread / mean**2}


def _groups(total: _Total, target: Array | None) -> dict[str, dict[str, float | int | str | None]]:
    """Variance and distance from the target per tensor of theta, with ρ = 1, its largest value."""
    sums = total.sums
    table: dict[str, dict[str, float | int | str | None]] = {}
    ends = np.cumsum(list(sums.groups.values()))
    for (name, size), end in zip(sums.groups.items(), ends, strict=True):
        part = slice(end - size, end)
        V = float(sums.coordinate.M2[part].sum()) / (sums.replicates - 1)
        if name in sums.group_w:
            part_w = sums.group_w[name]
            w = _whole(sums, part_w, sums.block_group_w.get(name))
            tail = _scaled(_tail(part_w, sums.group_top[name]), part_w, w)
            interval = _variance_interval(V, variance.shape(w), 1.0, tail, total.confidence)
        else:  # the only group is the whole
            tail, interval = total.tail, total.interval(total.confidence)
        table[name] = {
            "size": size,
            "variance": V,
            "variance_low": interval.low,
            "variance_high": _bounded(interval.high),
            "khat": tail.khat,
            "status": variance.status(V, tail.khat, sums.replicates),
            "bias_norm": None if target is None else float(np.linalg.norm(_delta(sums, target)[part])),
        }
    return table


def _delta(sums: Sums, target: Array) -> Array:
    """ḡ − g*, formed from the mean about the centre so that a centre at g* loses no digits."""
    return sums.coordinate.mean + (sums.centre - target)


def _bias(
    total: _Total,
    target: Array,
    dtype: str,
    exact_error: float,
    deterministic: bool,
    constant: bool,
    reference: Reference | None,
    tolerance: float,
    significance: float,
) -> dict[str, object]:
    """Return the bias fields of the summary."""
    sums, V, R = total.sums, total.V, total.R
    delta = _delta(sums, target)
    norm, exact_norm = float(np.linalg.norm(delta)), float(np.linalg.norm(target))
    eps = bias.rounding(V, float(np.linalg.norm(sums.mean)), dtype, exact_error)
    stuck = bias.stuck_coordinates(delta, sums.coordinate, eps)
    T = bias.squared_bias(norm, V, R, reference)
    out: dict[str, object] = {
        "exact_norm": exact_norm,
        "bias_norm": norm,
        "bias_squared": T,
        "stuck_coordinates": stuck[:STUCK_LISTED],
        "stuck_count": len(stuck),
    }
    if constant:
        word = bias.constant_verdict(norm, eps, tolerance * exact_norm) if deterministic else "DEGENERATE"
        bound = norm + eps if deterministic else None
        relative = bound / exact_norm if bound is not None and exact_norm > ZERO_NORM else None
        return out | {"p_bias": 1.0, "verdict": word, "bias_bound": bound, "relative_bias_bound": relative}
    tests = _tests(total, delta, T, reference)
    out |= asdict(tests)
    if total.infinite:
        return out | {"verdict": "UNRELIABLE"}
    alpha = 1 - total.confidence
    lower, upper = _bounds(total, delta, T, reference, alpha)
    lower, upper = max(lower - eps, 0.0) if tests.p_bias < significance else 0.0, upper + eps
    allowed = tolerance * exact_norm
    word = bias.verdict(p_bias=tests.p_bias, alpha=significance, lower=lower, upper=upper, allowed=allowed)
    needed = bias.replicates_needed(upper, allowed, R) if word == "INCONCLUSIVE" else inf
    return out | {
        "bias_bound": upper,
        "bias_low": lower,
        "relative_bias_bound": upper / exact_norm if exact_norm > ZERO_NORM else None,
        "bias_per_sd_bound": upper / sqrt(V),
        "verdict": word,
        "replicates_needed": _bounded(needed),
    }


def _tests(total: _Total, delta: Array, T: float, reference: Reference | None) -> BiasTests:
    sums = total.sums
    p_max = bias.max_test(delta, sums.coordinate, sums.shape, total.V, reference)
    if reference is not None:
        A, _ = bias.noise_terms(total.trace_square, total.R, reference)
        return bias.combine(p_max, bias.two_sample_sum_test(T, A), None, sums.size)
    p_sum = bias.sum_test(sums.martingale_T, sums.martingale_Q, sums.martingale_terms)
    p_projection = None
    if sums.projection is not None:
        projection = _whole(sums, sums.projection, sums.block_projection)
        p_projection = bias.mean_test(float(projection.mean), variance.shape(projection))
    return bias.combine(p_max, p_sum if sums.error is not None else None, p_projection, sums.size)


def _bounds(total: _Total, delta: Array, T: float, reference: Reference | None, alpha: float) -> tuple[float, float]:
    """Lower bound of ‖b‖ at 1 − α/2 and upper bound at 1 − α, before the rounding allowance."""
    scalar = total.scalar()
    if scalar is not None and reference is None:
        low, high = bias.scalar_limits(float(delta[0]), scalar, 1 - alpha)
        low2, high2 = bias.scalar_limits(float(delta[0]), scalar, 1 - alpha / 2)
        return max(low2, -high2, 0.0), max(high, -low)
    norm, df = float(np.linalg.norm(delta)), bias.bias_df(total.shape.cv2, total.R)
    A, C = bias.noise_terms(total.trace_square, total.R, reference)
    lower = bias.bias_lower(T, A, C, t_quantile(1 - alpha / 2, df))
    return lower, bias.bias_upper(norm, T, A, C, t_quantile(1 - alpha, df))


def _against(total: _Total, target: Array, reference: Reference | None, exactly: bool) -> dict[str, float | None]:
    """Mean squared error, cosine, gain and alignment; the noise of a reference is only taken out of the first."""
    sums, confidence = total.sums, total.confidence
    out: dict[str, float | None] = {}
    if sums.error is not None and sums.error_top is not None and not total.infinite:
        out |= _mse(total, sums.error, sums.error_top, reference, exactly)
    for name, values, means, shift in (
        ("gain", sums.projection, sums.block_projection, 1.0),
        ("cosine", sums.cosine, None, 0.0),
    ):
        if values is not None:
            shape = variance.shape(_whole(sums, values, means))
            interval = variance.mean_interval(shift + shape.mean, shape, confidence=confidence)
            out |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
    if sums.cosine is not None:
        out["cosine_low"] = max(out["cosine_low"] or 0.0, -1.0) if out["cosine_low"] is not None else None
        out["cosine_high"] = min(out["cosine_high"] or 0.0, 1.0) if out["cosine_high"] is not None else None
        out["zero_rows"] = sums.zero_rows
    signal = float(sums.mean @ sums.mean) - total.V / total.R
    exact_norm = float(np.linalg.norm(target))
    if signal > 0 and exact_norm > ZERO_NORM:
        out["alignment"] = float(sums.mean @ target) / exact_norm / sqrt(signal)
    return out


def _mse(
    total: _Total, part: Moments, top: Array, reference: Reference | None, exactly: bool
) -> dict[str, float | None]:
    error = _whole(total.sums, part, total.sums.block_error)
    value = float(error.mean)
    noise = 0.0 if reference is None else reference.variance / reference.replicates
    if total.V == 0 or exactly:
        return {"mse": value, "mse_low": value if exactly else 0.0, "mse_high": value if exactly else None}
    tail = _scaled(_tail(part, top), part, error)
    interval = _variance_interval(value, variance.shape(error), 0.0, tail, total.confidence)
    return {
        "mse": max(value - noise, 0.0),
        "mse_low": max(interval.low - noise, 0.0),
        "mse_high": _bounded(interval.high - noise),
    }


def _snr(total: _Total, exact: Array | None) -> dict[str, float | None]:
    """Signal to noise ‖μ‖/√V (Rainforth et al. 2018, ICML).

    With an exact gradient and the bias bounded: ‖g*‖ over the limits of √V. Else `[L_μ/√V_high, U_μ/√V_low]`, both
    pairs of limits at (1 + confidence)/2, with the noise taken out of ‖ḡ‖² in the point estimate: ‖ḡ‖/√V̂ itself
    never falls below 1/√R.
    """
    V, R, sums = total.V, total.R, total.sums
    if V == 0 or total.infinite:
        return {}
    if exact is not None:
        norm, interval = float(np.linalg.norm(exact)), total.interval(total.confidence)
        value, norm_low, norm_high = norm, norm, norm
    else:
        norm2 = float(sums.mean @ sums.mean)
        T = norm2 - V / R
        A, C = bias.noise_terms(total.trace_square, R)
        both = (1 + total.confidence) / 2
        df = bias.bias_df(total.shape.cv2, R)
        norm_low, norm_high = bias.norm_limits(sums.mean, T, A, C, total.scalar(), both, df)
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
    if dtype not in bias.ROUNDING:
        raise ValueError(f"dtype is one of {', '.join(bias.ROUNDING)} (got {dtype!r}).")
    if not 0.5 < confidence < 1:
        raise ValueError(f"confidence lies between 0.5 and 1 (got {confidence}).")


def _bounded(x: float) -> float | None:
    return x if isfinite(x) else None
