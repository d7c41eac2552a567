"""Blocks of gradients to partial sums."""

import functools
import math
import pickle

import numpy as np
import pytest
import torch

from bench.measurement.reduction.blocks import block_partial, draws_partial
from bench.measurement.reduction.kernels import Workspace
from bench.measurement.reduction.origin import NEAR, Origin
from bench.stats import Accumulator, Sums, summarise
from bench.stats.layout import above_quantile, kept_in_block, kept_values, tail_length
from tests.measurement.reduction.gradients import draw

approx = pytest.approx


def reduce(blocks, *, exact=None, centre=None, groups=None, replicates=None, **more):
    size = blocks[0].shape[1]
    groups = groups or {"theta": size}
    rows = replicates or sum(len(b) for b in blocks)
    centre = torch.zeros(size, dtype=torch.float64) if centre is None else centre
    return [
        block_partial(b, index=i, groups=groups, centre=centre, exact=exact, replicates=rows, **more)
        for i, b in enumerate(blocks)
    ]


def accumulate(blocks, *, exact=None, centre=None, groups=None, **more):
    size = blocks[0].shape[1]
    partials = reduce(blocks, exact=exact, centre=centre, groups=groups, **more)
    acc = Accumulator(
        groups or {"theta": size},
        replicates=sum(len(b) for b in blocks),
        centre=np.zeros(size) if centre is None else centre.numpy(),
        exact=None if exact is None else exact.numpy(),
    )
    for p in partials:
        acc.add(p)
    return acc.sums()


@pytest.mark.parametrize("size", [1, 2, 7])
def test_everything_against_numpy(size):
    g, exact = draw(640, size), torch.linspace(1, 2, size, dtype=torch.float64)
    g[5] = 0
    sums = accumulate(list(g.split(64)), exact=exact, centre=exact, truncate_at=1.5)
    x, e = g.numpy(), exact.numpy()
    w = np.concatenate([64 / 63 * ((b - b.mean(0)) ** 2).sum(1) for b in np.split(x, 10)])
    norms = np.linalg.norm(x, axis=1)
    cosine = np.divide(x @ e / np.linalg.norm(e), norms, out=np.zeros(640), where=norms > 0)
    by_hand = {
        "w": w,
        "error": ((x - e) ** 2).sum(1),
        "projection": (x - e) @ e / (e @ e),
        "cosine": cosine,
        "truncated": np.minimum(w, 1.5),
    }
    for name, v in by_hand.items():
        m, d = getattr(sums, name), v - v.mean()
        assert (m.n, float(m.mean)) == (640, approx(v.mean(), abs=1e-12))
        assert [float(m.M2), float(m.M3), float(m.M4)] == [approx((d**k).sum(), rel=1e-10) for k in (2, 3, 4)]
    d = x - x.mean(0)
    for k, M in enumerate((sums.shape.M2, sums.shape.M3, sums.shape.M4), 2):
        assert approx((d**k).sum(0), rel=1e-9, abs=1e-9) == M
    assert sums.mean == approx(x.mean(0), abs=1e-13)
    assert sums.zero_rows == 1
    assert sums.block_w == approx(w.reshape(10, 64).sum(1))
    assert sums.w_top[: tail_length(640) + 1] == approx(np.sort(w)[::-1][: tail_length(640) + 1])
    y = (x - e).reshape(10, 64, size).sum(1)
    q = [float(y[:k].sum(0) @ y[k]) for k in range(1, 10)]
    assert (sums.martingale_T, sums.martingale_Q) == (approx(sum(q)), approx(sum(v * v for v in q)))


@pytest.mark.parametrize("shift", [0.0, 1e3, 1e5])
@pytest.mark.parametrize("size", [1, 50])
def test_float32_sums_inside_a_block_keep_eight_digits(shift, size):
    rows = 2**17 // size // 32 * 32
    blocks = [draw(rows, size, seed, torch.float32) + shift for seed in range(8)]
    single, double = (accumulate([b.to(t) for b in blocks]).variance for t in (torch.float32, torch.float64))
    assert single == approx(double, rel=3e-8)
    naive = sum(((b**2).mean(0) - b.mean(0) ** 2).sum().item() for b in blocks) / 8  # without a pivot
    assert shift == 0 or naive != approx(double, rel=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1e-9, 1e-5, 3e4, 1e6, 1e12])
def test_scale_equivariance_in_float32(scale):
    g = draw(256, 3, dtype=torch.float32)
    a, b = accumulate([g]), accumulate([g * scale])
    assert b.variance == approx(a.variance * scale**2, rel=1e-5)
    assert float(b.w.M4) == approx(float(a.w.M4) * scale**8, rel=1e-4) or scale <= 1e-30
    assert approx(a.shape.M3 * scale**3, rel=1e-4, abs=1e-4 * scale**3) == b.shape.M3
    assert approx(a.shape.M4 * scale**4, rel=1e-5) == b.shape.M4
    exact = torch.zeros(3, dtype=torch.float64)
    s, t = (summarise(accumulate([x], exact=exact), exact=exact.numpy(), dtype="float32") for x in (g, g * scale))
    assert t.p_bias == approx(s.p_bias, rel=1e-3)
    assert t.status == s.status


def test_a_constant_coordinate_has_no_variance_at_all():
    g = draw(100, 3, dtype=torch.float32)
    g[:, 1] = 0.7
    sums = accumulate([g[:64], g[:70]])
    assert sums.coordinate.M2[1] == 0.0
    assert sums.mean[1] == float(torch.tensor(0.7, dtype=torch.float32))
    assert accumulate([torch.full((64, 2), 0.1)] * 3).variance == 0.0


def test_partials_do_not_depend_on_the_workspace_or_its_history():
    space, g = Workspace(), draw(96, 4)
    exact = torch.ones(4, dtype=torch.float64)
    fresh = accumulate([g, g + 1], exact=exact)
    reduce([draw(512, 9)], workspace=space)
    again = accumulate([g, g + 1], exact=exact, workspace=space)
    assert again.variance == fresh.variance
    assert again.error is not None
    assert fresh.error is not None
    assert float(again.error.M4) == float(fresh.error.M4)


def test_gradients_stay_as_they_were():
    g = draw(64, 3)
    before = g.clone()
    accumulate([g], exact=torch.ones(3, dtype=torch.float64))
    assert torch.equal(g, before)


def test_strided_gradients():
    g = draw(128, 6)
    assert accumulate([g[:, ::2]]).variance == accumulate([g[:, ::2].contiguous()]).variance
    assert accumulate([g[:1].expand(64, 6)]).variance == 0.0


def test_a_partial_travels():
    p = reduce([draw(64, 3)], exact=torch.ones(3, dtype=torch.float64))[0]
    q = pickle.loads(pickle.dumps(p))
    assert np.array_equal(p.coordinate.M2, q.coordinate.M2)
    assert isinstance(q.w_top, np.ndarray)


def test_shape_of_coordinates_comes_from_the_first_32_blocks():
    blocks = [draw(64, 2, seed) for seed in range(40)]
    sums = accumulate(blocks)
    assert sums.shape.n == 32 * 64
    assert sums.coordinate.n == 40 * 64
    assert sums.coordinate.M3 is None
    assert sums.traces.size == 64


@pytest.mark.parametrize(("rows", "count"), [(64, 2), (79, 2), (80, 3), (100, 3)])
def test_a_rest_under_16_rows_makes_no_sub_block(rows, count):
    assert accumulate([draw(rows, 2)]).traces.size == count


def test_the_mean_of_the_square_traces_is_right():
    scale = torch.tensor([1.0, 2.0, 3.0]).double()
    traces = np.concatenate([accumulate([draw(2048, 3, seed) * scale]).traces for seed in range(10)])
    assert traces.size == 640
    assert abs(traces.mean() - (1 + 16 + 81)) < 4.5 * traces.std() / np.sqrt(640)


def test_the_largest_values_are_found_in_long_blocks():
    g = draw(2**15, 1, dtype=torch.float32)
    w = (g - g.mean()) ** 2 * (2**15 / (2**15 - 1))
    p = block_partial(g, index=0, groups={"t": 1}, centre=torch.zeros(1).double(), exact=None, replicates=10**7)
    assert p.w_top == approx(torch.sort(w[:, 0], descending=True).values[: p.w_top.size].double().numpy(), rel=1e-5)


@pytest.mark.parametrize(
    "groups", [{"a": 40, "b": 60}, {"a": 3, "b": 2}, {"a": 1200, "b": 40}, {"a": 40, "b": 1}, {"a": 1, "b": 1}]
)
@pytest.mark.parametrize("tracked", [0, None])
def test_squares_of_all_groups_are_in_the_squared_norms(groups, tracked):
    """With and without series of the groups, and with garbage in the workspace."""
    g, space = draw(128, sum(groups.values())), Workspace()
    space.take("table", (4 * 128,), g).fill_(1e3)
    p = draws_partial(
        lambda _: g.split(list(groups.values()), 1),
        range(1),
        index=0,
        blocks=[1],
        groups=groups,
        centre=torch.zeros(g.shape[1]).double(),
        exact=None,
        replicates=128,
        tracked=tracked,
        workspace=space,
    )
    w = (g - g.mean(0)).square().sum(1) * 128 / 127
    assert p.w_top == approx(w.sort(descending=True).values[: p.w_top.size].numpy(), rel=1e-12)
    assert float(p.w.mean) == approx(w.mean().item(), rel=1e-12)


def test_a_block_hands_over_as_many_values_as_any_other():
    """One huge gradient shifts the mean of its block, so that every squared norm in the block is large."""
    blocks = [draw(256, 2, seed) for seed in range(8)]
    blocks[3][17] = 1e9
    given = {"groups": {"t": 2}, "centre": torch.zeros(2).double(), "exact": None, "replicates": 10**4}
    top = draws_partial(lambda i: [blocks[i]], range(8), index=0, blocks=[1] * 8, **given).w_top
    assert np.count_nonzero(top > 1e6) == kept_in_block(kept_values(10**4), 256, 10**4) < 256
    assert top.size == 8 * kept_in_block(kept_values(10**4), 256, 10**4)


def test_a_huge_gradient_costs_others_no_digits():
    """Neither gradients of its own span nor, through the pivot, gradients of later spans lose digits."""
    blocks = [draw(256, 3, seed, torch.float32) for seed in range(16)]
    blocks[0][17] = 1e9
    given = {"groups": {"t": 3}, "centre": torch.zeros(3).double(), "exact": None, "replicates": 4096}
    origin = Origin.of([blocks[0]])
    for run in (range(8), range(8, 16)):
        w = draws_partial(
            lambda i: [blocks[i]], run, index=run.start, blocks=[1] * len(run), origin=origin, **given
        ).block_w
        by_hand = [float(blocks[i].double().var(0).sum()) * 256 for i in run]
        assert w[1:] == approx(by_hand[1:], rel=1e-5)


@pytest.mark.parametrize("off", [1e-12, 1.0, 1e12])
def test_the_unit_of_the_squared_norms_changes_no_digit(off):
    """A unit far from the squared norms makes the reduction use float64."""
    g = [draw(512, size, seed=size, dtype=torch.float32) for size in (1, 40)]
    given = {"groups": {"a": 1, "b": 40}, "centre": torch.zeros(41).double(), "exact": torch.ones(41).double()}
    a, b = (
        draws_partial(
            lambda _i: g,
            range(1),
            index=0,
            blocks=[2],
            replicates=512,
            truncate_at=40.0,
            origin=Origin([None, None], spreads),
            **given,
        )
        for spreads in ([1.0, 32.0], [off, 32.0 * off])
    )
    assert a.w_top == approx(b.w_top, rel=1e-6)
    assert a.group_top["a"] == approx(b.group_top["a"], rel=1e-6)
    assert a.error_top == approx(b.error_top, rel=1e-6)
    for name in ("w", "error", "projection", "cosine", "truncated"):
        mine, other = getattr(a, name), getattr(b, name)
        assert float(mine.mean) == approx(float(other.mean), rel=1e-6, abs=1e-7)
        for power in ("M2", "M3", "M4"):
            assert float(getattr(mine, power)) == approx(float(getattr(other, power)), rel=1e-4), (name, power)


def test_a_mean_without_a_pivot_costs_no_digits():
    g = draw(2**15, 1, seed=3, dtype=torch.float32) + NEAR * 0.9
    assert Origin.of([g]).pivots == [None]
    p = block_partial(g, index=0, groups={"t": 1}, centre=torch.zeros(1).double(), exact=None, replicates=2**15)
    assert float(p.coordinate.mean[0]) == approx(g.double().mean().item(), abs=1e-7)
    assert float(p.coordinate.M2[0]) == approx(g.double().var().item() * (2**15 - 1), rel=1e-6)


def test_quantile_from_a_sample_where_the_largest_values_do_not_reach():
    replicates = 10**6
    assert kept_values(replicates) <= above_quantile(replicates)
    rows = [256] * 32 + [2**17] * 3  # 4,014 values lie above the quantile, and 3,001 are kept
    partials = [
        block_partial(
            100 * draw(n, 1, seed),
            index=seed,
            groups={"t": 1},
            centre=torch.zeros(1).double(),
            exact=None,
            replicates=replicates,
        )
        for seed, n in enumerate(rows)
    ]
    assert [p.sample is None for p in partials] == [False] * 32 + [True] * 3
    acc = Accumulator({"t": 1}, replicates=replicates, centre=np.zeros(1), exact=None)
    for p in partials:
        acc.add(p)
    w = np.concatenate([(x - x.mean()) ** 2 for x in (100 * draw(256, 1, seed).numpy()[:, 0] for seed in range(32))])
    assert acc.sums().cut == approx(np.quantile(w * 256 / 255, 0.99), rel=0.01)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e200])
def test_rows_that_are_not_finite_are_counted_and_nothing_is_dropped(bad):
    g = draw(128, 3)
    g[7, 1] = g[90, 0] = bad
    p = reduce([g])[0]
    assert p.nonfinite == 2
    acc = Accumulator({"theta": 3}, replicates=128, centre=np.zeros(3), exact=None)
    acc.add(p)
    assert acc.nonfinite == 2
    with pytest.raises(ValueError, match="2 gradients are not finite"):
        acc.sums()


def test_json_round_trip_is_exact():
    exact = torch.ones(3, dtype=torch.float64)
    sums = accumulate([draw(64, 3), draw(64, 3, 1)], exact=exact, groups={"n": 1, "M2": 2})
    back = Sums.from_json(sums.to_json())
    a, b = (summarise(s, exact=exact.numpy(), dtype="float64").to_json() for s in (sums, back))
    assert a == b
    assert np.array_equal(back.block_w, sums.block_w)
    with pytest.raises(ValueError, match="the sums lack centre"):
        Sums.from_json({k: v for k, v in sums.to_json().items() if k != "centre"})


def test_error_sentences():
    g, c = draw(64, 3), torch.zeros(3, dtype=torch.float64)
    ok = {"index": 0, "groups": {"t": 3}, "centre": c, "exact": None, "replicates": 64}
    with pytest.raises(ValueError, match="at least 64 rows \\(got 63\\)"):
        block_partial(g[:63], **ok)
    with pytest.raises(ValueError, match="equal rows \\(got 64 rows for 3 blocks\\)"):
        draws_partial(lambda _: [g], range(1), blocks=[3], **ok)
    with pytest.raises(ValueError, match=r"need \[rows, 4\]"):
        block_partial(g, **{**ok, "groups": {"t": 4}})
    with pytest.raises(ValueError, match="float32 or float64"):
        block_partial(g.half(), **ok)
    with pytest.raises(ValueError, match="centre is float64"):
        block_partial(g, **{**ok, "centre": c.float()})
    with pytest.raises(ValueError, match="exact is float64"):
        block_partial(g, **{**ok, "exact": c[:2]})
    p = block_partial(g, **ok)
    acc = Accumulator({"t": 3}, replicates=64, centre=np.zeros(3), exact=None)
    with pytest.raises(ValueError, match="nothing to sum up"):
        acc.sums()
    acc.add(p)
    with pytest.raises(ValueError, match="expected block 1, got block 0"):
        acc.add(p)
    with pytest.raises(ValueError, match="brings 128 rows to a run of 64"):
        acc.add(block_partial(g, **{**ok, "index": 1}))
    with pytest.raises(ValueError, match=r"need \(2,\)"):
        Accumulator({"t": 2}, replicates=64, centre=np.zeros(2), exact=None).add(p)
    with pytest.raises(ValueError, match="without an exact gradient"):
        Accumulator({"t": 3}, replicates=64, centre=np.zeros(3), exact=np.zeros(3)).add(p)
    with pytest.raises(ValueError, match=r"centre has shape \(2,\)"):
        Accumulator({"t": 3}, replicates=64, centre=np.zeros(2), exact=None)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_device_gives_the_same_sums():
    g, exact = draw(256, 5), torch.ones(5, dtype=torch.float64)
    here = reduce([g], exact=exact)[0]
    there = block_partial(
        g.cuda(),
        index=0,
        groups={"theta": 5},
        centre=torch.zeros(5).double().cuda(),
        exact=exact.cuda(),
        replicates=256,
    )
    assert approx(here.coordinate.M2, rel=1e-11) == there.coordinate.M2
    assert there.w_top == approx(here.w_top, rel=1e-11)
    assert there.traces == approx(here.traces, rel=1e-10)


def test_cosines_of_rows_that_are_short_beside_the_mean():
    """A cosine computed from the projection would have no correct digit for such a row."""
    exact = torch.tensor([3.0, 4.0]).double()
    g = (exact + 0.1 * draw(64, 2)).float()
    g[:32] = torch.tensor([1e-6, 0.0])
    cosine = accumulate([g], exact=exact, centre=exact).cosine
    assert cosine is not None
    by_hand = torch.nn.functional.cosine_similarity(g.double(), exact.expand(64, 2), eps=1e-30)
    assert float(cosine.mean) == approx(by_hand.mean().item(), rel=1e-6)
    assert float(by_hand[:32].max()) == approx(0.6)


def forty_blocks(size, exact):
    """Return 40 blocks, some of whose rows are zero, the accumulator of their partial sums, and what all share."""
    blocks = [draw(96, size, seed=seed) for seed in range(40)]
    for block in blocks[::5]:
        block[7] = 0
    target = torch.ones(size).double() if exact else None
    groups = {"a": 1, "b": size - 1} if size > 1 else {"a": 1}
    centre = torch.full((size,), 0.3).double()
    given = {"groups": groups, "centre": centre, "exact": target, "replicates": 40 * 96, "truncate_at": size + 1.0}
    known = None if target is None else target.numpy()
    return blocks, Accumulator(groups, replicates=40 * 96, centre=centre.numpy(), exact=known), given


@functools.cache
def forty_blocks_alone(size, exact):
    blocks, acc, given = forty_blocks(size, exact)
    for i, block in enumerate(blocks):
        acc.add(block_partial(block, index=i, **given))
    return acc.sums()


@pytest.mark.parametrize("size", [1, 5, 40, 300])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("away", [None, 0.0, 30.0])
@pytest.mark.parametrize(
    ("cut", "one_pass", "table"),
    [(1, 1, 2**19), (1, 2**19, 3000), (4, 1, 1), (4, 2 * 96, 2**19), (4, 2**19, 2**19)],
)
def test_blocks_reduced_together_are_as_if_alone(monkeypatch, size, exact, away, cut, one_pass, table):
    """For every pivot (none, the mean of the first block, a point some standard deviations away) and every grouping.

    Draws are joined or cut between blocks on the way, and a table holds more or fewer series.
    """
    b = forty_blocks_alone(size, exact)
    monkeypatch.setattr("bench.measurement.reduction.blocks.PASS", one_pass * size)
    monkeypatch.setattr("bench.measurement.reduction.blocks.TABLE", table)
    blocks, acc, given = forty_blocks(size, exact)
    groups = given["groups"]
    draws = [torch.cat(blocks[k : k + cut]).split(list(groups.values()), 1) for k in range(0, 40, cut)]
    origin = Origin([None if away is None else g[:96].mean(0) + away for g in draws[0]], [2.0, 64.0][: len(groups)])
    for k in range(0, 40, 8):
        some = range(k // cut, (k + 8) // cut)
        acc.add(draws_partial(lambda i: draws[i], some, index=k, blocks=[cut] * len(some), origin=origin, **given))
    a = acc.sums()
    for name in ("coordinate", "shape", "w", "error", "projection", "cosine", "truncated"):
        mine, other = getattr(a, name), getattr(b, name)
        assert (mine is None) == (other is None)
        if mine is not None:
            assert mine.n == other.n
            for k, power in enumerate(("mean", "M2", "M3", "M4"), 1):
                x, y = getattr(mine, power), getattr(other, power)
                assert (x is None) == (y is None)
                if x is not None:
                    scale = mine.n ** (k > 1) * np.sqrt(mine.M2 / mine.n) ** k
                    np.testing.assert_array_less(abs(x - y), 1e-8 * (abs(y) + scale) + 1e-12)
    assert a.w_top == approx(b.w_top, rel=1e-9)
    assert a.block_w == approx(b.block_w, rel=1e-10)
    assert a.block_rows.tolist() == b.block_rows.tolist() == [96] * 40
    assert a.traces == approx(b.traces, rel=1e-9)
    assert (a.martingale_T, a.martingale_Q) == approx((b.martingale_T, b.martingale_Q), rel=1e-9)
    assert a.martingale_terms == b.martingale_terms == (39 if exact else 0)
    assert a.zero_rows == b.zero_rows
    assert list(a.group_w) == list(b.group_w) == (["a", "b"] if size > 1 else [])


@pytest.mark.parametrize("size", [1, 5, 40])
def test_blocks_out_of_range_are_asked_for_again(size):
    blocks = [draw(96, size, seed=seed, dtype=torch.float32) for seed in range(4)]
    asked = []

    def gradients(index):
        asked.append(index)
        return [blocks[index]]

    given = {"groups": {"a": size}, "centre": torch.zeros(size).double(), "exact": None, "replicates": 10_000}
    fine = draws_partial(gradients, range(4), index=0, blocks=[1] * 4, **given)
    assert (asked, fine.nonfinite, fine.blocks, fine.replicates) == ([0, 1, 2, 3], 0, 4, 384)
    blocks[3] = blocks[3] * 1e25
    large = draws_partial(gradients, range(4), index=0, blocks=[1] * 4, **given)
    assert asked[4:] == [0, 1, 2, 3] * 2
    assert large.nonfinite == 0
    assert float(large.w.mean) == approx(float((blocks[3].double() / 4).var(0).sum()) * 4, rel=1e-6)
    blocks[2][7] = blocks[0][5] = math.nan
    assert draws_partial(gradients, range(4), index=0, blocks=[1] * 4, **given).nonfinite == 2
