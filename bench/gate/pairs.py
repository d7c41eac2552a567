"""The truncated variance of pairs of gradients, which the gate compares if a tail is heavy.

Its values are half the squared distances of consecutive gradients. Their mean is the variance, if that is finite, and
they are independent of one another. Squared norms about the mean of a block of gradients are not independent: one
huge gradient moves that mean, and with it all other norms of the block, so far that truncation no longer helps.
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
    """Draw all R gradients of a cell, and return half the squared distance of each pair, ``[R/2]``.

    The gradients are g_1 ... g_R. The result is ``‖g_1 − g_2‖²/2, ‖g_3 − g_4‖²/2, ...``. The ``engine`` calls the
    cell's estimator on its objective.
    """
    adapt_state(engine)
    draws = (engine.draw_gradients(draw).double() for draw in range(len(engine.sizes)))
    found = [(g[0::2] - g[1::2]).square().sum(1) / 2 for g in draws]
    return np.concatenate([d.cpu().numpy() for d in found])


def truncated(values: Array, cut: float | None = None) -> dict[str, float]:
    """Return the mean and the relative variance (variance/mean²) of ``min(values, cut)``, and the cut.

    Args:
        values: half the squared distances of pairs of gradients: R/2 numbers for R gradients.
        cut: ``truncated_at`` in the baseline, the file of accepted statistics; None for the 99 % quantile of the
            values.

    Returns:
        A dictionary: ``truncated_at`` is the cut, ``truncated_mean`` the mean, and ``truncated_cv2`` twice the relative
        variance. The factor 2 is there because the tests divide by R, although there are only R/2 values.
    """
    if cut is None:
        cut = float(np.sort(values)[ceil(QUANTILE * values.size) - 1])
    shape = variance.shape(series.moments(np.minimum(values, cut)))
    return {"truncated_at": cut, "truncated_mean": shape.mean, "truncated_cv2": 2 * shape.cv2}
