"""Methods compared over many objectives: the summary of three small tables, against numbers found by hand."""

import numpy as np
import pytest

from bench.stats.over_objectives import over_objectives

LOG_WORK = np.log([[1, 4, np.nan, 3], [2, 1, 5, 3], [4, 2, 10, np.nan]])


def found(log_work, shown):
    """Return the values alone: without noise, and with a draw that they do not depend on."""
    summary = over_objectives(log_work, np.zeros_like(log_work), np.array([1.0, 2.0, 4.0]), np.array(shown), 1)
    return summary.efficiency[0], summary.improvement[0], summary.profile[0]


def test_values_by_hand():
    efficiency, improvement, profile = found(LOG_WORK, [0, 1, 2])
    assert efficiency == pytest.approx([(1 + 1 / 4 + 1) / 3, (1 / 2 + 1 + 1 + 1) / 4, (1 / 4 + 1 / 2 + 1 / 2) / 3])
    # Each rival counts as much as another, and a tie as half: 1.5 of 3 and 1 of 2, 1.5 of 3 and 3 of 3, ...
    assert improvement == pytest.approx([(1 / 2 + 1 / 2) / 2, (1 / 2 + 1) / 2, (1 / 2 + 0) / 2])
    assert profile.tolist() == [[0.5, 0.5, 0.75], [0.75, 1.0, 1.0], [0.0, 0.5, 0.75]]


def test_the_lowest_work_is_over_all_methods_and_rivals_are_the_shown_ones():
    efficiency, improvement, profile = found(LOG_WORK, [0, 2])
    assert efficiency == pytest.approx([(1 + 1 / 4 + 1) / 3, (1 / 4 + 1 / 2 + 1 / 2) / 3])
    assert improvement.tolist() == [0.5, 0.5]
    assert profile.tolist() == [[0.5, 0.5, 0.75], [0.0, 0.5, 0.75]]
