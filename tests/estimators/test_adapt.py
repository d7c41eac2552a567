from dataclasses import dataclass

import pytest
import torch
from torch.distributions import Bernoulli, Beta, MultivariateNormal, Normal

from estimators import RLOO, Estimator, ScoreFunction, State, adapt, draw, rows, score
from tests.problems import seeded, t


class Level(State):
    in_units_of_f = ("b",)

    def __init__(self):
        super().__init__()
        self.b = torch.nn.Parameter(t(0.0).squeeze())


@dataclass(frozen=True)
class LearnedBaseline(Estimator):
    needs_state = True

    def init(self, q, generator=None):
        return Level()

    def __call__(self, f, q, generator=None, state=None):
        x = draw(q, 1, generator)
        fx = f(x)
        return fx.mean(0) + score(q, x, fx.detach() - state.b)


def far(x):
    return (x - 3) ** 2


@pytest.mark.parametrize(
    "build",
    [lambda a: Normal(a, t(1.0)), lambda a: Bernoulli(logits=a), lambda a: torch.distributions.Gamma(a.exp(), t(1.0))],
    ids=["closed form", "bits", "torch's log_prob"],
)
def test_learns_to_lower_the_second_moment(build):
    e, state = LearnedBaseline(), Level()
    optimizer = torch.optim.Adam(state.parameters(), lr=0.1)
    a = t(0.5).requires_grad_()
    moments = [adapt(e, far, rows(build(a), 256), state, optimizer, seeded(step)) for step in range(150)]
    assert torch.stack(moments[-30:]).mean() < 0.7 * torch.stack(moments[:5]).mean()
    assert a.grad is None


def test_is_the_second_moment_and_its_gradient():
    e, state = LearnedBaseline(), Level()
    q = rows(Normal(t(0.5).requires_grad_(), t(2.0)), 8)
    optimizer = torch.optim.SGD(state.parameters(), lr=0.25)
    moment = adapt(e, far, q, state, optimizer, seeded())
    x = draw(q, 1, seeded())[0]
    s = (x - 0.5) / 4
    torch.testing.assert_close(moment, (far(x) * s).square().sum() / 8, rtol=1e-12, atol=0)
    slope = -(2 * far(x) * s**2).sum() / 8
    torch.testing.assert_close(state.b.detach(), -0.25 * slope, rtol=1e-12, atol=0)


def test_q_and_what_f_closes_over_get_no_gradient():
    e, state = LearnedBaseline(), Level()
    loc, w = t(0.5).requires_grad_(), t(2.0).requires_grad_()
    adapt(e, lambda x: w * x**2, Normal(loc, t(1.0)), state, torch.optim.Adam(state.parameters()), seeded())
    assert loc.grad is None
    assert w.grad is None
    assert state.b.grad is not None


def test_buffers_are_updated_without_an_optimizer():
    e = ScoreFunction(baseline="moving-average")
    q = Normal(t(0.5).requires_grad_(), t(1.0))
    state = e.init(q)
    adapt(e, far, q, state, None, seeded())
    assert state.mean.item() == pytest.approx(far(draw(q, 1, seeded())).item(), rel=1e-12)
    assert state.updates == 1


def test_learning_needs_an_optimizer():
    with pytest.raises(ValueError, match=r"LearnedBaseline\(\) learns 1 tensors, but adapt got no optimizer. Pass"):
        adapt(LearnedBaseline(), far, Normal(t(0.5).requires_grad_(), t(1.0)), Level())


def test_q_must_require_gradients():
    with pytest.raises(ValueError, match=r"\(got a Normal without\)\. Call requires_grad_"):
        adapt(RLOO(), far, Normal(t(0.5), t(1.0)), State())


def test_no_grad_around_it_changes_nothing_and_inference_mode_is_refused():
    def learned():
        state = Level()
        q = Normal(t(0.5).requires_grad_(), t(1.0))
        moment = adapt(LearnedBaseline(), far, q, state, torch.optim.SGD(state.parameters(), lr=0.1), seeded())
        return moment, state.b.detach()

    expected = learned()
    with torch.no_grad():
        assert learned() == expected
        assert not torch.is_grad_enabled()
    with torch.inference_mode(), pytest.raises(ValueError, match="Call adapt outside of it"):
        learned()


@pytest.mark.parametrize(
    ("q", "name"),
    [
        (lambda a: Beta(a, a), "concentration1"),
        (lambda a: MultivariateNormal(t(0.0), covariance_matrix=a.unsqueeze(0)), "covariance_matrix"),
    ],
)
def test_a_parameter_that_torch_copies_is_refused_and_its_rows_are_not(q, name):
    def f(x):
        return x.sum(-1) if x.dim() > 1 and name != "concentration1" else x

    q = q(t(2.0).requires_grad_())
    with pytest.raises(ValueError, match=rf"No gradient arrives at {name}: .* Pass rows\(q, 1\)\."):
        adapt(RLOO(), f, q, State())
    assert adapt(RLOO(), f, rows(q, 1), State(), generator=seeded()) > 0


def test_the_graph_of_a_gradient_reaches_a_learned_state_and_no_frozen_one():
    loc, state = t(0.5).requires_grad_(), Level()
    loss = LearnedBaseline()(far, Normal(loc, t(1.0)), seeded(), state)
    (g,) = torch.autograd.grad(loss.sum(), [loc], create_graph=True)
    assert torch.autograd.grad(g.sum(), [state.b])[0] != 0
    loss = LearnedBaseline()(far, Normal(loc, t(1.0)), seeded(), state.requires_grad_(False))
    (g,) = torch.autograd.grad(loss.sum(), [loc], create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        torch.autograd.grad(g.sum(), [state.b])
