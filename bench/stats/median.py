"""The median of independent values, with limits from the sign test. scipy is imported on the first call."""

import numpy as np
from numpy.typing import ArrayLike


def order_statistic_interval(values: ArrayLike, confidence: float = 0.95) -> tuple[float, float, float]:
    """Return the median of `values` `[P]`, and lower and upper confidence limits for the median of their distribution.

    The limits are the k-th smallest and k-th largest value, with k = `median_rank(P, confidence)` (sign test). The
    values must be independent, from any distribution. Raises ValueError if there is no value.
    """
    x = np.sort(np.asarray(values, dtype=np.float64))
    if x.size == 0:
        raise ValueError("a median needs at least one value (got none).")
    k = median_rank(x.size, confidence)
    return float(np.median(x)), float(x[k - 1]), float(x[x.size - k])


def median_rank(count: int, confidence: float = 0.95) -> int:
    """Return the rank k: the k-th smallest and k-th largest of `count` values bound the median of their distribution.

    k is the (1 − confidence)/2 quantile of Binomial(count, 1/2), or 1 if that is 0. Fewer than 6 values cannot reach
    the confidence 0.95: then k is 1, and the bounds are the range of the values.
    """
    from scipy.special import bdtr

    k = int(np.searchsorted(bdtr(np.arange(count + 1), count, 0.5), (1 - confidence) / 2))
    return max(1, min(k, (count + 1) // 2))
