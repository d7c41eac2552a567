"""Rejection rates of the bias tests without a bias, down to levels of 1e-3 and 1e-4.

Millions of runs are affordable because many runs are drawn as one array. The tests are those that a study calls.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.stats import bias, variance
from bench.stats.series import Moments
from tests.calibration.laws import BERN02, EXP1, G1, G20, IW45, SFQ1, T3, Law, bits, exponential, generator, heavy, law

NOMINAL = (0.05, 0.01, 1e-3, 1e-4)
BATCH_ELEMENTS = 2**21
ROWS, BLOCKS = 1024, 32


def mixed_bits() -> Law:
    p = torch.logspace(math.log10(0.003), math.log10(0.5), 200)
    mean = [float(x) for x in p.double()]
    return law("BERN mixed", "200 bits, θ from .003 to .5", lambda g, rows: bits(g, rows, p), mean, 1.0)


def rare_bits() -> Law:
    return law("rare .01", "100 bits, θ = .01", lambda g, rows: bits(g, rows, [0.01] * 100), [0.01] * 100, 1.0)


SCALAR = (G1, SFQ1, EXP1, BERN02, T3, IW45)
"""Laws with D = 1, for which the scalar part is the whole test."""
VECTOR = (G20, exponential("EXP1 D=20", 1.0, 20), heavy("T3 D=20", 3, 20))
"""Laws for all three parts of the test."""
LARGE = (exponential("EXP1 D=100", 1.0, 100), mixed_bits(), rare_bits())
"""Laws on which textbook tests reject up to all runs."""


def three_parts(g: Tensor, mean: np.ndarray[Any, Any], blocks: int) -> np.ndarray[Any, Any]:
    """Return p_bias of every run, from gradients ``[runs, rows, size]``.

    The moments equal the merged partial sums of a study.
    """
    runs, rows, size = g.shape
    target = torch.as_tensor(mean)
    X = g.double() - target
    delta = X.mean(1)
    y = X.view(runs, blocks, rows // blocks, size).sum(2)
    S = y.cumsum(1)
    q = (S[:, :-1] * y[:, 1:]).sum(2)
    T, Q = q.sum(1).numpy(), q.square().sum(1).numpy()
    along = (X @ (target / (target @ target))).numpy()
    X -= delta.unsqueeze(1)
    X2 = X * X
    M2, M3, M4 = X2.sum(1).numpy(), (X2 * X).sum(1).numpy(), X2.square_().sum(1).numpy()
    d = delta.numpy()
    out = np.empty(runs)
    for r in range(runs):
        V = float(M2[r].sum()) / (rows - 1)
        if V == 0:
            out[r] = 1.0
            continue
        p_max = bias.max_test(d[r], Moments(rows, d[r], M2[r]), Moments(rows, d[r], M2[r], M3[r], M4[r]), V)
        p_sum = p_projection = None
        if size > 1:
            p_sum = bias.sum_test(float(T[r]), float(Q[r]), blocks - 1)
            p_projection = bias.mean_test(float(along[r].mean()), variance.shape(_moments(along[r])))
        out[r] = bias.combine(p_max, p_sum, p_projection, size).p_bias
    return out


def _moments(x: np.ndarray[Any, Any]) -> Moments:
    d = x - x.mean()
    d2 = d * d
    return Moments(x.size, np.asarray(x.mean()), *(np.asarray(v.sum()) for v in (d2, d2 * d, d2 * d2)))


def rejections(case: Law, numbers: range) -> dict[str, list[float]]:
    """Return the number of unbiased runs whose p_bias falls below each nominal level."""
    batch = max(1, BATCH_ELEMENTS // (ROWS * case.size))
    counts = np.zeros(len(NOMINAL))
    for start in range(numbers.start, numbers.stop, batch):
        runs = min(batch, numbers.stop - start)
        g = case.draw(generator("levels", case.name, number=start), runs * ROWS).view(runs, ROWS, case.size)
        p = three_parts(g, case.mean, BLOCKS)
        counts += [(p <= level).sum() for level in NOMINAL]
    return {
        "runs": [float(len(numbers))],
        **{f"{level:g}": [float(c)] for level, c in zip(NOMINAL, counts, strict=True)},
    }


SUMS: dict[str, Callable[[torch.Generator, int, int], Tensor]] = {
    "Gaussian": lambda g, n, size: torch.randn((n, size), generator=g),
    "skewed": lambda g, n, size: torch.rand((n, size), generator=g).log_().add_(1),
    "t3": lambda g, n, size: heavy("", 3, size).draw(g, n) - 1,
}
"""Laws of block sums for the sum test alone: centred, with iid coordinates."""


def sum_rejections(name: str, size: int, numbers: range) -> dict[str, list[float]]:
    """Return the number of runs in which the sum test of 32 block sums rejects."""
    batch = max(1, BATCH_ELEMENTS // (BLOCKS * size))
    counts = np.zeros(len(NOMINAL))
    for start in range(numbers.start, numbers.stop, batch):
        runs = min(batch, numbers.stop - start)
        y = (
            SUMS[name](generator("sums", name, size, number=start), runs * BLOCKS, size)
            .view(runs, BLOCKS, size)
            .double()
        )
        q = (y.cumsum(1)[:, :-1] * y[:, 1:]).sum(2)
        T, Q = q.sum(1).tolist(), q.square().sum(1).tolist()
        p = np.array([bias.sum_test(t, s, BLOCKS - 1) for t, s in zip(T, Q, strict=True)])
        counts += [(p <= level).sum() for level in NOMINAL]
    return {
        "runs": [float(len(numbers))],
        **{f"{level:g}": [float(c)] for level, c in zip(NOMINAL, counts, strict=True)},
    }
