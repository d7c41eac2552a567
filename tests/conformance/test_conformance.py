import functools
import subprocess
import sys
from unittest import SkipTest

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Independent, OneHotCategorical

from bench.conformance import CASES, Case, Conformance, checks, suite, support
from bench.conformance.cases import inner, wave
from bench.conformance.trial import Trial
from estimators import (
    ARMS,
    DARN,
    GRPO,
    RELAX,
    RLOO,
    VIMCO,
    DoubleControlVariate,
    DoublyReparameterized,
    EvolutionStrategies,
    ForwardGradient,
    GappedStraightThrough,
    GeneralizedReparameterization,
    GumbelRao,
    GumbelSoftmax,
    Nested,
    RejectionReparameterization,
    ScoreFunction,
    StraightThrough,
    StraightThroughGumbelSoftmax,
    catalogue,
)
from tests.conformance.mutants import MUTANTS

ELSEWHERE = [GeneralizedReparameterization, Nested, RejectionReparameterization]
"""Serve none of the suite's families: their own test files run the suite on problems of theirs."""

ESTIMATORS = [
    *(cls() for cls in catalogue().values() if cls not in ELSEWHERE),
    ScoreFunction(n=3, baseline=1.5),
    ScoreFunction(baseline="moving-average"),
    ScoreFunction(n=3, baseline="optimal"),
    RLOO(n=4),
    RLOO(n=3, credit="downstream"),
    GRPO(n=3, normalise=False),
    ScoreFunction(n=3, baseline=0.5, credit="downstream"),
    ARMS(n=3),
    DoubleControlVariate(n=3, coefficient=0.7),
    RELAX(n=2, relaxed=True),
    StraightThrough(n=3),
    GumbelSoftmax(n=3, temperature=0.5),
    StraightThroughGumbelSoftmax(n=3, temperature=0.5),
    GumbelRao(n=2, temperature=0.5, inner=3),
    GappedStraightThrough(n=2, gap="expected"),
    DARN(n=2, centre="mean"),
    EvolutionStrategies(n=4, scale=0.5),
    ForwardGradient(n=2, tangent="sign"),
    VIMCO(n=2, mean="arithmetic"),
    DoublyReparameterized(n=3),
]


@pytest.fixture(scope="module", autouse=True)
def _samples_are_drawn_once():
    """Several checks look at the same 32,768 estimates of a problem, and come one after the other: keep them."""
    made, patch = Trial.replicates, pytest.MonkeyPatch()

    @functools.lru_cache(len(CASES))
    def kept(estimator, case):
        trial = Trial(estimator, case)
        return made(trial, trial.integrand)

    def replicates(trial, integrand):
        own = integrand == trial.integrand and trial.learned is None
        return kept(trial.estimator, trial.case) if own else made(trial, integrand)

    patch.setattr(Trial, "replicates", replicates)
    yield
    patch.undo()


PLAIN = """
from bench.conformance import Conformance
from estimators import RLOO

class Plain(RLOO):
    pass

class TestPlain(Conformance):
    estimator = Plain()
"""


@pytest.mark.parametrize("check", checks())
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_every_estimator_conforms(estimator, check):
    getattr(suite(estimator)(), check)()


@pytest.mark.parametrize("cls", ELSEWHERE)
def test_what_is_tested_elsewhere_has_no_problem_here(cls):
    assert all(cls().refuses(type(inner(case.q()))) for case in CASES)


LOGITS = torch.tensor([0.9, -1.4, 0.3, 0.0, -50.0, 50.0], dtype=torch.float64)
ALONE = [
    Case("one bit", (LOGITS,), lambda t: Bernoulli(logits=t), wave(*LOGITS.tolist(), event=0), support),
    Case("one bit, an event", (LOGITS[:1],), lambda t: Independent(Bernoulli(logits=t), 1), wave(0.4), support),
    Case("one variable", (LOGITS.reshape(2, 3),), lambda t: OneHotCategorical(logits=t), wave(0.4, -0.9), support),
    Case("two categories", (LOGITS.reshape(3, 2),), lambda t: OneHotCategorical(logits=t), wave(1, 2, 3), support),
    Case("integers", (LOGITS.reshape(2, 3),), lambda t: Categorical(logits=t), wave(1, 2, event=0, classes=3), support),
]


@pytest.mark.parametrize("case", ALONE, ids=lambda case: case.name)
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_a_variable_that_is_alone_is_no_special_case(estimator, case):
    if estimator.needs_bound or estimator.needs_set or estimator.refuses(type(inner(case.q()))):
        pytest.skip("not served")
    trial = Trial(estimator, case)
    losses, gradients = trial.replicates(trial.integrand)
    value, gradient = case.exact(trial.integrand)
    trial.bias("value", losses, value, estimator.value_unbiased)
    trial.bias("gradient", gradients, gradient, estimator.unbiased)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_cuda_has_the_moments_of_the_cpu(estimator, dtype):
    for trial in suite(estimator)().trials():
        _, expected = trial.replicates(trial.integrand)
        there = trial.cast(dtype, "cuda")
        _, got = there.replicates(there.integrand)
        assert got.device.type == "cuda"
        assert got.dtype == dtype
        trial.same_moments("the gradient on CUDA", got, expected)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: type(m.estimator).__name__)
def test_mutants_die(mutant):
    with pytest.raises(AssertionError, match=mutant.says):
        getattr(suite(mutant.estimator)(), mutant.check)()


def test_every_check_kills_a_mutant():
    assert set(checks()) == {mutant.check for mutant in MUTANTS}


def test_a_suite_without_a_problem_to_solve_fails():
    class Empty(Conformance):
        estimator = RLOO()
        cases = ()

    with pytest.raises(AssertionError, match="serves none of the problems"):
        Empty().test_gradient()


def test_a_pointless_check_is_skipped_not_passed():
    with pytest.raises(SkipTest, match="unbiased is declared False"):
        suite(StraightThrough())().test_gradient_where_f_depends_on_q()


class TestAUsersEstimator(Conformance):
    estimator = RLOO(n=3)


OWN = """
from dataclasses import dataclass
from bench.conformance import Conformance, suite
from estimators import RLOO, Estimator, draw, score

@dataclass(frozen=True)
class OurLOO(Estimator):
    n: int = 2
    def __post_init__(self):
        {guard}
    def __call__(self, f, q, generator=None, state=None):
        x = draw(q, self.n, generator)
        fx = f(x)
        return fx.mean(0) + score(q, x, (fx - fx.mean(0)).detach() / (self.n - 1))

class TestOurs(Conformance):
    estimator = OurLOO()
"""


def one_sample(guard):
    """Make a user's estimator with this guard, and call its one-sample check."""
    names = {}
    exec(OWN.format(guard=guard), names)
    names["TestOurs"]().test_one_sample()


@pytest.mark.parametrize("advice", ["Use OurLOO(n=2).", "Please use RLOO."])
def test_a_refusal_may_name_an_estimator_of_ones_own(advice):
    guard = f"if self.n < 2: raise ValueError(f'OurLOO needs n >= 2 (got {{self.n}}). {advice}')"
    one_sample(guard)
    with pytest.raises(AssertionError, match="refuses without saying what to use instead: OurLOO needs n >= 2"):
        one_sample(guard.replace(advice, ""))


def test_what_pytest_prints_of_a_users_failed_checks(tmp_path):
    """An estimator that is no dataclass fails one check and skips the others; a failure is a sentence, not tensors."""
    (tmp_path / "test_plain.py").write_text(PLAIN)
    (tmp_path / "test_own.py").write_text(OWN.format(guard="pass"))
    words = ["-q", "-p", "no:cacheprovider", "test_plain.py", "test_own.py::TestOurs::test_one_sample"]
    said = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
    ).stdout
    assert f"2 failed, {len(checks()) - 1} skipped" in said
    plain, own = (line for line in said.splitlines() if line.startswith("E "))
    assert plain.endswith("is not a frozen dataclass. Write @dataclass(frozen=True) above Plain.")
    assert own.endswith("n=1, in torch.float32: loss or gradient is not finite.")
