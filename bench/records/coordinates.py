"""The variance of each coordinate of a gradient, from the sums of a record."""

from collections.abc import Mapping
from typing import Any

import numpy as np

MOST = 64
"""Most variances that are kept of a record."""


def variances(sums: Mapping[str, Any]) -> list[float]:
    """Return the variances of the coordinates of a gradient, the largest first; empty if the sums do not hold them.

    At most 64 variances are returned. If there are more coordinates, 64 variances are taken from the sorted list at
    equal distances, the first and the last included.

    Args:
        sums: the sums of a record. The key ``coordinate`` holds the number of gradients and, for each coordinate, the
            sum of the squared deviations from the mean of this coordinate.
    """
    moments = sums.get("coordinate")
    if not moments or moments["n"] < 2:
        return []
    ordered = np.sort(np.asarray(moments["M2"], dtype=np.float64))[::-1] / (moments["n"] - 1)
    if ordered.size > MOST:
        ordered = ordered[ranks(ordered.size, MOST)]
    return [float(value) for value in ordered]


def ranks(size: int, count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return ``count`` of the whole numbers from 0 to ``size - 1``, evenly spaced up to rounding, with both ends.

    If ``size`` is less than ``count``, all of them are returned.
    """
    return np.round(np.linspace(0, size - 1, min(size, count))).astype(np.int64)
