"""CARMS: its formula on the same noise, the probabilities of its pairs, and what it is at its limits."""

import itertools

import pytest
import torch
from torch import Size
from torch.distributions import Bernoulli, Categorical, Independent, OneHotCategorical

from bench.measurement.counting import Counter, counted
from estimators import ARMS, CARMS, RLOO, InvalidParameter, UnsupportedFamily, uniform
from tests.estimators.categories import LOGITS, categories, f
from tests.problems import centred, gradients, mean_scores, row_gradients, seeded
from tests.tolerances import z_limit


def samples(n, a, p, count, seed):
    """Return categories and whether their group is independent: ``[n, count, D]`` and ``[count, D]``."""
    g = seeded(seed)
    u = uniform(Size((n, count, len(p))), p, g)
    e = -u.log()
    alone = uniform(Size((1, count, len(p))), p, g)[0] < a
    u = torch.where(alone, u, (1 - e / e.sum(0)) ** (n - 1))
    return (u.unsqueeze(-1) >= p.cumsum(-1)[..., :-1]).sum(-1), alone


def pair(p, n, a):
    """Return the probabilities of two categories of one variable, ``[C, C]``, one rectangle after the other."""
    ends = [0.0, *p.cumsum(-1).tolist()]

    def below(s, t):
        return max(s ** (1 / (n - 1)) + t ** (1 / (n - 1)) - 1, 0.0) ** (n - 1)

    table = torch.empty(len(p), len(p), dtype=torch.float64)
    for c, d in itertools.product(range(len(p)), repeat=2):
        corners = ((c + 1, d + 1, 1), (c, d + 1, -1), (c + 1, d, -1), (c, d, 1))
        box = sum(sign * below(ends[i], ends[j]) for i, j, sign in corners)
        table[c, d] = a * p[c] * p[d] + (1 - a) * box
    return table


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("a", [0.1, 0.6])
@pytest.mark.parametrize("hot", [False, True])
def test_the_formula_on_the_same_noise(n, a, hot):
    q, p = categories(cls=OneHotCategorical if hot else Categorical), LOGITS.softmax(-1)
    got = gradients(CARMS(n, a), (lambda x: f(x.argmax(-1))) if hot else f, q, 6, seed=3)
    x, _ = samples(n, a, p, 6, seed=3)
    fx, expected = f(x), torch.zeros(6, 2, 3, dtype=torch.float64)
    for r, d in itertools.product(range(6), range(2)):
        both = pair(p[d], n, a)
        for k, j in itertools.permutations(range(n), 2):
            c, other = x[k, r, d], x[j, r, d]
            ratio = p[d, c] * p[d, other] / both[c, other]
            score = torch.eye(3, dtype=torch.float64)[c] - p[d]
            expected[r, d] += (fx[k, r] - fx[j, r]) * ratio * score / (n * (n - 1))
    torch.testing.assert_close(centred(got, p), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("n", [2, 4])
def test_pairs_have_the_probabilities_that_they_are_divided_by(n):
    count, p = 2**16, LOGITS.softmax(-1)
    x, _ = samples(n, 0.25, p, count, seed=1)
    for d in range(2):
        both = pair(p[d], n, 0.25)
        assert both.sum().item() == pytest.approx(1, rel=1e-12)
        hit = torch.zeros(3, 3, dtype=torch.float64).index_put_(
            (x[0, :, d], x[1, :, d]), torch.ones(count, dtype=torch.float64), accumulate=True
        )
        z = (hit / count - both) / (both * (1 - both) / count).sqrt()
        assert z.abs().max() < z_limit(36)


@pytest.mark.parametrize("hot", [False, True])
def test_with_all_groups_independent_it_is_leave_one_out(monkeypatch, hot):
    q, p = categories(cls=OneHotCategorical if hot else Categorical), LOGITS.softmax(-1)
    x, alone = samples(4, 1.0, p, 50, seed=2)
    assert alone.all()
    x = torch.nn.functional.one_hot(x, 3).double() if hot else x
    g = (lambda x: f(x.argmax(-1))) if hot else f
    monkeypatch.setattr("estimators.rloo.draw", lambda q, n, generator: x)
    own, plain = (gradients(e, g, q, 50, seed=2) for e in (CARMS(4, 1.0), RLOO(4)))
    torch.testing.assert_close(centred(own, p), centred(plain, p), rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [2, 3, 6])
def test_with_two_categories_and_hardly_an_independent_group_it_is_arms(monkeypatch, n):
    """The first category is the more seldom one, as the bit 1 in ARMS below 1/2."""
    p = torch.tensor([[0.3, 0.7], [0.1, 0.9], [0.49, 0.51]], dtype=torch.float64)
    u = torch.rand(n, 40, 3, generator=seeded(), dtype=torch.float64)
    monkeypatch.setattr(
        "estimators.carms.uniform", lambda shape, like, generator: u if shape[0] == n else u[:1] * 0 + 0.5
    )
    monkeypatch.setattr("estimators.arms.uniform", lambda shape, like, generator: u.clone())
    pairs = row_gradients(CARMS(n, 1e-13), lambda x: f(1 - x), categories(p.log()), 40)["logits"]
    q = Independent(Bernoulli(logits=torch.logit(p[:, 0]).requires_grad_()), 1)
    bits = row_gradients(ARMS(n), f, q, 40)["logits"]
    torch.testing.assert_close(centred(pairs, p)[..., 0], bits, rtol=1e-8, atol=1e-11)


def test_without_independent_groups_it_would_be_biased():
    """Of two antithetic samples the categories 0 and 1 never meet, and what they would say is missing."""
    p = torch.tensor([[0.2, 0.2, 0.6]], dtype=torch.float64)
    both = pair(p[0], 2, 0.0)
    assert both[0, 1] == 0
    values = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    exact = p[0] * (values - p[0] @ values)
    q = categories(p.log())
    scores = []
    for a in (1e-12, 0.25):
        g = centred(gradients(CARMS(2, a), lambda x: values[x[..., 0]], q, 2**16), p)
        scores.append(mean_scores(g[:, 0], exact).abs().max())
    assert scores[0] > 50
    assert scores[1] < z_limit(6)


def test_of_few_categories_it_is_worth_more_than_leave_one_out():
    values = torch.tensor([[0.1, 0.9, 0.4, 0.2], [0.8, 0.3, 0.6, 0.5]], dtype=torch.float64)
    logits = torch.tensor([[0.4, -1.2, 0.3, 0.8], [0.9, -0.5, 0.1, -0.3]], dtype=torch.float64)

    def g(x):
        return values[0][x[..., 0]] * values[1][x[..., 1]]

    q, p = categories(logits), logits.softmax(-1)
    for n in (4, 8):
        own, plain = (centred(gradients(e, g, q, 2**15), p).var(0).sum() for e in (CARMS(n), RLOO(n)))
        assert own < 0.97 * plain


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_certain_and_impossible_categories(dtype):
    logits = torch.tensor([[50.0, -50.0, 0.0], [0.0, -torch.inf, 1.0]], dtype=dtype).requires_grad_()
    q = Independent(Categorical(logits=logits, validate_args=False), 1)
    g = gradients(CARMS(), f, q, 500)
    assert g.isfinite().all()
    assert (g[:, 1, 1] == 0).all()


def test_a_constant_in_f_changes_the_gradient_by_no_more_than_rounding():
    plain, raised = (gradients(CARMS(), lambda x, c=c: f(x) + c, categories(), 64) for c in (0.0, 1e6))
    torch.testing.assert_close(raised, plain, rtol=0, atol=1e-8)


def test_the_cost_is_n():
    counter = Counter(event_dims=len(categories().event_shape))
    CARMS(n=5)(counted(f, counter), categories(), seeded())
    assert counter.f == 5


def test_refusals():
    with pytest.raises(InvalidParameter, match=r"CARMS needs n >= 2 \(got n=1\)\. Use CARMS\(n=2\)"):
        CARMS(n=1)
    for bad in (0.0, 1.5, -0.1, True, "x"):
        with pytest.raises(InvalidParameter, match=r"got independent=.*Use CARMS\(independent=0.25\), or RLOO"):
            CARMS(independent=bad)
    with pytest.raises(UnsupportedFamily, match="serves OneHotCategorical or Categorical, and q is Bernoulli"):
        CARMS()(f, Bernoulli(torch.tensor(0.5)), seeded())
