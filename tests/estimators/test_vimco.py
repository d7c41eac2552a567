"""VIMCO: its formula written as loops, its exact mean over every set of particles, its baselines."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Independent, Normal

from bench.measurement.counting import Counter, counted
from estimators import RLOO, VIMCO, Bound, InvalidParameter, Refusal, draw
from estimators import vimco as module
from tests.problems import gradients, outcomes, seeded, t

MEANS = ["geometric", "arithmetic"]
LOGITS = t([0.4, -1.2], [0.3, -0.3], [0.8, 1.5])


def log_joint(x):
    """Return one value for each particle, ``[..., K]`` from ``[..., K, 2]``."""
    return (x @ t(1.3, -0.8)).sin() * 2 + x.prod(-1)


def particles(logits):
    return Independent(Bernoulli(logits=logits, validate_args=False), 2, validate_args=False)


def log_mean(values):
    return math.log(sum(math.exp(v) for v in values) / len(values))


def signals(log_w, mean):
    """Return L - L_-k for one list of log-weights."""
    bound, out = log_mean(log_w), []
    for k in range(len(log_w)):
        others = [v for j, v in enumerate(log_w) if j != k]
        stand_in = sum(others) / len(others) if mean == "geometric" else log_mean(others)
        out.append(bound - log_mean([*others, stand_in]))
    return out


@pytest.mark.parametrize("mean", MEANS)
def test_is_its_formula(mean):
    theta = LOGITS.clone().requires_grad_()
    q = particles(theta)
    loss = VIMCO(4, mean)(Bound(log_joint, q, 3), q, seeded())
    (got,) = torch.autograd.grad(loss, [theta])
    x, p = draw(q, 4, seeded()), torch.sigmoid(LOGITS)
    log_q = (x * p.log() + (1 - x) * (1 - p).log()).sum(-1)
    log_w = log_joint(x) - log_q
    score = x - p
    signal = t(*[signals(row.tolist(), mean) for row in log_w]).unsqueeze(-1)
    through = -torch.softmax(log_w, -1).unsqueeze(-1) * score  # what the weights themselves pass to q
    torch.testing.assert_close(loss.item(), sum(log_mean(row.tolist()) for row in log_w) / 4, rtol=1e-12, atol=0)
    torch.testing.assert_close(got, (signal * score + through).mean(0), rtol=1e-11, atol=1e-12)


def support(monkeypatch, logits):
    """Let every set of particles be drawn, one in each row; return a q of such rows and their probabilities."""
    count = logits.numel()
    x = outcomes(count).reshape(-1, *logits.shape)
    monkeypatch.setattr(module, "draw", lambda q, n, generator: x.unsqueeze(0))
    theta = logits.expand(len(x), *logits.shape).clone().requires_grad_()
    q = particles(theta)
    return theta, q, q.log_prob(x).exp(), x


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("count", [2, 3])
def test_its_mean_is_exact(monkeypatch, mean, count):
    theta, q, mass, x = support(monkeypatch, LOGITS[:count])
    bound = Bound(log_joint, q, count)
    (each,) = torch.autograd.grad(VIMCO(mean=mean)(bound, q).sum(), [theta], retain_graph=True)
    (exact,) = torch.autograd.grad((mass * bound(x)).sum(), [theta])
    got = (mass.detach().reshape(-1, 1, 1) * each).sum(0)
    torch.testing.assert_close(got, exact.sum(0), rtol=1e-12, atol=1e-13)


def test_a_baseline_that_contains_its_own_particle_would_be_biased(monkeypatch):
    """The mean over all weights in place of the others' is no baseline: the test above can tell."""
    monkeypatch.setattr(VIMCO, "_without", lambda self, log_w: log_w.mean(-1, keepdim=True).expand_as(log_w).detach())
    theta, q, mass, x = support(monkeypatch, LOGITS)
    bound = Bound(log_joint, q, 3)
    (each,) = torch.autograd.grad(VIMCO()(bound, q).sum(), [theta], retain_graph=True)
    (exact,) = torch.autograd.grad((mass * bound(x)).sum(), [theta])
    assert ((mass.detach().reshape(-1, 1, 1) * each).sum(0) - exact.sum(0)).abs().max() > 1e-2


@pytest.mark.parametrize("mean", MEANS)
def test_no_baseline_depends_on_its_own_particle(mean):
    log_w = torch.randn(5, 4, generator=seeded(), dtype=torch.float64)
    for k in range(4):
        other = log_w.clone()
        other[:, k] += 3
        a, b = VIMCO(mean=mean)._without(log_w), VIMCO(mean=mean)._without(other)
        assert torch.equal(a[:, k], b[:, k])
        assert (a != b).sum() == 15


def test_for_two_particles_both_means_are_the_same():
    log_w = torch.randn(5, 2, generator=seeded(), dtype=torch.float64)
    torch.testing.assert_close(VIMCO()._without(log_w), VIMCO(mean="arithmetic")._without(log_w), rtol=1e-12, atol=0)


def test_less_variance_than_baselines_for_the_whole_set():
    """RLOO(n=2) on the same bound has twice the evaluations."""
    theta = torch.zeros(6, 2, dtype=torch.float64, requires_grad=True)

    class Wrapped:
        def __init__(self, estimator):
            self.estimator = estimator

        def __call__(self, f, q, generator, state):
            return self.estimator(Bound(log_joint, q, 6), q, generator, state)

    q = particles(theta)
    vimco, rloo = (gradients(Wrapped(e), None, q, 2**13).var(0).sum() for e in (VIMCO(), RLOO()))
    assert vimco < 0.5 * rloo


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_weights_stay_finite(mean, dtype):
    loc = torch.zeros(3, dtype=dtype, requires_grad=True)
    q = Independent(Normal(loc, torch.ones(3, dtype=dtype)), 1)
    for scale in (1e-6, 1e4):
        loss = VIMCO(3, mean)(Bound(lambda x, s=scale: -s * x**2, q, 3), q, seeded())
        (g,) = torch.autograd.grad(loss, [loc])
        assert loss.isfinite()
        assert g.isfinite().all()


def test_evaluations_count_log_joints():
    q, counter = particles(LOGITS.clone().requires_grad_()), Counter(event_dims=2)
    VIMCO(4)(counted(Bound(log_joint, q, 3), counter), q, seeded()).backward()
    assert (counter.f, counter.df) == (12, 0)


def test_refusals():
    for field in ({"n": 0}, {"mean": "harmonic"}):
        with pytest.raises(InvalidParameter, match=r"VIMCO .*Use VIMCO\("):
            VIMCO(**field)
    q = particles(LOGITS[:1])
    for f in (Bound(log_joint, q, 1), Bound(lambda x: log_joint(x).sum(-1), q)):
        with pytest.raises(Refusal, match=r"at least 2 particles \(got particles=(1|None)\).* Use RLOO\."):
            VIMCO()(f, q)
    with pytest.raises(Refusal, match=r"needs a Bound over the q .* \(got a plain function\)\. Use Bound"):
        VIMCO()(lambda x: x, q)
    with pytest.raises(Refusal, match="got a Bound over another q"):
        VIMCO()(Bound(log_joint, particles(LOGITS), 3), particles(LOGITS))
