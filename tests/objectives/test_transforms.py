"""f of every objective under the transforms of torch.func: derivatives written by hand must not stand in their way."""

import pytest
import torch

from bench.objectives import catalogue
from estimators import draw
from tests.objectives.problems import made
from tests.problems import seeded

OBJECTIVES = [cls() for cls in catalogue().values()]
ROWS = 3


def at_samples(objective):
    """Return f, summed over the batch of q, samples, ``[ROWS, ...]``, and a direction; skip f without derivatives."""
    _, q, f = made(objective)
    x = draw(q, ROWS, seeded())
    if not x.is_floating_point():
        pytest.skip("f of whole numbers has no derivative in x")
    if not f(x.clone().requires_grad_()).requires_grad:
        pytest.skip("f has no derivative in x")
    axes = tuple(range(-len(q.batch_shape), 0))
    summed = (lambda x: f(x).sum(axes)) if axes else f
    return summed, x, torch.randn(x.shape, generator=seeded(1), dtype=x.dtype)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_first_derivatives_are_autograds(objective):
    f, x, direction = at_samples(objective)
    leaf = x.clone().requires_grad_()
    value = f(leaf)
    (slope,) = torch.autograd.grad(value.sum(), leaf, retain_graph=True)
    along = (slope * direction).flatten(1).sum(1)

    def pull(cotangent):
        return torch.autograd.grad(value, leaf, cotangent, retain_graph=True)[0]

    found = {
        "grad": (torch.func.grad(lambda x: f(x).sum())(x), slope),
        "vmap of grad": (torch.func.vmap(torch.func.grad(f))(x), slope),
        "grad of vmap": (torch.func.grad(lambda x: torch.func.vmap(f)(x).sum())(x), slope),
        "vmap over cotangents": (torch.func.vmap(pull)(torch.eye(ROWS, dtype=x.dtype)).sum(0), slope),
        "vmap": (torch.func.vmap(f)(x), value.detach()),
        "jvp": (torch.func.jvp(f, (x,), (direction,))[1], along),
        "vmap of jvp": (torch.func.vmap(lambda x, v: torch.func.jvp(f, (x,), (v,))[1])(x, direction), along),
        "jacrev": (torch.func.jacrev(lambda x: f(x).sum())(x), slope),
    }
    for way, (got, expected) in found.items():
        torch.testing.assert_close(got.detach(), expected, rtol=1e-9, atol=1e-9, msg=lambda m, way=way: f"{way}: {m}")


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_second_derivatives_are_autograds(objective):
    f, x, direction = at_samples(objective)
    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(f(leaf).sum(), leaf, create_graph=True)
    if not slope.requires_grad:
        return
    (expected,) = torch.autograd.grad(slope, leaf, direction)
    slope_of = torch.func.grad(lambda x: f(x).sum())
    forward = torch.func.jvp(slope_of, (x,), (direction,))[1]
    back = torch.func.vjp(slope_of, x)[1](direction)[0]
    for got in (forward, back):
        torch.testing.assert_close(got.detach(), expected, rtol=1e-9, atol=1e-9)
