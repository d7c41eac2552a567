"""Variational inference in a hierarchical Poisson regression."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.distributions import Normal

from bench.objectives._checks import at_least, between
from bench.objectives._protocol import Objective, Problem, Theta, point
from bench.objectives.mean_field import mean_field
from estimators import Bound


@dataclass(frozen=True)
class HierarchicalPoisson(Objective):
    """Evidence lower bound of a model of police stops, counted by group and place, on simulated data.

    ``f(x) = log p(y, x) - log q(x)``
    ``x = (mu, log s_a, log s_b, a, b)``
    ``q(x) = N(mean, diag exp(log_scale)^2)``
    ``y_gp ~ Poisson(exposure_gp exp(mu + a_g + b_p))``
    ``a_g ~ N(0, s_a^2)``
    ``b_p ~ N(0, s_b^2)``
    ``mu ~ N(0, 10^2)``
    ``s_a, s_b ~ HalfNormal(10)``

    y_gp is the count of group g at place p. x holds the logarithms of s_a and s_b, so their priors are turned into
    densities of these logarithms. The gradient is taken in theta: ``mean`` and ``log_scale``,
    ``[groups + places + 3]`` each. The objective is maximised. Counts are drawn from the model with ``mu = 0``,
    ``s_a = 0.5``, ``s_b = 1`` and exposures between 5 and 50. Bad arguments raise ``ValueError``.

    Exact value: closed form, from moments of Gaussians and two expectations under q. Let m and v be mean and variance
    of the sum mu + a_g + b_p under q. Let m_a and v_a be those of a_g, and m_s and v_s those of log s_a. Then

    ``E exp(mu + a_g + b_p) = exp(m + v / 2)``
    ``E a_g^2 exp(-2 log s_a) = (m_a^2 + v_a) exp(-2 m_s + 2 v_s)``

    The second equation also holds with b_p and s_b in place of a_g and s_a.

    Args:
        groups: number of groups, at least 1; 2 in the paper.
        places: number of places, at least 1; 32 in the paper.
        mean: mean of every variable at the point of measurement, from -10 to 10.
        log_scale: logarithm of the standard deviation of every variable at the point of measurement, from -20 to 1.
        seed: seed of the data, at least 0.

    Reference: Miller, Foti, D'Amour & Adams 2017, section 4 (their "frisk", 37 variables); the model is from Gelman,
    Fagan & Kiss 2007. Departure: simulated data.
    """

    groups: int = 2
    places: int = 32
    mean: float = -1.0
    log_scale: float = -3.0
    seed: int = 0

    bound = True
    family = Normal
    aliases = ("frisk",)
    reference = "Miller et al. 2017"

    def __post_init__(self) -> None:
        at_least(self, groups=1, places=1, seed=0)
        between(self, mean=(-10.0, 10.0), log_scale=(-20.0, 1.0))

    @property
    def dim(self) -> int:  # type: ignore[override]
        """Number of random variables: one effect of each group and of each place, and three more.

        The three are the scale of the group effects, the scale of the place effects, and the constant mu.
        """
        return self.groups + self.places + 3

    @property
    def row_elements(self) -> int:
        """Number of elements in the largest tensor of one estimate with one sample.

        The result is the larger of two numbers: the number of pairs of a group and a place, each with a Poisson rate,
        and the number of random variables.
        """
        return max(self.groups * self.places, self.dim)

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Return a ``Problem``: theta, q, f and, if known, the exact value, in ``dtype`` and on ``device``."""
        sharp_exposure, sharp_counts = self._data()
        exposure, counts = sharp_exposure.to(device, dtype), sharp_counts.to(device, dtype)
        sizes = [1, 2, self.groups, self.places]
        # The terms that do not depend on x: counts, exposures and the constants of the densities.
        constant = (sharp_counts * sharp_exposure.log() - torch.lgamma(sharp_counts + 1)).sum().item()
        constant -= (self.groups + self.places + 1) / 2 * math.log(2 * math.pi) + math.log(10)
        constant += 2 * math.log(2 / (10 * math.sqrt(2 * math.pi)))

        def log_joint(x: Tensor) -> Tensor:
            mu, log_s, a, b = torch.split(x, sizes, -1)
            rate = exposure * (mu.unsqueeze(-1) + a.unsqueeze(-1) + b.unsqueeze(-2)).exp()
            likelihood = _linear(counts, mu, a, b) - rate.sum((-1, -2))
            squares = torch.stack([a.square().sum(-1), b.square().sum(-1)], -1)
            prior = self._prior(mu.square(), log_s, (-2 * log_s).exp() * squares, (2 * log_s).exp())
            return likelihood + prior + constant

        def exact(theta: Theta) -> Tensor:
            mean, variance = theta["mean"], (2 * theta["log_scale"]).exp()
            mu, log_s, a, b = torch.split(mean, sizes)
            v_mu, v_s, v_a, v_b = torch.split(variance, sizes)
            log_rate = mu + v_mu / 2 + (a + v_a / 2).unsqueeze(-1) + b + v_b / 2
            likelihood = _linear(counts.to(mean), mu, a, b) - (exposure.to(mean) * log_rate.exp()).sum()
            squares = torch.stack([(a.square() + v_a).sum(), (b.square() + v_b).sum()])
            ratios = (2 * v_s - 2 * log_s).exp() * squares
            prior = self._prior(mu.square() + v_mu, log_s, ratios, (2 * log_s + 2 * v_s).exp())
            entropy = theta["log_scale"].sum() + self.dim / 2 * (1 + math.log(2 * math.pi))
            return likelihood + prior + entropy + constant

        theta = point(self.dim, dtype, device, mean=self.mean, log_scale=self.log_scale)
        return Problem(theta, mean_field, lambda q: Bound(log_joint, q), exact)

    def _prior(self, mu_square: Tensor, log_s: Tensor, ratios: Tensor, s_square: Tensor) -> Tensor:
        """Return log p(mu, log s, a, b) without its constants, ``[...]``.

        It is linear in every argument, so that it maps their expectations to its own expectation.

        Args:
            mu_square: mu^2, ``[..., 1]``.
            log_s: log s_a and log s_b, ``[..., 2]``.
            ratios: the sums of a_g^2 / s_a^2 and of b_p^2 / s_b^2, ``[..., 2]``.
            s_square: s_a^2 and s_b^2, ``[..., 2]``.
        """
        normal = -mu_square.squeeze(-1) / 200 - self.groups * log_s[..., 0] - self.places * log_s[..., 1]
        return normal - ratios.sum(-1) / 2 + log_s.sum(-1) - s_square.sum(-1) / 200

    def _data(self) -> tuple[Tensor, Tensor]:
        """Return exposures and counts, ``[groups, places]`` each, in float64 on the CPU for every problem."""
        generator = Generator().manual_seed(self.seed)
        a = 0.5 * torch.randn((self.groups, 1), generator=generator, dtype=torch.float64)
        b = torch.randn(self.places, generator=generator, dtype=torch.float64)
        exposure = 5 + 45 * torch.rand((self.groups, self.places), generator=generator, dtype=torch.float64)
        return exposure, torch.poisson(exposure * (a + b).exp(), generator=generator)


def _linear(counts: Tensor, mu: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return ``sum_gp counts_gp (mu + a_g + b_p)``, ``[...]``."""
    return mu.squeeze(-1) * counts.sum() + a @ counts.sum(-1) + b @ counts.sum(-2)
