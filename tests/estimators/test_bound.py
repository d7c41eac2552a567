import pytest
import torch
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from estimators import RLOO, Bound, Enumeration, InvalidIntegrand, Refusal, Reparameterization
from tests.problems import t


def test_is_log_p_minus_log_q():
    q = Independent(Normal(t(0.5, 1.0), t(1.0, 2.0)), 1)
    prior = Independent(Normal(t(0.0, 0.0), t(1.0, 1.0)), 1)
    f = Bound(prior.log_prob, q)
    x = t([0.3, -0.2], [1.0, 4.0], [0.0, 0.0])
    assert torch.equal(f(x), prior.log_prob(x) - q.log_prob(x))
    assert torch.equal(f.log_weights(x), f(x).unsqueeze(-1))
    assert torch.equal(f.log_weights(x, prior), torch.zeros(3, 1, dtype=torch.float64))


def test_value_and_gradient_equal_minus_the_divergences():
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


@pytest.mark.parametrize("nested", [False, True])
def test_of_particles_is_the_logarithm_of_the_mean_weight(nested):
    loc, scale = t([0.5, -0.8], [0.2, 0.3], [0.1, 0.4]), t([0.9, 0.6], [1.1, 0.7], [0.8, 1.2])
    q = Independent(Independent(Normal(loc, scale), 1), 1) if nested else Independent(Normal(loc, scale), 2)
    prior = Independent(Normal(t(0.0, 0.0), t(1.0, 1.0)), 1)
    f, x = Bound(prior.log_prob, q, 3), torch.randn(5, 3, 2, generator=torch.Generator().manual_seed(0)).double()
    log_q = torch.stack([Normal(loc[k], scale[k]).log_prob(x[:, k]).sum(-1) for k in range(3)], -1)
    torch.testing.assert_close(f.log_q(x), log_q, rtol=1e-12, atol=0)
    torch.testing.assert_close(f.log_weights(x), prior.log_prob(x) - log_q, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(f(x), (prior.log_prob(x) - log_q).exp().mean(-1).log(), rtol=1e-12, atol=1e-12)


def test_a_bound_of_one_particle_is_the_bound_without_particles():
    q = Independent(Normal(t([0.5, 1.0]), t([1.0, 2.0])), 2)
    prior = Independent(Normal(t(0.0, 0.0), t(1.0, 1.0)), 1)
    x = t([[0.3, -0.2]], [[1.0, 4.0]])
    one = Bound(prior.log_prob, q, 1)
    assert torch.equal(one(x), Bound(lambda x: prior.log_prob(x).squeeze(-1), q)(x))
    assert one.log_weights(x).shape == (2, 1)


@pytest.mark.parametrize("estimator", [RLOO(n=3), Reparameterization(n=3)], ids=repr)
def test_every_estimator_can_be_used_on_particles(estimator):
    """At the posterior every weight is that of the evidence, and so is the bound."""
    loc = t([0.5, 1.0], [0.5, 1.0]).requires_grad_()
    q = Independent(Normal(loc, t([1.0, 2.0], [1.0, 2.0])), 2)
    p = Independent(Normal(t(0.5, 1.0), t(1.0, 2.0)), 1)
    loss = estimator(Bound(lambda x: p.log_prob(x) + 3, q, 2), q, torch.Generator().manual_seed(0))
    assert loss.item() == pytest.approx(3, rel=1e-12)
    assert torch.autograd.grad(loss, [loc])[0].isfinite().all()


@pytest.mark.parametrize("estimator", [RLOO(n=3), Reparameterization(n=3)], ids=repr)
def test_a_bound_over_a_q_of_another_shape_is_refused_unless_its_rows_are_shared(estimator):
    def q(*batch, event=2):
        shape = (*batch, event)
        return Independent(Normal(torch.full(shape, 0.5, requires_grad=True), torch.ones(shape)), 1)

    def loss(over, q):
        return estimator(Bound(lambda x: -(x**2).sum(-1), over), q, torch.Generator().manual_seed(0))

    for over, other, kind in ((q(5), q(3), "batch"), (q(3, 3), q(3), "batch"), (q(3, event=1), q(3), "event")):
        with pytest.raises(InvalidIntegrand, match=rf"Bound got a q of {kind} shape .* Use one q for both"):
            loss(over, other)
    own = q(4, 3)
    assert all(torch.equal(loss(over, own), loss(own, own)) for over in (q(), q(3), q(1, 3), q(4, 1)))


def test_a_q_without_an_axis_of_particles_is_refused():
    for q in (Normal(t(0.0, 1.0), t(1.0, 1.0)), Independent(Normal(t(0.0, 1.0, 2.0), t(1.0, 1.0, 1.0)), 1)):
        with pytest.raises(Refusal, match=r"A Bound of 2 particles needs .* Use Independent around"):
            Bound(lambda x: x, q, 2)
