"""ARSM: its formula on the same noise, ARM with two categories, its rank among its relatives, its hazards."""

import itertools

import pytest
import torch
from torch import Size
from torch.distributions import Bernoulli, Categorical, Independent, OneHotCategorical

from bench.measurement.counting import Counter, counted
from estimators import ARM, ARSM, InvalidParameter, UnsupportedFamily, uniform
from tests.estimators.categories import LOGITS, categories, f
from tests.problems import centred, gradients, mean_scores, row_gradients, seeded
from tests.tolerances import z_limit


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("hot", [False, True])
def test_the_formula_on_the_same_noise(n, hot):
    q = categories(cls=OneHotCategorical if hot else Categorical)
    got = gradients(ARSM(n), (lambda x: f(x.argmax(-1))) if hot else f, q, 4, seed=3)
    e = -uniform(Size((n, 4, 2, 3)), LOGITS, seeded(3)).log()
    w = e / e.sum(-1, keepdim=True)
    expected = torch.zeros(4, 2, 3, dtype=torch.float64)
    for k, r in itertools.product(range(n), range(4)):
        table = torch.empty(3, 3, dtype=torch.float64)
        for m, j in itertools.product(range(3), repeat=2):
            swapped = w[k, r].clone()
            swapped[:, [m, j]] = swapped[:, [j, m]]
            table[m, j] = f((swapped.log() - LOGITS).argmin(-1))
        for d, c, j in itertools.product(range(2), range(3), range(3)):
            expected[r, d, c] += (table[c, j] - table[:, j].mean()) * (1 / 3 - w[k, r, d, j]) / n
    p = LOGITS.softmax(-1)
    torch.testing.assert_close(centred(got, p), expected, rtol=0, atol=1e-12)


def test_with_two_categories_it_is_arm(monkeypatch):
    bits = torch.tensor([0.4, -1.2], dtype=torch.float64)
    u = torch.rand(50, 2, generator=seeded(), dtype=torch.float64)
    pair = torch.stack([u, 1 - u], -1)  # w: the first category is the bit 1
    monkeypatch.setattr("estimators.arsm.uniform", lambda shape, like, generator: (-pair).exp().reshape(shape))
    monkeypatch.setattr("estimators._couplings.uniform", lambda shape, like, generator: u.clone().reshape(shape))
    logits = torch.stack([bits, torch.zeros(2, dtype=torch.float64)], -1)
    arsm = row_gradients(ARSM(), lambda x: f(1 - x), categories(logits), 50)["logits"]
    q = Independent(Bernoulli(logits=bits.clone().requires_grad_()), 1)
    arm = row_gradients(ARM(), f, q, 50)["logits"]
    torch.testing.assert_close(centred(arsm, logits.softmax(-1))[..., 0], arm, rtol=0, atol=1e-13)


def test_its_rank_among_its_relatives():
    """The variance of AR is above that of ARS, and that of ARSM is the least; all have the same mean."""
    theta, values = torch.tensor([0.4, -1.2, 0.3, 0.8]).double(), torch.tensor([1.0, 2.0, 2.5, 4.0]).double()
    p, count = theta.softmax(-1), 2**14
    e = -uniform(Size((1, count, 4)), theta, seeded(1)).log()[0]
    w = e / e.sum(-1, keepdim=True)
    ar = values[(w.log() - theta).argmin(-1)].unsqueeze(-1) * (1 - 4 * w)
    swapped = []
    for m in range(4):
        v = w.clone()
        v[:, [m, 0]] = v[:, [0, m]]
        swapped.append(values[(v.log() - theta).argmin(-1)])
    table = torch.stack(swapped, -1)
    ars = (table - table.mean(-1, keepdim=True)) * (1 - 4 * w[:, :1])
    q = Categorical(logits=theta.clone().requires_grad_())
    arsm = centred(gradients(ARSM(), lambda x: values[x], q, count), p)
    exact = p * (values - p @ values)
    for g in (ar, ars, arsm):
        assert mean_scores(g, exact).abs().max() < z_limit(12)
    total = [g.var(0).sum() for g in (ar, ars, arsm)]
    assert total[0] > total[1] > total[2]


def test_the_cost_is_all_swaps_whatever_the_number_of_variables():
    counter = Counter(event_dims=len(categories(torch.zeros(2, 5)).event_shape))
    ARSM(n=2)(counted(f, counter), categories(torch.zeros(2, 5)), seeded())
    assert counter.f == 2 * (5 * 4 // 2 + 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_certain_and_impossible_categories(dtype):
    logits = torch.tensor([[50.0, -50.0, -50.0], [-50.0, 50.0, -torch.inf]], dtype=dtype)
    assert gradients(ARSM(), f, categories(logits), 64).abs().max() < 1e-20
    logits = torch.tensor([[0.3, -torch.inf, 0.4], [0.1, 0.2, 0.3]], dtype=dtype)
    g = centred(gradients(ARSM(), f, categories(logits), 64), logits.softmax(-1))
    assert (g[:, 0, 1] == 0).all()
    assert g[:, 0].abs().max() > 0


def test_refusals():
    with pytest.raises(InvalidParameter, match=r"ARSM needs n >= 1 \(got n=0\)"):
        ARSM(n=0)
    with pytest.raises(UnsupportedFamily, match="serves OneHotCategorical or Categorical, and q is Bernoulli"):
        ARSM()(f, Bernoulli(logits=torch.zeros(2)))
