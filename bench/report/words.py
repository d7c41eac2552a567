"""The text of every table: numbers with the digits that their intervals support, statuses and verdicts in words."""

import math
from typing import Any

from bench.report.frame import CONSTANT
from bench.stats.printing import NONE, decimals_for, format_bound, format_estimate, format_number
from bench.stats.summary import BiasVerdict, Direction, Flag, Status
from bench.stats.variance import settling_replicates

VERDICTS = {
    BiasVerdict.UNBIASED_WITHIN_TOL: "unbiased",
    BiasVerdict.BIASED_WITHIN_TOL: "slight bias",
    BiasVerdict.BIASED: "biased",
    BiasVerdict.DETERMINISTIC_BIASED: "biased",
    BiasVerdict.INCONCLUSIVE: "",
    BiasVerdict.UNRELIABLE: "unreliable",
    BiasVerdict.EXACT: "exact",
    BiasVerdict.EXACT_WITHIN_TOL: "exact to",
    BiasVerdict.DEGENERATE: "constant",
    BiasVerdict.NO_REFERENCE: "no reference",
}

BOUNDED = (BiasVerdict.UNBIASED_WITHIN_TOL, BiasVerdict.BIASED_WITHIN_TOL, BiasVerdict.INCONCLUSIVE)
"""Verdicts that are printed with the upper bound of the bias."""

STATUSES = {
    Status.OK: "",
    Status.SMALL_R: "few replicates",
    Status.TAIL_WARNING: "tail warning",
    Status.FEW_FOR_TAIL: "few replicates for this tail",
    Status.RARE_LARGE_VALUES: "rare large values",
    Status.HEAVY_TAIL: "heavy tail",
    Status.INFINITE_VARIANCE_SUSPECTED: "infinite variance?",
    Status.DEGENERATE: "constant so far",
}

SHARP = 1e-5
"""Relative width of an interval so narrow that it is not shown."""
TIME_UNITS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9))


def estimate(value: float, low: float, high: float) -> str:
    """Return a value with the limits of its interval as text: ``0.412 ± 0.012``.

    If the interval is lopsided, the text is like ``0.412 [0.40, 0.45]``. If the value is NaN, so that only the lower
    limit is known, it is like ``≥ 0.38``.
    """
    if math.isnan(value):
        return NONE if math.isnan(low) else f"≥ {format_number(low, 2)}"
    if 0 < high - low < SHARP * value:
        return format_number(value, 4)
    return "0" if value == 0 else format_estimate(value, low, high)


def terse(value: float, low: float, high: float) -> str:
    """Return a value with its relative half-width as text: ``0.412 ±3 %``.

    If the interval is lopsided, the text is like ``7e7 -20/+60 %``. ``low`` and ``high`` are the limits of the
    interval, in the units of the value.
    """
    if not (value > 0 and high > low):
        return estimate(value, low, high)
    half = (high - low) / 2
    digits = min(4, max(2, decimals_for(half) + math.floor(math.log10(value)) + 1))
    down, up, both = (format_number(100 * part / value, 1) for part in (value - low, high - value, half))
    lopsided = abs((high - value) - (value - low)) > 0.2 * (high - low)
    return f"{format_number(value, digits)} {f'-{down}/+{up}' if lopsided else f'±{both}'} %"


def efficiency(row: Any) -> str:
    """Return the efficiency of a measured run as text, such as ``0.45``; ``exact`` if the run has only rounding errors.

    The efficiency is 1 for the best unbiased estimator of the objective. The text has two significant digits, or one if
    the efficiency is below 0.01. ``row`` is the run's row of the frame that ``bench.report.cost.priced`` returns.
    """
    return "exact" if row.exact else format_number(row.efficiency, 2 if row.efficiency >= 0.01 else 1)


def cosine(value: float) -> str:
    """Return a cosine as text with two decimals."""
    return NONE if math.isnan(value) else f"{value:.2f}".replace("-0.00", "0.00")


def span(low: float, high: float) -> str:
    """Return the range from ``low`` to ``high`` as text: ``3.1–3.4``, or one number if both agree to two digits."""
    first, last = format_number(low, 2), format_number(high, 2)
    return first if first == last else f"{first}–{last}"


def percent(fraction: float) -> str:
    """Return a fraction as a percentage with two significant digits."""
    return f"{format_number(100 * fraction, 2)} %"


def duration(seconds: float, *, noisy: bool = False) -> str:
    """Return seconds as text: ``1.2 ms``; ``~1.2 ms`` if the timing was noisy.

    The unit is s, ms, µs or ns, such that the number has one to three digits before the point.
    """
    if math.isnan(seconds):
        return NONE
    unit, size = next((u for u in TIME_UNITS if seconds >= u[1]), TIME_UNITS[-1])
    return f"{'~' if noisy else ''}{format_number(seconds / size, 2)} {unit}"


def evaluations(f: float, gradient: float) -> str:
    """Return the number of evaluations per estimate as text: ``4``, or ``4 + 1`` with one evaluation of the gradient.

    ``f`` is the number of evaluations of f, and ``gradient`` the number of evaluations of the gradient of f.
    """
    return f"{count(f)} + {count(gradient)}" if gradient > 0 else count(f)


def count(value: float) -> str:
    """Return a number of evaluations as text, without decimals if the number is whole."""
    if math.isnan(value):
        return NONE
    return f"{value:,.0f}" if value == round(value) else format_number(value, 3)


def bias(row: Any) -> str:
    """Return what is known about a run's bias as text: ``unbiased ≤ 0.31 %``, ``biased 5.9–7.1 %``, ``inconclusive``.

    The percentages are limits of the norm of the bias, divided by the norm of the exact gradient. ``row`` is the run,
    one measurement of an estimator, as a row of the frame of ``bench.report.frame.frame``.
    """
    word: str = VERDICTS[row.verdict]
    if row.verdict in BOUNDED and row.relative_bias_bound > 0:
        return f"{word} ≤ {percent(row.relative_bias_bound)}".lstrip()
    if row.verdict in (BiasVerdict.EXACT_WITHIN_TOL, BiasVerdict.DETERMINISTIC_BIASED) and row.exact_norm > 0:
        return f"{word} {percent(row.bias_norm / row.exact_norm)}"
    if row.verdict == BiasVerdict.DEGENERATE and row.exact_norm > 0:
        return f"{word}, off {percent(row.bias_norm / row.exact_norm)}"
    if row.verdict == BiasVerdict.BIASED and row.exact_norm > 0:
        return f"{word} {span(100 * row.bias_low / row.exact_norm, 100 * row.relative_bias_bound)} %"
    return word or "inconclusive"


def direction(row: Any) -> str:
    """Return as text the scale and the direction of a biased gradient; empty if no bias was found.

    The text is ``scaled 0.75`` if the direction is right, and ``turned 4–9°, scale 0.75`` if it is wrong. If the
    direction may be right or wrong, the text is ``scale 0.75, ≤ 7°``. If the gradient points away from the exact one,
    the text begins with ``points away``. ``row`` is one measurement, as a row of the frame of
    ``bench.report.frame.frame``.
    """
    if not row.biased or math.isnan(row.scale):
        return ""
    scale = format_number(row.scale, 2)
    low, high = (row.angle if math.isnan(end) else end for end in (row.angle_low, row.angle_high))
    match row.direction:
        case Direction.SCALED:
            return f"scaled {scale}"
        case Direction.TURNED:
            return f"turned {span(low, high)}°, scale {scale}"
        case Direction.POINTS_AWAY:
            return f"points away, scale {scale}"
        case Direction.UNDECIDED if not math.isnan(high):
            return f"scale {scale}, ≤ {format_bound(high, math.ceil)}°"
    return f"scale {scale}"


def learning(row: Any) -> str:
    """Return how an estimator's state was learned: ``learned and frozen at this point: 300 steps, 1,200 f``.

    The last number counts the evaluations of f for learning. ``row`` is the row of a frame for one measurement.
    """
    still = ", still learning" if row.adapt_settled == 0 else ""
    return f"learned and frozen at this point: {count(row.adapt_steps)} steps, {count(row.adapt_f_evals)} f{still}"


def remarks(row: Any) -> str:
    """Return the reasons to be careful with a run's numbers, such as ``few replicates, not within ±5 %``.

    The text is empty if there are none. A run is one measurement of an estimator on an objective, and ``row`` its row
    of a frame.
    """
    if row.verdict in CONSTANT:
        return ""
    parts = [STATUSES[row.status]]
    if row.status == Status.RARE_LARGE_VALUES:
        parts = [f"{parts[0]}: about {settling_replicates(row.cv2, int(row.replicates)):,} replicates settle it"]
    parts += [f"index {row.khat:.2f}"] if row.heavy else []
    parts += [f"not within ±{100 * row.precision:g} %"] if row.precision_reached == 0 else []
    parts += ["float resolution"] if Flag.AT_FLOAT_RESOLUTION in row.flags else []
    parts += [learning(row)] if row.learned else []
    return ", ".join(p for p in parts if p)
