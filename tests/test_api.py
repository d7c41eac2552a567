"""The Python interface: what design promises of a Measurement."""

import re
import subprocess
import sys
from dataclasses import dataclass, replace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, Normal

import bench
from bench import Expectation, Measurement, measure, objectives
from bench.measurement.objective_checks import CHECKS, check_own
from bench.planning.switches import SWITCHES
from bench.planning.user_code import Ended
from bench.records.lines import Lost
from bench.stats.printing import format_variance
from bench.stats.summary import HEAVY
from estimators import RLOO, Enumeration, Estimator, Refusal, Reparameterization, ScoreFunction


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


def test_an_inconclusive_verdict_says_how_many_replicates_would_settle_it():
    m = measure(RLOO(n=4), objectives.GaussianCosine(), replicates=1_000)
    needed = m.summary.replicates_needed
    (said,) = re.findall(r"bias INCONCLUSIVE, .* %, about ([\d,]+) replicates would settle it;", repr(m))
    assert needed <= int(said.replace(",", "")) <= 2 * needed
    assert "would settle it" not in repr(measure(RLOO(n=4), objectives.GaussianCosine(), replicates=400_000))


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


@pytest.mark.parametrize(
    ("q", "f", "start", "right"),
    [
        (lambda t: Bernoulli(logits=t["t"]), lambda x: x, 0.3, lambda t: t.sigmoid() * (1 - t.sigmoid())),
        (lambda t: Normal(t["t"], 1.0), lambda x: x.square(), 1.0, lambda t: 2 * t),
    ],
)
def test_theta_may_be_a_single_number(q, f, start, right):
    """A theta of shape [] has gradients of shape []."""
    start = torch.tensor(start)
    problem = Expectation(q, f, {"t": start})
    check_own(problem, CHECKS)
    m = measure(RLOO(n=4), problem, replicates=500)
    assert m.record["shapes"] == {"t": []}
    assert m.mean["t"].shape == ()
    assert m.variance > 0
    assert m.verdict != "BIASED"
    if problem.has_exact:
        torch.testing.assert_close(m.exact["t"].float(), right(start), rtol=1e-5, atol=0.0)
        torch.testing.assert_close(measure(Enumeration(), problem).mean["t"].float(), right(start), rtol=1e-5, atol=0.0)


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


# What people see ------------------------------------------------------------------------------------------------------


def test_the_frame_has_a_row_for_all_and_one_for_each_tensor():
    m = measure(RLOO(n=4), objectives.GaussianQuadratic(dim=3), replicates=2_000)
    frame = m.frame()
    assert list(frame.index) == ["all", "mean", "log_scale"]
    assert list(frame.columns) == ["size", "variance", "variance_low", "variance_high", "status"]
    assert frame.loc["all", "variance"] == m.variance == pytest.approx(frame["variance"].iloc[1:].sum())
    assert tuple(frame.loc["all", ["variance_low", "variance_high"]]) == m.variance_interval
    assert list(frame["size"]) == [6, 3, 3]
    assert list(measure(RLOO(), objectives.BernoulliQuadratic(dim=2), replicates=300).frame().index) == ["all"]


def test_the_frame_by_coordinate_has_intervals_that_hold_the_exact_gradient():
    m = measure(RLOO(n=4), objectives.CategoricalPolynomial(dim=40, power=3), replicates=5_000)
    frame = m.frame("coordinate")
    assert list(frame.index[:3]) == [("logits", "0,0"), ("logits", "0,1"), ("logits", "1,0")]
    assert frame.index.names == ["tensor", "position"]
    np.testing.assert_array_equal(frame["mean"], m.mean["logits"].flatten())
    np.testing.assert_array_equal(frame["exact"], m.exact["logits"].flatten())
    assert frame["variance"].sum() == pytest.approx(m.variance)
    half = 1.96 * np.sqrt(frame["variance"] / m.replicates)
    np.testing.assert_allclose(frame["mean_high"] - frame["mean"], half, rtol=1e-3)
    np.testing.assert_allclose(frame["mean"] - frame["mean_low"], half, rtol=1e-3)
    first = frame[::2]  # of two classes one is the other's negative
    held = ((first["mean_low"] < first["exact"]) & (first["exact"] < first["mean_high"])).sum()
    assert 30 <= held <= 40  # of 40 intervals of level 95 %: fewer have a probability of 1e-5


def test_what_does_not_exist_is_nan_in_the_frame():
    m = measure(Reparameterization(), objectives.GaussianVAE(dim=1, hidden=2, batch=2), replicates=300)
    assert m.frame("coordinate")["exact"].isna().all()
    heavy = replace(m, record={**m.record, "summary": {**m.record["summary"], "status": "INFINITE_VARIANCE_SUSPECTED"}})
    assert heavy.frame("coordinate")[["mean_low", "mean_high"]].isna().all(axis=None)
    with pytest.raises(ValueError, match=r"by is 'tensor' or 'coordinate' \(got 'row'\)"):
        m.frame("row")


def test_a_measurement_prints_as_a_line_and_as_a_table():
    m = measure(RLOO(n=4), objectives.GaussianQuadratic(dim=3), replicates=2_000)
    assert repr(m).startswith("Measurement(rloo:n=4 on gaussian-quadratic:dim=3: variance ")
    assert "\n" not in repr(m)
    for part in (m.status, m.verdict, "rel. bias ≤", "evaluations 4 of f", "replicates 2,048 in float32"):
        assert part in repr(m)
    document = ElementTree.fromstring(m._repr_html_())
    words = ["".join(row.itertext()) for row in document.iter("tr")]
    assert document.findtext("caption") == "rloo:n=4 on gaussian-quadratic:dim=3"
    assert [word for word in words if word.startswith("variance of mean, 3 coordinates")]
    low, high = m.variance_interval
    assert low < float(words[0].removeprefix("variance").split()[0]) < high
    exact = repr(measure(Enumeration(), objectives.BernoulliQuadratic(dim=2)))
    assert "variance 0, deterministic; bias EXACT" in exact


@pytest.mark.parametrize("status", HEAVY)
def test_heavy_tails_show_their_lower_limit_alone(status):
    m = measure(RLOO(n=4), objectives.GaussianQuadratic(dim=3), replicates=2_000)
    groups = {name: {**group, "status": status} for name, group in m.record["summary"]["groups"].items()}
    heavy = replace(m, record={**m.record, "summary": {**m.record["summary"], "status": status, "groups": groups}})
    assert heavy.variance_interval == (m.variance_interval[0], None)
    assert heavy.frame()["variance_high"].isna().all()
    assert heavy.frame()["variance_low"].equals(m.frame()["variance_low"])
    assert f"variance {format_variance(heavy.summary)}, {status}" in repr(heavy)
    for text, count in ((repr(heavy), 1), (heavy._repr_html_(), 3)):
        assert text.count("≥") == count
        assert "±" not in text
        assert "[" not in text


def test_every_tensor_has_a_status_of_its_own():
    m = measure(RLOO(n=4), objectives.GaussianQuadratic(dim=3), replicates=2_000)
    groups = m.record["summary"]["groups"]
    groups = {**groups, "log_scale": {**groups["log_scale"], "status": "HEAVY_TAIL"}}
    mixed = replace(m, record={**m.record, "summary": {**m.record["summary"], "groups": groups}})
    assert list(mixed.frame()["variance_high"].isna()) == [False, False, True]
    assert mixed.variance_interval == m.variance_interval
    assert mixed._repr_html_().count("≥") == 1


def test_pandas_is_loaded_when_a_frame_is_asked_for():
    code = (
        "import sys; from bench import measure, objectives; from estimators import RLOO; "
        "m = measure(RLOO(), objectives.BernoulliQuadratic(), replicates=64); repr(m), m._repr_html_(); "
        "assert 'pandas' not in sys.modules; m.frame(); assert 'pandas' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_python_lists_the_names_that_are_imported_on_demand():
    code = "import sys, bench; assert {*bench.__all__} <= {*dir(bench)}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert all(hasattr(bench, name) for name in dir(bench))


def test_timing_is_asked_for():
    m = measure(RLOO(), objectives.GaussianQuadratic(dim=2), replicates=300, timing=True)
    assert m.seconds > 0
    assert m.timing["latency_seconds"] > 0
    assert "seconds" in repr(m)
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


def test_an_exact_estimator_that_is_off_accuses_its_objective(monkeypatch):
    @dataclass(frozen=True)
    class Off(objectives.BernoulliQuadratic):
        def build(self, dtype=torch.float32, device="cpu"):
            problem = super().build(dtype, device)
            return replace(problem, exact=lambda theta: 2 * problem.exact(theta))

    with pytest.raises(
        ValueError, match=r"^The objective off:target=0.2 is at fault: its exact value is .*, a factor of 2\.$"
    ):
        measure(Enumeration(), Off(target=0.2))
    monkeypatch.setattr("bench.api.check_own", lambda _objective: None)
    assert "the estimator is exact, so its objective is at fault" in repr(measure(Enumeration(), Off(target=0.2)))
    assert "at fault" not in repr(measure(Enumeration(), objectives.BernoulliQuadratic(target=0.2)))


@pytest.mark.parametrize("estimator", [ScoreFunction(), RLOO(n=4)], ids=repr)
def test_an_infinite_variance_has_no_number_anywhere(estimator):
    m = measure(estimator, objectives.ExponentialMoment(rate=0.35, power=2), replicates=4_000)
    assert m.status == "INFINITE_VARIANCE_SUSPECTED"
    assert m.variance is m.summary.variance is m.record["summary"]["variance"] is m.variance_interval[1] is None
    assert m.frame()["variance"].isna().all()
    assert m.frame("coordinate")["variance"].isna().all()
    assert all(group["variance"] is None for group in m.record["summary"]["groups"].values())
    assert "variance ≥ " in repr(m)


def test_a_bounded_f_is_not_accused():
    """The Gaussian score of a cosine: all moments exist, and 2,000 replicates are too few to see the tail."""
    for seed in range(4):
        m = measure(ScoreFunction(), objectives.GaussianCosine(), replicates=2_000, seed=seed)
        assert m.status == "FEW_FOR_TAIL"
        assert m.variance == pytest.approx(1.160, rel=0.2)
        assert f"{format_variance(m.summary)}, FEW_FOR_TAIL" in repr(m)
        assert "∞)" in repr(m)
        assert m.verdict == "INCONCLUSIVE"


@dataclass(frozen=True)
class Ends(Estimator):
    """Ends the program when it is called."""

    def __call__(self, f, q, generator=None, state=None):
        sys.exit(0)


def test_an_estimator_that_ends_the_program_raises():
    with pytest.raises(Ended, match=r"SystemExit\(0\), which would end the program \(test_api.py, line"):
        measure(Ends(), objectives.GaussianQuadratic(dim=2), replicates=100)


@dataclass(frozen=True)
class Turns(RLOO):
    """Turns global switches and prints when it is called."""

    command_name = "turns"

    def __call__(self, f, q, generator=None, state=None):
        torch.set_default_dtype(torch.float64)
        torch.set_float32_matmul_precision("medium")
        np.seterr(all="raise")
        print("called")
        return super().__call__(f, q, generator, state)


def test_switches_that_an_estimator_turns_are_put_back(capsys):
    before = [get() for get, _ in SWITCHES]
    measure(Turns(), objectives.GaussianQuadratic(dim=2), replicates=100)
    assert [get() for get, _ in SWITCHES] == before
    assert "called" in capsys.readouterr().out


COSINE = objectives.GaussianCosine()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((RLOO, COSINE), r"needs an estimator and got the class RLOO\. Write RLOO\(\)\.$"),
        ((RLOO(), objectives.GaussianCosine), r"needs an objective and got the class GaussianCosine\. Write"),
        (("rloo", COSINE), r"needs an estimator, such as estimators\.RLOO\(n=4\) \(got 'rloo'\)\.$"),
        ((RLOO(), "gaussian-cosine"), r"needs an objective, .* \(got 'gaussian-cosine'\)\.$"),
        ((COSINE, RLOO()), "the estimator first and then the objective: swap them"),
        ((None, COSINE), r"needs an estimator, .* \(got NoneType\)\.$"),
        ((RLOO(), lambda x: x), r"needs an objective, .* \(got function\)\.$"),
    ],
)
def test_arguments_of_another_kind_are_one_sentence(words, says):
    with pytest.raises(TypeError, match=f"^measure .*{says}"):
        measure(*words)


@pytest.mark.parametrize("name", ["exact", "minibatch", "pictures"])
@pytest.mark.parametrize("value", [torch.tensor(1.5), 1.5])
def test_a_value_in_place_of_a_function_of_the_problem_is_named(name, value):
    theta = {"m": torch.zeros(2, requires_grad=True)}
    with pytest.raises(TypeError, match=rf"^{name} must be a function of .*, or None \(got {type(value).__name__}\)$"):
        objectives.Problem(theta, lambda theta: Normal(theta["m"], 1.0), lambda q: torch.sin, **{name: value})


def test_all_that_is_wrong_with_ones_own_class_is_one_message():
    class Mine(objectives.Objective):
        dim = 0

        def build(self):
            raise NotImplementedError

    with pytest.raises(ValueError, match=r"^The objective Mine is not a frozen dataclass: put .*\.$") as caught:
        measure(RLOO(), Mine())
    for part in ("has a build that cannot be called", "`family = Bernoulli`", "declares dim = 0"):
        assert part in str(caught.value)
