"""The variances of coordinates that are kept of a record."""

import numpy as np
import pytest

from bench.records.coordinates import MOST, ranks, variances
from bench.records.store import slim


def sums(M2, n=5):
    return {"block_rows": [], "block_w": [], "coordinate": {"n": n, "mean": [0.0] * len(M2), "M2": M2}}


def test_the_largest_comes_first():
    assert variances(sums([4.0, 12.0, 8.0])) == [3.0, 2.0, 1.0]


def test_of_many_the_ends_and_ranks_at_equal_distances_are_kept():
    kept = variances(sums(list(np.arange(1000.0)), n=2))
    assert len(kept) == MOST
    assert (kept[0], kept[-1]) == (999.0, 0.0)
    assert kept == [999.0 - rank for rank in ranks(1000, MOST)]


@pytest.mark.parametrize("held", [{}, sums([1.0], n=1)])
def test_without_sums_there_are_none(held):
    assert variances(held) == []


def test_they_take_the_place_of_the_sums_in_a_lean_record():
    assert slim({"sums": sums([4.0, 8.0])})["sums"] == {
        "block_rows": [],
        "block_w": [],
        "coordinate_variances": [2.0, 1.0],
    }
