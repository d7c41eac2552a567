import math

import pytest
import torch
from torch.distributions import Bernoulli, Binomial, Geometric, Independent, NegativeBinomial, Normal, Poisson

from bench.conformance import Case, Conformance
from estimators import GO, InvalidParameter, MeasureValued, Refusal, UnsupportedFamily, parameters, rows
from tests.problems import gradients, mean_scores, moments, row_gradients, seeded, t, variance_scores, weighted_outcomes
from tests.tolerances import z_limit


def f(x):
    return (0.5 * x[..., 0] + 0.4).sin() * (1 + 0.2 * x[..., 1]) + (0.3 * x).sum(-1).cos()


def counts(q):
    """Return the pairs of integers that matter, with their probabilities."""
    last = int(q.base_dist.total_count.max()) if isinstance(q.base_dist, Binomial) else 80
    x = torch.arange(last + 1.0, dtype=torch.float64)
    points = torch.cartesian_prod(x, x)
    return points, q.log_prob(points).exp()


def case(name, theta, make):
    return Case(name, (theta,), lambda v: Independent(make(v), 1, False), f, counts, steady=False)


INTEGERS = (
    case("Geometric probs", t(0.4, 0.7), lambda p: Geometric(p, validate_args=False)),
    case("Geometric logits", t(0.4, 0.7), lambda v: Geometric(logits=v, validate_args=False)),
    case("Binomial probs", t(0.4, 0.7), lambda p: Binomial(4, p, validate_args=False)),
    case("Binomial logits", t(0.4, 0.7), lambda v: Binomial(4, logits=v, validate_args=False)),
    case("NegativeBinomial probs", t(0.4, 0.3), lambda p: NegativeBinomial(3.0, p, validate_args=False)),
    case("NegativeBinomial logits", t(-0.4, -0.7), lambda v: NegativeBinomial(3.0, logits=v, validate_args=False)),
    case("Poisson", t(1.5, 0.6), lambda r: Poisson(r, validate_args=False)),
)


class TestFiniteSupport(Conformance):
    estimator = GO(n=2)


class TestIntegers(Conformance):
    estimator = GO()
    cases = INTEGERS

    def test_cached_probs_are_not_trusted(self):
        pytest.skip("torch's samplers of these families draw with the cache")


def distribution(family, x, p, total):
    """Return F(x), differentiable in the parameter, as a sum."""
    k = torch.arange(int(x) + 1, dtype=torch.float64)
    q = {
        Poisson: lambda: Poisson(p),
        Geometric: lambda: Geometric(p),
        Bernoulli: lambda: Bernoulli(p),
        Binomial: lambda: Binomial(total, p),
        NegativeBinomial: lambda: NegativeBinomial(total, p),
    }[family]()
    return q.log_prob(k).exp().sum(), q.log_prob(x).exp()


@pytest.mark.parametrize(
    ("family", "p", "total", "x"),
    [
        (Poisson, 1.7, None, 3.0),
        (Geometric, 0.3, None, 2.0),
        (Bernoulli, 0.3, None, 0.0),
        (Bernoulli, 0.3, None, 1.0),
        (Binomial, 0.3, 5, 2.0),
        (Binomial, 0.3, 5, 5.0),
        (NegativeBinomial, 0.3, 2.5, 4.0),
    ],
)
def test_the_weight_comes_from_the_distribution_function(family, p, total, x):
    p = t(p).squeeze().requires_grad_()
    below, density = distribution(family, t(x).squeeze(), p, total)
    expected = -(torch.autograd.grad(below, [p], retain_graph=True)[0] / density).detach()
    q = family(p) if total is None else family(total, p)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("estimators.go.draw", lambda q, n, generator: t(x))
        (g,) = torch.autograd.grad(GO()(lambda x: x**2, q), [p])
    end = {Bernoulli: 1.0, Binomial: float(total or 0)}.get(family, math.inf)
    torch.testing.assert_close(g, expected * (min(x + 1, end) ** 2 - x**2), rtol=1e-10, atol=1e-12)


def test_two_poissons_are_measure_valued():
    rate = t(1.5, 0.6).requires_grad_()
    q = Independent(Poisson(rate), 1)
    got, other = (torch.autograd.grad(e(f, q, seeded()), [rate])[0] for e in (GO(n=3), MeasureValued(n=3)))
    assert torch.equal(got, other)


def test_variance_of_a_bit():
    p = 0.3
    x, weights = weighted_outcomes(p, 1)
    for name, factor in (("probs", p / (1 - p)), ("logits", p**3 * (1 - p))):
        value = t(p if name == "probs" else math.log(p / (1 - p))).squeeze().requires_grad_()
        q = Bernoulli(**{name: value})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("estimators.go.draw", lambda q, n, generator: x.T)
            g = row_gradients(GO(), lambda x: (x - 0.45) ** 2, q, 2)[name]
        slope = 1 if name == "probs" else p * (1 - p)
        assert moments(g, weights) == pytest.approx((0.1 * slope, 0.01 * factor), rel=1e-10)


def test_variance_of_a_poisson():
    q = Poisson(t(3.0).squeeze().requires_grad_())
    assert (gradients(GO(), lambda x: x, q, 50) == 1).all()
    g = gradients(GO(), torch.square, q, 2**16)
    assert abs(mean_scores(g, 7.0)) < z_limit(2)
    assert abs(variance_scores(g, 12.0)) < z_limit(2)


def test_evaluations():
    seen = []

    def counted(x):
        seen.append(x.shape[0] if x.dim() == 2 else x.shape[0] * x.shape[1])
        return f(x)

    GO(n=3)(counted, Independent(Poisson(t(1.5, 0.6).requires_grad_()), 1), seeded())
    assert seen == [3, 6]


def test_certain_bits_have_finite_gradients():
    q = rows(Independent(Bernoulli(t(0.0, 1.0).requires_grad_()), 1), 5)
    (g,) = torch.autograd.grad(GO()(f, q, seeded()).sum(), list(parameters(q).values()))
    assert g.isfinite().all()


def test_refusals():
    with pytest.raises(UnsupportedFamily, match=r"and q is Normal\. Use Reparameterization"):
        GO()(f, Independent(Normal(t(1.0, 2.0), t(1.0, 1.0)), 1))
    total = t(2.0, 3.0).requires_grad_()
    with pytest.raises(Refusal, match=r"no gradient for the total_count of NegativeBinomial\. Use ScoreFunction or"):
        GO()(f, Independent(NegativeBinomial(total, t(0.3, 0.4)), 1))
    with pytest.raises(InvalidParameter, match="n >= 1"):
        GO(n=0)
