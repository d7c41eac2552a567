"""Do the intervals of scale and angle cover, and how often is a right direction called wrong?"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from bench.measurement.reduction.kernels import Workspace
from bench.stats import Reference, Summary, summarise
from bench.stats.summary import Direction
from tests.calibration import laws
from tests.calibration.coverage import rate, sums_of
from tests.calibration.laws import Law, block_sizes, exponential, generator, heavy

REPLICATES, REFERENCE = 4_096, 16_384
"""Replicates of a run, and of the reference that stands in for the exact gradient."""
SIGNAL = 1 / 3
"""Norm of the exact gradient over the standard deviation of one gradient."""
CASES = {"unbiased": (1.0, 0.0), "scaled": (0.8, 0.0), "turned": (0.8, 3.0)}
"""Scale and angle in degrees of the mean gradient."""
AGAINST = ("exact", "reference")
WRONG = {
    "unbiased": (Direction.SCALED, Direction.TURNED, Direction.POINTS_AWAY),
    "scaled": (Direction.UNBIASED, Direction.TURNED, Direction.POINTS_AWAY),
    "turned": (Direction.UNBIASED, Direction.SCALED, Direction.POINTS_AWAY),
}
"""Words that are false in each case."""
RATES = ("covered", "p_05", "p_01", "wrong_word", "upper_holds", "lower_holds")
LAWS = (
    *(law for law in laws.LAWS if law.size > 1),
    exponential("EXP1 D=20", 1.0, 20),
    heavy("T5 D=2", 5, 2),
)

Vector = np.ndarray[Any, np.dtype[np.float64]]


def means(law: Law) -> tuple[Vector, dict[str, Vector]]:
    """Return the exact gradient of a law, in a direction chosen once, and the mean gradient of each case."""
    z = torch.randn((2, law.size), generator=generator("direction", law.name), dtype=torch.float64).numpy()
    along = z[0] / np.linalg.norm(z[0])
    across = z[1] - (z[1] @ along) * along
    across /= np.linalg.norm(across)
    length = SIGNAL * math.sqrt(law.variance)
    turned = {
        case: scale * length * (along + math.tan(math.radians(angle)) * across)
        for case, (scale, angle) in CASES.items()
    }
    return length * along, turned


def reference_of(rows: torch.Tensor) -> Reference:
    """Return the reference that consists of these gradients."""
    x = rows.double()
    covariance = x.T.cov().reshape(x.shape[1], x.shape[1])
    return Reference(x.mean(0).numpy(), len(x), float(covariance.trace()), float(covariance.square().sum()))


def facts(case: str, s: Summary) -> dict[str, float]:
    """Return whether the limits of a run are right, whether its tests reject, and whether its word is false.

    A run whose variance seems infinite has no limits: NaN.
    """
    scale, angle = CASES[case]
    if s.scale_low is None or s.scale_high is None or s.angle_low is None or s.angle_high is None:
        return dict.fromkeys((*RATES, "upper"), math.nan)
    assert s.p_direction is not None
    return {
        "covered": float(s.scale_low <= scale <= s.scale_high),
        "p_05": float(s.p_direction <= 0.05),
        "p_01": float(s.p_direction <= 0.01),
        "wrong_word": float(s.direction in WRONG[case]),
        "upper_holds": float(angle <= s.angle_high),
        "lower_holds": float(s.angle_low <= angle),
        "upper": s.angle_high,
    }


def run(law: Law, number: int, space: Workspace) -> dict[str, float]:
    """Simulate one run of a law; return the facts of every case, against the exact gradient and against a reference."""
    exact, centres = means(law)
    sizes = block_sizes(law.size, REPLICATES)
    noise = law.draw(generator("direction", law.name, "run", number=number), sum(sizes)).double() - torch.as_tensor(
        law.mean
    )
    other = law.draw(generator("direction", law.name, "reference", number=number), REFERENCE).double()
    reference = reference_of(other - torch.as_tensor(law.mean) + torch.as_tensor(exact))
    row: dict[str, float] = {}
    for case, mean in centres.items():
        gradients = (noise + torch.as_tensor(mean)).float()
        for against in AGAINST:
            target = exact if against == "exact" else reference.mean
            sums = sums_of(gradients, replace(law, mean=target), sizes, space)
            known = {"exact": exact} if against == "exact" else {"exact": None, "reference": reference}
            s = summarise(sums, dtype="float32", **known)  # type: ignore[arg-type]
            row |= {f"{case} {against} {key}": value for key, value in facts(case, s).items()}
    return row


def runs(law: Law, numbers: range) -> dict[str, list[float]]:
    """Return the columns of these runs."""
    space = Workspace()
    rows = [run(law, number, space) for number in numbers]
    return {key: [row[key] for row in rows] for key in rows[0]}


def summary(law: Law, columns: dict[str, list[float]]) -> list[dict[str, object]]:
    """Return the rows of a law: every rate in each case, and the median of the upper limit of the angle."""
    rows = []
    for case in CASES:
        for against in AGAINST:
            row: dict[str, object] = {"law": law.name, "D": law.size, "case": case, "against": against}
            row["runs"] = len(columns[f"{case} {against} covered"])
            for key in RATES:
                row[key] = rate(columns, f"{case} {against} {key}")[0]
            row["median_upper"] = float(np.nanmedian(columns[f"{case} {against} upper"]))
            rows.append(row)
    return rows
