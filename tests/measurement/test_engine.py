"""Gradients of draws, exact gradients, adaptation, the moments of a cell."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal

from bench import objectives
from bench.measurement.adaptation import ADAPT_ROWS, ADAPT_STEPS, adapt_state
from bench.measurement.draws import blocks_in
from bench.measurement.engine import Engine, digest, exact_gradient
from bench.measurement.lines import Lost
from bench.measurement.moments import in_process, measure_moments, summarise_cell
from bench.measurement.summaries import has_no_noise
from bench.objectives import Objective, Problem
from bench.planning.cells import Cell
from bench.planning.settings import Settings
from bench.stats.layout import TRACKED
from estimators import (
    RLOO,
    Estimator,
    GumbelSoftmax,
    Reparameterization,
    ScoreFunction,
    StraightThrough,
    parameters,
    rows,
)
from tests.measurement.network import Network
from tests.tolerances import z_limit

SHARP = Settings(replicates=256, dtype="float64")


@pytest.mark.parametrize(
    ("estimator", "objective"),
    [
        (RLOO(n=3), Network()),
        (StraightThrough(), Network()),
        (ScoreFunction(), objectives.GaussianQuadratic(dim=4)),
        (Reparameterization(n=2), objectives.LogisticRegression()),
        (GumbelSoftmax(), objectives.CategoricalPolynomial(dim=5)),
    ],
)
def test_row_gradients_are_those_of_single_training_calls(estimator, objective):
    """The engine's rows, pulled back together, against ``loss.mean().backward()`` on copies of theta, same noise."""
    engine = Engine(Cell(estimator, objective), SHARP)
    count = 5
    together = engine.gradients(count, engine.generator("measure", 0))
    r = rows(engine.q, count)
    f = engine.problem.integrand(r)
    loss = estimator(f, r, engine.generator("measure", 0))
    loss = loss.flatten(1).mean(1) if loss.dim() > 1 else loss
    for k in range(count):
        own = torch.autograd.grad(loss[k], list(parameters(r).values()), retain_graph=True)
        q = engine.problem.q(engine.problem.theta)
        single = torch.autograd.grad(
            list(parameters(q).values()), list(engine.problem.theta.values()), [g[k] for g in own]
        )
        flat = torch.cat([g.flatten() for g in single])
        torch.testing.assert_close(together[k], flat, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "objective", [objectives.GaussianQuadratic(dim=3), objectives.CategoricalPolynomial(dim=4), Network()]
)
def test_exact_gradient_is_at_the_point_that_is_measured(objective):
    """In float32 the point itself is rounded; the exact gradient is taken at the rounded point."""
    problem = objective.build(torch.float32)
    value, gradient = exact_gradient(objective, problem)
    sharp = objective.build(torch.float64)
    theta = {k: v.detach().double().requires_grad_() for k, v in problem.theta.items()}
    again = sharp.exact(theta)
    assert value == again.item()
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(again, list(theta.values()))])
    np.testing.assert_array_equal(gradient, expected.numpy())


def test_learning_is_counted_and_frozen():
    engine = Engine(Cell(ScoreFunction(baseline="moving-average"), objectives.GaussianQuadratic(dim=2)), SHARP)
    adaptation = adapt_state(engine)
    assert adaptation.steps == ADAPT_STEPS
    assert adaptation.f_evals == ADAPT_STEPS * ADAPT_ROWS
    assert adaptation.digest is not None
    assert abs(float(engine.state.mean) - 4.0) < 1.0, "E f = 2 (1 + 1) at the initial point"
    again = Engine(engine.cell, SHARP, engine.state_bytes())
    torch.testing.assert_close(again.draw_gradients(0), engine.draw_gradients(0), rtol=0, atol=0)


def test_the_same_block_is_the_same_bits_and_other_blocks_are_not():
    engine = Engine(Cell(RLOO(), objectives.GaussianQuadratic()), Settings(replicates=1000))
    assert torch.equal(engine.draw_gradients(1), engine.draw_gradients(1))
    assert not torch.equal(engine.draw_gradients(0), engine.draw_gradients(1))
    assert not torch.equal(engine.draw_gradients(0), engine.draw_gradients(0, "confirm"))


def test_common_noise_pairs_estimators_and_own_noise_does_not():
    objective = objectives.GaussianQuadratic(dim=2)

    def rows_of(estimator, *, common):
        engine = Engine(Cell(estimator, objective), Settings(replicates=256, dtype="float64", common_noise=common))
        return engine.draw_gradients(0)

    shared = [rows_of(ScoreFunction(baseline=b), common=True) for b in (0.0, 1.0)]
    own = [rows_of(ScoreFunction(baseline=b), common=False) for b in (0.0, 1.0)]
    correlations = [np.corrcoef(a[:, 0], b[:, 0])[0, 1] for a, b in (shared, own)]
    assert correlations[0] > 0.9
    assert abs(correlations[1]) < 0.4


@dataclass(frozen=True)
class Bad(Estimator):
    """Wrong in the way its field says."""

    how: str = "shape"

    def __call__(self, f, q, generator=None, state=None):
        x = q.base_dist.loc
        if self.how == "shape":
            return (x * x).sum()
        if self.how == "detached":
            return f(x.detach().unsqueeze(0)).mean(0)
        if self.how == "nan":
            return (x * torch.where(torch.arange(x.shape[0]) == 3, torch.nan, 1.0).unsqueeze(-1)).sum(-1)
        raise RuntimeError("deliberately")


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("shape", "returned a loss of shape"),
        ("detached", "without a gradient at q's parameters"),
        ("nan", "not finite"),
    ],
)
def test_wrong_estimators_are_told_in_a_sentence(how, says):
    with pytest.raises((ValueError, Lost), match=says):
        measure_moments(Engine(Cell(Bad(how), objectives.GaussianQuadratic(dim=2)), SHARP), lambda _d, _t: None)


def test_gradients_that_are_not_finite_are_all_counted():
    settings = Settings(replicates=1000)
    engine = Engine(Cell(Bad("nan"), objectives.GaussianQuadratic(dim=2)), settings)
    with pytest.raises(Lost, match=r"^4 of 1024 gradients were not finite"):
        measure_moments(engine, lambda _d, _t: None)


def test_memory_does_not_grow_with_replicates():
    """What a block leaves behind is its sums: of fixed size, whatever the rows."""
    engine = Engine(Cell(ScoreFunction(), objectives.GaussianQuadratic(dim=4)), Settings(replicates=20_000))
    centre = np.zeros(engine.size)

    def numbers(partial):
        return sum(np.size(v) for v in vars(partial).values() if isinstance(v, np.ndarray | float | int))

    sizes = {partial.rows: numbers(partial) for partial, _ in in_process(engine, centre, None)}
    assert max(sizes) == 4 * min(sizes)
    assert max(sizes.values()) < 4000


@dataclass(frozen=True)
class Unset(Objective):
    """Declares an exact value and has none."""

    dim: int = 1
    family = Normal
    notes: tuple = field(default=())

    def build(self, dtype=torch.float32, device="cpu"):
        theta = {"mean": torch.zeros(1, dtype=dtype, requires_grad=True)}
        return Problem(theta, lambda t: Independent(Normal(t["mean"], 1.0), 1), lambda _q: lambda x: x.sum(-1))


def test_a_missing_exact_value_is_told():
    with pytest.raises(ValueError, match="unset declares has_exact and builds a problem without an exact value"):
        exact_gradient(Unset(), Unset().build())


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"replicates": 0}, "replicates is a whole number of at least 1"),
        ({"replicates": 2.5}, "replicates is a whole number"),
        ({"seed": -1}, "seed is a whole number of at least 0"),
        ({"dtype": "float16"}, "dtype is float32 or float64"),
        ({"device": "tpu"}, "device is cpu or cuda"),
    ],
)
def test_settings_that_cannot_be_used(bad, says):
    with pytest.raises(ValueError, match=says):
        Settings(**bad)


def test_spans_hold_whole_draws_with_blocks_of_equal_rows():
    engine = Engine(Cell(RLOO(), objectives.BernoulliQuadratic(dim=3)), Settings(replicates=300_000))
    assert [draw for span in engine.spans for draw in span] == list(range(len(engine.sizes)))
    rows = [[engine.sizes[draw] // blocks_in(engine.sizes[draw]) for draw in span] for span in engine.spans]
    assert all(len(set(each)) == 1 for each in rows)
    assert [len(span) for span in engine.spans] == [8, 4, 5]  # of 4 blocks of 256 rows each, then of 4 of 8192
    assert max(sum(blocks_in(engine.sizes[draw]) for draw in span) for span in engine.spans) == 32


def test_a_span_ends_where_rows_are_no_longer_tracked():
    engine = Engine(Cell(RLOO(), objectives.BernoulliQuadratic(dim=1)), Settings(replicates=5_000_000))
    starts = [sum(engine.sizes[: span.start]) for span in engine.spans]
    tracked = [start for start in starts if start < TRACKED]
    assert engine.sizes[8] == 2**19
    assert tracked == [0, 2**16]
    assert starts[2] == 2**16 + 2**19  # the draw that reaches 2^17 is the last


def test_partials_are_of_all_blocks_in_order():
    engine = Engine(Cell(ScoreFunction(), objectives.GaussianQuadratic(dim=2)), Settings(replicates=10_000))
    centre = torch.zeros(engine.size).double()
    partials = [partial for partial, _ in engine.partials(range(len(engine.sizes)), centre, None)]
    assert [p.index for p in partials] == [0, 32]
    assert [(p.blocks, p.rows) for p in partials] == [(32, 256), (4, 512)]
    means = torch.cat([torch.from_numpy(p.means) for p in partials])
    by_hand = [
        block.double().mean(0)
        for draw, rows in enumerate(engine.sizes)
        for block in engine.draw_gradients(draw).chunk(blocks_in(rows))
    ]
    torch.testing.assert_close(means, torch.stack(by_hand), rtol=1e-6, atol=1e-6)
    assert engine.blocks == len(means) == 36


def test_a_long_run_tracks_all_series_at_its_start_only():
    engine = Engine(Cell(ScoreFunction(), objectives.GaussianQuadratic(dim=1)), Settings(replicates=10**7))
    exact = exact_gradient(engine.cell.objective, engine.problem)[1]
    sums, summary, _ = summarise_cell(engine, exact)
    assert sums.w.n == sums.replicates >= 10**7
    assert TRACKED <= sums.followed < 1.2 * TRACKED
    assert sums.cosine.n == sums.error.n == sums.group_w["mean"].n == sums.followed
    assert sums.block_error.size == engine.blocks
    assert all(group["khat"] is not None for group in summary.groups.values())
    standard_error = (summary.gain_high - summary.gain_low) / 2 / 1.96
    assert abs(summary.gain - 1) < z_limit(1) * standard_error


def test_slopes_that_were_0_where_they_were_followed_are_no_step():
    engine = Engine(Cell(Reparameterization(), objectives.GaussianQuadratic(dim=2)), Settings(replicates=1000))
    exact = exact_gradient(engine.cell.objective, engine.problem)[1]
    sums, _, _ = summarise_cell(engine, exact)
    assert not has_no_noise(engine, replace(sums, zero_rows=sums.followed))


@pytest.mark.parametrize(("size", "rows"), [(1, 256), (512, 256), (1024, 128), (2**18, 1)])
def test_a_digest_is_of_the_first_gradients(size, rows):
    g = torch.zeros(512, size)
    own = digest([g[:, :1], g[:, 1:]])
    g[rows] = 1
    assert digest([g[:, :1], g[:, 1:]]) == own
    g[rows - 1, -1] = 1
    assert digest([g[:, :1], g[:, 1:]]) != own
