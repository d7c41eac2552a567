"""CARMS: its formula on the same noise, the probabilities of its pairs, and what it is at its limits."""

import itertools

import pytest
import torch
from torch import Size
from torch.distributions import Bernoulli, Categorical, Independent, OneHotCategorical

from bench.measurement.counting import Counter, counted
from estimators import CARMS, RLOO, InvalidParameter, UnsupportedFamily, rows, uniform
from tests.estimators.categories import LOGITS, categories, f
from tests.problems import centred, gradients, mean_scores, seeded
from tests.tolerances import z_limit


def samples(n, p, count, seed):
    """Return categories, ``[n, count, D]``, by walking through each variable's order."""
    g, m = seeded(seed), max(n, 3)
    e = -uniform(Size((m, count, len(p))), p, g).log()
    u = (1 - e / e.sum(0)) ** (m - 1)
    first = (uniform(Size((count, len(p))), p, g) * p.shape[-1]).long()
    x = torch.empty(n, count, len(p), dtype=torch.int64)
    for k, r, d in itertools.product(range(n), range(count), range(len(p))):
        below = 0.0
        for place in range(p.shape[-1]):
            x[k, r, d] = c = (first[r, d] + place) % p.shape[-1]
            below += p[d, c]
            if u[k, r, d] < below:
                break
    return x


def pair(p, n, order):
    """Return the probabilities of two categories of one variable in an order, ``[C, C]``, one rectangle at a time."""
    m, ends = max(n, 3), [0.0, *p[list(order)].cumsum(-1).tolist()]

    def below(s, t):
        return max(s ** (1 / (m - 1)) + t ** (1 / (m - 1)) - 1, 0.0) ** (m - 1)

    table = torch.empty(len(p), len(p), dtype=torch.float64)
    for i, j in itertools.product(range(len(p)), repeat=2):
        corners = ((i + 1, j + 1, 1), (i, j + 1, -1), (i + 1, j, -1), (i, j, 1))
        table[order[i], order[j]] = sum(sign * below(ends[a], ends[b]) for a, b, sign in corners)
    return table


def mean_pair(p, n):
    """Return the probabilities of two categories of one variable, ``[C, C]``, for an order with a random start."""
    orders = [[*range(s, len(p)), *range(s)] for s in range(len(p))]
    return torch.stack([pair(p, n, order) for order in orders]).mean(0)


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("hot", [False, True])
def test_the_formula_on_the_same_noise(n, hot):
    q, p = categories(cls=OneHotCategorical if hot else Categorical), LOGITS.softmax(-1)
    got = gradients(CARMS(n), (lambda x: f(x.argmax(-1))) if hot else f, q, 6, seed=3)
    x = samples(n, p, 6, seed=3)
    fx, expected = f(x), torch.zeros(6, 2, 3, dtype=torch.float64)
    for r, d in itertools.product(range(6), range(2)):
        both = mean_pair(p[d], n)
        for k, j in itertools.permutations(range(n), 2):
            c, other = x[k, r, d], x[j, r, d]
            ratio = p[d, c] * p[d, other] / both[c, other]
            score = torch.eye(3, dtype=torch.float64)[c] - p[d]
            expected[r, d] += (fx[k, r] - fx[j, r]) * ratio * score / (n * (n - 1))
    torch.testing.assert_close(centred(got, p), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("n", [2, 4])
def test_pairs_have_the_probabilities_that_they_are_divided_by(n):
    count, p, seen = 2**16, LOGITS.softmax(-1), []
    CARMS(n)(lambda x: seen.append(x) or f(x), rows(categories(), count), seeded(1))
    (x,) = seen
    for d in range(2):
        both = mean_pair(p[d], n)
        assert both.sum().item() == pytest.approx(1, rel=1e-12)
        hit = torch.zeros(3, 3, dtype=torch.float64).index_put_(
            (x[0, :, d], x[1, :, d]), torch.ones(count, dtype=torch.float64), accumulate=True
        )
        z = (hit / count - both) / (both * (1 - both) / count).sqrt()
        assert z.abs().max() < z_limit(36)


def test_in_a_fixed_order_it_would_be_biased():
    """In a fixed order the rare categories 0 and 1 never meet, and their contribution is missing."""
    p = torch.tensor([[0.02, 0.02, 0.96]], dtype=torch.float64)
    assert pair(p[0], 3, [0, 1, 2])[0, 1] == 0
    assert mean_pair(p[0], 3)[0, 1] > 0
    values = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    exact = p[0] * (values - p[0] @ values)
    for n in (2, 3):
        g = centred(gradients(CARMS(n), lambda x: values[x[..., 0]], categories(p.log()), 2**16), p)
        assert mean_scores(g[:, 0], exact).abs().max() < z_limit(6)


@pytest.mark.parametrize("classes", [2, 7])
@pytest.mark.parametrize("n", [2, 3, 4])
def test_every_pair_of_different_categories_is_possible(n, classes):
    p = torch.rand(classes, generator=seeded(classes), dtype=torch.float64).pow(4).add(1e-3)
    both = mean_pair(p / p.sum(), n)
    assert both.sum().item() == pytest.approx(1, rel=1e-12)
    assert (both + torch.eye(classes) > 0).all()


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("peak", [0.0, 3.0, 7.0])
def test_many_categories_have_few_orders_and_no_impossible_pair(n, peak):
    logits = torch.randn(40, generator=seeded(5), dtype=torch.float64)
    logits[7] += peak
    p, values = logits.softmax(-1), torch.randn(40, generator=seeded(6), dtype=torch.float64)
    before = p.cumsum(-1) - p
    firsts = [int((before <= (k + 0.5) / 8).sum()) - 1 for k in range(8)]
    both = torch.stack([pair(p, n, [*range(s, 40), *range(s)]) for s in firsts]).mean(0)
    assert (both + torch.eye(40) > 0).all()
    g = centred(gradients(CARMS(n), lambda x: values[x[..., 0]], categories(logits.unsqueeze(0)), 2**16), p)
    assert mean_scores(g[:, 0], p * (values - p @ values)).abs().max() < z_limit(6 * 40)


def test_many_categories_are_summed_in_slices(monkeypatch):
    whole = gradients(CARMS(3), f, categories(), 50)
    monkeypatch.setattr("estimators.carms.SLICE", 10)
    torch.testing.assert_close(gradients(CARMS(3), f, categories(), 50), whole, rtol=1e-12, atol=1e-14)


def test_the_variance_on_the_toy_of_the_paper():
    """Three variables of three categories, a linear f, p from a Dirichlet of concentration 10, three samples.

    The authors' sampler without its clipping has 0.87 times the variance of leave-one-out.
    """
    p = torch.distributions.Dirichlet(torch.full((3, 3), 10.0, dtype=torch.float64))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        p = p.sample()
    values = 3 * torch.arange(1.0, 10.0, dtype=torch.float64).reshape(3, 3)

    def linear(x):
        return values[torch.arange(3), x].sum(-1)

    count = 2**17
    squares = []
    for e in (CARMS(3), RLOO(3)):
        g = centred(gradients(e, linear, categories(p.log()), count), p)
        squares.append((g - g.mean(0)).square().sum((-1, -2)))
    own, plain = (s.mean() for s in squares)
    error = sum((s.std() / s.mean()).square() / count for s in squares).sqrt()
    assert abs(own / plain / 0.87 - 1) < z_limit(1) * error + 0.01


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
    with pytest.raises(UnsupportedFamily, match="serves OneHotCategorical or Categorical, and q is Bernoulli"):
        CARMS()(f, Bernoulli(torch.tensor(0.5)), seeded())
