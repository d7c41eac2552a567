"""How often is a finite variance called infinite or its tail heavy, and how often is an infinite variance caught?"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Generator, Tensor

from bench.measurement.reduction.kernels import Workspace
from bench.stats import summarise
from bench.stats.summary import Status
from tests.calibration.coverage import sums_of
from tests.calibration.laws import EXP1, IW45, LAWS, Law, block_sizes, generator, heavy, law, normal, weights

SIZES = {1_000: "1e3", 4_000: "4e3", 10_000: "1e4"}
"""Replicates, rounded up to whole blocks as in a study: 1,024, 4,096 and 10,240."""
POINT = {Status.HEAVY_TAIL: 0.7, Status.INFINITE_VARIANCE_SUSPECTED: 1.0}
"""Smallest tail indices for which a rule without a level would use these words."""


def hot_of_10() -> Law:
    """Return leave-one-out gradients, n = 2, on three variables of ten categories; rare states have large f."""
    k = torch.arange(10.0)
    p = (-k).softmax(0)
    states = torch.cartesian_prod(k, k, k)
    f = (states.sum(1) / 27) ** 2
    hot = torch.nn.functional.one_hot(states.long(), 10).flatten(1).float()
    mass = p[states.long()].prod(1)

    def draw(g: Generator, rows: int) -> Tensor:
        i = torch.multinomial(mass, 2 * rows, replacement=True, generator=g).view(rows, 2)
        return (f[i[:, 0]] - f[i[:, 1]]).unsqueeze(1) / 2 * (hot[i[:, 0]] - hot[i[:, 1]])

    q, values, scores = (t.double().numpy() for t in (mass, f, hot - p.repeat(3)))
    mean = (q * values) @ scores
    apart = ((scores[:, None] - scores[None]) ** 2).sum(2) * (values[:, None] - values[None]) ** 2 / 4
    variance = q @ apart @ q - mean @ mean
    found = law("HOT10", "leave-one-out, n = 2, on one-hot variables of ten categories", draw, list(mean), variance)
    return replace(found, finite_support=True)


def cosine() -> Law:
    """Return score-function gradients of cos(1 + z) in the mean and the log scale of a Gaussian."""

    def draw(g: Generator, rows: int) -> Tensor:
        z = normal(g, rows, 1)
        return (1 + z).cos() * torch.cat([z, z.square() - 1], 1)

    z, w = np.polynomial.hermite_e.hermegauss(80)
    g = np.cos(1 + z) * np.stack([z, z**2 - 1])
    w /= w.sum()
    mean = g @ w
    return law(
        "COS", "score function of a cosine, mean and log scale", draw, list(mean), (g**2 @ w).sum() - mean @ mean
    )


def power(name: str, says: str, degree: int, mean: float, variance: float) -> Law:
    return law(name, says, lambda g, rows: normal(g, rows, 1) ** degree, mean, variance)


def square_exponential() -> Law:
    def draw(g: Generator, rows: int) -> Tensor:
        z = normal(g, rows, 1)
        return z * (0.35 * z.square()).exp()

    return law("EXP2", "score function of exp(.35 x²), tail index 1.4", draw, 0.0, math.inf)


NEW = (
    hot_of_10(),
    cosine(),
    power("CHI2", "squares of a Gaussian", 2, 1.0, 2.0),
    power("Z4", "fourth powers of a Gaussian", 4, 3.0, 96.0),
    heavy("T2", 2),
    weights("IW.3", 0.3),
    square_exponential(),
)
CHOSEN = tuple(law for law in LAWS if law.name in ("SFQ1", "EXP.5", "T5", "T3", "IW.7"))
FINITE = (*NEW[:4], *CHOSEN, EXP1)
INFINITE = (NEW[4], IW45, *NEW[5:])


def runs(law: Law, replicates: int, numbers: range) -> dict[str, list[float]]:
    """Return for every run whether each word was used, would be by a point estimate, and if it had two limits."""
    space, sizes = Workspace(), block_sizes(law.size, replicates)
    columns: dict[str, list[float]] = {}
    for number in numbers:
        gradients = law.draw(generator("accusations", law.name, replicates, number=number), sum(sizes))
        sums = sums_of(gradients, law, sizes, space)
        s = summarise(sums, exact=law.mean, dtype="float32", finite_support=law.finite_support)
        khat = -math.inf if s.khat is None else s.khat
        row = {str(word): float(s.status is word) for word in Status}
        row |= {f"point_{word}": float(khat >= least) for word, least in POINT.items()}
        row |= {"two_limits": float(s.variance_high is not None), "size": sum(sizes)}
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return columns


def summary(law: Law, columns: dict[str, list[float]]) -> dict[str, object]:
    """Return the row of a law: the rate of every word, and of intervals with two limits."""
    row: dict[str, object] = {"law": law.name, "finite": math.isfinite(law.variance), "R": round(columns["size"][0])}
    row["runs"] = len(columns["size"])
    return row | {name: float(np.mean(values)) for name, values in columns.items() if name != "size"}
