import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Gamma, Independent, MultivariateNormal, Normal

from estimators import Bound, InvalidParameter, Refusal, Reparameterization, StickingTheLanding, parameters, rows
from tests.problems import mean_scores, seeded, t, variance_scores
from tests.tolerances import z_limit


def log_joint(x):
    return (x.sum(-1) * 0.7).sin() - (x**4).sum(-1) / 5


@pytest.mark.parametrize("n", [1, 4])
def test_is_its_formula(n):
    loc, scale = t(0.5, -0.8).requires_grad_(), t(0.9, 0.6).requires_grad_()
    q = Independent(Normal(loc, scale), 1)
    loss = StickingTheLanding(n)(Bound(log_joint, q), q, seeded())
    got = torch.autograd.grad(loss, [loc, scale])
    z = torch.randn(n, 2, generator=seeded(), dtype=torch.float64)
    m, s = loc.detach(), scale.detach()
    x = m + s * z
    slope = (x.sum(-1, keepdim=True) * 0.7).cos() * 0.7 - 4 * x**3 / 5 + z / s
    log_q = (-(z**2) / 2 - s.log() - math.log(2 * math.pi) / 2).sum(-1)
    torch.testing.assert_close(loss, (log_joint(x) - log_q).mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(got[0], slope.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(got[1], (slope * z).mean(0), rtol=1e-12, atol=1e-12)


POSTERIORS = [
    (t(0.5, -0.8), t(0.9, 0.6)),
    (t(3.0), t(1e-3)),
]


@pytest.mark.parametrize(("mean", "sd"), POSTERIORS)
def test_no_variance_at_the_posterior(mean, sd):
    q = Independent(Normal(mean.clone().requires_grad_(), sd.clone().requires_grad_()), 1)
    posterior = Independent(Normal(mean, sd), 1)
    r = rows(q, 100)
    loss = StickingTheLanding()(Bound(lambda x: posterior.log_prob(x) + 3, r), r, seeded())
    torch.testing.assert_close(loss, torch.full_like(loss, 3.0), rtol=1e-10, atol=0)
    for g in torch.autograd.grad(loss.sum(), list(parameters(r).values())):
        assert g.abs().max() < 1e-10 / sd.min()


@pytest.mark.parametrize(
    "make",
    [
        lambda: MultivariateNormal(t(0.3, 0.1), scale_tril=t([1.0, 0.0], [0.4, 0.7]).requires_grad_()),
        lambda: Gamma(t(2.3).requires_grad_(), t(0.7).requires_grad_()),
    ],
)
def test_no_variance_at_the_posterior_of_other_families(make):
    q = rows(make(), 1)
    loss = StickingTheLanding(n=5)(Bound(make().log_prob, q), q, seeded())
    for g in torch.autograd.grad(loss.sum(), [p for p in parameters(q).values() if p.requires_grad]):
        assert g.abs().max() < 1e-10


@dataclass(frozen=True, eq=False)
class Importance(Bound):
    def log_weights(self, x: Tensor, q=None) -> Tensor:
        return super().log_weights(x, q).expand(*x.shape[:-1], 3)


def test_variance_away_from_the_posterior():
    """p = N(0, 1), q = N(m, s^2): the slope is -x + (x - m)/s^2, so Var_loc = (1/s - s)^2."""
    m, s = 0.7, 1.6
    q = Normal(t(m).squeeze().requires_grad_(), t(s).squeeze())

    def loc(estimator):
        r = rows(q, 2**16)
        (g,) = torch.autograd.grad(estimator(Bound(lambda x: -(x**2) / 2, r), r, seeded(1)).sum(), [r.loc])
        return g

    for estimator, variance in ((StickingTheLanding(), (1 / s - s) ** 2), (Reparameterization(), s**2)):
        g = loc(estimator)
        assert abs(mean_scores(g, -m)) < z_limit(4)
        assert abs(variance_scores(g, variance)) < z_limit(4)


def test_the_decoder_gets_the_gradient_of_the_value():
    w = t(0.3).requires_grad_()
    q = Independent(Normal(t(0.5, -0.8).requires_grad_(), t(0.9, 0.6)), 1)
    loss = StickingTheLanding(n=3)(Bound(lambda x: w * log_joint(x), q), q, seeded())
    (g,) = torch.autograd.grad(loss.sum(), [w])
    x = t(0.5, -0.8) + t(0.9, 0.6) * torch.randn(3, 2, generator=seeded(), dtype=torch.float64)
    torch.testing.assert_close(g, log_joint(x).mean(0, keepdim=True), rtol=1e-12, atol=0)


def test_refusals():
    q = Independent(Normal(t(0.5, -0.8).requires_grad_(), t(0.9, 0.6)), 1)
    with pytest.raises(
        Refusal, match=r"needs a Bound over the q that it is called with \(got a plain function\)\. Use Bound\("
    ):
        StickingTheLanding()(log_joint, q)
    with pytest.raises(Refusal, match="got a Bound over another q"):
        StickingTheLanding()(Bound(log_joint, Independent(Normal(t(0.5, -0.8), t(0.9, 0.6)), 1)), q)
    with pytest.raises(Refusal, match=r"biased for a Bound of more than one particle \(got 3\)\. Use DoublyReparam"):
        StickingTheLanding()(Importance(log_joint, q), q)
    bits = Bernoulli(t(0.5))
    with pytest.raises(Refusal, match=r"StickingTheLanding needs samples that are .* Use ScoreFunction, RLOO"):
        StickingTheLanding()(Bound(lambda x: x, bits), bits)
    with pytest.raises(InvalidParameter, match="n >= 1"):
        StickingTheLanding(n=0)
