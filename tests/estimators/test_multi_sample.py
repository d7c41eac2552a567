"""Set functions: exact expected gradients over all samples, the special cases that have names, and refusals."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Normal, Uniform

from estimators import (
    PKPO,
    RLOO,
    VIMCO,
    Bound,
    InvalidIntegrand,
    InvalidParameter,
    MultiSample,
    Refusal,
    Reparameterization,
    Repeated,
    ScoreFunction,
    SetFunction,
    UnsupportedFamily,
    log_probs,
    parameters,
    rows,
)

EXACT = 1e-12
LOGITS = torch.tensor([0.3, -0.4, 0.9], dtype=torch.float64)
VALUES = torch.tensor([0.2, 1.0, -0.5], dtype=torch.float64)
FUNCTIONS = {
    "best": lambda v: v.amax(-1),
    "mean of the two worst": lambda v: v.sort(-1).values[..., :2].mean(-1),
    "entropic risk": lambda v: ((-2 * v).logsumexp(-1) - math.log(v.shape[-1])) / -2,
    "log of the mean": lambda v: v.logsumexp(-1) - math.log(v.shape[-1]),
    "product": lambda v: v.prod(-1),
}


@pytest.fixture
def drawn(monkeypatch):
    """Return a function that sets the samples of the next calls: they are not drawn, but given, ``[n, rows, k]``."""
    return lambda x: monkeypatch.setattr("estimators.multi_sample.draw", lambda _q, _n, _generator: x)


def expected(drawn, estimator, combine, k) -> Tensor:
    """Return the exact expected gradient at the logits: a sum over all samples that a call can draw."""
    draws = torch.tensor(list(itertools.product(range(3), repeat=estimator.n * k)))
    chance = LOGITS.log_softmax(-1)[draws].sum(-1).exp()
    logits = LOGITS.expand(len(draws), 3).clone().requires_grad_()
    q = Repeated(Categorical(logits=logits, validate_args=False), k)
    drawn(draws.T.reshape(estimator.n, k, len(draws)).movedim(1, -1).contiguous())
    value = estimator(SetFunction(lambda x: VALUES[x], combine), q)
    return chance @ torch.autograd.grad(value.sum(), logits)[0]


def exact(combine, k) -> Tensor:
    logits = LOGITS.clone().requires_grad_()
    q = Repeated(Categorical(logits=logits), k)
    x = q.enumerate_support()
    return torch.autograd.grad((q.log_prob(x).exp() * combine(VALUES[x])).sum(), logits)[0]


@pytest.mark.parametrize("combine", FUNCTIONS.values(), ids=FUNCTIONS)
@pytest.mark.parametrize(
    ("estimator", "k"),
    [
        (MultiSample(n=1), 3),
        (MultiSample(n=2), 2),
        (MultiSample(n=2, baseline="left-out"), 2),
        (MultiSample(n=2, baseline="left-out"), 3),
        (MultiSample(n=3, baseline="left-out"), 2),
        (PKPO(n=1), 3),
        (PKPO(n=2), 2),
        (PKPO(n=2, baseline="mean"), 2),
        (PKPO(n=3, baseline="mean"), 2),
        (MultiSample(n=2), 1),
        (MultiSample(n=3, baseline="left-out"), 1),
    ],
    ids=repr,
)
def test_expected_gradient_is_exact(drawn, estimator, k, combine):
    combine = combine if k > 1 else (lambda v: v[..., 0].exp())
    scale = 1 if estimator.unbiased else estimator.gradient_scale
    assert torch.allclose(expected(drawn, estimator, combine, k), scale * exact(combine, k), rtol=0, atol=EXACT)


class OwnIncluded(MultiSample):
    """A mutant: the mean that stands in for the own value contains it."""

    def _coefficients(self, f, sets, together, members):
        mean = sets.mean(-1, keepdim=True).unsqueeze(-2)
        own = torch.eye(members.shape[1], dtype=torch.bool)
        gain = together.unsqueeze(-1) - f.together(torch.where(own, mean, sets.unsqueeze(-2)))
        zeros = sets.new_zeros(*sets.shape[:-2], self.n * members.shape[1])
        return zeros.index_add(-1, members.flatten(), gain.flatten(-2) / len(members))


class OwnSetLeftIn(MultiSample):
    """A mutant: the sets without a sample are said to be all sets."""

    def _coefficients(self, f, sets, together, members):
        each = MultiSample(n=self.n, baseline="none")._coefficients(f, sets, together, members)
        return each - together.mean(-1, keepdim=True) / self.n


@pytest.mark.parametrize("mutant", [OwnIncluded(n=2), OwnSetLeftIn(n=2)], ids=["own included", "own left in"])
def test_mutants_are_biased(drawn, mutant):
    combine = FUNCTIONS["best"]
    assert (expected(drawn, mutant, combine, 2) - exact(combine, 2)).norm() > 1e-3


def test_one_sample_left_out_is_rloo():
    logits = LOGITS.expand(50, 3).clone().requires_grad_()
    f = SetFunction(lambda x: VALUES[x], lambda v: v[..., 0])

    def gradient(estimator):
        value = estimator(f, Repeated(Categorical(logits=logits), 1), torch.Generator().manual_seed(1))
        return torch.autograd.grad(value.sum(), logits)[0]

    ours, theirs = gradient(MultiSample(n=4, baseline="left-out")), gradient(RLOO(n=4))
    assert torch.allclose(ours, theirs, rtol=0, atol=EXACT)


@pytest.mark.parametrize("n", [1, 3])
def test_log_mean_of_weights_is_vimco(n, drawn, monkeypatch):
    """VIMCO judges each set alone, and n sets are averaged; MultiSample does so for n = 1."""
    logits = torch.tensor([0.4, -1.2], dtype=torch.float64).expand(40, 2).clone().requires_grad_()
    x = torch.randint(2, (n, 40, 3, 2), generator=torch.Generator().manual_seed(0)).double()
    effect = torch.tensor([0.7, -0.2], dtype=torch.float64)

    def bound() -> Bound:
        q = Independent(Bernoulli(logits=logits.unsqueeze(-2).expand(40, 3, 2), validate_args=False), 2)
        return Bound(lambda x: (x * effect).sum(-1).sin(), q, 3)

    monkeypatch.setattr("estimators.vimco.draw", lambda q, n, generator: x)
    theirs = torch.autograd.grad(VIMCO(n=n)(b := bound(), b.q).sum(), logits)[0]
    q = Repeated(Independent(Bernoulli(logits=logits, validate_args=False), 1), 3)
    drawn(x)
    f = SetFunction(bound().log_weights, FUNCTIONS["log of the mean"])
    ours = torch.autograd.grad(MultiSample(n=n)(f, q).sum(), logits)[0]
    assert torch.allclose(ours, theirs, rtol=0, atol=EXACT) == (n == 1)


def test_the_best_gets_its_lead_and_the_others_nothing():
    f = SetFunction(lambda x: x, lambda v: v.amax(-1))
    sets = torch.tensor([[0.1, 0.7, 0.4]], dtype=torch.float64)
    members = torch.tensor([[0, 1, 2]])
    coefficients = MultiSample(n=1)._coefficients(f, sets, torch.tensor([0.7], dtype=torch.float64), members)
    assert torch.allclose(coefficients, torch.tensor([0.0, 0.3, 0.0], dtype=torch.float64))


def test_value_is_the_mean_over_all_sets_and_passes_gradients(drawn):
    """The value of a call with n = 2 and k = 2 is the mean of F over six sets, also for tensors that f closes over."""
    w = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    q = Repeated(Categorical(logits=LOGITS.clone().requires_grad_()), 2)
    drawn(torch.tensor([[0, 1], [2, 1]]))
    value = MultiSample(n=2)(SetFunction(lambda x: w * VALUES[x], lambda v: v.prod(-1)), q)
    pairs = [VALUES[a] * VALUES[b] for a, b in itertools.combinations([0, 1, 2, 1], 2)]
    assert torch.isclose(value, w**2 * sum(pairs) / 6)
    assert torch.isclose(torch.autograd.grad(value, w)[0], 2 * w * sum(pairs) / 6)


# Repeated


def test_a_set_has_the_law_of_independent_samples():
    logits = torch.tensor([[0.3, -0.4, 0.9], [1.0, 0.0, -1.0]], dtype=torch.float64, requires_grad=True)
    q = Repeated(Categorical(logits=logits), 2)
    x = q.enumerate_support()
    assert x.shape == (9, 2, 2)
    assert (q.batch_shape, q.event_shape) == ((2,), (2,))
    assert torch.allclose(q.log_prob(x), q.base_dist.log_prob(x[..., 0]) + q.base_dist.log_prob(x[..., 1]))
    assert torch.allclose(q.log_prob(x).exp().sum(0), torch.ones(2, dtype=torch.float64))
    assert log_probs(q, x).shape == (9, 2, 2)
    assert bool(q.support.check(x).all())
    assert not bool(q.support.check(x + 3).any())
    assert parameters(q).keys() == {"logits"}
    r = rows(q, 5)
    assert (r.batch_shape, parameters(r)["logits"].shape) == ((5, 2), (5, 2, 3))


def test_draws_keep_the_batch():
    loc = torch.tensor([0.0, 100.0, 200.0])
    q = Repeated(Independent(Normal(loc.unsqueeze(-1).expand(3, 4), 1.0), 1), 2)
    x = q.draw(torch.Size((6, 5)), torch.Generator().manual_seed(0))
    assert x.shape == (6, 5, 3, 2, 4)
    assert torch.allclose(x.mean((0, 1, 3, 4)), loc, atol=3)
    assert q.support.check(x).shape == (6, 5, 3)


def test_reparameterization_goes_through_a_set():
    loc = torch.tensor(0.5, requires_grad=True)
    q = Repeated(Normal(loc, 1.0), 3)
    value = Reparameterization(n=2)(lambda x: x.sum(-1), q)
    assert torch.isclose(torch.autograd.grad(value, loc)[0], torch.tensor(3.0))


def test_half_precision_is_widened():
    logits = torch.zeros(3, dtype=torch.bfloat16, requires_grad=True)
    f = SetFunction(lambda x: VALUES[x].float(), lambda v: v.amax(-1))
    value = MultiSample(n=2)(f, Repeated(Categorical(logits=logits), 2))
    value.backward()
    assert logits.grad is not None
    assert logits.grad.dtype == torch.bfloat16


def test_a_support_that_moves_is_refused():
    high = torch.tensor(1.0, requires_grad=True)
    for estimator in (MultiSample(), ScoreFunction()):
        with pytest.raises(UnsupportedFamily, match="The support of Uniform moves"):
            estimator(SetFunction(lambda x: x, lambda v: v.amax(-1)), Repeated(Uniform(0.0, high), 2))


# Refusals


def at(values, combine, q: Distribution, n: int = 1):
    return MultiSample(n=n)(SetFunction(values, combine), q)


def best(v: Tensor) -> Tensor:
    return v.amax(-1)


def same(x: Tensor) -> Tensor:
    return x


BITS = Repeated(Bernoulli(logits=torch.zeros(2, requires_grad=True)), 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: MultiSample()(best, BITS), Refusal, r"needs a SetFunction.*got a plain function.*RLOO"),
        (lambda: at(same, lambda v: v, BITS), InvalidIntegrand, r"combine .* Reduce over the last"),
        (lambda: at(same, lambda v: 1.0, BITS), InvalidIntegrand, "combine .* returned float"),
        (lambda: at(lambda x: x.sum(-1), best, BITS), InvalidIntegrand, "values of the Set"),
        (lambda: at(same, best, BITS.base_dist), Refusal, r"q is Bernoulli. Use Repeated\(q, k\)"),
        (lambda: at(same, best, BITS, 20), Refusal, "34,220 sets of 3"),
        (lambda: MultiSample(n=1, baseline="left-out"), InvalidParameter, r"n >= 2.*got n=1.*Use n=2"),
        (lambda: PKPO(baseline="loo"), InvalidParameter, "baseline"),
        (lambda: Repeated(Bernoulli(0.5), 0), Refusal, "k=0"),
        (lambda: Repeated(0.5, 2), Refusal, "got float"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()
