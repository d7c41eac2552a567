"""Local expectation gradients: their formula on the same samples, and where nothing is left to chance."""

import itertools

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Independent, Normal, OneHotCategorical

from bench.measurement.counting import Counter, counted
from estimators import Enumeration, InvalidParameter, LocalExpectation, UnsupportedFamily, draw, parameters, rows
from tests.problems import centred, curved, gradients, seeded

BITS = torch.tensor([0.4, -1.2, 0.3], dtype=torch.float64)
CATEGORIES = torch.tensor([[0.4, -1.2, 0.3], [-0.3, 0.8, 1.5]], dtype=torch.float64)


def on_categories(x):
    x = x.double()
    return torch.sin(2.0 * x[..., 0] - x[..., 1]) + x[..., 0] * x[..., 1]


def on_hot(x):
    return on_categories(x.argmax(-1))


PROBLEMS = {
    "bits": (lambda t: Independent(Bernoulli(logits=t), 1), BITS, curved),
    "integers": (lambda t: Independent(Categorical(logits=t), 1), CATEGORIES, on_categories),
    "one-hot": (lambda t: Independent(OneHotCategorical(logits=t), 1), CATEGORIES, on_hot),
}


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_formula_on_the_same_samples(name, n):
    make, logits, f = PROBLEMS[name]
    q = make(logits.clone().requires_grad_())
    got = gradients(LocalExpectation(n), f, q, 4, seed=3)
    x = draw(rows(q, 4), n, seeded(3))
    hot = name == "one-hot"
    index = (x.argmax(-1) if hot else x).long()
    classes = 2 if name == "bits" else 3
    p = logits.sigmoid() if name == "bits" else logits.softmax(-1)
    table = torch.stack([1 - p, p], -1) if name == "bits" else p
    expected = torch.zeros_like(got)
    for k, r, i, v in itertools.product(range(n), range(4), range(index.shape[-1]), range(classes)):
        there = index[k, r].clone()
        there[i] = v
        point = torch.nn.functional.one_hot(there, classes).double() if hot else there.to(x.dtype)
        if name == "bits":
            expected[r, i] += (2 * v - 1) * p[i] * (1 - p[i]) * f(point) / n
        else:  # p_v falls by p_v p_w where another logit w rises
            own = torch.nn.functional.one_hot(torch.tensor(v), classes)
            expected[r, i] += table[i, v] * (own - table[i]) * f(point) / n
    got = got if name == "bits" else centred(got, p)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("q", [Bernoulli(logits=BITS[0]), OneHotCategorical(logits=CATEGORIES[0])], ids=str)
def test_one_variable_is_enumeration(q):
    next(iter(parameters(q).values())).requires_grad_()
    values = torch.tensor([1.0, -2.0, 5.0], dtype=torch.float64)

    def f(x):
        return x @ values if isinstance(q, OneHotCategorical) else (x - 0.45) ** 2

    each, exact = (gradients(e, f, q, 20) for e in (LocalExpectation(), Enumeration()))
    if isinstance(q, OneHotCategorical):
        each, exact = (centred(g, CATEGORIES[0].softmax(-1)) for g in (each, exact))
    torch.testing.assert_close(each, exact, rtol=0, atol=1e-14)


def test_a_separable_f_leaves_nothing_to_chance():
    q = Independent(Bernoulli(logits=BITS.clone().requires_grad_()), 1)
    each = gradients(LocalExpectation(), lambda x: (x - 0.45).square().sum(-1), q, 20)
    p = BITS.sigmoid()
    torch.testing.assert_close(each, (p * (1 - p) * 0.1).expand(20, 3), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("name", "cost"), [("bits", 4), ("integers", 5), ("one-hot", 5)])
def test_the_cost(name, cost):
    make, logits, f = PROBLEMS[name]
    q = make(logits.clone().requires_grad_())
    counter = Counter(event_dims=len(q.event_shape))
    LocalExpectation(n=2)(counted(f, counter), q, seeded())
    assert counter.f == 2 * cost
    assert counter.df == 0


def test_refusals():
    with pytest.raises(InvalidParameter, match=r"LocalExpectation needs n >= 1 \(got n=0\)"):
        LocalExpectation(n=0)
    with pytest.raises(
        UnsupportedFamily, match="serves Bernoulli or OneHotCategorical or Categorical, and q is Normal"
    ):
        LocalExpectation()(torch.sin, Normal(torch.zeros(2), torch.ones(2)))
