"""The Python interface: what design promises of a Measurement."""

import numpy as np
import pytest
import torch

from bench import Measurement, measure, objectives
from bench.cells import Lost
from estimators import RLOO, Enumeration, Refusal, Reparameterization, ScoreFunction


def test_a_measurement_says_all_of_its_cell():
    objective = objectives.GaussianQuadratic(dim=3)
    m = measure(RLOO(n=4), objective, replicates=2_000, seed=0)
    assert isinstance(m, Measurement)
    low, high = m.variance_interval
    assert low < m.variance < high
    theta = objective.build().theta
    assert {k: v.shape for k, v in m.mean.items()} == {k: v.shape for k, v in theta.items()}
    torch.testing.assert_close(m.exact["mean"], torch.full((3,), 2.0, dtype=torch.float64))
    assert m.exact["log_scale"].dtype == torch.float64
    assert (m.f_evals, m.grad_evals) == (4, 0)
    assert m.replicates >= 2_000
    assert m.status in ("OK", "TAIL_WARNING")
    assert m.verdict in ("UNBIASED_WITHIN_TOL", "INCONCLUSIVE")
    assert m.bias_bound > 0
    assert m.seconds is None


def test_the_interval_holds_the_closed_form():
    """Pathwise on (x - k)^2: variance 4 s^2 in the mean and s^2 (4 a^2 + 8 s^2) in log s."""
    m = measure(Reparameterization(), objectives.GaussianQuadratic(dim=1, mean=1.5, scale=0.5), replicates=100_000)
    a, s = 1.5, 0.5
    exact = 4 * s**2 + s**2 * (4 * a**2 + 8 * s**2)
    low, high = m.variance_interval
    half = (high - low) / 2
    assert abs(m.variance - exact) < 3 * half  # 3 half-widths of a 95 % interval: z = 5.9
    groups = m.summary.groups
    assert groups["mean"]["variance"] + groups["log_scale"]["variance"] == pytest.approx(m.variance, rel=1e-12)


def test_the_same_seed_gives_the_same_bits_and_another_does_not():
    objective = objectives.BernoulliQuadratic(dim=4)
    first, again, other = (measure(RLOO(), objective, replicates=500, seed=s) for s in (0, 0, 1))
    assert first.variance == again.variance != other.variance
    assert first.record["fingerprint"] == again.record["fingerprint"] != other.record["fingerprint"]


def test_the_users_threads_and_generator_are_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    measure(ScoreFunction(baseline="moving-average"), objectives.GaussianQuadratic(dim=2), replicates=300)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.rand(3), expected)


def test_timing_is_asked_for():
    m = measure(RLOO(), objectives.GaussianQuadratic(dim=2), replicates=300, timing=True)
    assert m.seconds > 0
    assert m.timing["latency_seconds"] > 0
    assert m.timing["cost_low"] <= m.timing["cost"] <= m.timing["cost_high"]


def test_a_deterministic_estimator_has_no_variance():
    m = measure(Enumeration(), objectives.BernoulliQuadratic(dim=3, target=0.25), replicates=10_000, dtype="float64")
    assert m.variance == 0
    assert m.verdict == "EXACT"
    np.testing.assert_allclose(m.mean["logits"], m.exact["logits"], rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: measure(Reparameterization(), objectives.BernoulliQuadratic()), Refusal, "Use ScoreFunction, RLOO"),
        (lambda: measure(Enumeration(), objectives.BernoulliQuadratic(dim=30)), Refusal, r"got 2\^30"),
        (
            lambda: measure(RLOO(), objectives.GaussianQuadratic(), replicates=0),
            ValueError,
            "replicates is a whole number",
        ),
        (
            lambda: measure(RLOO(), objectives.GaussianQuadratic(), dtype="half"),
            ValueError,
            "dtype is float32 or float64",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(call, error, says):
    with pytest.raises(error, match=says):
        call()


def test_gradients_that_are_not_finite_raise():
    with pytest.raises(Lost, match="gradients were not finite"):
        measure(ScoreFunction(), objectives.GaussianQuadratic(dim=1, target=1e30), replicates=300)
