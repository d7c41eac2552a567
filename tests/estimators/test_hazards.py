"""Numerical hazards: whatever the estimator, the result is finite and right, or one sentence says why there is none."""

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Independent, Normal, OneHotCategorical

from estimators import (
    RLOO,
    GumbelSoftmax,
    Refusal,
    Reparameterization,
    ScoreFunction,
    StraightThroughGumbelSoftmax,
    catalogue,
    parameters,
    rows,
)
from tests.problems import seeded

ESTIMATORS = [e for e in (cls() for cls in catalogue().values()) if not e.needs_bound]
DTYPES = [torch.float32, torch.float64]


def curve(x):
    x = x.to(torch.promote_types(x.dtype, torch.get_default_dtype()))
    return (2 * x).sum(-1).sin() + x.sum(-1) ** 2


def run(estimator, f, q, theta, count=64):
    """Return losses and gradients of rows, or None where the family is refused."""
    if estimator.refuses(type(q.base_dist if isinstance(q, Independent) else q)):
        with pytest.raises(Refusal, match="Use "):
            estimator(f, q, seeded())
        return None
    r = rows(q, count)
    loss = estimator(f, r, seeded(), estimator.init(q, seeded()))
    (g,) = torch.autograd.grad(loss.sum(), list(parameters(r).values())[:1])
    assert loss.isfinite().all()
    assert g.isfinite().all()
    return loss.detach(), g


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
@pytest.mark.parametrize("level", [50.0, 500.0])
def test_saturated_bits(estimator, level, dtype):
    logits = torch.tensor([level, -level, level], dtype=dtype, requires_grad=True)
    got = run(estimator, curve, Independent(Bernoulli(logits=logits), 1), logits)
    if got:
        loss, g = got
        certain = curve(torch.tensor([1.0, 0.0, 1.0], dtype=dtype))
        torch.testing.assert_close(loss, certain.expand_as(loss), rtol=1e-5, atol=1e-5)
        assert g.abs().max() < 1e-6


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
@pytest.mark.parametrize("level", [50.0, 500.0])
@pytest.mark.parametrize("family", [OneHotCategorical, Categorical])
def test_saturated_categories(estimator, level, dtype, family):
    logits = torch.tensor([-level, level, -level], dtype=dtype, requires_grad=True)
    values = torch.tensor([1.0, -2.0, 4.0], dtype=dtype)
    f = (lambda x: (x @ values) ** 2) if family is OneHotCategorical else lambda x: values[x] ** 2
    got = run(estimator, f, family(logits=logits), logits)
    if got:
        loss, g = got
        torch.testing.assert_close(loss, torch.full_like(loss, 4.0), rtol=1e-5, atol=1e-5)
        p = torch.softmax(logits.detach(), -1)
        assert (g - p * g.sum(-1, keepdim=True)).abs().max() < 1e-5  # at theta, before torch's normalisation


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_probabilities_of_zero_and_one(estimator, dtype):
    probs = torch.tensor([0.0, 1.0, 1.0], dtype=dtype, requires_grad=True)
    got = run(estimator, curve, Independent(Bernoulli(probs), 1), probs)
    if got and estimator.value_unbiased:
        certain = curve(torch.tensor([0.0, 1.0, 1.0], dtype=dtype))
        torch.testing.assert_close(got[0], certain.expand_as(got[0]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_an_impossible_category(estimator, dtype):
    logits = torch.tensor([0.3, -torch.inf, -0.4], dtype=dtype, requires_grad=True)
    values = torch.tensor([1.0, -2.0, 4.0], dtype=dtype)
    got = run(estimator, lambda x: (x @ values) ** 2, OneHotCategorical(logits=logits), logits)
    if got:
        p = torch.softmax(logits.detach(), -1)
        assert (got[1] - p * got[1].sum(-1, keepdim=True))[:, 1].abs().max() == 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_one_variable_of_equal_probabilities(estimator, dtype):
    logits = torch.zeros(1, dtype=dtype, requires_grad=True)
    run(estimator, curve, Independent(Bernoulli(logits=logits), 1), logits)
    logits = torch.zeros(4, dtype=dtype, requires_grad=True)
    run(estimator, curve, OneHotCategorical(logits=logits), logits)


@pytest.mark.parametrize("cls", [GumbelSoftmax, StraightThroughGumbelSoftmax])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("temperature", [1e-3, 1e3])
def test_extreme_temperatures(cls, temperature, dtype):
    for q in (
        Independent(Bernoulli(logits=torch.tensor([0.4, -1.2], dtype=dtype, requires_grad=True)), 1),
        OneHotCategorical(logits=torch.tensor([0.4, -1.2, 0.3], dtype=dtype, requires_grad=True)),
    ):
        _, g = run(cls(temperature=temperature), curve, q, None)
        if temperature == 1e3:  # y is flat: its Jacobian is at most 1/(4 temperature), and |df/dx| here below 10
            assert 0 < g.abs().max() < 10 / 4e3 * 2


def narrow(estimator):
    """Return row gradients at a Normal of scale 1e-6, its noise z, f(x) and df/dx."""
    loc = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    _, g = run(estimator, curve, Independent(Normal(loc, torch.full((2,), 1e-6, dtype=torch.float64)), 1), loc)
    z = torch.randn(estimator.n, 64, 2, generator=seeded(), dtype=torch.float64)
    x = (loc + 1e-6 * z).detach().requires_grad_()
    fx = curve(x)
    return g, z, fx.detach().unsqueeze(-1), torch.autograd.grad(fx.sum(), [x])[0]


def test_a_narrow_normal():
    g, z, fx, _ = narrow(ScoreFunction(n=2))
    torch.testing.assert_close(g, (fx * z).mean(0) / 1e-6, rtol=1e-8, atol=1e-2)  # of 1e6; x keeps 10 digits of z
    g, z, fx, _ = narrow(RLOO())
    torch.testing.assert_close(g, ((fx - fx.mean(0)) * z).sum(0) / 1e-6, rtol=1e-8, atol=1e-8)
    g, _, _, slope = narrow(Reparameterization())
    torch.testing.assert_close(g, slope.mean(0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_large_constant_in_f_is_no_matter_to_rloo(dtype):
    theta = torch.tensor([0.4, -1.2, 0.3], dtype=dtype, requires_grad=True)
    q = Independent(Bernoulli(logits=theta), 1)
    _, plain = run(RLOO(n=4), curve, q, theta)
    _, raised = run(RLOO(n=4), lambda x: curve(x) + 1e6, q, theta)
    rounding = 1e6 * torch.finfo(dtype).eps  # of f itself, which is all that was known of it
    assert (plain - raised).abs().max() < 4 * rounding


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_a_large_constant_in_f_stays_finite(estimator):
    theta = torch.tensor([0.4, -1.2, 0.3], dtype=torch.float32, requires_grad=True)
    run(estimator, lambda x: curve(x) + 1e6, Independent(Bernoulli(logits=theta), 1), theta)
