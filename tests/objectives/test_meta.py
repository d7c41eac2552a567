"""Every estimator on every objective on the meta device, where a hidden copy to the host or a mixed device raises."""

import inspect

import pytest
import torch
from torch.distributions import Distribution

from bench import objectives
from estimators import Bound, Refusal, SetFunction, catalogue, inner
from tests.problems import seeded

NO_KERNEL = r"{}.* Meta tensors"
LOOKS = r"Tensor\.item\(\) cannot be called on meta tensors"
EXCEPTIONS = {
    ("*", "BetaMoment"): NO_KERNEL.format("aten::_sample_dirichlet"),
    ("*", "DirichletMultinomial"): NO_KERNEL.format("aten::_sample_dirichlet"),
    ("Reparameterization", "GammaQuadratic"): NO_KERNEL.format("aten::_standard_gamma_grad"),
    ("ExponentialArrival", "*"): LOOKS,  # whether the largest rate has enough arrivals
    ("*", "VonMisesMean"): LOOKS,  # whether all proposals are accepted
}
"""Pairs of estimator and objective that cannot run on the meta device, each with torch's message."""
OBJECTIVES = [
    cls
    for cls in vars(objectives).values()
    if inspect.isclass(cls) and issubclass(cls, objectives.Objective) and not inspect.isabstract(cls)
]


def serves(estimator, q, f):
    if estimator.refuses(type(inner(q))) is not None:
        return False
    if estimator.needs_set and not isinstance(f, SetFunction):
        return False
    return not estimator.needs_bound or (isinstance(f, Bound) and estimator.refuses_particles(f.particles) is None)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda cls: cls.__name__)
def test_no_estimator_looks_at_values_or_leaves_the_device(objective, monkeypatch):
    monkeypatch.setattr(Distribution, "_validate_args", False)  # torch's validation looks at values
    problem, name = objective().build(device="meta"), objective.__name__
    ran = 0
    for cls in catalogue().values():
        estimator, theta = cls(), {k: t.detach().requires_grad_() for k, t in problem.theta.items()}
        q = problem.q(theta)
        if not serves(estimator, q, f := problem.integrand(q)):
            continue
        keys = ((cls.__name__, name), ("*", name), (cls.__name__, "*"))
        message = next((EXCEPTIONS[key] for key in keys if key in EXCEPTIONS), None)
        state = estimator.init(q, seeded()) if estimator.needs_state else None
        if message is not None:
            with pytest.raises((NotImplementedError, RuntimeError), match=message):
                backward(estimator, f, q, state, theta)
            continue
        try:
            gradients = backward(estimator, f, q, state, theta)
        except Refusal:  # too many states, or no sampler for this parameter
            continue
        ran += 1
        assert all(g is None or g.device.type == "meta" for g in gradients)
    assert ran or ("*", name) in EXCEPTIONS


def backward(estimator, f, q, state, theta):
    loss = estimator(f, q, seeded(), state)
    assert loss.device.type == "meta"
    return torch.autograd.grad(loss.sum(), list(theta.values()), allow_unused=True)


def test_there_are_few_exceptions():
    assert len(EXCEPTIONS) <= 12
