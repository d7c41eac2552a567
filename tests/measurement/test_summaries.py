"""Summaries of a cell's partial sums."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch.distributions import (
    Bernoulli,
    Binomial,
    Categorical,
    Gamma,
    Independent,
    Normal,
    OneHotCategorical,
    Poisson,
    RelaxedBernoulli,
)

from bench import objectives
from bench.measurement.engine import Engine, exact_gradient
from bench.measurement.moments import summarise_cell
from bench.measurement.summaries import has_finite_support, has_no_noise, summarise_draws
from bench.objectives import Problem
from bench.planning.cells import Cell
from bench.planning.settings import Settings
from estimators import RLOO, Enumeration, Reparameterization, ScoreFunction, Subset
from tests.measurement.objectives import RareCategories


def test_slopes_that_are_0_in_all_tracked_rows_do_not_make_f_a_step():
    engine = Engine(Cell(Reparameterization(), objectives.GaussianQuadratic(dim=2)), Settings(replicates=1000))
    exact = exact_gradient(engine.cell.objective, engine.problem)[1]
    sums, _, _ = summarise_cell(engine, exact)
    assert not has_no_noise(engine, replace(sums, zero_rows=sums.followed))


@dataclass(frozen=True)
class Step(objectives.GaussianQuadratic):
    """f has slope 0 nearly everywhere: it counts the positive coordinates, or does not look at x at all."""

    constant: bool = False

    def build(self, dtype=torch.float32, device="cpu"):
        problem = super().build(dtype, device)
        weight = 0.0 if self.constant else 1.0
        return Problem(problem.theta, problem.q, lambda _q: lambda x: weight * (x > 0).sum(-1) + 0 * x.sum(-1))


@dataclass(frozen=True)
class Rounded(objectives.GaussianQuadratic):
    """The exact gradient is known to two digits."""

    exact_error = 0.01


def test_an_estimator_has_no_noise_if_it_is_deterministic_or_sees_f_as_a_step():
    def noiseless(estimator, objective, **changed):
        """Judge an estimator by sums without variance and with slopes of 0."""
        step = Engine(Cell(Reparameterization(), Step()), Settings(replicates=256))
        ((sums, _),) = summarise_draws(step, "pilot")
        assert sums.variance == 0
        sums = replace(sums, zero_rows=sums.followed)
        return has_no_noise(Engine(Cell(estimator, objective), Settings(replicates=256)), replace(sums, **changed))

    assert noiseless(Enumeration(), objectives.BernoulliQuadratic())
    assert noiseless(Reparameterization(), Step())
    assert not noiseless(Reparameterization(), Step(constant=True)), "a rare, different value may still come"
    assert not noiseless(Reparameterization(), Step(), followed=10_000), "some slopes were not 0"
    assert not noiseless(ScoreFunction(), Step()), "df/dx is not used"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_summary_knows_the_precision_of_its_numbers_and_of_the_exact_gradient(monkeypatch, dtype):
    told = {}
    monkeypatch.setattr("bench.measurement.summaries.summarise", lambda sums, **given: told.update(given))
    list(summarise_draws(Engine(Cell(ScoreFunction(), Rounded()), Settings(replicates=64, dtype=dtype)), "pilot"))
    assert (told["dtype"], told["exact_error"]) == (dtype, 0.01)


def test_a_draw_that_passes_several_looks_is_one_look():
    engine = Engine(Cell(Reparameterization(), objectives.GaussianQuadratic()), Settings())
    found = summarise_draws(engine, "pilot", sizes=[300] * 4, looks=[100, 200, 600])
    assert [sums.replicates for sums, _ in found] == [300, 600]


HALF = torch.full((3,), 0.5)
LAWS = {
    Bernoulli(HALF): True,
    OneHotCategorical(HALF): True,
    Categorical(HALF): True,
    Binomial(4, HALF): True,
    Subset(HALF, 2): True,
    Normal(HALF, 1.0): False,
    Gamma(HALF, 1.0): False,
    Poisson(HALF): False,
    RelaxedBernoulli(torch.tensor(0.5), HALF): False,
}


@pytest.mark.parametrize(("q", "finite"), LAWS.items(), ids=lambda v: type(v).__name__)
def test_whether_a_support_is_finite(q, finite):
    assert has_finite_support(q) == finite
    if q.batch_shape:
        assert has_finite_support(Independent(q, 1)) == finite


def test_a_cell_of_finite_support_is_measured_as_one():
    found = []
    for seed in range(8):
        engine = Engine(Cell(RLOO(n=2), RareCategories()), Settings(replicates=1000, seed=seed))
        _, summary, _ = summarise_cell(engine, exact_gradient(engine.cell.objective, engine.problem)[1])
        found.append(summary.status)
        assert summary.variance is not None
        if summary.khat is not None and summary.khat >= 0.7:
            assert summary.status == "RARE_LARGE_VALUES"
            assert summary.verdict == "INCONCLUSIVE"
    assert found.count("RARE_LARGE_VALUES") > 1
