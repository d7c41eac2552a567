"""Every objective of the catalogue with an exact gradient: finite differences, and the product's own bias test.

The tests of the objectives compare exact values with an integral or a sum computed another way.
"""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Generator

from bench import measure
from bench.objectives import (
    BernoulliVAE,
    GaussianQuadratic,
    GaussianVAE,
    ImportanceWeighted,
    PoissonQuadratic,
    Verifier,
    catalogue,
)
from estimators import RLOO, Reparameterization
from tests.tolerances import FAILURE_RATE

WITH_FIELDS = {GaussianVAE: GaussianVAE(decoder="linear"), Verifier: Verifier(vocabulary=3, length=3, prompts=2)}
EXACT = [WITH_FIELDS.get(cls) or cls() for cls in catalogue().values()]
over_all = pytest.mark.parametrize("objective", EXACT, ids=lambda objective: type(objective).__name__)


def test_there_is_an_exact_gradient_for_every_entry():
    assert {type(objective) for objective in EXACT} == set(catalogue().values())
    assert all(objective.has_exact for objective in EXACT)


def unbiased_on(objective):
    """Return an unbiased estimator with little noise."""
    smooth = (
        objective.family.__name__ in ("Normal", "MultivariateNormal") and type(objective).__name__ != "Discontinuous"
    )
    return Reparameterization(n=4) if smooth else RLOO(n=4)


def check_bias(objective):
    replicates = 1_000 if objective.row_elements > 1_000 else 20_000
    summary = measure(unbiased_on(objective), objective, replicates=replicates, dtype="float64").summary
    assert summary.verdict in ("UNBIASED_WITHIN_TOL", "INCONCLUSIVE")
    assert summary.p_bias > FAILURE_RATE
    assert summary.relative_bias_bound < 0.1  # sharp enough to see what is refuted below


def check_difference(objective):
    """Compare the gradient with a five-point difference, along two directions."""
    problem = objective.build(torch.float64)
    names, tensors = list(problem.theta), [t.detach() for t in problem.theta.values()]
    gradient = torch.autograd.grad(problem.exact(problem.theta), list(problem.theta.values()))
    length = sum(g.square().sum() for g in gradient).sqrt()
    h = 1e-6 if problem.extra else 2e-3  # a network has kinks, and a long step meets some
    for seed in range(2):
        generator = Generator().manual_seed(seed)
        v = [torch.randn(t.shape, generator=generator, dtype=torch.float64) for t in tensors]
        size = sum(part.square().sum() for part in v).sqrt()
        v = [part / size for part in v]

        def at(k, v=v):
            moved = [t + k * h * part for t, part in zip(tensors, v, strict=True)]
            return problem.exact(dict(zip(names, moved, strict=True))).item()

        difference = (at(-2) - 8 * at(-1) + 8 * at(1) - at(2)) / (12 * h)
        slope = sum((g * part).sum() for g, part in zip(gradient, v, strict=True)).item()
        assert slope == pytest.approx(difference, rel=0, abs=1e-8 * (length.item() + abs(at(0))))


@over_all
def test_the_exact_gradient_is_the_difference_of_exact_values(objective):
    check_difference(objective)


@over_all
def test_an_unbiased_estimator_passes_the_bias_test(objective):
    check_bias(objective)


def stretched(base):
    @dataclass(frozen=True)
    class Stretched(base):
        """The same with an exact value that is a fifth too large."""

        def build(self, dtype=torch.float32, device="cpu"):
            problem = super().build(dtype, device)
            return replace(problem, exact=lambda theta: 1.2 * problem.exact(theta))

    return Stretched()


@pytest.mark.parametrize("base", [GaussianQuadratic, PoissonQuadratic, BernoulliVAE, ImportanceWeighted])
def test_the_bias_test_refutes_a_wrong_exact_gradient(base, monkeypatch):
    monkeypatch.setattr("bench.api.check_own", lambda _objective: None)  # would refute it before
    with pytest.raises(AssertionError):
        check_bias(stretched(base))


def test_a_detached_gradient_is_refuted():
    @dataclass(frozen=True)
    class Detached(ImportanceWeighted):
        def build(self, dtype=torch.float32, device="cpu"):
            problem = super().build(dtype, device)
            return replace(
                problem,
                exact=lambda theta: (
                    problem.exact(theta | {"log_scale": theta["log_scale"].detach()}) + 0 * theta["log_scale"].sum()
                ),
            )

    with pytest.raises(AssertionError):
        check_difference(Detached())
