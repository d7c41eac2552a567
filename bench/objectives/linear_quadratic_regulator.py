"""A policy gradient with an exact value."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal

from bench.objectives._checks import at_least, between, finite, positive
from bench.objectives._protocol import Objective, Problem, Theta, point
from estimators import Return

STATES = 2
"""Number of state variables: position and velocity. The action is a force."""
A = ((1.0, 0.1), (0.0, 1.0))
B = (0.0, 0.1)
START = (1.0, 0.0)
ACTION_COST = 0.1


@dataclass(frozen=True)
class LinearQuadraticRegulator(Objective):
    """Cost of a linear system under a linear Gaussian policy; the gradient is a policy gradient.

    ``s_(t+1) = A s_t + B a_t + noise e_t``
    ``a_t ~ N(-gain . s_t, exp(log_scale)^2)``
    ``f = sum_t [discount^t a_t^2 / 10 + discount^(t+1) |s_(t+1)|^2]``

    The sum is over t = 0 ... horizon - 1. The system, with its matrices A and B, is a mass on a line: s is its position
    and velocity, and a is the force. e_t is standard normal, a step takes 0.1 units of time, and s_0 = (1, 0) is fixed.
    The gradient is taken in theta: ``gain``, ``[2]``, and ``log_scale``, ``[1]``. One sample x is a whole trajectory
    (a_0, s_1, a_1, s_2, ...), and q is Gaussian. The score of q is the sum of the policy's scores over time, so
    ScoreFunction is REINFORCE with the return of the whole trajectory. The mean and the Cholesky factor of q come from
    a simulation of the system, so Reparameterization differentiates through the dynamics. f is a ``Return`` with a cost
    for each coordinate of x. An estimator with downstream credit multiplies the score of an action only by the costs
    from this action on. The objective is minimised. Exact value: the second moments of s_t, computed step by step. Bad
    arguments raise ``ValueError``.

    Args:
        horizon: number of actions, at least 1.
        discount: discount factor of one step, from 0 to 1.
        gain: value of both gains at the point of measurement.
        scale: standard deviation of the policy at the point of measurement, above 0.
        noise: standard deviation of the noise in every state variable, above 0.

    Reference: Carvalho, Tateo, Muratore & Peters 2021. Departures from the paper: another system, and a finite horizon.
    """

    horizon: int = 10
    discount: float = 0.99
    gain: float = 0.5
    scale: float = 0.5
    noise: float = 0.1

    family = MultivariateNormal
    costs = True
    reference = "Carvalho et al. 2021"

    def __post_init__(self) -> None:
        at_least(self, horizon=1)
        between(self, discount=(0.0, 1.0))
        finite(self, "gain")
        positive(self, "scale", "noise")

    @property
    def dim(self) -> int:  # type: ignore[override]
        """Number of random coordinates: for every step an action, a position and a velocity."""
        return (1 + STATES) * self.horizon

    @property
    def row_elements(self) -> int:
        """Number of elements in the largest tensor of one estimate with one sample: the Cholesky factor of q."""
        return self.dim**2

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Return a ``Problem``: theta, q, f and, if known, the exact value, in ``dtype`` and on ``device``."""

        def system(like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            a, b, start = (torch.tensor(t, dtype=like.dtype, device=like.device) for t in (A, B, START))
            return a, b, start

        def q(theta: Theta) -> Distribution:
            """Run the simulator: column 0 is the mean, column 1 + i the response to noise i."""
            a, b, start = system(theta["gain"])
            noise = torch.eye(self.dim, 1 + self.dim, dtype=start.dtype, device=start.device).roll(1, 1)
            state = torch.cat([start.unsqueeze(-1), start.new_zeros(STATES, self.dim)], 1)
            path = []
            for own in torch.split(noise, 1 + STATES):
                action = theta["log_scale"].exp() * own[0] - theta["gain"] @ state
                state = a @ state + b.unsqueeze(-1) * action + self.noise * own[1:]
                path += [action.unsqueeze(0), state]
            loc, scale_tril = torch.split(torch.cat(path), [1, self.dim], 1)
            return MultivariateNormal(loc.squeeze(-1), scale_tril=scale_tril, validate_args=False)

        discounts = self.discount ** torch.arange(self.horizon + 1, dtype=torch.float64)
        prices = torch.cat([ACTION_COST * discounts[:-1, None], discounts[1:, None].expand(-1, STATES)], 1)
        price = prices.flatten().to(device, dtype)

        def f(x: Tensor) -> Tensor:
            return x.square() @ price

        def costs(x: Tensor) -> Tensor:
            return x.square() * price

        def exact(theta: Theta) -> Tensor:
            a, b, start = system(theta["gain"])
            closed = a - b.unsqueeze(-1) * theta["gain"]
            variance = (2 * theta["log_scale"]).exp()
            own = variance * b.outer(b) + self.noise**2 * torch.eye(STATES, dtype=b.dtype, device=b.device)
            second, total = start.outer(start), torch.zeros_like(variance)
            for price_now, price_later in zip(discounts[:-1].tolist(), discounts[1:].tolist(), strict=True):
                total = total + price_now * ACTION_COST * (theta["gain"] @ second @ theta["gain"] + variance)
                second = closed @ second @ closed.T + own
                total = total + price_later * second.trace()
            return total.squeeze(-1)

        theta = point(STATES, dtype, device, gain=self.gain) | point(1, dtype, device, log_scale=math.log(self.scale))
        return Problem(theta, q, lambda _q: Return(costs, total=f), exact)
