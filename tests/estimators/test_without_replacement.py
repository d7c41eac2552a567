"""UnorderedSet and SumAndSample: their formulas set by set, exact means over all sets, exactness with all states."""

import itertools
import math

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Independent, Normal, OneHotCategorical

from bench.measurement.counting import Counter, counted
from estimators import (
    RLOO,
    Enumeration,
    InvalidParameter,
    Refusal,
    SumAndSample,
    UnorderedSet,
    UnsupportedFamily,
    parameters,
    rows,
)
from tests.problems import centred, gradients, seeded

LOGITS = torch.tensor([0.4, -1.2, 0.9, 0.1, -0.3], dtype=torch.float64)
P = LOGITS.softmax(-1)
VALUES = torch.tensor([1.0, -2.0, 5.0, 0.5, 3.0], dtype=torch.float64)
EXACT = P * (VALUES - P @ VALUES)
C = len(P)


def f(x):
    return VALUES[x]


def q():
    return Categorical(logits=LOGITS.clone().requires_grad_(), validate_args=False)


def forced(monkeypatch, module, estimator, sets):
    """Return the gradients and losses of rows in which exactly these states win the draw."""
    noise = torch.zeros(len(sets), C, dtype=torch.float64)
    for row, states in zip(noise, sets, strict=True):
        row[list(states)] = 1e3
    monkeypatch.setattr(f"estimators.{module}.gumbel", lambda shape, like, generator: noise.clone())
    r = rows(q(), len(sets))
    loss = estimator(f, r)
    (g,) = torch.autograd.grad(loss.sum(), [parameters(r)["logits"]])
    return centred(g, P), loss.detach()


def mass(states, without=()):
    """Return P(S) by the sum over all orders, of draws from the states that are not in ``without``."""
    rest, total = 1 - sum(P[s] for s in without), 0.0
    for order in itertools.permutations(states):
        left, product = rest, torch.tensor(1.0, dtype=torch.float64)
        for s in order:
            product, left = product * P[s] / left, left - P[s]
        total += product
    return total


def by_hand(states):
    """Return the unordered set estimate, term by term."""
    g = torch.zeros(C, dtype=torch.float64)
    for s in states:
        others = [t for t in states if t != s]
        ratio = mass(others, [s]) / mass(states)
        baseline = P[s] * f(s)
        for t in others:
            rest = [u for u in others if u != t]
            baseline = baseline + P[t] * mass(rest, [s, t]) / mass(others, [s]) * f(t)
        score = -P.clone()
        score[s] += 1
        g += P[s] * ratio * (f(s) - baseline) * score
    return g


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_unordered_set_is_its_formula_and_its_mean_is_exact(monkeypatch, n):
    sets = list(itertools.combinations(range(C), n))
    g, loss = forced(monkeypatch, "unordered_set", UnorderedSet(n), sets)
    torch.testing.assert_close(g, torch.stack([by_hand(s) for s in sets]), rtol=0, atol=1e-12)
    weights = torch.stack([mass(s) for s in sets])
    torch.testing.assert_close(weights @ g, EXACT, rtol=0, atol=1e-13)
    torch.testing.assert_close(weights @ loss, P @ VALUES, rtol=1e-13, atol=0)


def test_the_baseline_of_one_state_would_be_biased():
    """With n = 1 the built-in baseline q(s) f(s) does not have weights that sum to 1."""
    with pytest.raises(InvalidParameter, match=r"UnorderedSet needs n >= 2 \(got n=1\)"):
        UnorderedSet(n=1)


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_sum_and_sample_is_its_formula_and_its_mean_is_exact(monkeypatch, n):
    top = P.argsort(descending=True)[: n - 1].tolist()
    others = [s for s in range(C) if s not in top]
    g, loss = forced(monkeypatch, "sum_and_sample", SumAndSample(n), [(v,) for v in others])
    b = sum(P[s] * f(s) for s in top) / sum(P[s] for s in top)
    eye, rest = torch.eye(C, dtype=torch.float64), 1 - sum(P[s] for s in top)
    summed = sum(P[s] * (f(s) - b) * (eye[s] - P) for s in top)
    expected = torch.stack([summed + rest * (f(v) - b) * (eye[v] - P) for v in others])
    torch.testing.assert_close(g, expected, rtol=0, atol=1e-13)
    weights = P[others] / rest
    torch.testing.assert_close(weights @ g, EXACT, rtol=0, atol=1e-13)
    torch.testing.assert_close(weights @ loss, P @ VALUES, rtol=1e-13, atol=0)


@pytest.mark.parametrize("cls", [UnorderedSet, SumAndSample])
@pytest.mark.parametrize("n", [5, 8])
def test_with_all_states_it_is_enumeration(cls, n):
    counter = Counter(event_dims=0)
    each = gradients(cls(n), counted(f, counter), q(), 20)
    torch.testing.assert_close(centred(each, P), EXACT.expand(20, C), rtol=0, atol=1e-13)
    assert counter.f == 20 * C


@pytest.mark.parametrize("cls", [UnorderedSet, SumAndSample])
@pytest.mark.parametrize("family", ["bits", "one-hot", "integers"])
def test_joint_states_of_several_variables(cls, family):
    """All of them are drawn, so the result is exact: every state has its own probability and its own x."""
    logits = torch.tensor([[0.4, -1.2], [0.9, 0.1]], dtype=torch.float64)
    make = {"bits": Bernoulli, "one-hot": OneHotCategorical, "integers": Categorical}[family]
    logits = (logits[0] if family == "bits" else logits).requires_grad_()
    joint = Independent(make(logits=logits), 1)

    def f(x):
        x = x.double().flatten(x.dim() - len(joint.event_shape))
        return (x @ torch.linspace(1.0, 2.0, x.shape[-1], dtype=torch.float64)).square()

    pair = (gradients(e, f, joint, 3) for e in (cls(4), Enumeration()))
    if family == "bits":
        a, b = pair
    else:
        a, b = (centred(g, logits.detach().softmax(-1)) for g in pair)
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("cls", [UnorderedSet, SumAndSample])
def test_it_is_worth_more_than_as_many_independent_samples(cls):
    own, plain = (gradients(e, f, q(), 2**12).var(0).sum() for e in (cls(3), RLOO(3)))
    assert own < plain


@pytest.mark.parametrize("cls", [UnorderedSet, SumAndSample])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "logits",
    [[50.0, -50.0, 0.0, -50.0], [500.0, -500.0, 0.0, 3.0], [0.0, 0.0, 0.0, 0.0], [0.0, -math.inf, -math.inf, 1.0]],
    ids=["concentrated", "more so", "tied", "impossible"],
)
@pytest.mark.parametrize("n", [2, 3, 4])
def test_concentrated_and_tied_probabilities(cls, dtype, logits, n):
    q = Categorical(logits=torch.tensor(logits, dtype=dtype).requires_grad_(), validate_args=False)
    values = torch.tensor([1.0, -2.0, 5.0, 0.5], dtype=dtype)
    g = gradients(cls(n), lambda x: values[x], q, 256)
    assert g.isfinite().all()
    p = torch.tensor(logits, dtype=dtype).softmax(-1)
    if logits[0] >= 50 or n == 4:
        exact = p * (values - p @ values)
        torch.testing.assert_close(centred(g, p), exact.expand(256, 4), rtol=1e-5, atol=1e-5)


def test_a_constant_in_f_is_no_matter_to_the_unordered_set():
    plain, raised = (gradients(UnorderedSet(3), lambda x, c=c: VALUES[x] + c, q(), 64) for c in (0.0, 1e6))
    torch.testing.assert_close(raised, plain, rtol=0, atol=1e-8)


def test_refusals():
    many = Independent(Bernoulli(logits=torch.zeros(13)), 1)
    for estimator in (UnorderedSet(), SumAndSample()):
        name = type(estimator).__name__
        with pytest.raises(Refusal, match=rf"{name} lists at most 4,096 states \(got 2\^13\)\. Use RLOO"):
            estimator(lambda x: x.sum(-1), many, seeded())
        with pytest.raises(UnsupportedFamily, match=r"serves Bernoulli or .* or TokenSequence, and q is N"):
            estimator(torch.sin, Normal(0.0, 1.0))
    with pytest.raises(InvalidParameter, match=r"needs n <= 10, .* \(got n=11\). Use UnorderedSet\(n=10\) or RLOO"):
        UnorderedSet(n=11)
    with pytest.raises(InvalidParameter, match=r"SumAndSample needs n >= 2 .* Use ScoreFunction\(n=1\) or SumAndS"):
        SumAndSample(n=1)
