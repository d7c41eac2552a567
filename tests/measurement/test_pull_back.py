"""The pull-back of gradients at q's own parameters to theta, against autograd."""

from math import prod

import pytest
import torch
from torch.distributions import Independent, Normal, OneHotCategorical

from bench.measurement.pull_back import PullBack
from estimators import parameters


def test_theta_that_q_holds_itself_is_not_pulled():
    theta = {"mean": torch.zeros(3, requires_grad=True), "log_scale": torch.zeros(3, requires_grad=True)}
    route = PullBack(Independent(Normal(theta["mean"], theta["log_scale"].exp()), 1), theta)
    (own, k, pull), _ = route.closed
    g = torch.arange(6.0).view(2, 3)
    assert (own, k) == (0, 0)
    assert pull(g) is g
    assert route.outputs == []


def test_gradients_go_through_an_elementwise_function_as_through_autograd():
    theta = {"a": torch.linspace(-1, 1, 3, requires_grad=True), "b": torch.linspace(-2, 3, 3, requires_grad=True)}
    q = Normal(theta["a"].tanh(), theta["b"].sigmoid().exp())
    g = torch.arange(12.0).reshape(2, 2, 3)
    own = list(parameters(q).values())
    pulled = torch.cat(PullBack(q, theta)([(g[0], g[1])]), 1)
    for row in range(2):
        expected = torch.autograd.grad(own, list(theta.values()), [g[0, row], g[1, row]], retain_graph=True)
        torch.testing.assert_close(pulled[row], torch.cat(expected))


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("shape", [(4,), (2, 3), (8, 5)])  # narrow and wide
def test_gradients_go_through_the_normalisation_of_logits_as_through_autograd(shape, parts):
    theta = {"logits": torch.linspace(-2, 3, prod(shape)).view(shape).square_().requires_grad_()}
    q = OneHotCategorical(logits=theta["logits"])
    route = PullBack(q, theta)
    assert route.outputs == []
    g = torch.randn(6, *shape, generator=torch.Generator().manual_seed(0))
    before = g.clone()
    (own,) = parameters(q).values()
    expected = [torch.autograd.grad(own, theta["logits"], row, retain_graph=True)[0].flatten() for row in g]
    torch.testing.assert_close(route([(part,) for part in g.chunk(parts)])[0], torch.stack(expected))
    assert torch.equal(g, before)


@pytest.mark.parametrize("size", [3, 40])  # narrow and wide
def test_one_tensor_goes_through_an_elementwise_function_and_another_of_the_same_through_autograd(size):
    theta = {"t": torch.linspace(-1, 1, size, requires_grad=True)}
    g = torch.randn(2, 5, size, generator=torch.Generator().manual_seed(0))
    alone = PullBack(Normal(theta["t"].tanh(), torch.ones(size)), theta)
    torch.testing.assert_close(alone([(g[0],)])[0], g[0] * (1 - theta["t"].detach().tanh().square()))
    both = PullBack(Normal(theta["t"].tanh(), 1 + theta["t"].square()), theta)
    expected = g[0] * (1 - theta["t"].detach().tanh().square()) + g[1] * 2 * theta["t"].detach()
    torch.testing.assert_close(both([(g[0], g[1])])[0], expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda t: t - t.exp().logsumexp(-1, keepdim=True),  # not the normalisation of t
        lambda t: t - t.logsumexp(-1, keepdim=True) / 2,
        lambda t: t.softmax(-1),  # mixes coordinates
        lambda t: 2 * t,  # a function of two tensors, as autograd sees it
        lambda t: t[:1].exp().expand(3),  # elementwise in the value that it repeats
        lambda t: t.flip(0).exp(),
    ],
)
def test_everything_else_is_left_to_autograd(make):
    theta = {"t": torch.linspace(0.1, 0.9, 3, requires_grad=True)}
    q = Normal(make(theta["t"]), torch.ones(3))
    route = PullBack(q, theta)
    assert route.closed == []
    g = torch.tensor([[1.0, 2.0, 4.0], [0.0, 1.0, 0.0]])
    expected = [torch.autograd.grad(q.loc, theta["t"], row, retain_graph=True)[0] for row in g]
    torch.testing.assert_close(route([(g,)])[0], torch.stack(expected))


def test_theta_used_twice_gets_both_gradients():
    shared = torch.full((2,), 0.5, requires_grad=True)
    q = Independent(Normal(shared, shared.exp()), 1)
    route = PullBack(q, {"shared": shared})
    g = torch.arange(6.0).reshape(3, 2)
    torch.testing.assert_close(route([(g, 2 * g)])[0], g + 2 * g * shared.exp().detach())


def test_gradients_come_tensor_by_tensor_in_the_order_of_theta():
    """A tensor that q does not depend on has a gradient of zeros; slices are joined."""
    theta = {name: torch.zeros(w, requires_grad=True) for name, w in (("b", 2), ("unused", 3), ("a", 2))}
    route = PullBack(Normal(theta["a"], theta["b"].exp()), theta)
    loc, scale = (torch.randn(5, 2, generator=torch.Generator().manual_seed(i)) for i in range(2))
    for parts in ([(loc, scale)], [(loc[:2], scale[:2]), (loc[2:], scale[2:])]):
        b, unused, a = route(parts)
        assert torch.equal(b, scale)
        assert torch.equal(unused, torch.zeros(5, 3))
        assert torch.equal(a, loc)


def test_gradients_of_a_single_number_go_through_every_route():
    """Theta of shape [], in closed form and by autograd: one column each."""
    theta = {name: torch.tensor(0.5, requires_grad=True) for name in ("held", "elementwise", "other")}
    q = Normal(theta["held"], theta["elementwise"].exp())
    g = torch.arange(4.0)
    held, elementwise, other = PullBack(q, theta)([(g, g)])
    assert held.tolist() == [[0.0], [1.0], [2.0], [3.0]]
    torch.testing.assert_close(elementwise, g.unsqueeze(1) * theta["elementwise"].detach().exp())
    assert torch.equal(other, torch.zeros(4, 1))
    both = Normal(theta["held"] * theta["elementwise"], 1.0)
    pulled = PullBack(both, theta)([(g,)])
    torch.testing.assert_close(torch.cat(pulled, 1), torch.stack([g / 2, g / 2, 0 * g], 1))
