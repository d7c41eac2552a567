"""Counts so large that their dtype cannot tell them from their neighbours: the difference is taken further away."""

import pytest
import torch
from torch.distributions import Binomial, Geometric, NegativeBinomial, Poisson

from estimators import GO, MeasureValued, Refusal, StochasticAD, parameters
from tests.problems import seeded

N, RATE, P, LOGIT = 2.0**27, 2.0**26, 2.0**-27, 17.0
CASES = [
    (GO(), lambda t: Poisson(t), RATE, lambda x: torch.ones_like(x)),
    (GO(), lambda t: Geometric(t), P, lambda x: -(x + 1) / P),
    (GO(), lambda t: Binomial(int(N), t), 0.5, lambda x: 2 * (N - x)),
    (GO(), lambda t: NegativeBinomial(3, logits=t), LOGIT, lambda x: 3 + x),
    (MeasureValued(), lambda t: Poisson(t), RATE, lambda x: torch.ones_like(x)),
    (StochasticAD(), lambda t: Poisson(t), RATE, lambda x: torch.ones_like(x)),
    (StochasticAD(side="left"), lambda t: Poisson(t), RATE, lambda x: x / RATE),
    (StochasticAD(), lambda t: Geometric(t), P, lambda x: -x / P),
    (StochasticAD(side="left"), lambda t: Geometric(t), P, lambda x: -(x + 1) / P),
    (StochasticAD(side="both"), lambda t: Binomial(int(N), t), 0.5, lambda x: (2 * (N - x) + 2 * x) / 2),
]  # of f(x) = x: the differences are 1, and what is left is their weight


@pytest.mark.parametrize(("estimator", "family", "at", "weight"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradient_of_the_mean_is_the_weight(estimator, family, at, weight, dtype):
    theta, seen = torch.full((1000,), at, dtype=dtype, requires_grad=True), []

    def f(x):
        seen.append(x)
        return x

    (g,) = torch.autograd.grad(estimator(f, family(theta), seeded()).sum(), theta)
    x = seen[0].squeeze(0)
    assert x.max() > 2**24
    torch.testing.assert_close(g, weight(x), rtol=1e-5, atol=0)


def test_beyond_float64_too():
    theta = torch.full((9,), 2.0**56, dtype=torch.float64, requires_grad=True)
    (g,) = torch.autograd.grad(GO()(lambda x: x, Poisson(theta), seeded()).sum(), theta)
    assert torch.equal(g, torch.ones(9, dtype=torch.float64))


def test_a_curve_has_its_exact_gradient():
    """The derivative of E x^2 = rate + rate^2 is 2 rate + 1, here divided by rate^2.

    1,000 samples are within 6.3 standard deviations, 8e-4 of the rate, except with probability 1e-6.
    """
    theta = torch.full((1000,), RATE, requires_grad=True)
    for estimator in (GO(), MeasureValued(), StochasticAD(), StochasticAD(side="left")):
        loss = estimator(lambda x: (x.double() / RATE).square(), Poisson(theta), seeded())
        (g,) = torch.autograd.grad(loss.sum(), theta)
        torch.testing.assert_close(g, torch.full_like(g, 2 / RATE), rtol=2e-3, atol=0)


def test_samples_of_their_own_noise_have_no_neighbour():
    q = Poisson(torch.tensor([3.0, RATE], requires_grad=True))
    with pytest.raises(
        Refusal, match=r"a count of 6\d{7} plus 1 is no other number in float32.* Use MeasureValued\(\)"
    ):
        MeasureValued(coupled=False)(lambda x: x, q, seeded())
    (rate,) = parameters(q).values()
    assert MeasureValued(coupled=False)(lambda x: x, Poisson(rate.double()), seeded()).isfinite().all()


def test_the_distance_is_found_under_vmap_too():
    def slope(rate):
        return torch.func.grad(lambda rate: GO()(lambda x: x, Poisson(rate, validate_args=False)))(rate)

    rates = torch.tensor([3.0, RATE])
    assert torch.equal(torch.func.vmap(slope, randomness="different")(rates), torch.ones(2))
