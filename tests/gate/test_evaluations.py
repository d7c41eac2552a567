"""Evaluations of f and of df/dx: compared exactly, whatever the machine, and only if they do not depend on chance."""

import pytest
import torch

from bench.gate.findings import Verdict
from bench.gate.measure import evaluations_vary
from bench.gate.stages import Options
from bench.measurement.counting import count_evaluations
from bench.measurement.engine import Engine
from bench.objectives import (
    BernoulliQuadratic,
    CategoricalPolynomial,
    GammaQuadratic,
    GaussianQuadratic,
    ImportanceWeighted,
    PoissonQuadratic,
)
from bench.planning.cells import Cell, mismatch
from bench.planning.settings import Settings
from estimators import RLOO, Enumeration, Reparameterization, ScoreFunction, catalogue, draw
from tests.gate.fabricated import replace_cells, suite, twin

CELL = Cell(Reparameterization(n=2), GaussianQuadratic(dim=3))
OTHER_NOISE = Options(seed=3)
OBJECTIVES = (
    BernoulliQuadratic(dim=3),
    GaussianQuadratic(dim=3),
    CategoricalPolynomial(),
    PoissonQuadratic(),
    GammaQuadratic(),
    ImportanceWeighted(particles=3),
)


def again(self, f, q, generator=None, state=None):
    """Evaluate f twice at each sample: the samples and the gradient stay, bit for bit."""
    return type(self).__mro__[1].__call__(self, lambda x: (f(x) + f(x)) / 2, q, generator, state)


@pytest.mark.parametrize(
    ("cell", "was", "now"),
    [
        (CELL, "2 evaluations of f and 2 of df/dx", "4 evaluations of f and 4 of df/dx"),
        (Cell(RLOO(n=2), BernoulliQuadratic(dim=3)), "2 evaluations of f", "4 evaluations of f"),
        (Cell(ScoreFunction(), GaussianQuadratic(dim=3)), "1 evaluation of f", "2 evaluations of f"),
        (Cell(Enumeration(), BernoulliQuadratic(dim=3)), "8 evaluations of f", "16 evaluations of f"),
    ],
    ids=lambda value: value.label if isinstance(value, Cell) else None,
)
def test_a_costlier_estimator_fails_although_its_samples_are_the_same(cell, was, now):
    made = suite(cell, replicates=300)
    report = made.check(Cell(twin(cell.estimator, again), cell.objective))
    (finding,) = report.findings
    assert (finding.verdict, report.exit_code) == (Verdict.COSTLIER, 3)
    assert finding.reason == f"an estimate takes {now} instead of {was}; the same samples"


def test_other_noise_compares_evaluations_too():
    made = suite(CELL, replicates=3000)
    assert made.check(options=OTHER_NOISE).findings[0].verdict is Verdict.UNCHANGED
    (finding,) = made.check(Cell(twin(CELL.estimator, again), CELL.objective), options=OTHER_NOISE).findings
    assert finding.verdict is Verdict.COSTLIER
    assert finding.change == pytest.approx(1, rel=0.5)  # the variance was compared too


def test_one_more_derivative_is_costlier():
    def call(_self, f, q, generator=None, state=None):
        x = draw(q, 1, generator).requires_grad_()
        torch.autograd.grad(f(x).sum(), x)
        return ScoreFunction()(f, q, generator, state)

    cell = Cell(ScoreFunction(), GaussianQuadratic(dim=3))
    (finding,) = suite(cell, replicates=300).check(Cell(twin(cell.estimator, call), cell.objective)).findings
    assert finding.verdict is Verdict.COSTLIER
    assert "takes 2 evaluations of f and 1 of df/dx instead of 1 evaluation of f" in finding.reason


def test_a_regression_that_is_costlier_too_says_both():
    def call(_self, f, q, generator=None, state=None):
        return Reparameterization(n=1)(lambda x: (f(x) + f(x) + f(x)) / 3, q, generator, state)

    made = suite(CELL, replicates=10_000)
    (finding,) = made.check(Cell(twin(CELL.estimator, call), CELL.objective)).findings
    assert finding.verdict is Verdict.REGRESSED
    assert "also an estimate takes 3 evaluations of f and 3 of df/dx instead of 2 evaluations" in finding.notes[0]


def test_a_cheaper_estimator_passes_with_a_note():
    def call(self, f, q, generator=None, state=None):
        x = draw(q, self.n, generator)
        known = f(x)
        return Reparameterization(n=self.n)(f, q, generator, state) + 0 * known.mean(0).detach()

    dear = twin(CELL.estimator, call)
    made = suite(Cell(dear, CELL.objective), replicates=300)
    report = made.check(Cell(CELL.estimator, CELL.objective), options=OTHER_NOISE)
    assert report.exit_code == 0
    assert any(note.startswith("cheaper: an estimate takes 2 evaluations") for note in report.findings[0].notes)


def test_a_number_of_evaluations_that_is_a_matter_of_chance_is_not_compared():
    def call(self, f, q, generator=None, state=None):
        loss = Reparameterization(n=self.n)(f, q, generator, state)
        if torch.rand((), generator=generator) < 0.2:
            f(draw(q, 1, generator))
        return loss

    chancy = Cell(twin(CELL.estimator, call), CELL.objective)
    assert evaluations_vary(chancy, Settings(replicates=300))
    made = suite(chancy, replicates=300)
    entry = made.baseline.cells[0]
    for was in (1.0, 50.0):
        forged = replace_cells(made, entry.model_copy(update={"f_evals": was}))
        (finding,) = forged.check().findings
        assert finding.verdict is Verdict.IDENTICAL
        assert "changes from call to call, and was not compared" in finding.notes[0]


def test_a_baseline_without_evaluations_compares_none():
    made = suite(CELL, replicates=300)
    old = replace_cells(made, made.baseline.cells[0].model_copy(update={"f_evals": None, "grad_evals": None}))
    (finding,) = old.check(Cell(twin(CELL.estimator, again), CELL.objective)).findings
    assert finding.verdict is Verdict.IDENTICAL
    assert (finding.notes, finding.evaluations) == ([], None)


@pytest.mark.parametrize("cls", catalogue().values(), ids=lambda cls: cls.__name__)
def test_the_evaluations_of_the_catalogue_are_no_matter_of_chance(cls):
    objective = next((o for o in OBJECTIVES if mismatch(cls(), o) is None), None)
    if objective is None:
        pytest.skip("fits none of these objectives")
    engine = Engine(Cell(cls(), objective), Settings(replicates=64))
    if engine.state is not None:
        engine.freeze()
    assert len({count_evaluations(engine, call) for call in range(8)}) == 1
