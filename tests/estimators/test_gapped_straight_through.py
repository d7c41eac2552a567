"""Gapped straight-through: its formula on the same noise, the moved logits, the expected gap."""

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Independent, OneHotCategorical

from estimators import GappedStraightThrough, InvalidParameter, UnsupportedFamily, draw
from estimators import gapped_straight_through as module
from tests.problems import curve, curve_slope, mean_scores, seeded, t
from tests.tolerances import z_limit

LOGITS = t([0.4, -1.2, 0.3], [0.3, 2.0, -0.5])
GAPS = [0.3, 1.0, "expected"]


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("temperature", [0.3, 2.0])
def test_is_its_formula_on_categories(gap, temperature):
    """As in the paper: m1 raises the outcome to the maximum, m2 lowers the others that are within the gap of it."""
    theta = LOGITS.clone().requires_grad_()
    q = OneHotCategorical(logits=theta)
    loss = GappedStraightThrough(4, temperature, gap)(curve, q, seeded())
    (got,) = torch.autograd.grad(loss.sum(), [theta])
    x, p = draw(q, 4, seeded()), torch.softmax(LOGITS, -1)
    chosen = (x * p).sum(-1, keepdim=True)
    width = -(1 - chosen).log() / chosen if gap == "expected" else gap
    highest = LOGITS.amax(-1, keepdim=True)
    m1, m2 = (highest - LOGITS) * x, (LOGITS + width - highest).clamp_min(0) * (1 - x)
    y, g = torch.softmax((LOGITS + m1 - m2) / temperature, -1), curve_slope(x)
    expected = ((y * g - y * (y * g).sum(-1, keepdim=True)) / temperature).mean(0)
    torch.testing.assert_close(loss, curve(x).mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("gap", GAPS)
def test_a_bit_is_one_of_two_categories(monkeypatch, gap):
    logits, b = t(0.7, -1.9, 0.1), t([1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 0.0])
    theta = logits.clone().requires_grad_()
    monkeypatch.setattr(module, "draw", lambda q, n, generator: b)
    one = GappedStraightThrough(3, 0.6, gap)
    (by_bits,) = torch.autograd.grad(one(curve, Independent(Bernoulli(logits=theta), 1)), [theta])
    monkeypatch.setattr(module, "draw", lambda q, n, generator: torch.stack([b, 1 - b], -1))
    q = Independent(OneHotCategorical(logits=torch.stack([theta, torch.zeros_like(theta)], -1)), 1)
    (by_pairs,) = torch.autograd.grad(one(lambda x: curve(x[..., 0]), q), [theta])
    torch.testing.assert_close(by_bits, by_pairs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_moved_logits_make_the_outcome_with_the_gap(gap, scale):
    estimator = GappedStraightThrough(gap=gap)
    q = OneHotCategorical(logits=(LOGITS * scale).expand(400, 2, 3))
    x = draw(q, 1, seeded())
    z = estimator._moved(x, q, q.logits)
    top = z.topk(2).values
    width = estimator._gap((x * q.probs).sum(-1))
    assert torch.equal(torch.nn.functional.one_hot(z.argmax(-1), 3).double(), x)
    assert (top[..., 0] - top[..., 1] >= width - 1e-12).all()


def test_the_expected_gap_is_the_mean_lead_under_gumbel_noise():
    logits, count = LOGITS[1], 2**16
    g = -torch.rand(count, 3, generator=seeded(), dtype=torch.float64).clamp_min(1e-300).log().neg().log()
    z = logits + g
    top = z.topk(2).values
    lead, winner = top[:, 0] - top[:, 1], z.argmax(-1)
    for i, p in enumerate(torch.softmax(logits, -1)):
        expected = GappedStraightThrough(gap="expected")._gap(p)
        assert mean_scores(lead[winner == i].unsqueeze(-1), expected).abs().max() < z_limit(3)


@pytest.mark.parametrize(
    "field", [{"n": 0}, {"temperature": 0.0}, {"gap": 0.0}, {"gap": -1.0}, {"gap": "p"}, {"gap": True}]
)
def test_bad_parameters(field):
    with pytest.raises(InvalidParameter, match=r"GappedStraightThrough needs .*Use GappedStraightThrough\("):
        GappedStraightThrough(**field)


def test_integer_categories_are_refused_with_the_one_hot_form():
    with pytest.raises(UnsupportedFamily, match="Use OneHotCategorical"):
        GappedStraightThrough()(lambda x: x, Categorical(logits=torch.zeros(3)))


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("temperature", [1e-3, 1e3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extremes_stay_finite(gap, temperature, dtype):
    theta = torch.tensor([[50.0, -50.0, 0.0], [0.0, -torch.inf, 1.0], [0.0, 0.0, 0.0]], dtype=dtype).requires_grad_()
    for build in (lambda x: OneHotCategorical(logits=x), lambda x: Independent(Bernoulli(logits=x), 1)):
        loss = GappedStraightThrough(3, temperature, gap)(curve, build(theta), seeded())
        (g,) = torch.autograd.grad(loss.sum(), [theta])
        assert g.isfinite().all()
