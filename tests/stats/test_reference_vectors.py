"""Numbers worked out independently in multiple precision; each is also shown to refuse a plausible mistake."""

from math import inf, sqrt

import numpy as np
import pytest
import torch

from bench.measurement.reduction.kernels import square_trace
from bench.stats import Moments, Reference, bias, gate, merge, moments, series, summarise, tail, variance
from bench.stats.quantiles import normal_quantile
from tests.stats.cells import sums_of

approx = pytest.approx

RELATIVE = 1e-11
I100 = np.arange(100)
X_SCALAR = (37 * I100) % 101 / 50 - 1 + 1.5 * (I100 % 10 == 0)


def exactly(value, rel=RELATIVE):
    return approx(value, rel=rel, abs=0)


# --- moments ---------------------------------------------------------------------------------------------------------


def test_merged_moments():
    m = merge(moments([1, 2, 4, 8]), moments([3, 5, 9]))
    assert m.n == 7
    assert float(m.mean) == exactly(32 / 7)
    assert float(m.M2) == exactly(376 / 7)
    assert float(m.M3) == exactly(60.61224489796)
    assert float(m.M4) == exactly(735.4752186589)


def test_merging_without_the_difference_of_means_is_refused():
    a, b = moments([1, 2, 4, 8]), moments([3, 5, 9])
    assert float(a.M2 + b.M2) != approx(376 / 7, rel=1e-3)
    swapped = merge(Moments(a.n, b.mean, a.M2, a.M3, a.M4), Moments(b.n, a.mean, b.M2, b.M3, b.M4))  # sign of delta
    assert float(swapped.M3) != approx(60.61224489796, rel=1e-3)


def test_a_centre_keeps_the_digits_of_data_far_from_zero():
    centre = 1e9 + 1
    parts = [moments(np.array(x) + 1e9 - centre) for x in ([1, 2, 4, 8], [3, 5, 9])]
    m = merge(*parts)
    assert float(m.mean) == exactly(25 / 7)
    assert [float(m.M2), float(m.M3), float(m.M4)] == [
        exactly(376 / 7),
        exactly(60.61224489796),
        exactly(735.4752186589),
    ]
    raw = np.array([1, 2, 4, 8, 3, 5, 9]) + 1e9  # the textbook formula without a centre
    assert (raw**2).sum() - raw.sum() ** 2 / 7 != approx(376 / 7, rel=1e-2)


def test_square_trace():
    rows = torch.tensor([[1, 0], [2, 1], [4, -1], [7, 3], [0, 5]], dtype=torch.float64)
    assert square_trace((rows @ rows.T)[None]).item() == exactly(31.56666666666667)
    covariance = torch.cov(rows.T)
    assert (covariance**2).sum().item() != approx(31.5667, rel=0.05)  # the plug-in estimate is biased upwards


# --- variance --------------------------------------------------------------------------------------------------------


def test_variance_interval():
    w = (37 * I100) % 101 / 10 + (I100 % 7) ** 2 / 5
    shape = variance.shape(moments(w))
    interval = variance.positive_mean_interval(12.5, shape, rho=1.0, confidence=0.95)
    assert shape.mean == exactly(7.536)
    assert shape.cv2 == exactly(0.2705085175892)
    assert shape.skewness == exactly(0.1937175901368)
    assert shape.nu == 99
    assert interval.se_log == exactly(0.05391757948862)
    assert (interval.low, interval.high) == (exactly(11.19754027127), exactly(13.91145803335))
    assert variance.status(12.5, 0.1, 100) == "SMALL_R"
    first_order = variance.positive_mean_interval(12.5, shape, rho=0.0, confidence=0.95)  # without the U-statistic term
    assert first_order.high != approx(13.91145803335, rel=1e-4)


def power_law():
    w = (1 - (np.arange(1000) + 0.5) / 1000) ** -0.6
    return w, tail.fit_tail(np.sort(w)[::-1][:96], float(w.sum()), 1000)


def test_tail_fit():
    w, fit = power_law()
    assert fit.exceedances == 95
    assert fit.k_raw == exactly(0.5926931115071)
    assert fit.sigma == exactly(2.479733023737)
    assert fit.khat == exactly(0.5838651961255)
    assert fit.upper == exactly(3.192476365452)
    shape = variance.shape(moments(w))
    interval = variance.positive_mean_interval(float(w.mean()), shape, rho=1.0, confidence=0.95, tail_upper=fit.upper)
    assert (interval.low, interval.high) == (exactly(2.144756644174), exactly(3.192476365452))
    assert variance.status(float(w.mean()), fit.khat, 1000) == "TAIL_WARNING"


def test_a_tail_without_shrinkage_or_with_the_wrong_threshold_is_refused():
    w, fit = power_law()
    assert fit.k_raw != approx(fit.khat, rel=1e-3)
    ordered = np.sort(w)[::-1]
    k, _ = tail.Profile((ordered[:95] - ordered[94])[::-1]).fit()  # the M-th largest value instead of the next one
    assert k != approx(0.5926931115071, rel=1e-6)


# --- bias ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("delta", "reference", "T", "upper", "lower"),
    [
        ((0.02, -0.01, 0.03, 0), None, -0.0006, 0.09498045551005, 0.0),
        ((0.5, -0.2, 0.1, 0.3), None, 0.388, 0.6820636814822, 0.5580099482337),
        ((0.02, -0.01, 0.03, 0), Reference(np.zeros(4), 20_000, 0.5, 0.2), -0.000625, 0.09550356260467, 0.0),
    ],
)
def test_bias_bounds(delta, reference, T, upper, lower):
    norm = float(np.linalg.norm(delta))
    value = bias.squared_bias(norm, 2.0, 1000, reference)
    A, C = bias.noise_terms(1.5, 1000, reference)
    z, z_half = normal_quantile(0.95), normal_quantile(0.975)
    assert value == exactly(T)
    assert bias.bias_upper(norm, value, A, C, z) == exactly(upper)
    assert bias.bias_lower(value, A, C, z_half) == exactly(lower)
    assert bias.bias_upper(norm, value, A, C, z_half) != approx(upper, rel=1e-3)  # a two-sided quantile
    typical = 4 * 1.5 / 2.0 / 1000  # tr Σ²/tr Σ in the place of a bound of the largest eigenvalue
    assert bias.bias_upper(norm, value, A, typical, z) != approx(upper, rel=1e-3)


def test_scalar_limits_and_test():
    shape = variance.shape(moments(X_SCALAR))
    low, high = bias.scalar_limits(shape.mean, shape, 0.95)
    assert (low, high) == (exactly(0.01739961894775), exactly(0.2830605604951))
    assert bias.mean_test(shape.mean, shape) == exactly(0.06283806886993)
    plain = variance.Shape(**{**shape.__dict__, "skewness": 0.0})
    assert bias.scalar_limits(shape.mean, plain, 0.95)[1] != approx(0.2830605604951, rel=1e-3)
    column = moments(X_SCALAR[:, None])
    assert bias.max_test(column.mean, column, column, float(column.M2[0]) / 99) == exactly(0.06283806886993)


def test_largest_coordinate():
    x = np.stack([(37 * I100 + 11 * j) % 101 / 50 - 1 for j in range(3)], axis=1)
    x[:, 2] = 0.25
    m, delta = moments(x), np.array([0.3, 0.02, 0.01])
    V = float(m.M2.sum()) / 99
    assert bias.max_test(delta, m, m, V) == exactly(4.91803965981e-6)
    assert bias.max_test(delta, m, m, 1e-30) == 0.0  # without the pooled floor the constant coordinate rejects anything
    alone = bias.max_test(delta[:1], moments(x[:, :1]), moments(x[:, :1]), V)  # without the Šidák correction
    assert alone != approx(4.91803965981e-6, rel=0.1)


def test_sum_test():
    assert bias.sum_test(5.0, 4.0, 20) == exactly(0.01061677271957)
    assert bias.sum_test(-5.0, 4.0, 20) == exactly(1 - 0.01061677271957)  # one-sided
    assert bias.sum_test(0.0, 0.0, 20) == 1.0


# --- gate ------------------------------------------------------------------------------------------------------------

BASE = gate.GateCell(replicates=100_000, variance=2.0, cv2=2.0, kurtosis=15.0, rho=1.0, khat=0.1)
NEW = [(2.0, 2.0, 15.0), (2.3, 2.05, 15.5), (2.6, 2.0, 15.0), (3.0, 40.0, 900.0)]
Z = [-11.39032976653, 5.247172941879, 19.96430094944, 8.289187619973]
P = [1.0, 8.011143567814e-8, 4.467996590e-86, 5.531598852744e-13]


def new_cell(V, cv2, kurtosis):
    return gate.GateCell(replicates=40_000, variance=V, cv2=cv2, kurtosis=kurtosis, rho=1.0, khat=0.1)


@pytest.mark.parametrize(("new", "z", "p"), list(zip(NEW, Z, P, strict=True)))
def test_gate_statistic(new, z, p):
    statistic = gate.variance_statistic(BASE, new_cell(*new), 0.10)
    assert statistic == (exactly(z), exactly(p, rel=1e-9))
    assert gate.variance_statistic(BASE, new_cell(*new), 0.05)[0] != approx(z, rel=1e-3)


def test_the_gate_uses_the_larger_spread_of_the_two():
    calm, wild = new_cell(3.0, 2.0, 15.0), new_cell(3.0, 40.0, 900.0)
    assert gate.variance_statistic(BASE, calm, 0.1)[0] > 3 * gate.variance_statistic(BASE, wild, 0.1)[0]


def test_holm():
    p = (4e-4, 0.03, 2e-6, 1e-4, 0.9, 1e-4)
    result = gate.holm({str(i): x for i, x in enumerate(p)}, cells=6, alpha=1e-3)
    assert [result[str(i)][0] for i in range(6)] == [False, False, True, True, False, True]
    assert [result[str(i)][1] for i in range(6)] == [exactly(x) for x in (0.0012, 0.06, 1.2e-5, 5e-4, 0.9, 5e-4)]


def test_holm_over_the_whole_baseline():
    names = "0123"
    p = {name: gate.variance_statistic(BASE, new_cell(*new), 0.10)[1] for name, new in zip(names, NEW, strict=True)}
    result = gate.holm(p, cells=200, alpha=1e-3)
    assert [name for name in names if result[name][0]] == ["1", "2", "3"]
    expected = (1.0, 1.586206426e-5, 8.935993e-84, 1.100788172e-10)
    assert [result[name][1] for name in names] == [exactly(x, rel=1e-6) for x in expected]
    flagged_only = gate.holm(p, cells=4, alpha=1e-3)  # a correction over the flagged cells alone
    assert flagged_only["1"][1] != approx(1.586206426e-5, rel=0.5)


# --- end to end ------------------------------------------------------------------------------------------------------

EXACT = np.array([0.1, -0.2, 0.0])


def small_cell():
    i = np.arange(400)
    columns = (37 * i) % 101 / 50 - 1 + 0.1, ((53 * i) % 89 / 44 - 1) * (1 + i % 5) - 0.2, (i % 50 == 0).astype(float)
    return np.stack(columns, axis=1)


def test_end_to_end():
    sums = sums_of(small_cell(), exact=EXACT, rows=100)
    s = summarise(sums, exact=EXACT, dtype="float64")
    assert s.variance == exactly(4.222061832841)
    assert s.trace_square == exactly(14.971331684, rel=1e-10)
    assert s.se_log == exactly(0.061548037738)
    assert (s.variance_low, s.variance_high) == (exactly(3.7383375685), exactly(4.7724371973))
    assert s.khat == exactly(-0.12151033942, rel=1e-10)
    assert sums.martingale_T == exactly(-823.7468942149)
    assert sums.martingale_Q == exactly(540696.4795929)
    assert sums.martingale_terms == 3
    assert s.bias_squared == exactly(-0.0076915291224)
    assert s.bias_bound == exactly(0.215664695, rel=1e-8)
    assert s.p_bias == 1.0
    assert s.mse == exactly(4.2143703037)
    assert s.status == "SMALL_R"
    assert s.verdict == "INCONCLUSIVE"
    by_hand = small_cell()
    assert s.variance == exactly(by_hand.var(axis=0, ddof=1).sum())
    assert s.variance != approx(by_hand.var(axis=0).sum(), rel=1e-4)  # divided by R instead of R − 1


def test_end_to_end_by_hand():
    g = small_cell()
    s = summarise(sums_of(g, exact=EXACT, groups={"a": 2, "b": 1}, rows=100), exact=EXACT, dtype="float64")
    cosines = g @ EXACT / np.linalg.norm(g, axis=1) / np.linalg.norm(EXACT)
    delta = g.mean(axis=0) - EXACT
    assert s.cosine == exactly(cosines.mean())
    assert s.scale == exactly(1 + delta @ EXACT / (EXACT @ EXACT))
    assert s.bias_norm == exactly(np.linalg.norm(delta))
    assert s.snr == exactly(sqrt(g.mean(axis=0) @ g.mean(axis=0) - s.variance / 400) / sqrt(s.variance))
    assert s.groups["a"]["variance"] == exactly(g[:, :2].var(axis=0, ddof=1).sum())
    assert s.groups["b"]["bias_norm"] == exactly(abs(delta[2]))
    w = np.concatenate([100 / 99 * ((b - b.mean(axis=0)) ** 2).sum(axis=1) for b in np.split(g, 4)])
    assert s.cut == exactly(np.sort(w)[395])
    clipped = np.minimum(w, s.cut)
    assert s.truncated_mean == exactly(clipped.mean())
    assert s.truncated_cv2 == exactly(clipped.var(ddof=1) / clipped.mean() ** 2)


def test_constant_series_have_no_shape():
    shape = variance.shape(moments(np.full(50, 0.7)))
    assert (shape.variance, shape.skewness, shape.kurtosis, shape.nu) == (0.0, 0.0, 3.0, 49.0)
    assert float(series.variance(moments([1.0, 2.0]))) == 0.5
    assert variance.degrees_of_freedom(100, 1.0) == 99
    assert variance.degrees_of_freedom(100, inf) == 1
