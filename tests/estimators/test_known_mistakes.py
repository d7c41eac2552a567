"""Mistakes found in public implementations: each has a test that would refuse it here."""

import re
from pathlib import Path

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Gamma

from bench.conformance import suite
from estimators import (
    RejectionReparameterization,
    ScoreFunction,
    SumAndSample,
    UnorderedSet,
    catalogue,
    rejection_reparameterization,
)
from tests.conformance.test_conformance import ELSEWHERE
from tests.problems import centred, gradients, mean_scores, moments, row_gradients, t
from tests.tolerances import z_limit

TESTS = Path(__file__).parent.parent

REFUSED_BY = {
    "a moving average that contains the sample it multiplies": "mutants.py::MovingAverageContainsTheCurrentSample",
    "a moving average that moves before it is read": "mutants.py::MovingAverageUpdatesInsideTheCall",
    "a moving average whose correction for its start is stored": "test_the_average_of_a_constant_is_that_constant",
    "a mean over all samples where one was to be left out": "mutants.py::BaselineContainsItsOwnSample",
    "the same, of subsets": "test_subset.py::test_a_mean_over_all_samples_is_no_leave_one_out_baseline",
    "leave-one-out of one sample, a division by 0": "mutants.py::LeavesOneOutOfOne",
    "subsets drawn by Gumbel-top-k": "test_subset.py::test_how_far_gumbel_top_k_is_from_the_exact_distribution",
    "a number of samples that is read and not used": "test_n_is_the_number_of_samples",
    "states of equal probability": "test_equal_probabilities_leave_the_mean_alone",
    "a small number in ARMS's denominator": "test_arm.py::test_arms_is_its_formula_on_the_same_noise",
    "DisARM with another index": "test_disarm.py::test_the_formula_on_the_same_noise",
    "a check of unbiasedness that asserts nothing": "test_every_check_kills_a_mutant",
    "REBAR without the conditional gradient": (
        "test_rebar.py::test_without_the_conditional_gradient_or_its_noise_it_would_be_biased"
    ),
    "RELAX without the conditional gradient": (
        "test_relax.py::test_without_the_gradient_through_the_conditional_sample_it_would_be_biased"
    ),
    "a relaxed sample around another centre": "test_relax.py::test_the_three_terms_of_the_paper_on_the_same_noise",
    "conditional noise of the opposite orientation": (
        "test_rebar.py::test_the_relaxed_sample_always_has_the_discrete_outcome"
    ),
    "rejection reparameterization without its correction": "test_without_its_correction_it_would_be_biased",
    "ReinMax that refuses temperatures below 1, or mixes its two means": (
        "test_reinmax.py::test_the_formula_on_the_same_noise"
    ),
    "logits that have to be contiguous": "mutants.py::TrustsTheMemoryLayout",
    "an exact gradient with another factor than its f": "test_objectives.py::test_estimators_refute_a_factor_in_exact",
    "an exact gradient of another f": "test_objectives.py::test_exact_gradient_equals_the_sum_over_all_states",
    "Gumbel-Rao differentiated through its conditional noise": (
        "test_gumbel_rao.py::test_mean_on_categories_equals_straight_through_gumbel_softmaxs"
    ),
}
"""What went wrong elsewhere, and the test (or the deliberately wrong estimator) that keeps it out."""


@pytest.mark.parametrize("mistake", REFUSED_BY)
def test_every_mistake_has_its_test(mistake):
    file, _, name = REFUSED_BY[mistake].rpartition("::")
    where = TESTS.rglob(Path(file or "test_*.py").name)
    assert any(re.search(rf"(?m)^(def|class) {name}\(", path.read_text(encoding="utf-8")) for path in where)


@pytest.mark.parametrize("constant", [1.0, -3.0])
def test_the_average_of_a_constant_is_that_constant(constant):
    state = ScoreFunction(baseline="moving-average").init(Bernoulli(t(0.5)))
    for _ in range(200):
        state.update(torch.full((3,), constant))
        assert state.mean.item() == pytest.approx(constant, rel=1e-12)


WITH_N = [cls for cls in catalogue().values() if "n" in cls.__dataclass_fields__ and cls not in ELSEWHERE]


@pytest.mark.parametrize("cls", WITH_N)
def test_n_is_the_number_of_samples(cls):
    """Four times the samples are more than twice the points at which f is called, and no fewer anywhere."""
    ratios = []
    for few, many in zip(*(suite(cls(n=n))().trials() for n in (2, 8)), strict=True):
        counts = [sum(x.numel() for x in trial.seen()) for trial in (few, many)]
        ratios.append(counts[1] / counts[0])
    assert min(ratios) >= 1
    assert max(ratios) > 2


@pytest.mark.parametrize("estimator", [SumAndSample(3), UnorderedSet(3)], ids=repr)
def test_equal_probabilities_leave_the_mean_alone(estimator):
    """Which of them are summed or come first is arbitrary; the mean is exact whichever it is."""
    for values in (t(1.0, -2.0, 5.0, 0.5, 3.0), t(0.5, 5.0, 3.0, -2.0, 1.0)):
        q = Categorical(logits=torch.zeros(5, dtype=torch.float64).requires_grad_())
        g = gradients(estimator, lambda x, values=values: values[x], q, 2**15)
        exact = (values - values.mean()) / 5
        assert mean_scores(centred(g, torch.full((5,), 0.2)), exact).abs().max() < z_limit(20)


def test_without_its_correction_it_would_be_biased(monkeypatch):
    """Of z^2 under Gamma(2.3, 1), whose derivative is 5.6: the path of the accepted proposal alone has 5.568."""
    x = torch.linspace(1e-4, 60, 400_001, dtype=torch.float64)
    weights = Gamma(t(2.3), t(1.0)).log_prob(x).exp() * (x[1] - x[0])
    monkeypatch.setattr(rejection_reparameterization, "draw", lambda q, n, generator: x[None])
    right = rejection_reparameterization._marsaglia_tsang

    def mean():
        q = Gamma(t(2.3).squeeze().requires_grad_(), t(1.0).squeeze())
        estimator = RejectionReparameterization(augmentation=0)
        return moments(row_gradients(estimator, torch.square, q, len(x))["concentration"], weights)[0]

    assert mean() == pytest.approx(5.6, abs=1e-6)
    monkeypatch.setattr(rejection_reparameterization, "_marsaglia_tsang", lambda y, s: (right(y, s)[0], 0 * y))
    assert mean() == pytest.approx(5.56766, abs=1e-5)
