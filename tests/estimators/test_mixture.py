import math

import pytest
import torch
from torch.distributions import Categorical, Gamma, Independent, MixtureSameFamily, Normal

from bench.conformance import Case, Conformance
from bench.conformance.cases import quadrature, wave
from estimators import (
    RLOO,
    Reparameterization,
    ReparameterizedMixture,
    StickingTheLanding,
    UnsupportedFamily,
    parameters,
    rows,
)
from tests.problems import seeded, t


def nodes(q):
    """Return the Gauss-Hermite nodes of every component, with weights attached to the mixture's."""
    points, weights = [], []
    components = q.component_distribution
    normal = components.base_dist if isinstance(components, Independent) else components
    p = q.mixture_distribution.probs
    for k in range(p.shape[-1]):
        axes = len(q.event_shape)
        loc, scale = (v.select(-1 - axes, k) for v in (normal.loc, normal.scale))
        x, w = quadrature(Independent(Normal(loc, scale, False), axes, False))
        points.append(x)
        weights.append(w * p[..., k])
    return torch.cat(points), torch.cat(weights)


def mixture(logits, loc, scale):
    components = Normal(loc, scale, False)
    if loc.dim() > logits.dim():
        components = Independent(components, 1, False)
    return ReparameterizedMixture(Categorical(logits=logits, validate_args=False), components, False)


CASES = (
    Case(
        "mixture of 3 normals, 2 variables",
        (t(0.4, -0.5, 0.1), t([0.5, -0.8], [-1.0, 0.3], [1.5, 1.0]), t([0.9, 0.6], [0.5, 0.7], [0.4, 1.1])),
        mixture,
        wave(0.4),
        nodes,
    ),
    Case(
        "mixture of 2 normals, batch of 2",
        (t([0.4, -0.5], [1.0, 0.0]), t([0.5, -0.8], [-1.0, 0.3]), t([0.9, 0.6], [0.5, 0.7])),
        mixture,
        wave(0.4, -0.9, event=0),
        nodes,
    ),
)


class TestReparameterizationOfMixtures(Conformance):
    estimator = Reparameterization(n=2)
    cases = CASES


class TestStickingTheLandingOfMixtures(Conformance):
    estimator = StickingTheLanding()
    cases = CASES


class TestScoreOfMixtures(Conformance):
    estimator = RLOO()
    cases = CASES


def transform(x, logits, loc, scale):
    """Return the distributional transform of one sample, ``[D]``: each coordinate's distribution given those before."""
    out, w = [], logits
    for d in range(len(x)):
        component = Normal(loc[:, d], scale[:, d])
        out.append((w.softmax(0) * component.cdf(x[d])).sum())
        w = w + component.log_prob(x[d])
    return torch.stack(out)


def test_the_gradient_equals_the_inverse_transforms():
    """``dx/dtheta = -(dS/dx)^-1 dS/dtheta``, the Jacobians by autograd."""
    theta = CASES[0].theta
    own = tuple(v.clone().requires_grad_() for v in theta)
    q = mixture(*own)
    x = q.rdraw(torch.Size((5,)), seeded())
    assert torch.equal(x.detach(), q.draw(torch.Size((5,)), seeded()))
    v = t(0.7, -1.3)
    for i in range(5):
        at = x[i].detach()
        jacobian = torch.autograd.functional.jacobian(lambda y: transform(y, *theta), at)
        by_theta = torch.autograd.functional.jacobian(lambda *p, at=at: transform(at, *p), theta)
        weights = torch.linalg.solve(jacobian.T, v)
        got = torch.autograd.grad((x[i] * v).sum(), own, retain_graph=True)
        for g, j in zip(got, by_theta, strict=True):
            torch.testing.assert_close(g, -(weights @ j.flatten(1)).reshape(g.shape), rtol=1e-10, atol=1e-10)


def test_one_component_is_a_normal():
    loc, scale = t([0.5, -0.8]).requires_grad_(), t([0.9, 0.6]).requires_grad_()
    x = mixture(t(0.0), loc, scale).rdraw(torch.Size((4,)), seeded())
    z = ((x - loc) / scale).detach()
    got = torch.autograd.grad((x * t(1.0, 2.0)).sum(), [loc, scale])
    torch.testing.assert_close(got[0], t([4.0, 8.0]), rtol=1e-12, atol=0)
    torch.testing.assert_close(got[1], (z.sum(0) * t(1.0, 2.0)).unsqueeze(0), rtol=1e-10, atol=1e-12)


def test_weights_move_samples_between_the_components():
    """``dx/dw_k = -F_k(x) / q(x)`` up to what normalisation takes off."""
    logits = t(0.3, -0.2).requires_grad_()
    q = mixture(logits, t(-1.0, 2.0), t(0.5, 0.7))
    x = q.rdraw(torch.Size((6,)), seeded())
    components = Normal(t(-1.0, 2.0), t(0.5, 0.7))
    for each in x:
        (g,) = torch.autograd.grad(each, [logits], retain_graph=True)
        p, cdf = logits.detach().softmax(0), components.cdf(each.detach())
        expected = -p * (cdf - (p * cdf).sum()) / q.log_prob(each.detach()).exp().detach()
        torch.testing.assert_close(g, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_far_and_narrow_components(dtype):
    logits = torch.tensor([0.0, -40.0, 0.0], dtype=dtype).requires_grad_()
    loc = torch.tensor([[-1e3, 0.0], [0.0, 0.0], [1e3, 5.0]], dtype=dtype).requires_grad_()
    scale = torch.tensor([[1e-3, 1.0], [1.0, 1e-4], [1.0, 1e-6]], dtype=dtype).requires_grad_()
    q = rows(mixture(logits, loc, scale), 500)
    loss = Reparameterization()(lambda x: x.sum(-1).sin(), q, seeded())
    for g in torch.autograd.grad(loss.sum(), list(parameters(q).values())):
        assert g.isfinite().all()


def test_tails_keep_their_digits_in_float32():
    """A sample 5 deviations up: F is 1 there in float32 to 2e-7, and its derivative by the density 1e-6 is the path."""
    got = []
    for dtype in (torch.float32, torch.float64):
        logits = torch.tensor([0.3, -0.2], dtype=dtype).requires_grad_()
        q = mixture(logits, torch.tensor([0.0, 0.5], dtype=dtype), torch.tensor([1.0, 1.0], dtype=dtype))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                type(q), "draw", lambda self, shape, generator, dtype=dtype: torch.tensor([5.0, -5.0], dtype=dtype)
            )
            x = q.rdraw(torch.Size((2,)), None)
        got.append([torch.autograd.grad(each, [logits], retain_graph=True)[0].double() for each in x])
    for a, b in zip(*got, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=0)


def test_density_and_moments_are_torchs():
    theta = CASES[0].theta
    q = mixture(*theta)
    twin = MixtureSameFamily(Categorical(logits=theta[0]), Independent(Normal(*theta[1:]), 1))
    x = q.sample((50,))
    assert torch.equal(q.log_prob(x), twin.log_prob(x))
    x = q.draw(torch.Size((2**15,)), seeded())
    z = (x.mean(0) - twin.mean) / (twin.variance.sqrt() / math.sqrt(2**15))
    assert z.abs().max() < 5.5
    assert isinstance(rows(q, 3), ReparameterizedMixture)
    assert type(rows(twin, 3)) is MixtureSameFamily


def test_refusals():
    with pytest.raises(UnsupportedFamily, match=r"\(got Gamma\)\. Use MixtureSameFamily with ScoreFunction or RLOO"):
        ReparameterizedMixture(Categorical(t(0.5, 0.5)), Gamma(t(1.0, 2.0), t(1.0, 1.0)))
    with pytest.raises(UnsupportedFamily, match=r"MixtureSameFamily has no .* Use estimators\.ReparameterizedMixture"):
        Reparameterization()(lambda x: x, MixtureSameFamily(Categorical(t(0.5, 0.5)), Normal(t(1.0, 2.0), t(1.0, 1.0))))
