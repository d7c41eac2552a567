"""A bias in two parts: the scale of the mean gradient and its direction."""

from dataclasses import replace
from math import atan, atan2, degrees, sqrt

import numpy as np
import pytest
import torch

from bench.measurement.reduction.blocks import draws_partial
from bench.measurement.reduction.kernels import square_trace
from bench.stats import Accumulator, Reference, Summary, bias, moments, summarise
from bench.stats.printing import format_direction
from bench.stats.quantiles import t_quantile
from bench.stats.variance import mean_interval, shape
from tests.stats.cells import summary, sums_of

approx = pytest.approx
EXACT = np.array([1.0, -2.0, 0.5, 0.0, 3.0])
UNIT = EXACT / np.linalg.norm(EXACT)
ACROSS = np.array([2.0, 1.0, 0.0, 0.0, 0.0]) / sqrt(5)  # perpendicular to EXACT
ROWS = 64


def gradients(rows=2048, *, scale=1.0, turn=0.0, noise=0.1, seed=0):
    """Gradients whose mean is `scale` times EXACT, turned by `turn` degrees, without any error of their sample mean."""
    g = np.random.default_rng(seed).standard_normal((rows, 5)) * np.array([1.0, 2.0, 0.3, 1.0, 0.1])
    length = np.linalg.norm(EXACT) * scale
    mean = scale * EXACT + np.tan(np.radians(turn)) * length * ACROSS
    return mean + noise * (g - g.mean(0))


def across(g):
    return g - (g @ UNIT)[:, None] * UNIT


# the sums


@pytest.mark.parametrize("groups", [{"a": 5}, {"a": 2, "b": 3}])
@pytest.mark.parametrize(("dtype", "rel"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
@pytest.mark.parametrize("far", [1.0, 300.0])
def test_the_sums_are_those_of_the_part_across(groups, dtype, rel, far):
    exact = far * EXACT
    g = torch.as_tensor(exact + gradients() - EXACT, dtype=dtype)
    sums, h = sums_of(g, exact=exact, groups=groups, rows=ROWS), across(g.double().numpy())
    assert sums.across_M2 == approx(((h - h.mean(0)) ** 2).sum(0), rel=rel, abs=rel)
    blocks = h.reshape(-1, ROWS, 5)
    parts = torch.as_tensor(blocks - blocks.mean(1, keepdims=True)).reshape(-1, 32, 5)
    assert sums.across_traces == approx(square_trace(parts @ parts.mT).numpy()[:64], rel=100 * rel)
    y = blocks.sum(1)
    q = np.array([y[:k].sum(0) @ y[k] for k in range(1, len(y))])
    if far == 1.0:  # of sums whose means are 300 times as far from 0, float32 keeps too few digits
        assert (sums.across_T, sums.across_Q) == approx((q.sum(), q @ q), rel=1e-3)


def test_wide_gradients_of_two_tensors_have_their_own_sums():
    rng = np.random.default_rng(0)
    exact, g = rng.standard_normal(60), rng.standard_normal((512, 60)) * np.linspace(0.1, 3, 60)
    u = exact / np.linalg.norm(exact)
    h = g - (g @ u)[:, None] * u
    for groups in ({"a": 60}, {"a": 40, "b": 20}):
        sums = sums_of(g, exact=exact, groups=groups)
        assert sums.across_M2 == approx(((h - h.mean(0)) ** 2).sum(0), rel=1e-9)


def test_a_single_coordinate_and_a_gradient_of_0_have_no_part_across():
    for exact in ([2.0], [0.0, 0.0]):
        sums = sums_of(np.random.default_rng(0).standard_normal((128, len(exact))), exact=exact)
        assert sums.across_M2 is None
        assert (sums.across_T, sums.across_Q) == (0, 0)


def test_a_long_run_scales_what_its_first_rows_say():
    g = np.concatenate([gradients(1024), gradients(1024, noise=0.2, seed=1)])
    accumulator = Accumulator({"a": 5}, replicates=len(g), centre=EXACT, exact=EXACT)
    for index in range(0, len(g) // ROWS, 8):
        accumulator.add(
            draws_partial(
                lambda draw: [torch.as_tensor(g[draw * ROWS : (draw + 1) * ROWS])],
                range(index, index + 8),
                index=index,
                blocks=[1] * 8,
                groups={"a": 5},
                centre=torch.as_tensor(EXACT),
                exact=torch.as_tensor(EXACT),
                replicates=len(g),
                tracked=1024 if index < 16 else 0,
            )
        )
    sums, first = accumulator.sums(), g[:1024]
    share = across(first).var(0) / first.var(0)
    assert sums.across_M2 == approx(share * g.var(0) * len(g), rel=1e-9)


# numbers


def test_scale_and_angle_by_hand():
    g = gradients(scale=0.8, turn=5.0, noise=1.0)
    s, h = summary(g, exact=EXACT), across(g)
    R, length = len(g), np.linalg.norm(EXACT)
    along = shape(moments(g @ UNIT / length))
    wanted = mean_interval(0.8, along, confidence=0.95)
    assert (s.scale, s.scale_low, s.scale_high) == approx((0.8, wanted.low, wanted.high), rel=1e-9)
    V, norm = h.var(0, ddof=1).sum(), np.linalg.norm(h.mean(0))
    assert norm == approx(0.8 * length * np.tan(np.radians(5)))
    trace = float(np.mean(sums_of(g, exact=EXACT).across_traces))
    T = norm**2 - V / R
    A, C = bias.noise_terms(trace, R)
    z = t_quantile(0.975, bias.bias_df(s.cv2, R))
    upper, lower = bias.bias_upper(norm, T, A, C, z), bias.bias_lower(T, A, C, z)
    assert s.angle == approx(degrees(atan2(sqrt(T), 0.8 * length)))
    assert s.angle_high == approx(degrees(atan2(upper, length * wanted.low)), rel=1e-6)
    assert s.angle_low == approx(degrees(atan2(lower, length * wanted.high)), rel=1e-6)
    assert s.angle_low < s.angle < 5 < s.angle_high


def test_the_test_of_the_direction_by_hand():
    g = gradients(turn=1.5, noise=2.0)
    s, h, sums = summary(g, exact=EXACT), across(g), sums_of(g, exact=EXACT)
    plain = replace(moments(g), M3=np.zeros(5))
    p_max = bias.max_test(h.mean(0), moments(h), plain, h.var(0, ddof=1).sum())
    p_sum = bias.sum_test(sums.across_T, sums.across_Q, sums.martingale_terms)
    assert s.p_direction == approx(2 * min(p_max, p_sum), rel=1e-6)
    assert 1e-9 < s.p_direction < 0.5


def test_a_scaled_gradient_does_not_seem_turned():
    """A test of all of g − g* would reject here; so would one that forgets to take out the projection."""
    s = summary(gradients(scale=0.75), exact=EXACT)
    assert s.p_bias < 1e-9
    assert s.p_direction > 0.9
    assert s.angle_low == 0


def test_rounding_alone_turns_nothing():
    """In float32 the part across of gradients that only differ in length is rounding: no test may find it."""
    rng = np.random.default_rng(0)
    g = torch.as_tensor(rng.standard_normal((4096, 1)) * 0.1 * EXACT + EXACT, dtype=torch.float32)
    s = summarise(sums_of(g, exact=EXACT, rows=256), exact=EXACT, dtype="float32")
    assert s.angle_low == 0
    assert s.angle_high < 1e-2
    assert s.direction in ("unbiased", "undecided")


def test_an_error_of_the_exact_gradient_is_allowed_for():
    g = gradients(turn=1.0, noise=1e-3)
    across_norm = np.linalg.norm(EXACT) * np.tan(np.radians(1))
    sharp = summary(g, exact=EXACT)
    blurred = summary(g, exact=EXACT, exact_error=2 * across_norm)
    assert (sharp.direction, blurred.direction) == ("turned", "undecided")
    assert sharp.angle_low > 0.9 > 0 == blurred.angle_low
    assert blurred.angle_high > 2.9 > 1.1 > sharp.angle_high
    scaled = summary(gradients(scale=0.99, noise=1e-3), exact=EXACT, exact_error=0.02 * np.linalg.norm(EXACT))
    assert scaled.direction != "scaled"


def reference(mean, *, replicates=1000, variance=0.0, trace_square=0.0):
    return Reference(np.asarray(mean), replicates, variance, trace_square)


def test_without_noise_a_reference_gives_the_numbers_of_the_exact_gradient():
    g = gradients(scale=0.8, turn=5.0, noise=1.0)
    a = summary(g, exact=EXACT)
    b = summarise(sums_of(g, exact=EXACT), exact=None, reference=reference(EXACT), dtype="float64")
    for name in ("scale", "scale_low", "scale_high", "angle", "angle_high"):
        assert getattr(b, name) == approx(getattr(a, name), rel=1e-9), name


def test_the_noise_of_a_reference_widens_both_intervals():
    g, noise = gradients(scale=0.8, turn=5.0, noise=1.0), 0.01 * float(EXACT @ EXACT)
    given = reference(EXACT, variance=1000 * noise, trace_square=(1000 * noise) ** 2 / 4)
    s = summarise(sums_of(g, exact=EXACT), exact=None, reference=given, dtype="float64")
    square = float(EXACT @ EXACT) - noise
    mean = g.mean(0)
    assert s.scale == approx(float(mean @ EXACT) / square)
    along = (g @ EXACT / square).var(ddof=1) / len(g)
    half = 1.96 * sqrt(along + noise * float(mean @ mean) / square**2)
    assert (s.scale_high - s.scale_low) / 2 == approx(half, rel=2e-3)
    plain = summary(g, exact=EXACT)
    assert s.angle_high > plain.angle_high + 1
    assert s.p_direction > plain.p_direction


def test_a_reference_that_is_mostly_noise_gives_no_scale():
    square = float(EXACT @ EXACT)
    for share, known in ((0.49, True), (0.51, False)):
        given = reference(EXACT, variance=1000 * share * square, trace_square=1.0)
        s = summarise(sums_of(gradients(), exact=EXACT), exact=None, reference=given, dtype="float64")
        assert (s.scale is not None, s.angle is not None, s.direction is not None) == (known,) * 3


# words


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"noise": 1e-3}, "unbiased"),
        ({"scale": 0.75, "noise": 1e-2}, "scaled"),
        ({"scale": 1.5, "noise": 1e-2}, "scaled"),
        ({"turn": 6.0}, "turned"),
        ({"scale": 0.75, "turn": 6.0}, "turned"),
        ({"scale": 0.75, "turn": 0.3, "noise": 1e-2}, "scaled"),  # a turn within the tolerance
        ({"scale": -0.5}, "points away"),
        ({"scale": 0.75, "noise": 3.0}, "undecided"),
        ({"noise": 3.0}, "undecided"),
    ],
)
def test_words(given, word):
    s = summary(gradients(**given), exact=EXACT)
    assert s.direction == word
    assert s.direction is not None
    assert (s.angle_high <= degrees(atan(0.01))) == (word in ("unbiased", "scaled"))
    assert (s.angle_low > 90) == (word == "points away")
    assert Summary.from_json(s.to_json()) == s


def test_one_coordinate_has_a_scale_and_no_direction():
    for scale, word in ((0.75, "scaled"), (1.0, "unbiased"), (-1.0, "points away")):
        noise = np.random.default_rng(0).standard_normal((2048, 1))
        s = summary(2 * scale + 1e-3 * (noise - noise.mean()), exact=[2.0])
        assert (s.direction, s.angle, s.angle_low, s.angle_high, s.p_direction) == (word, *[None] * 4)
        assert s.scale == approx(scale)


@pytest.mark.parametrize(
    ("mean", "word"),
    [(EXACT, "unbiased"), (0.75 * EXACT, "scaled"), (EXACT + ACROSS, "turned"), (-EXACT, "points away")],
)
def test_a_constant_gradient_has_numbers_without_limits(mean, word):
    s = summary(np.tile(mean, (64, 1)), exact=EXACT, deterministic=True)
    assert s.direction == word
    assert s.scale == approx(mean @ EXACT / (EXACT @ EXACT))
    assert s.angle == approx(degrees(atan2(1.0, np.linalg.norm(EXACT))) if word == "turned" else 180 * (mean[0] < 0))
    assert (s.scale_low, s.scale_high, s.angle_low, s.angle_high, s.p_direction) == (None,) * 5
    unknown = summary(np.tile(mean, (64, 1)), exact=EXACT)  # perhaps it varies after all
    assert (unknown.verdict, unknown.direction) == ("DEGENERATE", None)


def test_where_there_is_nothing_to_compare_with_nothing_is_said():
    for given in ({"exact": None}, {"exact": [0.0] * 5}):
        s = summary(gradients(), **given)
        assert (s.scale, s.angle, s.direction, format_direction(s)) == (None, None, None, "")


def test_an_infinite_variance_allows_no_word():
    g = np.random.default_rng(0).pareto(1.2, size=(4096, 2))
    s = summary(g, exact=[5.0, 1.0])
    assert (s.status, s.direction, s.angle_high) == ("INFINITE_VARIANCE_SUSPECTED", None, None)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"scale": 0.75, "noise": 1e-2}, "scaled: 0.75000 ± 0.00013 times the gradient"),
        ({"turn": 6.0}, "turned: off by 5.9 to 6.1 degrees, scale 1.0000 ± 0.0013"),
        ({"scale": -0.5}, "points away: scale -0.5000 ± 0.0013"),
        ({"scale": 0.75, "noise": 3.0}, "undecided: scale 0.75 ± 0.04, off by at most 5.0 degrees"),
        ({"noise": 1e-3}, "unbiased: scale 1.000000 ± 0.000013"),
    ],
)
def test_the_text_of_a_direction(given, text):
    assert format_direction(summary(gradients(**given), exact=EXACT)) == text


def test_the_series_was_called_gain():
    s = summary(gradients(scale=0.75), exact=EXACT)
    old = {name.replace("scale", "gain"): value for name, value in s.to_json().items()}
    assert Summary.from_json(old) == s
