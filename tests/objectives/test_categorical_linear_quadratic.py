"""The linear-quadratic objective: its gradient by the sum over all states and by formula, and what it promises."""

import pytest
import torch
from torch import Generator

from bench.objectives import CategoricalLinearQuadratic
from estimators import Enumeration, ReinMax, StraightThrough, rows

SMALL = CategoricalLinearQuadratic(dim=3, classes=4, seed=5)


def gradient(problem) -> torch.Tensor:
    return torch.autograd.grad(problem.exact(problem.theta), list(problem.theta.values()))[0]


def test_exact_value_and_gradient_match_the_sum_over_all_states():
    problem = SMALL.build(torch.float64)
    q = problem.q(problem.theta)
    loss = Enumeration()(problem.integrand(q), q)
    torch.testing.assert_close(problem.exact(problem.theta), loss, rtol=1e-12, atol=0)
    by_sum = torch.autograd.grad(loss, list(problem.theta.values()))[0]
    torch.testing.assert_close(gradient(problem), by_sum, rtol=1e-12, atol=1e-15)


def test_gradient_by_hand():
    """dE/dp_ic = a_ic + 2 b_ic (b.p) + b_ic^2 - 2 b_ic (b_i.p_i), through the Jacobian of the softmax."""
    problem = CategoricalLinearQuadratic().build(torch.float64)
    draws = torch.randn((3, 200), generator=Generator().manual_seed(0), dtype=torch.float64).view(3, 20, 10)
    logits, a, b = draws[0], draws[1] / 20**0.5, draws[2] / 20**0.5
    p = logits.softmax(-1)
    slope = a + 2 * b * (b * p).sum() + b.square() - 2 * b * (b * p).sum(-1, keepdim=True)
    expected = p * (slope - (p * slope).sum(-1, keepdim=True))
    torch.testing.assert_close(gradient(problem), expected, rtol=1e-12, atol=1e-15)


def test_f_by_hand():
    objective = CategoricalLinearQuadratic(dim=2, classes=3, seed=1)
    problem = objective.build(torch.float64)
    _, a, b = torch.randn((3, 6), generator=Generator().manual_seed(1), dtype=torch.float64) / 2**0.5
    z = torch.eye(3, dtype=torch.float64)[torch.tensor([[0, 2], [1, 1]])]
    expected = torch.stack([a[0] + a[5] + (b[0] + b[5]) ** 2, a[1] + a[4] + (b[1] + b[4]) ** 2])
    torch.testing.assert_close(problem.integrand(problem.q(problem.theta))(z), expected, rtol=1e-12, atol=0)


def mean_over_states(estimator) -> torch.Tensor:
    """Return the estimator's mean for one variable: the weighted sum of its gradients at all samples."""
    problem = CategoricalLinearQuadratic(dim=1, classes=4, seed=2).build(torch.float64)
    q = problem.q(problem.theta)
    many = rows(q, 4000)
    loss = estimator(problem.integrand(many), many, Generator().manual_seed(0))
    value = loss.detach()
    (own,) = torch.autograd.grad(loss.sum(), [many.base_dist._categorical.logits])
    p = problem.theta["logits"].softmax(-1).detach()[0]
    f = problem.integrand(q)(torch.eye(4, dtype=torch.float64).unsqueeze(1))
    total = torch.zeros(4, dtype=torch.float64)
    for c in range(4):
        row = int((value - f[c]).abs().argmin())
        torch.testing.assert_close(value[row], f[c], rtol=1e-12, atol=0)
        total += p[c].detach() * own[row, 0]
    return total - p * total.sum()


def test_the_mean_of_reinmax_is_exact_and_the_mean_of_straight_through_is_not():
    expected = gradient(CategoricalLinearQuadratic(dim=1, classes=4, seed=2).build(torch.float64))[0]
    torch.testing.assert_close(mean_over_states(ReinMax()), expected, rtol=1e-10, atol=1e-12)
    assert (mean_over_states(StraightThrough()) - expected).norm() > 0.1 * expected.norm()


@pytest.mark.parametrize(("field", "value"), [("dim", 0), ("classes", 1), ("seed", -1)])
def test_bad_parameters_are_refused_in_a_sentence(field, value):
    with pytest.raises(ValueError, match=rf"needs a whole number {field} .*\(got {field}={value}\)"):
        CategoricalLinearQuadratic(**{field: value})
