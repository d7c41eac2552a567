"""Gradients that were made elsewhere: our own, fed back, give our own numbers, and bad input gets one sentence."""

import numpy as np
import pytest
import torch

import bench
from bench.measurement.draws import blocks_in
from bench.measurement.engine import Engine
from bench.measurement.given import Given, draw_sizes, measure_given, read
from bench.measurement.moments import measure_moments
from bench.objectives import BernoulliQuadratic, GaussianQuadratic
from bench.planning.cells import Cell
from bench.planning.selectors import UsageError
from bench.planning.settings import Settings
from estimators import RLOO, Reparameterization

RNG = np.random.default_rng(0)
G = RNG.standard_normal((500, 3)).astype(np.float32)


def own(cell, settings):
    """Return the record of a cell, and its gradients as one array."""
    engine = Engine(cell, settings)
    record = measure_moments(engine)
    return record, torch.cat([engine.draw_gradients(k) for k in range(len(engine.sizes))]).numpy()


@pytest.mark.parametrize(("dtype", "rel"), [("float32", 1e-6), ("float64", 1e-12)])
def test_our_own_rows_of_two_tensors_give_our_own_numbers_up_to_rounding(dtype, rel):
    """Sums over a gradient run in another order if it is one tensor."""
    record, rows = own(Cell(Reparameterization(), GaussianQuadratic(dim=3)), Settings(3_000, dtype=dtype))
    found = bench.measure_gradients(rows, record["exact"]).record
    assert len(record["groups"]) == 2
    assert found["groups"] == {"theta": 6}
    assert found["mean"] == pytest.approx(record["mean"], rel=rel)
    for key, value in record["summary"].items():
        if key != "groups":
            exactly = isinstance(value, str | list | None)
            assert found["summary"][key] == (value if exactly else pytest.approx(value, rel=100 * rel)), key


def test_our_own_rows_of_one_tensor_give_our_own_numbers_bit_for_bit():
    record, rows = own(Cell(RLOO(n=2), BernoulliQuadratic(dim=4)), Settings(5_000))
    found = bench.measure_gradients(rows, record["exact"]).record
    same = {k: v for k, v in record["sums"].items() if k not in ("groups",)}
    for key, value in same.items():
        assert repr(found["sums"][key]) == repr(value), key
    assert found["summary"] | {"groups": None} == record["summary"] | {"groups": None}
    assert found["summary"]["direction"] is not None
    changed = rows.copy()
    changed[7, 2] += 1e-3
    assert bench.measure_gradients(changed, record["exact"]).summary.variance != record["summary"]["variance"]


def test_a_file_is_mapped_and_gives_the_numbers_of_its_array(tmp_path):
    path = tmp_path / "g.npy"
    np.save(path, G)
    assert isinstance(read(path), np.memmap)
    exact = tmp_path / "exact.npy"
    np.save(exact, G.mean(0))
    a, b = bench.measure_gradients(path, str(exact)), bench.measure_gradients(G, G.mean(0))
    assert a.summary == b.summary
    assert (a.direction, a.angle, a.seconds, a.exact["theta"].shape) == (b.direction, b.angle, None, (3,))
    assert a.replicates == 500


@pytest.mark.parametrize("size", [1, 3, 5_000, 100_000])
def test_every_row_is_in_one_draw_whose_blocks_are_equal(size):
    for rows in [*range(64, 1200), 4_999, 10_001, 65_535, 65_536, 70_001, 123_457]:
        sizes = draw_sizes(rows, size)
        assert sum(sizes) == rows
        assert all(n % blocks_in(n) == 0 and n // blocks_in(n) >= 64 for n in sizes), (rows, sizes)


@pytest.mark.parametrize("rows", [64, 65, 255, 300, 2_100])
def test_mean_and_variance_of_any_number_of_rows(rows):
    g = RNG.standard_normal((rows, 2))
    s = bench.measure_gradients(g, [0.5, 1.0]).summary
    assert s.variance == pytest.approx(g.var(0, ddof=1).sum())
    assert s.bias_norm == pytest.approx(np.linalg.norm(g.mean(0) - [0.5, 1.0]))


def test_whole_numbers_and_short_floats_are_gradients():
    ints = np.arange(128).reshape(64, 2) % 5
    assert bench.measure_gradients(ints).summary.variance == pytest.approx(ints.var(0, ddof=1).sum())
    assert bench.measure_gradients(ints.tolist()).record["dtype"] == "float64"
    half = G.astype(np.float16)
    assert bench.measure_gradients(half).record["dtype"] == "float32"
    swapped, fortran = G.astype(">f4"), np.asfortranarray(G)
    assert bench.measure_gradients(swapped).summary == bench.measure_gradients(fortran).summary


def test_the_gradients_are_not_changed():
    g = G.copy()
    bench.measure_gradients(g, [0.0] * 3)
    assert np.array_equal(g, G)


def test_a_function_gets_another_seed_for_each_draw():
    calls = []

    def make(rows, seed):
        calls.append((rows, seed))
        return np.random.default_rng(seed).standard_normal((rows, 2))

    a = bench.measure_gradients(make, [0.0, 0.0], replicates=1_500)
    assert a.replicates == 1_536
    assert len({seed for _, seed in calls}) == 6
    assert all(0 <= seed < 2**32 for _, seed in calls)
    assert a.summary == bench.measure_gradients(make, [0.0, 0.0], replicates=1_500).summary
    assert a.summary != bench.measure_gradients(make, [0.0, 0.0], replicates=1_500, seed=1).summary
    assert abs(a.summary.variance - 2) < 0.5


def test_a_measurement_without_a_cell_prints_and_has_frames():
    found = bench.measure_gradients(0.5 * np.ones(3) + 0.01 * G, np.ones(3), name="jax", problem="toy")
    assert repr(found).startswith("Measurement(jax on toy: variance ")
    assert "; direction scaled: 0.4998 ± 0.0005 times the gradient; " in repr(found)
    assert "evaluations" not in repr(found)
    assert "<caption>jax on toy</caption>" in found._repr_html_()
    assert list(found.frame("coordinate")["exact"]) == [1, 1, 1]


NAN = G.copy()
NAN[3, 1] = np.nan


@pytest.mark.parametrize(
    ("gradients", "exact", "says"),
    [
        (
            G[0],
            None,
            "gradients has shape [3], and gradients are [replicates, size]: a flat gradient in each row. Use g[",
        ),
        (G[None], None, "gradients has shape [1, 500, 3]"),
        (1.0, None, "gradients has shape []"),
        (np.ma.masked_less(G, -2), None, "gradients holds masked values"),
        (np.tile(G[:256], (2, 1)), None, "gradients has the same gradients twice: 64 in a row, in draws 0 and 1"),
        (lambda rows, _seed: np.random.default_rng(0).normal(size=(rows, 2)), None, "must use the seed that it gets"),
        (lambda rows: G[:rows], None, "cannot be called with a number of rows and a seed (too many positional"),
        (lambda _rows, _seed: G[:10], None, "was asked for 64 gradients and returned 10"),
        (G[:1], None, "gradients holds 1 gradient, and their variance needs at least 64"),
        (G[:63], None, "gradients holds 63 gradients"),
        (G[:, :0], None, "its gradients have no coordinate"),
        (
            NAN,
            None,
            "Some of the 500 gradients in gradients are not finite: NaN, infinite, or too large to square (the "
            "first is row 3, counted from 0).",
        ),
        (".", None, ". cannot be read: Is a directory."),
        (G * 1e-40, None, "The gradients in gradients vary by less than 1e-36, and the powers"),
        (G.astype(float) * 1e-200, None, "vary by less than 1e-36"),
        (G.astype(complex), None, "gradients holds complex numbers: gradients are real numbers"),
        (G > 0, None, "gradients holds values of dtype bool"),
        (np.array([[None]] * 64), None, "gradients holds values of dtype object"),
        ([[1.0], [1.0, 2.0]], None, "gradients holds rows of different lengths"),
        (G, [0.0, 0.0], "The exact gradient has shape [2], and the gradients need [3]"),
        (G, [[0.0] * 3], "The exact gradient has shape [1, 3]"),
        (G, [0.0, np.inf, 0.0], "The exact gradient is not finite"),
        (G, [1j] * 3, "The exact gradient holds complex numbers"),
        (lambda rows, _seed: np.zeros((rows + 1, 2)), None, "asked for 64 gradients and returned 65"),
        (lambda rows, _seed: np.zeros((rows, 2 + (rows > 64))), None, "returned 3 coordinates after 2"),
        (lambda _rows, _seed: None, None, "gradients holds values of dtype object"),
    ],
)
def test_bad_gradients_are_refused_in_a_sentence(gradients, exact, says):
    with pytest.raises(UsageError) as caught:
        bench.measure_gradients(gradients, exact)
    assert says in str(caught.value)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [{"name": None}, {"name": ""}, {"problem": 3}, {"evaluations": 0}, {"evaluations": np.nan}, {"unbiased": "no"}],
)
def test_bad_names_and_costs_are_refused_in_a_sentence(words):
    with pytest.raises(UsageError, match=rf"{next(iter(words))} is .* \(got .*\)\. Use"):
        bench.measure_gradients(G, **words)


def test_tensors_with_a_graph_and_of_half_precision_are_gradients():
    g = torch.from_numpy(G)
    summary = bench.measure_gradients(G, [0.0] * 3).summary
    assert bench.measure_gradients(g.clone().requires_grad_(), torch.zeros(3).requires_grad_()).summary == summary
    half = g.bfloat16()
    assert bench.measure_gradients(half).summary == bench.measure_gradients(half.float()).summary


def test_gradients_of_few_values_are_not_taken_for_repeated_ones():
    rare = np.zeros((2_000, 2))
    rare[::100] = 1.0
    assert bench.measure_gradients(rare).replicates == 2_000


def test_bad_files_are_refused_in_a_sentence(tmp_path):
    def saved(name, write):
        with (tmp_path / name).open("wb") as file:
            write(file)
        return tmp_path / name

    objects = np.array([[{}]], dtype=object)
    for path, says in (
        (tmp_path / "none.npy", "There is no file"),
        (saved("pickled.npy", lambda f: np.save(f, objects, allow_pickle=True)), "pickled Python objects"),
        (saved("raw.npy", lambda f: f.write(objects.dumps())), "no file of numpy.save: it is text, pickled"),
        (saved("text.npy", lambda f: np.savetxt(f, G)), "no file of numpy.save: it is text"),
        (saved("several.npy", lambda f: np.savez(f, a=G)), "holds several arrays"),
        (saved("empty.npy", lambda f: f.write(b"")), "is not a whole file of numpy.save"),
        (saved("short.npy", lambda f: (np.save(f, G), f.truncate(1000))), "is not a whole file of numpy.save"),
    ):
        with pytest.raises(UsageError, match=says):
            read(path)


def test_a_deterministic_gradient_is_constant_so_far():
    s = bench.measure_gradients(np.ones((64, 2)), [2.0, 2.0]).summary
    assert (s.status, s.verdict) == ("DEGENERATE", "DEGENERATE")
    assert (s.scale, s.angle) == pytest.approx((0.5, 0.0), abs=1e-9)


def test_progress_ends_at_the_number_of_rows():
    seen = []
    measure_given(Given("g", RNG.standard_normal((5_000, 2))), lambda done, total: seen.append((done, total)))
    assert seen[-1] == (5_000, 5_000)


def test_two_tensors_lose_their_names():
    record, rows = own(Cell(Reparameterization(), GaussianQuadratic(dim=2)), Settings(1_000))
    assert len(record["groups"]) > 1
    assert list(bench.measure_gradients(rows).mean) == ["theta"]
