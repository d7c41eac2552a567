"""Tables of the study: scores, and a place for every piece."""

import pytest

from tests.calibration import gate, write
from tests.calibration import study as whole
from tests.calibration.laws import LAWS


def test_a_score_is_a_difference_in_standard_errors():
    assert write.score(0.95, 1000, 95, 1000) == 0
    error = (2 * 100**2 * 0.94 * 0.06 / 1000 + 1 / 12) ** 0.5
    assert write.score(0.95, 1000, 93, 1000) == pytest.approx(2 / error)
    assert write.score(0.93, 1000, 95, 1000) == pytest.approx(-2 / error)


def test_no_event_has_an_error_too():
    for rate in (0.0, 1.0):
        assert write.standard_error(rate, 1000) == pytest.approx(100 * (0.0005 * 0.9995 / 1000) ** 0.5)


def test_every_law_and_every_cell_is_in_the_plan_and_pieces_cover_it():
    plan = whole.WHOLE
    keys = [key for key, _ in whole.tasks(plan)]
    assert {key[1] for key in keys if key[0] == "coverage"} == {law.name for law in LAWS}
    assert len([key for key in keys if key[0] == "null"]) == len(gate.CELLS)
    assert [n for piece in whole.pieces(1000, 250) for n in piece] == list(range(1000))
    assert [n for piece in whole.pieces(10, 250) for n in piece] == list(range(10))
    small = plan.scaled(0.01)
    assert small.coverage == {1_000: 20, 10_000: 10}
    assert small.scalar == 2_000


def test_pieces_of_one_key_are_put_together_in_order(monkeypatch):
    monkeypatch.setattr(whole, "tasks", lambda _plan: iter(two_pieces()))
    found = whole.study(whole.WHOLE, 1)
    assert found == {("coverage", "G1", 1_000): whole._coverage("G1", 1_000, range(6))}


def two_pieces():
    from functools import partial

    for numbers in (range(3), range(3, 6)):
        yield ("coverage", "G1", 1_000), partial(whole._coverage, "G1", 1_000, numbers)
