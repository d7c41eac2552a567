import json
import pickle
import subprocess
import sys
from dataclasses import fields
from math import inf, nan, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.stats import Reference, Summary, gate, summarise
from bench.stats.summary import HEAVY, BiasVerdict, Flag, Status
from tests.stats.cells import noise, summary, sums_of

approx = pytest.approx

SIZES = st.integers(1, 4)


# --- the states of a cell --------------------------------------------------------------------------------------------


def test_an_unbiased_gaussian_cell():
    exact = [10.0, 0.0, -10.0]
    s = summary(noise(2048, 3) * 0.1 + exact, exact=exact)
    assert (s.status, s.verdict, s.flags) == ("OK", "UNBIASED_WITHIN_TOL", [])
    assert s.variance == approx(0.03, rel=0.1)
    assert s.bias_bound is not None
    assert s.bias_norm is not None
    assert s.bias_norm < s.bias_bound < 0.02
    assert s.relative_bias_bound == approx(s.bias_bound / sqrt(200))
    assert s.bias_per_sd_bound == approx(s.bias_bound / sqrt(s.variance))
    assert s.snr == approx(sqrt(200) / sqrt(s.variance))
    assert s.cosine == approx(1.0, abs=1e-3)
    assert s.scale == approx(1.0, abs=1e-3)
    assert s.alignment == approx(1.0, abs=1e-3)
    assert s.replicates_needed is None


@pytest.mark.parametrize("size", [1, 3])
def test_a_biased_cell(size):
    exact = np.ones(size)
    s = summary(noise(2048, size) + 1.5 * exact, exact=exact)
    assert s.verdict == "BIASED"
    assert s.p_bias is not None
    assert s.p_bias < 1e-6
    assert s.bias_low is not None
    assert 0 < s.bias_low < 0.5 * sqrt(size) < (s.bias_bound or 0)
    assert s.scale == approx(1.5, abs=0.1)
    assert summary(noise(2048, size) + 1.5 * exact, exact=exact, tolerance=2.0).verdict == "BIASED_WITHIN_TOL"


def test_a_cell_with_too_few_replicates_says_how_many_it_needs():
    s = summary(noise(128, 2), exact=[0.1, 0.1])
    assert (s.status, s.verdict) == ("SMALL_R", "INCONCLUSIVE")
    assert s.bias_bound is not None
    assert s.replicates_needed == approx(128 * (s.bias_bound / (0.01 * sqrt(0.02))) ** 2)


def test_an_infinite_variance():
    g = np.random.default_rng(0).pareto(1.2, size=(4096, 1)) * np.array([[1.0]])
    s = summary(g, exact=[5.0])
    assert (s.status, s.verdict) == ("INFINITE_VARIANCE_SUSPECTED", "UNRELIABLE")
    assert (s.variance, s.variance_high) == (None, None)
    assert s.to_json()["variance"] is s.to_json()["groups"]["theta"]["variance"] is None
    assert s.bias_bound is None
    assert s.p_bias is not None
    assert s.mse is None
    assert s.snr is None
    assert s.variance_low > 0


@pytest.mark.parametrize("k", [0.36, 0.7])
def test_a_heavy_variance_has_no_upper_limit_in_all_or_in_a_group(k):
    rng = np.random.default_rng(0)
    g = np.stack([rng.random(4096) ** -k, rng.standard_normal(4096) / 10], 1)
    s = summarise(sums_of(g, groups={"heavy": 1, "light": 1}), exact=None, dtype="float64")
    assert s.status is (Status.HEAVY_TAIL if k < 0.5 else Status.INFINITE_VARIANCE_SUSPECTED)
    for found in (s, Summary.from_json(s.to_json())):
        heavy, light = found.groups["heavy"], found.groups["light"]
        assert (found.variance_high, heavy["variance_high"]) == (None, None)
        assert (found.variance, heavy["variance"]) == (None, None)
        assert heavy["status"] is found.status is s.status
        assert light["status"] is Status.OK
        assert light["variance"] < light["variance_high"]


@pytest.mark.parametrize("finite_support", [False, True])
def test_a_tail_that_is_not_heavy_for_certain_keeps_value_and_verdict(finite_support):
    g = np.random.default_rng(0).pareto(1.2, size=(1024, 1))
    s = summary(g, exact=[5.0], finite_support=finite_support)
    assert s.khat >= 0.7
    assert s.status is (Status.RARE_LARGE_VALUES if finite_support else Status.FEW_FOR_TAIL)
    assert s.groups["theta"]["status"] is s.status
    assert s.verdict is BiasVerdict.INCONCLUSIVE
    assert s.variance == approx(g.var(ddof=1))
    assert s.variance_low < s.variance
    assert (s.variance_high, s.mse_high) == (None, None)
    assert s.mse == approx(((g - 5) ** 2).mean())
    assert s.snr_low == 0 < s.snr < s.snr_high


def test_a_finite_support_never_has_an_infinite_variance():
    g = np.random.default_rng(0).pareto(1.2, size=(4096, 1))
    groups = {"a": 1, "b": 1}
    both = np.concatenate([g, g[::-1]], 1)
    s = summarise(sums_of(both, groups=groups), exact=None, dtype="float64", finite_support=True)
    assert {s.status, *(group["status"] for group in s.groups.values())} == {Status.RARE_LARGE_VALUES}
    assert summarise(sums_of(both, groups=groups), exact=None, dtype="float64").status in HEAVY


@pytest.mark.parametrize("status", HEAVY)
def test_a_summary_of_an_earlier_version_loses_the_upper_limits_that_its_statuses_forbid(status):
    old = summary(noise(2048, 2)).to_json()
    old |= {
        "status": str(status),
        "groups": {"a": old["groups"]["theta"], "b": {**old["groups"]["theta"], "status": status}},
    }
    assert None not in (old["variance_high"], old["groups"]["b"]["variance_high"])
    found = Summary.from_json(old)
    assert (found.variance_high, found.groups["b"]["variance_high"]) == (None, None)
    assert (found.variance, found.groups["b"]["variance"]) == (None, None)
    assert found.groups["a"]["variance_high"] == old["groups"]["a"]["variance_high"]
    assert found.variance_low == old["variance_low"]


def test_words_are_stored_copied_and_printed_as_their_text():
    s = summary(few_atoms(), exact=[0.1] * 10, rows=256)
    assert (s.status, s.verdict, s.flags[0]) == ("OK", BiasVerdict.INCONCLUSIVE, Flag.DISCRETE_TAIL)
    data = s.to_json()
    for word in (data["status"], data["verdict"], *data["flags"], data["groups"]["theta"]["status"]):
        assert type(word) is str
    assert json.dumps([s.status, s.verdict]) == '["OK", "INCONCLUSIVE"]'
    assert f"{s.status} {s.verdict!r}" == "OK 'INCONCLUSIVE'"
    back = pickle.loads(pickle.dumps(s))
    assert back == s == Summary.from_json(json.loads(json.dumps(data)))
    assert (back.status, back.verdict) == (s.status, s.verdict)
    assert back.status is Status.OK
    with pytest.raises(ValueError, match="'FINE' is not a valid Status"):
        Summary.from_json({**data, "status": "FINE"})


def test_nothing_varied():
    g = np.tile([0.3, 0.4], (128, 1))
    s = summary(g, exact=[0.3, 0.4])
    assert (s.status, s.verdict, s.p_bias) == ("DEGENERATE", "DEGENERATE", 1.0)
    assert (s.variance, s.variance_low, s.variance_high) == (0.0, 0.0, None)
    assert s.unseen == approx(3 / 128, rel=0.02)
    assert s.cosine == approx(1.0)
    assert summary(g, exact=[0.3, 0.4], deterministic=True).verdict == "EXACT"
    off = summary(g, exact=[0.3, 0.5], deterministic=True)
    assert (off.verdict, off.stuck_coordinates, off.stuck_count) == ("DETERMINISTIC_BIASED", [1], 1)
    assert "STUCK_COORDINATE" in off.flags
    assert summary(g, exact=[0.3, 0.5]).verdict == "DEGENERATE"
    assert summary(g, exact=[0.3, 0.5], deterministic=True, exact_error=0.2).verdict == "EXACT"


def test_the_noise_of_a_reference_is_no_bias_of_an_estimator_without_noise():
    """Failure rate 1e-6: of 200 references, each accused with probability 0.003, 8 are accused with one of 3e-7."""
    exact, words, seed = np.array([3.0, 4.0, 0.0]), [], np.random.default_rng(0)
    sums = sums_of(np.tile(exact, (64, 1)), exact=exact)
    off = sums_of(np.tile(1.2 * exact, (64, 1)), exact=exact)

    def against(of, mean, variance):
        reference = Reference(mean, 1000, 3 * variance, 3 * variance**2)
        return summarise(of, exact=None, reference=reference, dtype="float64", deterministic=True)

    for _ in range(200):
        s = against(sums, exact + seed.standard_normal(3) * sqrt(4.0 / 1000), 4.0)
        words.append((s.verdict, s.direction, s.stuck_count))
    accused = [word for word in words if word != ("INCONCLUSIVE", "undecided", 0)]
    assert len(accused) < 8
    assert against(sums, exact + 1e-4, 1e-4).verdict == "EXACT_WITHIN_TOL"
    biased = against(off, exact, 0.01)
    assert (biased.verdict, biased.direction) == ("DETERMINISTIC_BIASED", "scaled")
    assert biased.scale_low < 1.2 < biased.scale_high
    assert (biased.mse, biased.bias_per_sd_bound) == (approx(1 - 3e-5), None)
    assert against(off, exact, 0.0).verdict == "DETERMINISTIC_BIASED"


def test_a_stuck_coordinate_beside_live_ones():
    g = noise(256, 3)
    g[:, 1] = 0.25
    s = summary(g, exact=[0.0, 0.0, 0.0])
    assert (s.stuck_coordinates, s.stuck_count) == ([1], 1)


def test_no_reference():
    s = summary(noise(128, 2))
    assert s.verdict == "NO_REFERENCE"
    assert [s.bias_norm, s.bias_bound, s.p_bias, s.mse, s.cosine, s.scale, s.exact_norm] == [None] * 7
    assert s.snr is not None


def test_an_exact_gradient_of_zero():
    s = summary(noise(2048, 2), exact=[0.0, 0.0])
    assert s.verdict == "INCONCLUSIVE"
    assert [s.relative_bias_bound, s.cosine, s.scale, s.alignment, s.replicates_needed] == [None] * 5
    assert s.bias_per_sd_bound is not None


def test_a_monte_carlo_reference_widens_the_bound():
    g, exact = noise(2048, 3) + 1, np.ones(3)
    with_exact = summary(g, exact=exact)
    sums = sums_of(g, exact=exact)
    s = summarise(sums, exact=None, dtype="float64", reference=Reference(exact, 4096, 3.0, 3.0))
    assert s.bias_bound is not None
    assert with_exact.bias_bound is not None
    assert s.bias_bound > 1.05 * with_exact.bias_bound
    assert s.bias_squared == approx((with_exact.bias_squared or 0) - 3 / 4096)
    assert s.p_projection is None
    assert "REFERENCE_NOISE" in s.flags
    assert s.verdict in {"INCONCLUSIVE", "UNBIASED_WITHIN_TOL"}
    far = summarise(sums, exact=None, dtype="float64", reference=Reference(exact + 1, 4096, 3.0, 3.0))
    assert far.verdict == "BIASED"


def test_few_valued_tails_and_float_resolution():
    g = (np.random.default_rng(0).random((1024, 1)) < 0.5) * 1.0
    assert "DISCRETE_TAIL" in summary(g).flags
    assert summary(g).khat is None
    tiny = noise(1024, 1).astype(np.float32) * 1e-6 + np.float32(1e2)
    assert "AT_FLOAT_RESOLUTION" in summary(tiny, dtype="float32").flags


def test_groups():
    g = noise(512, 3) * [1.0, 2.0, 3.0]
    sums = sums_of(g, exact=[0.0, 0.0, 0.5], groups={"a": 1, "b": 2})
    s = summarise(sums, exact=np.array([0.0, 0.0, 0.5]), dtype="float64")
    assert list(s.groups) == ["a", "b"]
    parts = [s.groups[n]["variance"] for n in "ab"]
    assert sum(parts) == approx(s.variance)
    assert s.groups["a"]["size"] == 1
    assert s.groups["b"]["bias_norm"] == approx(np.linalg.norm(g.mean(0)[1:] - [0, 0.5]))
    alone = summarise(sums_of(g), exact=None, dtype="float64")
    assert alone.groups["theta"]["variance"] == alone.variance


def test_error_sentences():
    sums = sums_of(noise(64, 2))
    with pytest.raises(ValueError, match="got both"):
        summarise(sums, exact=np.ones(2), dtype="float64", reference=Reference(np.ones(2), 10, 1.0, 1.0))
    with pytest.raises(ValueError, match=r"exact has shape \(3,\)"):
        summarise(sums, exact=np.ones(3), dtype="float64")
    with pytest.raises(ValueError, match="dtype is one of"):
        summarise(sums, exact=None, dtype="float16")
    with pytest.raises(ValueError, match="confidence lies between"):
        summarise(sums, exact=None, dtype="float64", confidence=95)


def scaled(value, factor, **tolerance):
    return None if value is None else approx(value * factor, **tolerance)


# --- laws ------------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(SIZES, st.floats(1e-6, 1e6), st.integers(0, 100))
def test_scale_equivariance(size, c, seed):
    g, exact = noise(128, size, seed) + 0.5, np.linspace(1, 2, size)
    a, b = summary(g, exact=exact), summary(c * g, exact=c * exact)
    for name, power in [("variance", 2), ("variance_low", 2), ("variance_high", 2), ("mse", 2), ("bias_bound", 1)]:
        assert getattr(b, name) == scaled(getattr(a, name), c**power, rel=1e-6)
    for name in ("se_log", "p_bias", "cosine", "scale_low", "snr", "relative_bias_bound", "rho"):
        assert getattr(b, name) == scaled(getattr(a, name), 1.0, rel=1e-6, abs=1e-12)
    assert (b.status, b.verdict) == (a.status, a.verdict)


@settings(max_examples=25, deadline=None)
@given(SIZES, st.floats(-1e3, 1e3), st.integers(0, 100))
def test_shift_equivariance(size, shift, seed):
    g, exact = noise(128, size, seed), np.zeros(size)
    a, b = summary(g, exact=exact), summary(g + shift, exact=exact + shift)
    for name in ("variance", "variance_low", "variance_high", "mse", "bias_norm", "bias_squared"):
        assert getattr(b, name) == scaled(getattr(a, name), 1.0, rel=1e-7, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 3),
    st.sampled_from(["normal", "cauchy", "zero", "sparse", "constant", "huge", "tiny"]),
    st.booleans(),
    st.integers(0, 1000),
)
def test_no_nan_and_no_infinity_reach_a_file(size, law, known, seed):
    rng = np.random.default_rng(seed)
    g = {
        "normal": rng.standard_normal((128, size)),
        "cauchy": rng.standard_cauchy((128, size)),
        "zero": np.zeros((128, size)),
        "sparse": (rng.random((128, size)) < 0.02) * 1.0,
        "constant": np.full((128, size), 0.1),
        "huge": 1e30 * rng.standard_normal((128, size)),
        "tiny": 1e-30 * rng.standard_normal((128, size)),
    }[law]
    s = summary(g, exact=np.ones(size) if known else None, deterministic=law == "constant")
    data = json.loads(json.dumps(s.to_json(), allow_nan=False))
    assert Summary.from_json(data).status == s.status
    assert s.variance_low <= s.variance <= (s.variance_high if s.variance_high is not None else inf)


def test_infinity_and_nan_become_none():
    s = summary(noise(64, 1))
    odd = Summary(**{**s.__dict__, "snr": inf, "mse": nan, "groups": {"a": {"status": "OK", "variance": -inf}}})
    data = odd.to_json()
    assert (data["snr"], data["mse"], data["groups"]) == (None, None, {"a": {"status": "OK", "variance": None}})


def test_the_number_of_blocks_hardly_matters():
    g, exact = noise(1024, 3), np.zeros(3)
    a, b = summary(g, exact=exact, rows=64), summary(g, exact=exact, rows=256)
    assert a.variance == approx(b.variance, rel=1e-12)
    assert a.cv2 == approx(b.cv2, rel=0.1)


def test_truncated_moments_without_a_second_run():
    g = noise(1024, 2)
    first = sums_of(g)
    second = sums_of(g, truncate_at=first.cut)
    a, b = (summarise(s, exact=None, dtype="float64") for s in (first, second))
    assert (a.truncated_at, a.cut) == (b.truncated_at, b.cut)
    assert a.truncated_mean == approx(b.truncated_mean, rel=1e-12)
    assert a.truncated_cv2 == approx(b.truncated_cv2, rel=1e-9)
    cells = [gate.GateCell(**{f.name: getattr(s, f.name) for f in fields(gate.GateCell)}) for s in (a, b)]
    assert gate.gate_cell(*cells, 0.05).p == approx(1.0, abs=0.2)


def test_the_statistics_need_neither_torch_nor_scipy_to_start():
    code = "import sys, bench.stats; print(*sorted({'torch', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def few_atoms(rows=2560):
    """DisARM on ten bits: a bounded law of a few values, which block means smear into what looks like a heavy tail."""
    rng = np.random.default_rng(0)
    signs = rng.choice([-1.0, 1.0], size=(rows, 10))
    return 0.4 * signs.sum(axis=1, keepdims=True) / 4 * signs


@pytest.mark.parametrize("k", [0.55, 0.8, 1.3])
def test_a_heavy_tail_is_not_taken_for_a_law_of_few_values(k):
    for seed in range(50):
        g = np.random.default_rng(seed).random((2048, 1)) ** -k
        s = summary(g, exact=np.zeros(1), dtype="float32")
        assert "DISCRETE_TAIL" not in s.flags
        assert s.khat > 0.5


def test_a_law_of_few_values_is_not_taken_for_a_heavy_tail():
    g = few_atoms()
    s = summary(g, exact=[0.1] * 10, rows=256)
    assert (s.status, s.khat) == ("OK", None)
    assert "DISCRETE_TAIL" in s.flags
    assert s.variance_low < 0.9 < s.variance_high  # E 10 (0.1 sum)^2 = 1, less the squared mean, 10 times 0.1^2


def test_without_a_fixed_centre_the_same_law_looks_heavy():
    """The fixed centre is needed: without an exact gradient the atoms stay smeared."""
    assert summary(few_atoms(), exact=None, rows=256).khat > 0.7


def test_rounding_alone_has_no_tail_and_no_bias():
    rng = np.random.default_rng(1)
    exact = np.full(8, 0.3)
    g = (exact * (1 + 3e-8) + 3e-8 * rng.standard_t(1.5, size=(2560, 8)).clip(-20, 20)).astype(np.float32)
    s = summary(g, exact=exact, dtype="float32", rows=256)
    assert s.status == "OK"
    assert {"AT_FLOAT_RESOLUTION", "DISCRETE_TAIL"} <= set(s.flags)
    assert s.verdict == "UNBIASED_WITHIN_TOL"
