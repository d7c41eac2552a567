"""The laws that the procedures are tested on: gradients whose mean and total variance are known exactly."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from bench.measurement.draws import blocks_in, ladder
from bench.records.seeds import draw_seed

Draw = Callable[[Generator, int], Tensor]


@dataclass(frozen=True, eq=False)
class Law:
    """Gradients ``[rows, size]``, float32 as in a study, with their mean ``[size]`` and the trace of their covariance.

    ``scale`` is a standard deviation, or 1 if the variance is infinite. The biases that a bound must not miss are
    multiples of it. ``finite_support`` tells whether the gradients have finitely many values.
    """

    name: str
    says: str
    draw: Draw
    mean: np.ndarray[Any, np.dtype[np.float64]]
    variance: float
    scale: float = 1.0
    finite_support: bool = False

    @property
    def size(self) -> int:
        return self.mean.size


def generator(*names: object, number: int = 0) -> Generator:
    """Return the generator of a run, seeded by names and the number of the run."""
    return Generator().manual_seed(draw_seed(0, "calibration", [str(name) for name in names], number))


def block_sizes(size: int, replicates: int) -> list[int]:
    """Return the rows of every block of a study's run with gradients of ``size`` coordinates."""
    sizes: list[int] = []
    for rows in ladder(SimpleNamespace(row_elements=size), "cpu"):  # type: ignore[arg-type]
        if sum(sizes) >= replicates:
            break
        count = blocks_in(rows)
        sizes += [rows // count] * count
    return sizes


def normal(g: Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=g)


def bits(g: Generator, rows: int, p: Tensor | list[float]) -> Tensor:
    p = torch.as_tensor(p)
    return (torch.rand((rows, p.numel()), generator=g) < p).float()


def student(g: Generator, rows: int, size: int, df: int) -> Tensor:
    z = normal(g, df + 1, rows, size)
    return z[0] / z[1:].square().mean(0).sqrt()


def law(name: str, says: str, draw: Draw, mean: float | list[float], variance: float) -> Law:
    vector = np.atleast_1d(np.asarray(mean, dtype=np.float64))
    finite = math.isfinite(variance)
    return Law(name, says, draw, vector, variance, math.sqrt(variance / vector.size) if finite else 1.0)


HIGH, LOW = (1 - 0.499) ** 2, 0.499**2
"""f of the toy problem (b - .499)^2 at b = 1 and 0."""


def toy(name: str, theta: float) -> Law:
    one, zero = HIGH * (1 - theta), -LOW * theta
    return law(
        name,
        f"REINFORCE on (b − .499)², one bit, θ = {theta}",
        lambda g, rows: torch.where(bits(g, rows, [theta]) > 0, one, zero),
        theta * one + (1 - theta) * zero,
        theta * (1 - theta) * (one - zero) ** 2,
    )


def toy_of_200() -> Law:
    def draw(g: Generator, rows: int) -> Tensor:
        b = bits(g, rows, [0.5] * 200)
        return (LOW * 200 + (HIGH - LOW) * b.sum(1, keepdim=True)) * (b - 0.5)

    mean_f, variance_f = 100 * (HIGH + LOW), 50 * (HIGH - LOW) ** 2
    variance = 50 * (mean_f**2 + variance_f) - 200 * ((HIGH - LOW) / 4) ** 2
    return law("BERN200", "REINFORCE on Σ (b − .499)², 200 bits", draw, [(HIGH - LOW) / 4] * 200, variance)


def quadratic(name: str, dim: int) -> Law:
    off = 1 / math.sqrt(dim)  # per coordinate; the minimum lies one standard deviation from the mean

    def draw(g: Generator, rows: int) -> Tensor:
        z = normal(g, rows, dim)
        return (off + z).square().sum(1, keepdim=True) * z

    # E f²‖z‖² with f = Σ (off + z_j)², less ‖E f z‖²
    variance = dim + 2 * dim * (dim + 2) + dim * (dim + 2) * (dim + 4) + 4 * (dim + 2) - 4
    return law(name, f"score function of a quadratic, D = {dim}", draw, [2 * off] * dim, float(variance))


def exponential(name: str, sigma: float, size: int = 1) -> Law:
    def draw(g: Generator, rows: int) -> Tensor:
        z = normal(g, rows, size)
        return z * torch.exp(sigma * z)

    mean = sigma * math.exp(sigma**2 / 2)
    variance = (1 + 4 * sigma**2) * math.exp(2 * sigma**2) - mean**2
    return law(name, f"score function of exp(x), σ = {sigma:g}, D = {size}", draw, [mean] * size, size * variance)


def weights(name: str, square: float) -> Law:
    """Return importance-weighted values x of N(0, 1), drawn from N(0, square); no variance up to square = 1/2."""

    def draw(g: Generator, rows: int) -> Tensor:
        z = normal(g, rows, 1)
        return square * z * torch.exp(z.square() * ((1 - square) / 2))

    variance = square**2 / (2 * square - 1) ** 1.5 if square > 0.5 else math.inf
    says = f"x of N(0, 1), importance-weighted from N(0, {square}), tail index {2 - 2 * square:.1f}"
    return law(name, says, draw, 0.0, variance)


def heavy(name: str, df: int, size: int = 1) -> Law:
    variance = size * df / (df - 2) if df > 2 else math.inf
    return law(
        name,
        f"Student t, {df} degrees of freedom, D = {size}",
        lambda g, rows: 1 + student(g, rows, size, df),
        [1.0] * size,
        variance,
    )


def gaussian(name: str, eigenvalues: list[float]) -> Law:
    roots = torch.tensor(eigenvalues).sqrt()
    return law(
        name,
        f"Gaussian, D = {len(eigenvalues)}",
        lambda g, rows: 1 + roots * normal(g, rows, len(eigenvalues)),
        [1.0] * len(eigenvalues),
        sum(eigenvalues),
    )


G1, G20 = gaussian("G1", [1.0]), gaussian("G20", [1 / j for j in range(1, 21)])
SFQ1, EXP1, BERN02 = quadratic("SFQ1", 1), exponential("EXP1", 1.0), toy("BERN.02", 0.02)
T3, IW45 = heavy("T3", 3), weights("IW.45", 0.45)

LAWS = (
    G1,
    G20,
    toy("BERN.5", 0.5),
    BERN02,
    toy_of_200(),
    SFQ1,
    quadratic("SFQ10", 10),
    exponential("EXP.5", 0.5),
    EXP1,
    heavy("T5", 5),
    T3,
    weights("IW.7", 0.7),
    IW45,
)
"""The laws that coverage, tails and false verdicts are measured on."""
