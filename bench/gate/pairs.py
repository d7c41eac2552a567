"""What the gate compares for a heavy tail: half the squared distances of consecutive gradients, truncated.

Their mean is the variance too, if there is one, and they are independent of one another. Squared norms about the mean
of a block are not: one huge gradient moves that mean, and with it all other norms of its block, so far that truncation
no longer helps.
"""

from math import ceil

import numpy as np
from numpy.typing import NDArray

from bench.measurement.adaptation import adapt_state
from bench.measurement.engine import Engine
from bench.stats import series, variance

Array = NDArray[np.float64]
QUANTILE = 0.99
"""Fraction of the baseline's distances that truncation does not change."""


def distances(engine: Engine) -> Array:
    """Draw all gradients of an engine, and return ``‖g_1 − g_2‖²/2, ‖g_3 − g_4‖²/2, ...``, ``[R/2]``."""
    adapt_state(engine)
    draws = (engine.draw_gradients(draw).double() for draw in range(len(engine.sizes)))
    found = [(g[0::2] - g[1::2]).square().sum(1) / 2 for g in draws]
    return np.concatenate([d.cpu().numpy() for d in found])


def truncated(values: Array, cut: float | None = None) -> dict[str, float]:
    """Return the mean and the cv² of ``min(values, cut)``, by the names of a summary's keys.

    Args:
        values: distances ``[R/2]``.
        cut: where the baseline is truncated; the 99 % quantile of the values when None.

    Returns:
        ``truncated_at``, ``truncated_mean`` and ``truncated_cv2``. The last is twice the cv² of the truncated values:
        the tests divide it by R, and there are R/2 values.
    """
    if cut is None:
        cut = float(np.sort(values)[ceil(QUANTILE * values.size) - 1])
    shape = variance.shape(series.moments(np.minimum(values, cut)))
    return {"truncated_at": cut, "truncated_mean": shape.mean, "truncated_cv2": 2 * shape.cv2}
