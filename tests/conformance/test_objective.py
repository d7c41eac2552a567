"""The conformance suite of objectives: all of the catalogue pass, and every ordinary mistake is found by its check."""

from dataclasses import replace
from unittest import SkipTest

import pytest

from bench.conformance import ObjectiveConformance
from bench.measurement.objective_checks import CHECKS, Fault, NotJudged, ObjectiveTrial, check_own, judge
from bench.measurement.objective_checks.run import check_once
from bench.objectives import BernoulliVAE, Discontinuous, ExponentialMoment, GaussianVAE, RandomWalk, catalogue
from tests.conformance.objective_mutants import MUTANTS, RIGHT

CATALOGUE = [
    *(cls() for cls in catalogue().values()),
    GaussianVAE(decoder="linear", batch=4),
    BernoulliVAE(dim=4, particles=3, batch=4),
    BernoulliVAE(dim=13, hidden=3, batch=2),
    Discontinuous(dim=3),
    RandomWalk(dim=1),
    *(
        ExponentialMoment(rate=rate, power=power)
        for rate, power in ((0.2, 2), (0.35, 2), (0.45, 2), (3.0, 1), (6.0, 1))
    ),
]
TESTS = [name for name in vars(ObjectiveConformance) if name.startswith("test_")]


def suite(of):
    return type("TestOne", (ObjectiveConformance,), {"objective": of})()


def test_the_suite_runs_every_check(monkeypatch):
    ran = []
    monkeypatch.setattr("bench.measurement.objective_checks.run.judge", lambda check, trial: ran.append(check))
    for name in TESTS:
        getattr(suite(RIGHT[0]), name)()
    assert ran == list(CHECKS)


@pytest.mark.parametrize("objective", [*CATALOGUE, *RIGHT], ids=repr)
def test_right_objectives_pass(objective):
    trial = ObjectiveTrial(objective)
    for check in CHECKS:
        try:
            judge(check, trial)
        except NotJudged:
            continue


@pytest.fixture
def unhurried(monkeypatch):
    """Let comparisons with samples take as many as they may, however busy the machine is."""
    monkeypatch.setattr("bench.measurement.objective_checks.trial.BUDGET", 10.0)


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: type(mutant.objective).__name__)
def test_a_wrong_objective_is_found_by_its_check_and_by_none_before(mutant):
    tests = suite(mutant.objective)
    for name in TESTS[: TESTS.index(mutant.check)]:
        try:
            getattr(tests, name)()
        except SkipTest:
            continue
    with pytest.raises(AssertionError) as caught:
        getattr(tests, mutant.check)()
    assert mutant.says in str(caught.value)
    assert str(caught.value).startswith("The objective ")
    assert "  " not in str(caught.value)


@pytest.mark.parametrize("name", TESTS)
def test_every_check_kills_a_mutant(name):
    assert any(mutant.check == name for mutant in MUTANTS)


@pytest.mark.usefixtures("unhurried")
def test_own_objectives_are_checked_and_those_of_the_catalogue_are_not(monkeypatch):
    for mutant in MUTANTS:
        if mutant.check not in ("test_f_has_a_gradient", "test_training_data"):
            with pytest.raises(Fault):
                check_own(mutant.objective)
    monkeypatch.setattr("bench.measurement.objective_checks.run.judge", lambda check, trial: pytest.fail("checked"))
    for objective in CATALOGUE:
        check_own(objective)


def test_few_builds_are_made(monkeypatch):
    built = []
    original = type(RIGHT[0]).build
    monkeypatch.setattr(type(RIGHT[0]), "build", lambda self, *how: built.append(how) or original(self, *how))
    check_once.cache_clear()
    check_own(replace(RIGHT[0]))
    assert len(built) <= 4  # two in float64, one in float32, and one that measures the size of a row
