import pytest
import torch
from torch.distributions import Independent, Normal

from estimators import RLOO, Refusal, ScoreFunction, carry, grad_only, inject
from tests.problems import seeded, t


def normal():
    return Independent(
        Normal(t([0.5, 1.0], [2.0, 3.0]).requires_grad_(), t([1.0, 2.0], [1.0, 1.0]).requires_grad_()), 1
    )


def test_grad_only_has_no_value_and_the_whole_gradient():
    x = t(1.5, -2.0).requires_grad_()
    y = grad_only(x**3)
    assert torch.equal(y, torch.zeros(2, dtype=torch.float64))
    assert torch.equal(torch.autograd.grad(y.sum(), [x])[0], (3 * x**2).detach())


def test_inject_hands_on_the_cotangent_times_the_gradient():
    q = normal()
    g = t([1.0, 2.0], [3.0, 4.0])
    y = inject(q, loc=g, scale=10 * g)
    assert torch.equal(y, torch.zeros(2, dtype=torch.float64))
    (5 * y[0] - y[1]).backward()
    assert torch.equal(q.base_dist.loc.grad, t([5.0, 10.0], [-3.0, -4.0]))
    assert torch.equal(q.base_dist.scale.grad, t([50.0, 100.0], [-30.0, -40.0]))


def test_inject_at_single_numbers():
    loc = t(0.5).squeeze().requires_grad_()
    (3 * inject(Normal(loc, t(1.0).squeeze()), loc=t(2.0).squeeze())).backward()
    assert loc.grad.item() == 6.0
    (g,) = torch.autograd.grad(3 * ScoreFunction()(torch.square, Normal(loc, 1.0), seeded()), loc)
    assert g.isfinite()


def test_inject_reaches_what_the_parameters_are_made_of():
    log_scale = t(0.5).requires_grad_()
    inject(Normal(t(0.0), log_scale.exp()), loc=t(1.0), scale=t(2.0)).sum().backward()
    torch.testing.assert_close(log_scale.grad, 2 * log_scale.detach().exp())


def test_inject_stays_attached_to_a_state_under_create_graph_only():
    q, w = normal(), t(3.0).requires_grad_()
    g = w * t([1.0, 2.0], [3.0, 4.0])
    (got,) = torch.autograd.grad(inject(q, loc=g).sum(), [q.base_dist.loc], create_graph=True)
    (slope,) = torch.autograd.grad(got.square().sum(), [w])
    assert slope.item() == 2 * 3.0 * 30.0
    (got,) = torch.autograd.grad(inject(q, loc=w * t([1.0, 2.0], [3.0, 4.0])).sum(), [q.base_dist.loc])
    assert not got.requires_grad


def test_backward_of_inject_passes_nothing_to_the_gradient():
    q, w = normal(), t(3.0).requires_grad_()
    inject(q, loc=w * torch.ones(2, 2, dtype=torch.float64)).sum().backward()
    assert w.grad is None


def test_inject_skips_frozen_parameters():
    q = Normal(t(0.0), t(1.0).requires_grad_())
    y = inject(q, loc=t(1.0), scale=t(2.0))
    y.sum().backward()
    assert q.loc.grad is None
    assert q.scale.grad.item() == 2.0
    assert not inject(Normal(t(0.0), t(1.0)), loc=t(1.0)).requires_grad


def test_inject_refuses_wrong_shapes_and_names():
    q = normal()
    with pytest.raises(ValueError, match=r"gradient of shape \[2\] for loc, whose shape is \[2, 2\]"):
        inject(q, loc=t(1.0, 2.0))
    with pytest.raises(
        ValueError, match=r"gradient for 'logits', but the parameters of this Independent are \['loc', 'scale'\]"
    ):
        inject(q, logits=t(1.0))


def test_carry_has_value_zero_and_the_given_jacobian():
    target = torch.arange(6.0, dtype=torch.float64).reshape(2, 3).requires_grad_()
    matrix = torch.linspace(-1, 1, 9, dtype=torch.float64).reshape(3, 3)
    zeros = carry(target, torch.Size((4, 2, 3)), lambda h: h.sum(0) @ matrix)
    assert zeros.shape == (4, 2, 3)
    assert (zeros == 0).all()
    h = torch.randn(4, 2, 3, generator=seeded(), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((zeros * h).sum(), target)
    torch.testing.assert_close(gradient, h.sum(0) @ matrix)


@pytest.mark.parametrize("scale", [1.0, 3.0, -1.0, 0.0])
def test_inject_hands_back_the_cotangent_times_the_gradient_whatever_one_number_it_is(scale):
    """The cotangent of a sum is one number for all; that of 1 is not multiplied by."""
    loc = torch.zeros(4, 2, dtype=torch.float64, requires_grad=True)
    q = Independent(Normal(loc, torch.ones_like(loc)), 1)
    g = torch.arange(8.0, dtype=torch.float64).view(4, 2)
    loss = inject(q, loc=g)
    (got,) = torch.autograd.grad(loss, [loc], torch.tensor(scale, dtype=torch.float64).expand_as(loss))
    assert torch.equal(got, scale * g)


def test_an_empty_batch_has_an_empty_gradient():
    loc = torch.zeros(0, dtype=torch.float64, requires_grad=True)
    nothing = torch.empty_like(loc).as_strided((0,), (0,))  # no strides, and nothing behind them
    inject(Normal(loc, torch.ones_like(loc)), loc=torch.zeros_like(loc)).backward(nothing)
    assert loc.grad.shape == (0,)


def test_the_value_of_a_surrogate_keeps_its_own_gradient():
    """Without a graph the value is not added to the surrogate, but takes its place."""
    loc, weight, fx = t(1.0, 2.0).requires_grad_(), t(3.0).requires_grad_(), t([5.0, 6.0])
    for f in (lambda x: 3 * fx, lambda x: weight * fx):
        out = ScoreFunction()(f, Normal(loc, 1.0), seeded())
        assert out.tolist() == [15.0, 18.0]
        slope, other = torch.autograd.grad(out.sum(), [loc, weight], allow_unused=True)
        z = torch.randn(1, 2, generator=seeded(), dtype=torch.float64)
        torch.testing.assert_close(slope, 3 * (fx * z)[0], rtol=1e-12, atol=0)
        assert (other is None) if not f(loc).requires_grad else (other.item() == 11)


def test_a_second_derivative_of_an_injected_gradient_is_refused():
    theta = t(0.7).requires_grad_()
    loss = RLOO(n=4)(lambda x: theta**2 * x, Normal(theta, t(1.0)), seeded()).mean()
    (plain,) = torch.autograd.grad(loss, theta, retain_graph=True)
    (g,) = torch.autograd.grad(loss, theta, create_graph=True)
    assert torch.equal(g, plain)
    with pytest.raises(Refusal, match=r"^RLOO\(n=4.*\) has no second derivatives: .* Use Reparameterization, "):
        torch.autograd.grad(g, theta)
