"""Numbers in words: as many digits as the interval supports, the same text in every table."""

from __future__ import annotations

import math
from typing import Any

DASH = "–"

VERDICTS = {
    "UNBIASED_WITHIN_TOL": "unbiased",
    "BIASED_WITHIN_TOL": "slight bias",
    "BIASED": "biased",
    "DETERMINISTIC_BIASED": "biased",
    "INCONCLUSIVE": "inconclusive",
    "UNRELIABLE": "unreliable",
    "EXACT": "exact",
    "DEGENERATE": "constant",
    "NO_REFERENCE": "no reference",
}

STATUSES = {
    "OK": "",
    "SMALL_R": "few replicates",
    "TAIL_WARNING": "tail warning",
    "HEAVY_TAIL": "heavy tail",
    "INFINITE_VARIANCE_SUSPECTED": "infinite variance?",
    "DEGENERATE": "constant so far",
}


def number(value: float, digits: int = 3) -> str:
    """Return a number with so many significant digits: plain from 0.001 to 99,999, with an exponent outside."""
    if math.isnan(value):
        return DASH
    if value == 0 or math.isinf(value):
        return "0" if value == 0 else "∞"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    if -3 <= int(exponent) <= 4:
        return f"{float(f'{mantissa}e{exponent}'):.{max(0, digits - 1 - int(exponent))}f}"
    return f"{mantissa}e{int(exponent)}"


def supported_digits(low: float, high: float) -> int:
    """Return how many significant digits an interval of positive numbers supports (1 to 6), the last one uncertain."""
    if not 0 < low < high < math.inf:
        return 2
    return min(6, max(1, 1 + math.ceil(-math.log10(math.expm1(math.log(high / low) / 2)))))


def interval(value: float, low: float, high: float) -> str:
    """Return ``0.412 [0.401, 0.424]``; ``≥ 0.38`` without a value; ``0.412 [0.401, ∞)`` without an upper end."""
    if math.isnan(value):
        return DASH if math.isnan(low) else f"≥ {number(low, 2)}"
    if value == 0:
        return "0"
    digits = max(2, supported_digits(low, high))
    end = "∞)" if math.isnan(high) else f"{number(high, digits)}]"
    return f"{number(value, digits)} [{number(low, digits)}, {end}"


def span(low: float, high: float) -> str:
    """Return ``3.1 to 3.4``, or one number where two digits do not tell the ends apart."""
    first, last = number(low, 2), number(high, 2)
    return first if first == last else f"{first} to {last}"


def percent(fraction: float) -> str:
    """Return a fraction as a percentage of two digits."""
    return f"{number(100 * fraction, 2)} %"


def duration(seconds: float) -> str:
    """Return seconds in the unit that leaves one to three digits before the point."""
    if math.isnan(seconds):
        return DASH
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{number(seconds / size, 2)} {unit}"
    return f"{number(seconds / 1e-9, 2)} ns"


def count(value: float) -> str:
    """Return a number of evaluations: an integer where it is one."""
    if math.isnan(value):
        return DASH
    return f"{value:,.0f}" if value == round(value) else number(value, 3)


def bias(row: Any) -> str:
    """Return the verdict in a word with what bounds it, relative to the norm of the exact gradient."""
    word = VERDICTS.get(row.verdict, row.verdict.lower())
    if row.verdict in ("UNBIASED_WITHIN_TOL", "BIASED_WITHIN_TOL", "INCONCLUSIVE"):
        known = not math.isnan(row.relative_bias_bound)
        return f"{word} ≤ {percent(row.relative_bias_bound)}" if known else word
    if row.verdict == "DETERMINISTIC_BIASED" and row.exact_norm > 0:
        return f"{word} {percent(row.bias_norm / row.exact_norm)}"
    if row.verdict == "BIASED" and row.exact_norm > 0:
        return f"{word} {span(100 * row.bias_low / row.exact_norm, 100 * row.relative_bias_bound)} %"
    return word


def remarks(row: Any) -> str:
    """Return why the numbers of this row ask for care; empty where they do not."""
    parts = [STATUSES.get(row.status, row.status.lower())]
    parts += ["noisy timing"] if row.noisy == 1 else []
    parts += ["float resolution"] if "AT_FLOAT_RESOLUTION" in row.flags else []
    return ", ".join(p for p in parts if p)
