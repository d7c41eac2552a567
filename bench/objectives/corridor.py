"""A walk along a corridor by a policy that hardly sees where it is: a sequence of decisions with an exact value."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Size, Tensor
from torch.distributions import Distribution, constraints
from torch.nn.functional import logsigmoid

from bench.objectives._checks import at_least, between, finite
from bench.objectives._protocol import Objective, Problem, Theta, point
from estimators import Chain, Return, uniform

SIGHTS = 3
"""Number of observations: the wall on the left, the door on the right, and neither."""


class Steps(Chain):
    """Distribution of walks along a corridor: the actions of a policy, and whether each action succeeds.

    ``P(right | cell) = sigmoid(logits[sight(cell)])``

    The walker starts in cell 0 and stops in the last cell. There are three sights: the wall in cell 0, the door in the
    last cell but one, and neither in all other cells. Step t is a pair of bits, (right, moves): whether the action is
    to go right, and whether it moves the walker at all. In the last cell both bits are 0, with probability 1.

    Args:
        logits: logits of going right for each sight, ``[*batch, 3]``.
        cells: number of cells, at least 3.
        steps: number of steps; the event shape is ``[steps, 2]``.
        slip: probability that an action does not move the walker, at least 0 and below 1.
        validate_args: whether torch checks the arguments.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {"logits": constraints.real_vector}
    support = constraints.independent(constraints.boolean, 2)  # type: ignore[no-untyped-call]

    def __init__(self, logits: Tensor, cells: int, steps: int, slip: float, validate_args: bool | None = None) -> None:
        self.logits, self.cells, self.steps, self.slip = logits, cells, steps, slip
        super().__init__(logits.shape[:-1], Size((steps, 2)), validate_args=validate_args)

    def _moved(self, cell: Tensor, right: Tensor, moves: Tensor) -> Tensor:
        """Return the cell after one step, ``[...]``."""
        there = (cell + moves * (2 * right - 1)).clamp(0, self.cells - 1)
        return torch.where(cell == self.cells - 1, cell, there)

    def positions(self, value: Tensor) -> Tensor:
        """Return the walker's position before every step and after the last step, ``[..., *batch, steps + 1]``.

        A position is the number of a cell of the corridor, from 0.

        Args:
            value: walks, two bits for every step, ``[..., *batch, steps, 2]``.
        """
        cells = [torch.zeros_like(value[..., 0, 0])]
        for right, moves in zip(*(part.unbind(-1) for part in value.unbind(-1)), strict=True):
            cells.append(self._moved(cells[-1], right, moves))
        return torch.stack(cells, -1)

    def _seen(self, cell: Tensor) -> Tensor:
        """Return the logits of going right in given cells, ``[..., *batch, T]``."""
        sight = (cell > 0).long() + (cell >= self.cells - 2).long()  # 0 at the wall, 2 at the door
        lead = sight.shape[: sight.dim() - self.logits.dim()]
        return self.logits.expand(*lead, *self.logits.shape).gather(-1, sight)

    def draw(self, sample_shape: Size, generator: Generator | None) -> Tensor:
        """Return sampled walks, two bits for every step, ``[*sample_shape, *batch, steps, 2]``."""
        u = uniform(self._extended_shape(sample_shape), self.logits, generator)
        cell, walk = torch.zeros_like(u[..., 0, 0]), []
        for noise in u.unbind(-2):
            p = self._seen(cell.unsqueeze(-1)).squeeze(-1).sigmoid()
            walking = cell < self.cells - 1
            right, moves = (noise[..., 0] < p) & walking, (noise[..., 1] >= self.slip) & walking
            walk.append(torch.stack([right, moves], -1).to(u))
            cell = self._moved(cell, *walk[-1].unbind(-1))
        return torch.stack(walk, -2)

    def log_probs(self, value: Tensor) -> Tensor:
        """Return the log-probability of each step of given walks, ``[..., *batch, steps]``.

        When the walker has reached the end of the corridor, both bits of every further step are 0, with log-probability
        0. Any other bits there have log-probability minus infinity.

        Args:
            value: walks, two bits for every step, ``[..., *batch, steps, 2]``.
        """
        cell, (right, moves) = self.positions(value)[..., :-1], value.unbind(-1)
        stay = torch.full_like(moves, self.slip).log() if self.slip else torch.full_like(moves, -torch.inf)
        chance = torch.where(moves > 0, torch.log1p(torch.full_like(moves, -self.slip)), stay)
        each = logsigmoid((2 * right - 1) * self._seen(cell)) + chance
        after = torch.zeros_like(each).masked_fill(value.any(-1), -torch.inf)
        return torch.where(cell == self.cells - 1, after, each)


@dataclass(frozen=True)
class Corridor(Objective):
    """Number of steps to the end of a corridor, under a policy that sees only the wall and the door.

    ``f(x) = sum_t c_t(x)``,  ``c_t = 1`` if the walker is not in the last cell after step t, else 0
    ``P(right) = sigmoid(logit of what is seen)``
    ``E f = sum_t (1 - P(last cell after step t))``

    The walker starts in cell 0, where it sees the wall. In the last cell but one it sees the door. In all cells between
    it sees neither, so the policy cannot tell these cells apart. An action moves the walker one cell, or fails with
    probability slip. The gradient is taken in theta: ``logits``, ``[3]``. q is a ``Chain`` of steps, and f a ``Return``
    with a cost for each step. The objective is minimised. Exact value: the distribution of the position, computed step
    by step. Bad arguments raise ``ValueError``.

    Args:
        cells: number of cells, at least 3.
        horizon: number of steps, at least 1.
        slip: probability that an action fails, from 0 to 0.99.
        logit: value of all three logits of going right at the point of measurement.

    Reference: synthetic; the policy that cannot tell states apart is that of Sutton & Barto 2018, example 13.1.
    """

    cells: int = 5
    horizon: int = 20
    slip: float = 0.1
    logit: float = 0.5

    family = Steps
    differentiable = False
    relaxable = False
    costs = True
    reference = "synthetic"

    def __post_init__(self) -> None:
        at_least(self, cells=3, horizon=1)
        between(self, slip=(0.0, 0.99))
        finite(self, "logit")

    @property
    def dim(self) -> int:  # type: ignore[override]
        """Number of random bits: an action and its success for every step."""
        return 2 * self.horizon

    @property
    def row_elements(self) -> int:
        """Number of elements in one sample: two for every step."""
        return self.dim

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Return a ``Problem``: theta, q, f and, if known, the exact value, in ``dtype`` and on ``device``."""

        def q(theta: Theta) -> Distribution:
            return Steps(theta["logits"], self.cells, self.horizon, self.slip, validate_args=False)

        def integrand(q: Distribution) -> Return:
            assert isinstance(q, Steps)
            return Return(lambda x: (q.positions(x)[..., 1:] < self.cells - 1).to(x))

        def exact(theta: Theta) -> Tensor:
            cell = torch.arange(self.cells, device=theta["logits"].device)
            sight = (cell > 0).long() + (cell >= self.cells - 2).long()
            right = (1 - self.slip) * theta["logits"][sight].sigmoid() * (cell < self.cells - 1)
            left = (1 - self.slip) * (-theta["logits"][sight]).sigmoid() * ((cell > 0) & (cell < self.cells - 1))
            mass, total = (cell == 0).to(right), right.new_zeros(())
            for _ in range(self.horizon):
                up, down = mass * right, mass * left
                mass = mass - up - down + up.roll(1) + down.roll(-1)  # no mass leaves at either end
                total = total + 1 - mass[-1]
            return total

        return Problem(point(SIGHTS, dtype, device, logits=self.logit), q, integrand, exact)
