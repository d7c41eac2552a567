import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Independent, Normal, OneHotCategorical

from estimators import Enumeration, Refusal, UnsupportedFamily
from tests.problems import FAMILIES, outcomes, t

E = Enumeration()


def test_bits():
    theta = t([0.4, -1.2, 0.3], [0.3, 2.0, -0.5]).requires_grad_()
    shift = t(0.5, -0.2)

    def f(x):
        return (x.cumsum(-1).sum(-1) + shift).sin()

    p = torch.sigmoid(theta)
    expected = sum(torch.where(x > 0, p, 1 - p).prod(-1) * f(x.expand(2, 3)) for x in outcomes(3))
    loss = E(f, Independent(Bernoulli(logits=theta), 1))
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    a, b = (torch.autograd.grad(v.sum(), [theta])[0] for v in (loss, expected))
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("hot", [True, False])
def test_categories(hot):
    theta = t([0.4, -1.2, 0.3], [0.3, 2.0, -0.5]).requires_grad_()
    c = t([1.0, -2.0, 4.0], [0.5, 3.0, -1.0])
    p = torch.softmax(theta, -1)
    expected = sum(p[0, i] * p[1, j] * (c[0, i] * c[1, j]).sin() for i in range(3) for j in range(3))
    if hot:
        loss = E(lambda x: (x * c).sum(-1).prod(-1).sin(), Independent(OneHotCategorical(logits=theta), 1))
    else:
        table = torch.arange(2)
        loss = E(lambda x: c[table, x].prod(-1).sin(), Independent(Categorical(logits=theta), 1))
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    a, b = (torch.autograd.grad(v, [theta])[0] for v in (loss, expected))
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["bernoulli-probs", "one-hot-probs", "categorical-probs"])
def test_probabilities_sum_to_one(name):
    family = FAMILIES[name]
    q = family.build(*family.theta)
    loss = E(lambda x: torch.ones(x.shape[: x.dim() - len(q.event_shape)], dtype=torch.float64), q)
    torch.testing.assert_close(loss, torch.ones_like(loss), rtol=1e-14, atol=0)


def test_exact_at_certain_bits():
    p = t(0.0, 1.0, 0.3).requires_grad_()
    loss = E(lambda x: 2 * x + x**2, Bernoulli(p))
    assert torch.allclose(loss, t(0.0, 3.0, 0.9), rtol=1e-14)
    assert torch.equal(torch.autograd.grad(loss.sum(), [p])[0], t(3.0, 3.0, 3.0))


def test_two_categories_are_a_bit():
    logit = t(0.7).squeeze().requires_grad_()
    hot = OneHotCategorical(logits=torch.stack([torch.zeros_like(logit), logit]))
    a, b = E(lambda x: x[..., 1].exp(), hot), E(torch.exp, Bernoulli(logits=logit))
    torch.testing.assert_close(a, b, rtol=1e-14, atol=0)
    torch.testing.assert_close(*(torch.autograd.grad(v, [logit])[0] for v in (a, b)), rtol=1e-12, atol=0)


def test_calls_f_once_on_the_whole_support():
    seen = []
    E(lambda x: seen.append(x) or x.sum(-1), Independent(Bernoulli(torch.full((2, 3), 0.5)), 1))
    (x,) = seen
    assert x.shape == (8, 2, 3)
    assert len({tuple(row) for row in x[:, 0].tolist()}) == 8
    assert E.points(Independent(Bernoulli(torch.full((2, 3), 0.5)), 1)) == 8


def test_the_largest_support_and_one_more():
    assert E.points(Independent(Bernoulli(torch.full((16,), 0.5)), 1)) == 2**16
    with pytest.raises(
        Refusal, match=r"Enumeration lists at most 65,536 states \(got 2\^17\)\. Use RLOO, or a q of fewer"
    ):
        E(lambda x: x.sum(-1), Independent(Bernoulli(torch.full((17,), 0.5)), 1))
    with pytest.raises(Refusal, match=r"got 10\^5"):
        E(lambda x: x.sum((-1, -2)), Independent(OneHotCategorical(torch.full((5, 10), 0.1)), 1))


def test_a_continuous_family_is_refused():
    with pytest.raises(UnsupportedFamily, match=r"and q is Normal\. Use Reparameterization, ScoreFunction or RLOO\."):
        E(lambda x: x, Normal(0.0, 1.0))
