"""Numbers as text, with no more digits than their interval supports."""

from collections.abc import Callable
from math import ceil, floor, isfinite, log10

from bench.stats.summary import Direction, Status, Summary, VarianceSummary

NONE = "–"
LAST_BITS = 1e-9
"""A relative difference that is rounding, and is not shown."""
SMALLEST, LARGEST = 1e-150, 1e150
"""Within these sizes, a product of a number and the power of ten that rounds another one is a float."""


def decimals_for(error: float) -> int:
    """Return the number of decimal places that `error` deserves: 2 for 0.03, and 3 for 0.013.

    At these places `error` has one significant digit, or two if the first digit is a 1. A negative result stands for
    whole tens (−1), hundreds (−2) and so on.
    """
    leading, power = f"{error:.6e}".split("e")
    return (1 if float(leading) < 1.95 else 0) - int(power)


def format_number(value: float | None, digits: int = 3) -> str:
    """Return `value` as text with `digits` significant digits: plain between 1e-4 and 1e6, else like 1.23e-7.

    None and NaN become a dash, infinite values ``∞`` and ``−∞``.
    """
    if value is None or not isfinite(value):
        return NONE if value is None or value != value else ("∞" if value > 0 else "−∞")
    if value == 0:
        return "0"
    if _is_extreme(value):
        mantissa, power = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa}e{int(power)}"
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])
    return _fixed(value, digits - 1 - exponent, exponent)


def format_bound(value: float, direction: Callable[[float], int]) -> str:
    """Return a limit of an interval as text with two significant digits, rounded outwards.

    `value` is the limit. `direction` is `floor` for a lower limit and `ceil` for an upper one, so rounding never makes
    the interval smaller.
    """
    if value == 0 or not isfinite(value):
        return format_number(value)
    if _is_extreme(value):
        return format_number(value, 17)  # all digits, which need no rounding
    return format_number(_outward(value, 1 - _exponent(abs(value)), direction), 2)


def format_interval(low: float | None, high: float | None) -> str:
    """Return an interval as text, such as `[0.95, 1.1]`. The ends are rounded outwards.

    The text is `[low, ∞)` if `high` is None or infinite, and a dash if `low` is None. Both ends have the decimal place
    of the leading digit of (high − low)/4.
    """
    if low is None:
        return NONE
    if high is None or not isfinite(high):
        return f"[{format_bound(low, floor)}, ∞)"
    if _is_extreme(low) or _is_extreme(high):
        return f"[{format_bound(low, floor)}, {format_bound(high, ceil)}]"
    width = high - low
    if width <= LAST_BITS * max(abs(low), abs(high)):
        return f"[{format_number(low, 4)}, {format_number(high, 4)}]"
    places, exponent = decimals_for(width / 4), _exponent(max(abs(low), abs(high)))
    low, high = _outward(low, places, floor), _outward(high, places, ceil)
    return f"[{_fixed(low, places, exponent)}, {_fixed(high, places, exponent)}]"


def format_estimate(value: float | None, low: float | None, high: float | None) -> str:
    """Return an estimate as text: `value ± half-width`, `value [low, high]`, or `≥ low` if `value` is None.

    The form `value [low, high]` is for a lopsided interval: `value` is more than a fifth of the half-width away from
    the middle. If there is no upper limit, the text is `value [low, ∞)`. If `low` is None, the text is the value alone.
    """
    if low is None:
        return format_number(value)
    if value is None:
        return f"≥ {format_bound(low, floor)}"
    if any(map(_is_extreme, (value, low, high))):
        return f"{format_number(value)} {format_interval(low, high)}"
    if high is None or not isfinite(high):
        exponent = _exponent(value)
        places = max(decimals_for(value - low), 1 - exponent) if value > low else 3 - exponent
        return f"{_fixed(value, places, exponent)} {format_interval(low, None)}"
    half = (high - low) / 2
    if half <= LAST_BITS * max(abs(low), abs(high)):
        return format_number(value, 4)
    places, exponent = decimals_for(half), _exponent(max(abs(value), half))
    if abs((high - value) - (value - low)) > 0.4 * half:
        return f"{_fixed(value, places, exponent)} {format_interval(low, high)}"
    return _with_error(value, half, places, exponent)


def format_variance(summary: Summary | VarianceSummary) -> str:
    """Return the total variance as text with its interval, such as ``2.31 ± 0.04``.

    If nothing varied, the text also bounds the probability that one more gradient would be different:
    ``0 (P(other) ≤ 0.003)``. If the tail is too heavy for an estimate, the text has the lower limit alone: ``≥ 1.9``.
    """
    if summary.status is Status.DEGENERATE:
        return f"0 (P(other) ≤ {format_number(summary.unseen, 2)})"
    return format_estimate(summary.variance, summary.variance_low, summary.variance_high)


def format_bias(summary: Summary) -> str:
    """Return two upper bounds of the bias as text: `rel. bias ≤ x % (95 %), bias/sd ≤ y %`.

    x is a percentage of the norm of the exact gradient, and y a percentage of the standard deviation of one gradient. A
    bound that is missing is printed as n/a.
    """
    level = f"({100 * summary.confidence:g} %)"
    parts = [("rel. bias", summary.relative_bias_bound), ("bias/sd", summary.bias_per_sd_bound)]
    texts = [f"{name} n/a" if x is None else f"{name} ≤ {format_bound(100 * x, ceil)} %" for name, x in parts]
    return f"{texts[0]} {level}, {texts[1]}"


def format_direction(summary: Summary) -> str:
    """Return scale and direction of a biased mean gradient as text, such as ``scaled: 0.75 ± 0.02 times the gradient``.

    If the direction is wrong, the text has the limits of the angle:
    ``turned: off by 4 to 9 degrees, scale 0.81 ± 0.02``. If the direction may be right or wrong, the text has the
    angle's upper limit. The result is empty if the summary has no scale.
    """
    if summary.scale is None:
        return ""
    scale = format_estimate(summary.scale, summary.scale_low, summary.scale_high)
    low, high = (summary.angle if end is None else end for end in (summary.angle_low, summary.angle_high))
    match summary.direction:
        case Direction.SCALED:
            return f"scaled: {scale} times the gradient"
        case Direction.TURNED:
            return f"turned: off by {format_angle(low, high)} degrees, scale {scale}"
        case Direction.POINTS_AWAY:
            return f"points away: scale {scale}"
        case Direction.UNDECIDED if high is not None:
            return f"undecided: scale {scale}, off by at most {format_bound(high, ceil)} degrees"
        case Direction.UNBIASED:
            return f"unbiased: scale {scale}"
    return f"scale {scale}"


def format_angle(low: float | None, high: float | None) -> str:
    """Return the limits `low` and `high` of an angle as text: ``4 to 9``, or one number if both agree to two digits."""
    first, last = format_number(low, 2), format_number(high, 2)
    return first if first == last else f"{first} to {last}"


def format_rank(rank: tuple[int, int] | None) -> str:
    """Return an interval of ranks as text: `2–4`, `2` if both ends are 2, or `n/a` if `rank` is None."""
    if rank is None:
        return "n/a"
    return str(rank[0]) if rank[0] == rank[1] else f"{rank[0]}–{rank[1]}"


def _with_error(value: float, half: float, places: int, exponent: int) -> str:
    if _is_plain(places, exponent):
        return f"{_fixed(value, places, exponent)} ± {_fixed(half, places, exponent)}"
    scale, shown = 10.0**exponent, max(places + exponent, 0)
    return f"({value / scale:.{shown}f} ± {half / scale:.{shown}f})e{exponent}"


def _outward(value: float, places: int, direction: Callable[[float], int]) -> float:
    """Round `value` at `places` decimals in the `direction`, unless it is there already up to its last bits."""
    nearest = round(value, places)
    return nearest if abs(nearest - value) <= LAST_BITS * abs(value) else direction(value * 10.0**places) / 10.0**places


def _is_extreme(value: float | None) -> bool:
    """Return whether a number is so large or so small that it cannot be rounded at a decimal place."""
    return value is not None and value != 0 and not SMALLEST < abs(value) < LARGEST and isfinite(value)


def _exponent(value: float) -> int:
    return floor(log10(value)) if value > 0 else 0


def _is_plain(places: int, exponent: int) -> bool:
    return -4 <= exponent < 6 and places <= 8


def _fixed(value: float, places: int, exponent: int) -> str:
    """Return `value` rounded at `places` decimals, in scientific form if its `exponent` is far from 0."""
    if _is_plain(places, exponent):
        return _unsigned_zero(f"{value:.{places}f}" if places >= 0 else f"{round(value, places):.0f}")
    scale = 10.0**exponent
    return _unsigned_zero(f"{value / scale:.{max(places + exponent, 0)}f}") + f"e{exponent}"


def _unsigned_zero(text: str) -> str:
    return text[1:] if text.startswith("-") and not text.strip("-0.") else text
