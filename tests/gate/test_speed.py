import math

import pytest

from bench.gate import speed
from bench.gate.select import Picked
from bench.objectives import GaussianQuadratic
from bench.planning.cells import Cell
from bench.planning.selectors import parse
from bench.planning.settings import Settings
from estimators import Reparameterization
from tests.gate.fabricated import entry

STEADY = tuple(math.log(2.0) + 0.01 * k for k in range(-4, 5))
PICKED = Picked(
    Cell(Reparameterization(), GaussianQuadratic(dim=2)), parse("reparameterization"), parse("gaussian-quadratic:dim=2")
)


@pytest.fixture
def judged(monkeypatch):
    """Judge one cell whose cost is given for each process."""

    def judge(costs, values=STEADY):
        left = iter(costs)

        def timed(picked, _settings, _timeout):
            assert len(picked) == 1
            cost = next(left)
            return {} if cost is None else {base.cell: math.log(cost)}

        base = entry(speed=values)
        monkeypatch.setattr(speed, "log_costs", timed)
        found = speed.judge([(base, PICKED)], Settings())[base.cell]
        return found, len(list(left))

    return judge


def test_a_cost_inside_the_margin_needs_one_process(judged):
    (word, _), left = judged([2.4, 9, 9, 9])
    assert (word, left) == ("unchanged", 3)


def test_a_cell_is_slower_only_if_every_process_says_so(judged):
    (word, reason), left = judged([3.0, 2.9, 3.1, 2.8])
    assert (word, left) == ("slower", 0)
    assert "times 1.4 in 4 processes" in reason
    (word, _), left = judged([3.0, 2.9, 2.1, 9])
    assert (word, left) == ("unchanged", 1)


@pytest.mark.parametrize(
    ("costs", "values", "says"),
    [
        ([], None, "has no speed"),
        ([], tuple(0.2 * value for value in range(9)), "varies by 55%"),
        ([None], STEADY, "could not be timed"),
    ],
)
def test_what_cannot_be_judged_says_why(judged, costs, values, says):
    (word, reason), _ = judged(costs, values)
    assert word == "not gateable"
    assert says in reason


def test_costs_come_from_a_process_of_their_own():
    (cost,) = speed.log_costs([PICKED], Settings(replicates=64)).values()
    assert math.isfinite(cost)
