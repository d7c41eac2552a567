"""The engine: gradients of draws, exact gradients, spans, partial sums and digests."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal

from bench import objectives
from bench.measurement.draws import blocks_in
from bench.measurement.engine import Engine, exact_gradient, gradients_of
from bench.measurement.source import digest
from bench.objectives import Objective, Problem
from bench.planning.cells import Cell
from bench.planning.settings import Settings
from bench.stats.layout import TRACKED
from estimators import RLOO, GumbelSoftmax, Reparameterization, ScoreFunction, StraightThrough, parameters, rows
from tests.measurement.objectives import Network

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
def test_gradients_of_rows_equal_the_gradients_of_single_training_calls(estimator, objective):
    """Compare rows that are pulled back together with ``loss.mean().backward()`` on copies of theta, same noise."""
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


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_gradients_of_a_loss_are_those_of_torch(share):
    """Every leaf gets the bits that ``torch.autograd.grad`` gives it, and a leaf without a path to the loss gets 0."""
    first, second, apart = (torch.randn(5, 3, requires_grad=True) for _ in range(3))

    def loss():
        return (first * second.exp()).square().sum(1)

    want = torch.autograd.grad(loss().sum() * share, [first, second, apart], materialize_grads=True)
    found = gradients_of(loss(), [first, second, apart], share)
    assert all(torch.equal(a, b) for a, b in zip(found, want, strict=True))
    assert not found[2].any()


@pytest.mark.parametrize(
    "objective", [objectives.GaussianQuadratic(dim=3), objectives.CategoricalPolynomial(dim=4), Network()]
)
def test_exact_gradient_is_at_the_point_that_is_measured(objective):
    """In float32 theta is rounded; the exact gradient is taken at the rounded theta."""
    problem = objective.build(torch.float32)
    value, gradient = exact_gradient(objective, problem)
    sharp = objective.build(torch.float64)
    theta = {k: v.detach().double().requires_grad_() for k, v in problem.theta.items()}
    again = sharp.exact(theta)
    assert value == again.item()
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(again, list(theta.values()))])
    np.testing.assert_array_equal(gradient, expected.numpy())


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
class Unset(Objective):
    """Declares an exact value and has none."""

    dim: int = 1
    family = Normal
    notes: tuple = field(default=())

    def build(self, dtype=torch.float32, device="cpu"):
        theta = {"mean": torch.zeros(1, dtype=dtype, requires_grad=True)}
        return Problem(theta, lambda t: Independent(Normal(t["mean"], 1.0), 1), lambda _q: lambda x: x.sum(-1))


def test_a_missing_exact_value_is_an_error():
    with pytest.raises(ValueError, match="unset declares has_exact and builds a problem without an exact value"):
        exact_gradient(Unset(), Unset().build())


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


def test_partials_hold_all_blocks_in_order():
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


@pytest.mark.parametrize(("size", "rows"), [(1, 256), (512, 256), (1024, 128), (2**18, 1)])
def test_a_digest_depends_on_the_first_gradients_only(size, rows):
    g = torch.zeros(512, size)
    own = digest([g[:, :1], g[:, 1:]])
    g[rows] = 1
    assert digest([g[:, :1], g[:, 1:]]) == own
    g[rows - 1, -1] = 1
    assert digest([g[:, :1], g[:, 1:]]) != own
