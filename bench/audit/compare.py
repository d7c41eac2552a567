"""An expected gradient against a target: scale, angle, and a word for both."""

from dataclasses import dataclass
from math import atan, atan2, degrees

from torch import Tensor

from bench.audit.measure import Estimate
from bench.measurement.given import Given, measure_given
from bench.stats import Summary
from bench.stats.summary import Direction

TOLERANCE = 0.01
"""Relative error of the scale, and tangent of the angle, up to which a gradient counts as its target."""
NOTHING = 1e-9
"""A gradient that is shorter than this, relative to its target, is 0."""


@dataclass(frozen=True)
class Comparison:
    """An expected gradient g of a loss, compared with the gradient g* that it may be meant to have.

    g is multiplied by −1, so that a step along g lowers the loss. The limits are those of 95 % intervals; they are None
    if g is exact.

    Args:
        scale: the component of g along g*, divided by the length of g*.
        angle: the angle between g and g* in degrees.
        direction: scale and angle in a word, such as "turned".
        scale_low: lower limit of the scale.
        scale_high: upper limit of the scale.
        angle_low: lower limit of the angle.
        angle_high: upper limit of the angle.
    """

    scale: float
    angle: float
    direction: Direction
    scale_low: float | None = None
    scale_high: float | None = None
    angle_low: float | None = None
    angle_high: float | None = None

    @property
    def is_aligned(self) -> bool:
        """Whether the expected gradient points in the direction of its target: ``direction`` is "unbiased" or "scaled".

        The lengths of the two gradients may differ.
        """
        return self.direction in (Direction.UNBIASED, Direction.SCALED)


def compare(estimate: Estimate, target: Tensor) -> Comparison:
    """Return the comparison of an expected gradient, ``estimate``, with a target gradient, ``[D]``.

    D is the number of parameters. If the expected gradient was estimated from sampled batches, the comparison has the
    limits of 95 % intervals for scale and angle.
    """
    rows, norm = estimate.rows, float(target.norm())
    if rows is not None and float(rows.var(0).sum()) > (NOTHING * norm) ** 2:
        summary = Summary.from_json(measure_given(Given("loss", rows.numpy(), target.numpy()))["summary"])
        assert summary.scale is not None
        return Comparison(
            summary.scale,
            summary.angle or 0.0,
            summary.direction or Direction.UNDECIDED,
            *(summary.scale_low, summary.scale_high, summary.angle_low, summary.angle_high),
        )
    along = float(estimate.mean @ target) / norm
    across = float((estimate.mean - along / norm * target).norm())
    if max(abs(along), across) < NOTHING * norm:
        return Comparison(0.0, 0.0, Direction.SCALED)
    scale, angle = along / norm, degrees(atan2(across, along))
    return Comparison(scale, angle, _word(scale, angle))


def _word(scale: float, angle: float) -> Direction:
    if angle > 90:
        return Direction.POINTS_AWAY
    if angle > degrees(atan(TOLERANCE)):
        return Direction.TURNED
    return Direction.UNBIASED if abs(scale - 1) <= TOLERANCE else Direction.SCALED
