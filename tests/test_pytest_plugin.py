import math
import os
import subprocess
import sys
from dataclasses import dataclass
from xml.etree import ElementTree

import pytest

from bench.gate.baseline_file import path_of, write
from bench.objectives import BernoulliQuadratic, GaussianExponential, GaussianQuadratic
from bench.planning.cells import Cell
from bench.planning.selectors import UsageError
from bench.pytest_plugin import GradientCheck
from bench.records.identity import cell_id
from estimators import RLOO, Enumeration, GumbelSoftmax, Reparameterization, ScoreFunction, grad_only
from tests.gate.fabricated import suite, twin

QUADRATIC = GaussianQuadratic(dim=10)


def scaled(estimator, factor):
    """Return an estimator of the same identity with a factor times its gradient."""

    def call(_self, f, q, generator=None, state=None):
        loss = estimator(f, q, generator, state)
        return loss.detach() + factor * grad_only(loss)

    return twin(estimator, call)


@pytest.fixture
def check(tmp_path):
    return GradientCheck(tmp_path)


@pytest.fixture
def saved(tmp_path):
    made = suite(Cell(Reparameterization(n=4), QUADRATIC), replicates=20_000)
    write(made.baseline, path_of("ci", tmp_path))
    return made


def fewer(n):
    def call(_self, f, q, generator=None, state=None):
        return Reparameterization(n=n)(f, q, generator, state)

    return call


# unbiased


def test_unbiased_estimators_pass(check):
    check.assert_unbiased(RLOO(n=4), QUADRATIC)
    check.assert_unbiased(ScoreFunction(), GaussianExponential(), replicates=2000)
    check.assert_unbiased(Enumeration(), BernoulliQuadratic(dim=4))


def test_a_bias_fails_with_its_size(check):
    with pytest.raises(
        AssertionError, match=r"is biased: its mean is off by about 10.0% .* and 1\.10\d* ± .*, p < 1e-300 .*seed"
    ):
        check.assert_unbiased(scaled(Reparameterization(n=16), 1.1), QUADRATIC)
    with pytest.raises(AssertionError, match="declare unbiased = False"):
        check.assert_unbiased(GumbelSoftmax(), BernoulliQuadratic(dim=10, target=0.1))


def test_a_gradient_without_noise_has_to_be_exact(check):
    with pytest.raises(AssertionError, match="has no noise and is off by"):
        check.assert_unbiased(scaled(Enumeration(), 1.01), BernoulliQuadratic(dim=4))
    check.assert_unbiased(scaled(Enumeration(), 1.01), BernoulliQuadratic(dim=4), tolerance=0.02)


def test_a_tolerance_has_to_be_shown(check):
    low_noise = Reparameterization(n=64)
    check.assert_unbiased(low_noise, QUADRATIC, tolerance=0.02)
    with pytest.raises(AssertionError, match=r"not shown to be unbiased within 0\.01%.*give replicates=\d+"):
        check.assert_unbiased(low_noise, QUADRATIC, tolerance=1e-4)
    with pytest.raises(AssertionError, match="beyond the tolerance"):
        check.assert_unbiased(scaled(low_noise, 1.1), QUADRATIC, tolerance=0.02)
    check.assert_unbiased(scaled(low_noise, 1.01), QUADRATIC, tolerance=0.02)


@pytest.mark.parametrize("tolerance", [math.nan, -0.01, 0, 1, "0.01", True])
def test_a_tolerance_is_between_0_and_1(check, tolerance):
    with pytest.raises(ValueError, match="needs a tolerance above 0 and below 1"):
        check.assert_unbiased(RLOO(), BernoulliQuadratic(), tolerance=tolerance)


def test_an_objective_without_an_exact_gradient_is_refused(check):
    @dataclass(frozen=True)
    class Unknown(GaussianQuadratic):
        has_exact = False

    with pytest.raises(ValueError, match="no gradient to compare with"):
        check.assert_unbiased(RLOO(), Unknown())


# variance


@pytest.mark.usefixtures("saved")
def test_an_untouched_estimator_is_not_worse(check):
    check.assert_variance_not_worse(Reparameterization(n=4), QUADRATIC, baseline="ci")
    check.assert_variance_not_worse(Reparameterization(n=4), QUADRATIC, baseline="results/baselines/ci.json")


@pytest.mark.usefixtures("saved")
def test_a_larger_variance_fails_with_the_evidence(check):
    faulty = twin(Reparameterization(n=4), fewer(2))
    with pytest.raises(
        AssertionError, match=r"regressed: variance times[\s\S]*confirm[\s\S]*bench check --baseline ci"
    ):
        check.assert_variance_not_worse(faulty, QUADRATIC, baseline="ci")
    check.assert_variance_not_worse(faulty, QUADRATIC, baseline="ci", margin=2.0)


@pytest.mark.usefixtures("saved")
def test_a_cell_that_is_not_in_the_baseline_says_how_to_get_there(check):
    with pytest.raises(AssertionError, match="bench baseline promote ci -e rloo:n=3 -o gaussian-quadratic:dim=7"):
        check.assert_variance_not_worse(RLOO(n=3), GaussianQuadratic(dim=7), baseline="ci")
    with pytest.raises(UsageError, match="no baseline"):
        check.assert_variance_not_worse(RLOO(n=3), QUADRATIC, baseline="other")


def test_what_cannot_be_judged_fails_when_it_is_strict(check, tmp_path):
    made = suite(Cell(RLOO(), QUADRATIC), replicates=2000)
    entry = made.baseline.cells[0].model_copy(update={"cv2": 1e4, "truncated_cv2": 1e4, "fingerprint": "other"})
    write(made.baseline.model_copy(update={"cells": (entry,)}), path_of("ci", tmp_path))
    check.assert_variance_not_worse(RLOO(), QUADRATIC, baseline="ci")
    with pytest.raises(AssertionError, match="inconclusive"):
        check.assert_variance_not_worse(RLOO(), QUADRATIC, baseline="ci", strict=True)


# inside a user's own pytest

TESTS = """
import sys

def test_torch_is_not_loaded_by_the_plugin():
    assert "torch" not in sys.modules

def test_unbiased(gradient_check):
    from bench.objectives import GaussianQuadratic
    from estimators import RLOO
    gradient_check.assert_unbiased(RLOO(n=4), GaussianQuadratic(), replicates=2000)

def test_not_worse(gradient_check):
    from bench.objectives import GaussianQuadratic
    from estimators import Reparameterization
    gradient_check.assert_variance_not_worse(Reparameterization(n=4), GaussianQuadratic(dim=10), baseline="ci")

def test_biased(gradient_check):
    from bench.objectives import BernoulliQuadratic
    from estimators import GumbelSoftmax
    gradient_check.assert_unbiased(GumbelSoftmax(), BernoulliQuadratic(dim=10, target=0.1))
"""


@pytest.mark.parametrize("words", [(), ("-n", "1")], ids=["alone", "under xdist"])
@pytest.mark.usefixtures("saved")
def test_the_fixture_is_there_and_writes_nothing(tmp_path, words):
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_mine.py").write_text(TESTS)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("*")}
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words, "--junit-xml", "out.xml"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
    )
    cases = ElementTree.parse(tmp_path / "out.xml").getroot().iter("testcase")
    failures = {case.get("name"): [f.get("message") for f in case.iter("failure")] for case in cases}
    assert len(failures) == 4
    assert [name for name, found in failures.items() if found] == ["test_biased"]
    assert "is biased: its mean is off by" in failures["test_biased"][0]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("*")} == before


def test_identity_is_by_class_and_fields():
    assert cell_id(twin(RLOO(n=3), fewer(2)), QUADRATIC) == cell_id(RLOO(n=3), QUADRATIC)
