"""Objectives of several choices in a row: exact values against sums over all states and against an integral."""

import math

import pytest
import torch
from scipy import integrate

from bench.objectives import Corridor, GaussianThenCategorical, SigmoidBeliefNetwork
from tests.problems import leaf, outcomes


@pytest.mark.parametrize("objective", [GaussianThenCategorical(), GaussianThenCategorical(4, mean=-0.7, scale=6.0)])
def test_the_exact_value_of_a_gaussian_and_a_category_is_an_integral_of_a_sum(objective):
    problem = objective.build(torch.float64)
    theta = {name: t.detach() for name, t in problem.theta.items()}
    targets = torch.linspace(-1, 1, objective.classes, dtype=torch.float64)

    def at(z):
        p = (z * theta["slope"] + theta["bias"]).softmax(-1)
        density = math.exp(-(((z - objective.mean) / objective.scale) ** 2) / 2) / objective.scale
        return density / math.sqrt(2 * math.pi) * (p * (1 - (-((z - targets) ** 2)).exp())).sum().item()

    value, _ = integrate.quad(at, objective.mean - 12 * objective.scale, objective.mean + 12 * objective.scale)
    assert problem.exact(problem.theta).item() == pytest.approx(value, rel=1e-7)


def test_the_exact_value_of_the_corridor_is_the_sum_over_all_walks():
    for cells, horizon, slip in ((3, 3, 0.1), (4, 4, 0.3), (3, 2, 0.0)):
        problem = Corridor(cells=cells, horizon=horizon, slip=slip).build(torch.float64)
        theta = {"logits": leaf(0.3, -0.8, 1.1)}
        q = problem.q(theta)
        x = outcomes(2 * horizon).reshape(-1, horizon, 2)
        mass = q.log_prob(x).exp()
        assert mass.sum().item() == pytest.approx(1, rel=1e-12)
        summed, exact = (mass * problem.integrand(q)(x)).sum(), problem.exact(theta)
        one, other = (torch.autograd.grad(v, theta["logits"], retain_graph=True)[0] for v in (summed, exact))
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(summed, exact, rtol=1e-12, atol=1e-12)


def test_the_exact_value_of_a_belief_network_is_the_mean_over_all_states():
    problem = SigmoidBeliefNetwork(layers=3, width=2, batch=3).build(torch.float64)
    q = problem.q(problem.theta)
    x = outcomes(6).unsqueeze(1).expand(-1, 3, 6)
    summed = (q.log_prob(x).exp() * problem.integrand(q)(x)).sum(0).mean()
    torch.testing.assert_close(summed, problem.exact(problem.theta), rtol=1e-12, atol=1e-12)
