"""The moments of a cell: long runs, memory, and estimators that cannot be measured."""

import re
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from bench import objectives
from bench.measurement.engine import Engine, exact_gradient
from bench.measurement.lines import reason_of
from bench.measurement.moments import in_process, measure_moments, summarise_cell
from bench.planning.cells import Cell
from bench.planning.settings import Settings
from bench.records.lines import Lost
from bench.stats.layout import TRACKED
from estimators import Estimator, InvalidLoss, ScoreFunction
from tests.tolerances import z_limit

SHARP = Settings(replicates=256, dtype="float64")


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
        if self.how == "nothing":
            return None
        raise RuntimeError("deliberately")


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("shape", "returned a loss of shape"),
        ("detached", "without a gradient at q's parameters"),
        ("nan", "not finite"),
        ("nothing", "Bad(how='nothing') returned None instead of a loss. Add a `return` to its __call__."),
    ],
)
def test_wrong_estimators_are_refused_with_a_sentence(how, says):
    with pytest.raises((InvalidLoss, Lost), match=re.escape(says)) as error:
        measure_moments(Engine(Cell(Bad(how), objectives.GaussianQuadratic(dim=2)), SHARP))
    assert reason_of(error.value) == str(error.value), "a line of ours would be named"


def test_gradients_that_are_not_finite_are_all_counted():
    settings = Settings(replicates=1000)
    engine = Engine(Cell(Bad("nan"), objectives.GaussianQuadratic(dim=2)), settings)
    with pytest.raises(Lost, match=r"^4 of 1024 gradients were not finite"):
        measure_moments(engine)


def test_memory_does_not_grow_with_replicates():
    """A block leaves only its sums behind, whose size does not depend on its rows."""
    engine = Engine(Cell(ScoreFunction(), objectives.GaussianQuadratic(dim=4)), Settings(replicates=20_000))
    centre = np.zeros(engine.size)

    def numbers(partial):
        return sum(np.size(v) for v in vars(partial).values() if isinstance(v, np.ndarray | float | int))

    sizes = {partial.rows: numbers(partial) for partial, _ in in_process(engine, centre, None)}
    assert max(sizes) == 4 * min(sizes)
    assert max(sizes.values()) < 4000


def test_a_long_run_tracks_all_series_at_its_start_only():
    engine = Engine(Cell(ScoreFunction(), objectives.GaussianQuadratic(dim=1)), Settings(replicates=10**7))
    exact = exact_gradient(engine.cell.objective, engine.problem)[1]
    sums, summary, _ = summarise_cell(engine, exact)
    assert sums.w.n == sums.replicates >= 10**7
    assert TRACKED <= sums.followed < 1.2 * TRACKED
    assert sums.cosine.n == sums.error.n == sums.group_w["mean"].n == sums.followed
    assert sums.block_error.size == engine.blocks
    assert all(group["khat"] is not None for group in summary.groups.values())
    standard_error = (summary.scale_high - summary.scale_low) / 2 / 1.96
    assert abs(summary.scale - 1) < z_limit(1) * standard_error
