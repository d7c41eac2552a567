"""MuProp: its formula on the same samples, exact moments on bits, what an affine f leaves."""

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Independent, OneHotCategorical

from bench.measurement.counting import Counter, counted
from estimators import InvalidParameter, MuProp, NotDifferentiable, UnsupportedFamily, draw, rows
from tests.problems import (
    centred,
    curved,
    gradients,
    mean_scores,
    moments,
    row_gradients,
    seeded,
    slope,
    variance_scores,
    weighted_outcomes,
)
from tests.tolerances import z_limit

LOGITS = torch.tensor([0.4, -1.2, 0.9], dtype=torch.float64)


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("hot", [False, True])
def test_the_formula_on_the_same_samples(n, hot):
    logits = LOGITS.clone().requires_grad_()
    q = OneHotCategorical(logits=logits) if hot else Independent(Bernoulli(logits=logits), 1)
    got = gradients(MuProp(n), curved, q, 6, seed=3)
    p = LOGITS.softmax(-1) if hot else LOGITS.sigmoid()
    jacobian = p.diag() - torch.outer(p, p) if hot else (p * (1 - p)).diag()
    expected = (jacobian @ slope(curved, p)).expand(6, 3).clone()
    for x in draw(rows(q, 6), n, seeded(3)):
        left_over = curved(x) - curved(p) - (x - p) @ slope(curved, p)
        expected += left_over.unsqueeze(-1) * (x - p) / n
    got = centred(got, p) if hot else got
    torch.testing.assert_close(got, centred(expected, p) if hot else expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_the_exact_moments_on_a_bit(monkeypatch, p):
    """Of (b - t)^2 the tangent leaves (b - p)^2, so the gradient is (b - p)^3 + 2 (p - t) p (1 - p)."""
    x, weights = weighted_outcomes(p, 1)
    monkeypatch.setattr("estimators.muprop.draw", lambda q, n, generator: x.T.clone())
    q = Bernoulli(logits=torch.tensor(p, dtype=torch.float64).logit().requires_grad_())
    g = row_gradients(MuProp(), lambda b: (b - 0.45) ** 2, q, len(x))["logits"]
    pq = p * (1 - p)
    third, sixth = pq * (1 - 2 * p), pq * ((1 - p) ** 5 + p**5)
    assert moments(g, weights) == pytest.approx((pq * 0.1, sixth - third**2), rel=1e-10)


def test_the_constant_that_is_left_over():
    """Bits at 1/2: the mean of (b_j - t)^2 is 1/4 away from its tangent, whatever b is."""
    q = Independent(Bernoulli(logits=torch.zeros(200, dtype=torch.float64).requires_grad_()), 1)
    g = gradients(MuProp(n=2), lambda b: (b - 0.499).square().mean(-1), q, 2**10)
    assert variance_scores(g, (1 / 4) ** 2 * (1 / 4) / 2).abs().max() < z_limit(400)  # 7.8e-3
    assert mean_scores(g, 0.25 * 0.002 / 200).abs().max() < z_limit(400)


@pytest.mark.parametrize("hot", [False, True])
def test_an_affine_f_leaves_nothing(hot):
    logits = LOGITS.clone().requires_grad_()
    q = OneHotCategorical(logits=logits) if hot else Independent(Bernoulli(logits=logits), 1)
    values = torch.tensor([1.0, -2.0, 5.0], dtype=torch.float64)
    g = gradients(MuProp(), lambda x: x @ values + 3, q, 50)
    p = LOGITS.softmax(-1) if hot else LOGITS.sigmoid()
    exact = p * (values - p @ values) if hot else p * (1 - p) * values
    torch.testing.assert_close(centred(g, p) if hot else g, exact.expand(50, 3), rtol=0, atol=1e-13)


def test_the_cost():
    counter = Counter(event_dims=1)
    q = Independent(Bernoulli(logits=LOGITS.clone().requires_grad_()), 1)
    MuProp(n=5)(counted(curved, counter), q, seeded())
    assert (counter.f, counter.df) == (6, 1)


def test_refusals():
    with pytest.raises(InvalidParameter, match=r"MuProp needs n >= 1 \(got n=0\)"):
        MuProp(n=0)
    with pytest.raises(UnsupportedFamily, match="OneHotCategorical with the same logits"):
        MuProp()(torch.square, Categorical(logits=LOGITS))
    with pytest.raises(NotDifferentiable, match="Use ScoreFunction or RLOO"):
        MuProp()(lambda x: (x > 0.5).double(), Bernoulli(logits=LOGITS.clone().requires_grad_()))
