"""Central moments of a series, and how to combine them.

A series is a column of replicates: one coordinate of the gradient, or a number per replicate such as its squared norm.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
POWERS = ("mean", "M2", "M3", "M4")  # the arrays of `Moments`


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean and sums of centred powers of a series x, `Mk = Σ_r (x_r − mean)^k`.

    All arrays have one shape: `()` for a scalar series, `[size]` for the coordinates of a gradient. `M3` and `M4` are
    None if only mean and variance are known.
    """

    n: int
    mean: Array
    M2: Array
    M3: Array | None = None
    M4: Array | None = None


def moments(values: ArrayLike) -> Moments:
    """Return count, mean and sums of centred powers (M2, M3, M4) of `values` `[n, ...]` along the first axis.

    All numbers are float64, and are computed in two passes over the values.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim == 0 or x.shape[0] == 0:
        raise ValueError(f"moments need at least one value along the first axis (got an array of shape {x.shape}).")
    mean = np.asarray(x.mean(axis=0))
    d = x - mean
    d2 = d * d
    M2, M3, M4 = d2.sum(axis=0), (d2 * d).sum(axis=0), (d2 * d2).sum(axis=0)
    return Moments(x.shape[0], mean, np.asarray(M2), np.asarray(M3), np.asarray(M4))


def merge(a: Moments, b: Moments) -> Moments:
    """Return the moments of one series that consists of the values of `a` and `b`.

    Let Mk be the sum of (x − mean)^k over a series x. With δ = mean_b − mean_a and n = n_a + n_b::

        mean = mean_a + δ n_b/n
        M2 = M2a + M2b + δ² n_a n_b/n
        M3 = M3a + M3b + δ³ n_a n_b (n_a − n_b)/n² + 3δ (n_a M2b − n_b M2a)/n
        M4 = M4a + M4b + δ⁴ n_a n_b (n_a² − n_a n_b + n_b²)/n³ + 6δ² (n_a² M2b + n_b² M2a)/n² + 4δ (n_a M3b − n_b M3a)/n

    M3 and M4 are None if either argument lacks them. The last digits depend on the order, so blocks of gradients are
    merged in order.

    Source: Chan, Golub & LeVeque (1983), The American Statistician 37:242; Pébay (2008), SAND2008-6212.
    """
    if a.n == 0 or b.n == 0:
        return b if a.n == 0 else a
    if a.mean.ndim == 0:  # Python's floats are several times faster than arrays without dimensions
        return Moments(a.n + b.n, *map(np.asarray, _merge(a.n, _floats(a), b.n, _floats(b))))
    return Moments(a.n + b.n, *_merge(a.n, (a.mean, a.M2, a.M3, a.M4), b.n, (b.mean, b.M2, b.M3, b.M4)))


def _floats(m: Moments) -> tuple[float | None, ...]:
    return tuple(None if v is None else v.item() for v in (m.mean, m.M2, m.M3, m.M4))


def _merge(count_a: int, a: Any, count_b: int, b: Any) -> Any:
    """Apply the formulas of `merge` to floats or arrays: two values if a higher moment is missing, else four."""
    na, nb = float(count_a), float(count_b)
    n = na + nb
    (mean_a, M2a, M3a, M4a), (mean_b, M2b, M3b, M4b) = a, b
    δ = mean_b - mean_a
    δ2 = δ * δ
    mean = mean_a + δ * (nb / n)
    M2 = M2a + M2b + δ2 * (na * nb / n)
    if M3a is None or M3b is None or M4a is None or M4b is None:
        return mean, M2
    M3 = M3a + M3b + δ2 * δ * (na * nb * (na - nb) / n**2) + 3 * δ * (na * M2b - nb * M2a) / n
    M4 = M4a + M4b + δ2 * δ2 * (na * nb * (na**2 - na * nb + nb**2) / n**3)
    M4 = M4 + 6 * δ2 * (na**2 * M2b + nb**2 * M2a) / n**2 + 4 * δ * (na * M3b - nb * M3a) / n
    return mean, M2, M3, M4


def pooled(n: int, means: Array, powers: Sequence[Array] | Array) -> Moments:
    """Return the moments of all values in several blocks of `n` values each.

    `means` `[blocks, ...]` are the means of the blocks. `powers` holds the array M2, or the arrays M2, M3 and M4, each
    `[blocks, ...]`. Mk_b is the sum of (x − mean of the block)^k over block b. Let δ be the mean of block b minus the
    mean of all values. The sums below are over the blocks b::

        M2 = Σ (M2_b + n δ²)
        M3 = Σ (M3_b + 3 δ M2_b + n δ³)
        M4 = Σ (M4_b + 4 δ M3_b + 6 δ² M2_b + n δ⁴)

    Source: Chan, Golub & LeVeque (1983), The American Statistician 37:242; Pébay (2008), SAND2008-6212.
    """
    mean, M2 = means.mean(axis=0), powers[0]
    δ = means - mean
    δ2 = δ * δ
    out = [(M2 + n * δ2).sum(axis=0)]
    if len(powers) > 1:
        _, M3, M4 = powers
        out.append((M3 + δ * (3 * M2 + n * δ2)).sum(axis=0))
        out.append((M4 + 4 * δ * M3 + δ2 * (6 * M2 + n * δ2)).sum(axis=0))
    return Moments(n * len(means), mean, *out)


def from_powers(n: int, powers: Array, unit: ArrayLike = 1.0) -> Array:
    """Return mean and M2 `[2, ...]`, or mean, M2, M3 and M4 `[4, ...]`, of scalar series x of `n` values.

    M2, M3 and M4 are the sums of the second, third and fourth powers of x minus its mean. The first row of `powers` is
    a pivot, a number near the mean of x/`unit`. With `z = x/unit − pivot`, the other rows are sums of powers of z: of z
    and z² if `powers` is `[3, ...]`, up to z⁴ if it is `[5, ...]`. `unit` is a number or an array that broadcasts.
    """
    pivot, s1, s2, *higher = powers
    m, c = s1 / n, np.asarray(unit)
    out = [(pivot + m) * c, np.maximum(s2 - n * m**2, 0) * c**2]
    if higher:
        s3, s4 = higher
        out.append((s3 - 3 * m * s2 + 2 * n * m**3) * c**3)
        out.append(np.maximum(s4 - 4 * m * s3 + 6 * m**2 * s2 - 3 * n * m**4, 0) * c**4)
    return np.stack(out)


def each(m: Moments) -> Iterator[Moments]:
    """Yield the moments of each scalar series in `m`, whose arrays have one entry per series along the first axis."""
    powers = [m.M2] if m.M3 is None or m.M4 is None else [m.M2, m.M3, m.M4]
    for mean, *values in zip(m.mean, *powers, strict=True):
        yield Moments(m.n, mean, *values)


def stretch(part: Moments, means: Array, rows: Array) -> Moments:
    """Return the moments of a long scalar series, from the moments of its first values and the means of all its blocks.

    The mean and the variance come from all B blocks; the variance is `Σ_b rows_b (mean_b − mean)²/(B − 1)`. Skewness
    and kurtosis come from the first values. A kurtosis below 1 + 2n/(B − 1), with n the number of all values, is
    replaced by this number. So the variance gets at most B − 1 degrees of freedom (Satterthwaite).

    Args:
        part: the moments of the first values of the series.
        means: the mean of each block, `[B]`.
        rows: the number of values in each block, `[B]`.
    """
    n = int(rows.sum())
    mean = rows @ means / n
    M2 = rows @ (means - mean) ** 2 * ((n - 1) / (means.size - 1))
    m = shaped(Moments(n, np.asarray(mean), np.asarray(M2)), part)
    least = (1 + 2 * n / (means.size - 1)) * M2**2 / n
    return replace(m, M4=np.maximum(np.asarray(m.M4), least))


def shaped(whole: Moments, part: Moments) -> Moments:
    """Return the moments `whole` of a long series, with M3 and M4 filled in if they are missing.

    Mk is the sum of (x − mean)^k. `part` holds the moments of the first values of the series. M3 and M4 are filled in
    such that the series has the skewness and the kurtosis of `part`.
    """
    if whole.M3 is not None:
        return whole
    M3, M4 = skewness(part) * whole.M2**1.5 / np.sqrt(whole.n), kurtosis(part) * whole.M2**2 / whole.n
    return Moments(whole.n, whole.mean, whole.M2, np.asarray(M3), np.asarray(M4))


def is_constant(m: Moments) -> NDArray[np.bool_]:
    """Return, for each series, whether it varies by no more than rounding: `M2 <= 1e-24 n mean²`.

    ``m`` has the number n of values of each series, its mean, and M2, the sum of (x − mean)² over its values x.
    """
    return np.asarray(1e-24 * m.n * m.mean**2 >= m.M2)


def variance(m: Moments) -> Array:
    """Return the unbiased variance `M2/(n − 1)` of each series, or exactly 0 for a constant one.

    ``m`` has the number n of values of each series, and M2, the sum of (x − mean)² over its values x.
    """
    return np.where(is_constant(m), 0.0, m.M2 / max(m.n - 1, 1))


def skewness(m: Moments) -> Array:
    """Return the skewness `√n M3/M2^1.5` of each series, or 0 for a constant one.

    ``m`` has the number n of values of each series, and Mk, the sum of (x − mean)^k over its values x.
    """
    if m.M3 is None:
        raise ValueError("skewness needs the third moment, which this series lacks (M3 is None).")
    M2 = np.where(is_constant(m), np.inf, m.M2)
    return np.asarray(np.sqrt(m.n) * (m.M3 / M2) / np.sqrt(M2))


def kurtosis(m: Moments) -> Array:
    """Return the kurtosis `n M4/M2²` of each series (3 for a Gaussian), or 3 for a constant one.

    ``m`` has the number n of values of each series, and Mk, the sum of (x − mean)^k over its values x.
    """
    if m.M4 is None:
        raise ValueError("kurtosis needs the fourth moment, which this series lacks (M4 is None).")
    constant = is_constant(m)
    M2 = np.where(constant, 1.0, m.M2)
    return np.where(constant, 3.0, m.n * (m.M4 / M2) / M2)


def to_json(m: Moments) -> dict[str, object]:
    """Return moments as plain data: numbers for a scalar series, arrays for coordinates.

    Moments that are None, such as an unknown M4, are left out.
    """
    known = {name: value for name in POWERS if (value := getattr(m, name)) is not None}
    return {"n": m.n} | {name: float(v) if np.ndim(v) == 0 else v for name, v in known.items()}


def from_json(data: dict[str, object]) -> Moments:
    """Return the moments from the data of `to_json`, in which arrays may have become lists."""
    n = data["n"]
    if not isinstance(n, int):
        raise ValueError(f"the count n of a series must be a whole number (got {n!r}).")
    known = {name: np.asarray(data[name], dtype=np.float64) for name in POWERS if data.get(name) is not None}
    mean, M2 = known.get("mean"), known.get("M2")
    if mean is None or M2 is None:
        raise ValueError(f"a series needs its mean and M2 (got the fields {sorted(data)}).")
    return Moments(n, mean, M2, known.get("M3"), known.get("M4"))
