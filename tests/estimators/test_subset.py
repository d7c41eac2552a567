"""The exact k-subset distribution, and the score function on it."""

import itertools
import math

import numpy as np
import pytest
import torch

from bench.conformance import Case, Conformance
from bench.conformance.cases import enumerated, wave
from estimators import (
    RLOO,
    Refusal,
    Reparameterization,
    ScoreFunction,
    StraightThrough,
    Subset,
    UnsupportedFamily,
    draw,
    grad_only,
    parameters,
    rows,
    score,
)
from tests.problems import gradients, mean_scores, seeded, t, variance_scores
from tests.tolerances import z_limit

LOGITS = t([0.4, -1.2, 0.3, 2.0, -0.5], [0.0, 0.0, 0.0, 0.0, 0.0])


def every(elements, k):
    """Return every subset, written out: ``[subsets, elements]``."""
    return t(*[x for x in itertools.product((0.0, 1.0), repeat=elements) if sum(x) == k])


def probabilities(logits, x):
    """Return q(x) by its definition, ``[subsets, *batch]``."""
    return torch.softmax((x.unsqueeze(1) * logits).sum(-1), 0)


# The distribution -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 4, 5])
def test_log_prob_and_marginals_are_sums_over_subsets(k):
    theta, x = LOGITS.clone().requires_grad_(), every(5, k)
    q, p = Subset(theta, k), probabilities(theta, x)
    torch.testing.assert_close(q.log_prob(x.unsqueeze(1)).exp(), p, rtol=1e-12, atol=1e-14)
    marginals = (p.unsqueeze(-1) * x.unsqueeze(1)).sum(0)
    torch.testing.assert_close(q.mean, marginals, rtol=1e-12, atol=1e-14)
    for got, expected in ((q.mean, marginals), (q.log_prob(x.unsqueeze(1)).sin(), p.log().sin())):
        a, b = (torch.autograd.grad((v**2).sum(), [theta], retain_graph=True)[0] for v in (got, expected))
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_its_support_is_every_subset(k):
    q = Subset(LOGITS, k)
    x = q.enumerate_support()
    assert x.shape == (math.comb(5, k), 2, 5)
    assert {tuple(row) for row in x[:, 0].tolist()} == {tuple(row) for row in every(5, k).tolist()}
    assert q.support.check(x).all()
    assert not q.support.check(t([1.0] * k + [0.0] * (5 - k)) * 0.5).any()
    assert not q.support.check(torch.zeros(5)).any()
    assert q.enumerate_support(expand=False).shape == (math.comb(5, k), 1, 5)


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_samples_have_the_exact_distribution(k, scale):
    count, all_of_them = 2**15, every(5, k)
    q = Subset(LOGITS * scale, k)
    x = draw(q, count, seeded())
    hit = (x.unsqueeze(2) == all_of_them).all(-1).double()  # [count, batch, subsets]
    p = probabilities(LOGITS * scale, all_of_them).T
    z = (hit.mean(0) - p) / (p * (1 - p) / count).sqrt()
    assert z.abs().max() < z_limit(z.numel())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("level", [0.0, 50.0, 500.0])
def test_samples_always_have_k_elements(level, dtype):
    logits = level * torch.tensor([1.0, -1.0, 0.3, 1.0, -1.0, 0.0, 1.0, 0.5], dtype=dtype)
    for k in range(1, 9):
        q = Subset(logits.requires_grad_(), k)
        x = draw(rows(q, 500), 2, seeded())
        assert q.support.check(x).all()
        assert x.dtype == dtype
        assert q.log_prob(x).isfinite().all()
        (g,) = torch.autograd.grad(q.mean.square().sum(), [logits])
        assert g.isfinite().all()
        assert q.mean.sum().item() == pytest.approx(k, rel=1e-4 if dtype == torch.float32 else 1e-11)


def test_many_elements_do_not_underflow():
    logits = torch.linspace(-4, 4, 300).requires_grad_()  # float32: the probability of any one subset is below 1e-38
    q = Subset(logits, 30)
    assert q.mean.sum().item() == pytest.approx(30, rel=1e-3)
    assert -1000 < q.log_prob(draw(q, 1, seeded())).item() < -60


def test_a_constant_in_the_logits_changes_nothing():
    x = every(5, 2).unsqueeze(1)
    torch.testing.assert_close(Subset(LOGITS + 7, 2).log_prob(x), Subset(LOGITS, 2).log_prob(x), rtol=0, atol=1e-12)
    assert torch.equal(draw(Subset(LOGITS + 7, 2), 9, seeded()), draw(Subset(LOGITS, 2), 9, seeded()))


def test_the_closed_score_is_the_gradient_of_log_prob():
    theta = LOGITS.clone().requires_grad_()
    r = rows(Subset(theta, 2), 3)
    (leaf,) = parameters(r).values()
    x, weight = draw(r, 4, seeded()), torch.randn(4, 3, 2, generator=seeded(1), dtype=torch.float64)
    (got,) = torch.autograd.grad(score(r, x, weight).sum(), [leaf])
    (expected,) = torch.autograd.grad((weight * r.log_prob(x)).sum(), [leaf])
    torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-13)


def test_samples_come_from_the_generator_or_the_global_source():
    q = Subset(LOGITS, 2)
    before = torch.get_rng_state()
    assert torch.equal(draw(q, 3, seeded()), draw(q, 3, seeded()))
    assert torch.equal(torch.get_rng_state(), before)
    assert q.sample((3,)).shape == (3, 2, 5)


@pytest.mark.parametrize("k", [0, 6, 2.0, True])
def test_sizes_that_do_not_fit_are_refused(k):
    with pytest.raises(Refusal, match=r"from 1 to 5, the number of elements \(got k=.*Use OneHotCategorical for k=1"):
        Subset(LOGITS, k)


def test_others_refuse_it():
    for estimator in (StraightThrough(), Reparameterization()):
        with pytest.raises(UnsupportedFamily, match="Use ScoreFunction"):
            estimator(lambda x: x.sum(-1), Subset(LOGITS, 2))


# The score function -----------------------------------------------------------------------------------------------


def quadratic(x):
    return ((x - t(0.1, 0.9, 0.4, 1.3, 0.2)) ** 2).sum(-1) + 2 * x[..., 0] * x[..., 3]


def test_variance_of_rloo():
    """Of any q and f: ``Var[(f - Ef) s] / n + (g^2 + Var f Var s) / (n (n - 1))``, by enumeration."""
    x, logits = every(5, 2), LOGITS[0]
    p, fx = probabilities(logits.unsqueeze(0), x)[:, 0], quadratic(x)
    s = x - p @ x
    f0 = fx - p @ fx
    g = p @ (f0.unsqueeze(-1) * s)
    first = p @ (f0.unsqueeze(-1) * s) ** 2 - g**2
    q = Subset(logits.clone().requires_grad_(), 2)
    for n in (2, 5):
        variance = first / n + (g**2 + (p @ f0**2) * (p @ s**2)) / (n * (n - 1))
        samples = gradients(RLOO(n), quadratic, q, 2**15)
        assert mean_scores(samples, g).abs().max() < z_limit(20)
        assert variance_scores(samples, variance).abs().max() < z_limit(20)


class PlackettLuce(Subset):
    """Draws by Gumbel-top-k, and scores by the conditional Bernoulli: a public mistake."""

    def draw(self, sample_shape, generator):
        shape = (*sample_shape, *self.logits.shape)
        u = torch.rand(shape, generator=generator, dtype=self.logits.dtype, device=self.logits.device)
        top = (self.logits.detach() - (-u.log()).log()).topk(self.k).indices
        return torch.zeros_like(u).scatter_(-1, top, 1.0)


def case(cls):
    return Case(
        "subsets",
        (t([0.4, -1.2, 1.3, 0.9]),),
        lambda theta: cls(theta, 2, validate_args=False),
        wave(0.4),
        enumerated,
    )


def test_gumbel_top_k_is_another_distribution_and_the_conformance_suite_sees_it():
    class Right(Conformance):
        estimator = ScoreFunction()
        cases = (case(Subset),)

    class Wrong(Right):
        cases = (case(PlackettLuce),)

    Right().test_gradient()
    Right().test_value()
    with pytest.raises(AssertionError, match="gradient is biased"):
        Wrong().test_gradient()


def test_a_mean_over_all_samples_is_no_leave_one_out_baseline():
    """``loss[~i].mean()`` with a whole number i is the mean of everything, and the gradient (n - 1) / n of itself."""

    class Everything(RLOO):
        def __call__(self, f, q, generator=None, state=None):
            x = draw(q, self.n, generator)
            fx = f(x)
            return fx.mean(0) + grad_only((((fx - fx.mean(0)) / self.n).detach() * q.log_prob(x)).sum(0))

    q = Subset(LOGITS[0].clone().requires_grad_(), 2)
    right, wrong = (gradients(e, quadratic, q, 100) for e in (RLOO(4), Everything(4)))
    torch.testing.assert_close(wrong, right * 3 / 4, rtol=1e-10, atol=1e-12)

    class Suite(Conformance):
        estimator = Everything(4)
        cases = (case(Subset),)

    with pytest.raises(AssertionError, match="gradient is biased"):
        Suite().test_gradient()


@pytest.mark.parametrize(
    ("seed", "distance", "plain", "baseline"),
    [(1234, 0.162, 155, 9.9), (1067, 0.127, 96, 22.6), (9198, 0.153, 183, 13.3)],
)
def test_how_far_gumbel_top_k_is_from_the_exact_distribution(seed, distance, plain, baseline):
    """The authors' toy: 5 of 10 elements, f = |x - b|^2. Total variation distance of the two distributions, and the
    relative error in % of the expected gradient without a baseline and with the mean of f as one."""
    source = np.random.RandomState(seed)
    theta, b = source.randn(10), np.abs(source.randn(10))
    x = every(10, 5)
    p = probabilities(torch.from_numpy(theta).unsqueeze(0), x)[:, 0]
    top_k = _top_k(np.exp(theta), x.numpy())
    assert top_k.sum().item() == pytest.approx(1, rel=1e-10)
    assert (top_k - p).abs().sum().item() / 2 == pytest.approx(distance, abs=5e-4)
    fx, s = ((x - torch.from_numpy(b)) ** 2).sum(-1), x - p @ x
    exact = (p * fx) @ s
    for offset, percent in ((0.0, plain), (top_k @ fx, baseline)):
        error = ((top_k * (fx - offset)) @ s - exact).norm() / exact.norm()
        assert 100 * error.item() == pytest.approx(percent, abs=0.5 if percent > 50 else 0.05)


def _top_k(w, x):
    """Return the probabilities of Gumbel-top-k, subset by subset: the sum over the orders in which it may be drawn."""
    chance = {0: 1.0}
    for _ in range(int(x[0].sum())):
        after = {}
        for taken, p in chance.items():
            rest = [i for i in range(len(w)) if not taken >> i & 1]
            total = sum(w[i] for i in rest)
            for i in rest:
                after[taken | 1 << i] = after.get(taken | 1 << i, 0.0) + p * w[i] / total
        chance = after
    return t(*[chance[sum(1 << i for i in np.flatnonzero(row))] for row in x])
