import pytest
import torch
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from estimators import RLOO, Bound, Enumeration, Reparameterization
from tests.estimators.families import t


def test_is_log_p_minus_log_q():
    q = Independent(Normal(t(0.5, 1.0), t(1.0, 2.0)), 1)
    prior = Independent(Normal(t(0.0, 0.0), t(1.0, 1.0)), 1)
    f = Bound(prior.log_prob, q)
    x = t([0.3, -0.2], [1.0, 4.0], [0.0, 0.0])
    assert torch.equal(f(x), prior.log_prob(x) - q.log_prob(x))
    assert torch.equal(f.log_weights(x), f(x).unsqueeze(-1))
    assert torch.equal(f.log_weights(x, prior), torch.zeros(3, 1, dtype=torch.float64))


def test_value_and_gradient_are_those_of_minus_the_divergence():
    logits = t(0.4, -1.2, 0.3).requires_grad_()
    q = Independent(Bernoulli(logits=logits), 1)
    prior = Independent(Bernoulli(t(0.5, 0.2, 0.9)), 1)
    loss = Enumeration()(Bound(prior.log_prob, q), q)
    exact = -kl_divergence(q, prior)
    torch.testing.assert_close(loss, exact, rtol=1e-12, atol=0)
    torch.testing.assert_close(*(torch.autograd.grad(v, [logits])[0] for v in (loss, exact)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("estimator", [Reparameterization(), RLOO()], ids=repr)
def test_gradient_at_the_optimum_is_the_score_of_the_samples(estimator):
    """At q = p the weights are 0: all that is left is what passes through log q, the points held fixed or moving."""
    loc = t(0.5, 1.0).requires_grad_()
    q = Independent(Normal(loc, t(1.0, 2.0)), 1)
    p = Independent(Normal(loc.detach(), t(1.0, 2.0)), 1)
    loss = estimator(Bound(p.log_prob, q), q, torch.Generator().manual_seed(0))
    assert loss.item() == pytest.approx(0, abs=1e-12)
    (g,) = torch.autograd.grad(loss, [loc])
    z = torch.randn(estimator.n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(g, -(z / t(1.0, 2.0)).mean(0), rtol=1e-10, atol=1e-10)
