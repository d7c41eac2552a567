"""Draws: the ladder of their sizes, blocks, slices, and the subject of their noise."""

import itertools
import re

import pytest

from bench import objectives
from bench.measurement import draws as layout
from bench.measurement.draws import (
    CALL,
    CAP,
    NUMBERS_PER_SPAN,
    blocks_in,
    cap,
    draws,
    ladder,
    noise_subject,
    slices,
    spans,
)
from bench.planning.cells import Cell
from bench.planning.settings import SMALLEST_DRAW
from bench.stats import layout as kept
from estimators import RLOO, Enumeration, ScoreFunction


def cell(dim=1, estimator=None):
    return Cell(estimator or ScoreFunction(), objectives.GaussianQuadratic(dim=dim))


def test_the_table_of_constants_holds_their_values():
    values = {**vars(layout), **vars(kept)}
    table = re.findall(r"^ +([A-Z_]+) +([\d^,]*\d(?:, [\d^]+)?) ", layout.__doc__, re.MULTILINE)
    assert len(table) == 19
    for name, text in table:
        powers = [part.replace(",", "").partition("^") for part in text.split(", ")]
        value = values[name]
        assert [int(base) ** int(power or 1) for base, _, power in powers] == (
            list(value.values()) if isinstance(value, dict) else [value]
        )


def test_the_ladder_climbs_by_doubling():
    sizes = list(itertools.islice(ladder(objectives.GaussianQuadratic(dim=100), "cpu"), 80))
    assert cap(objectives.GaussianQuadratic(dim=100), "cpu") == 4096
    assert sizes == [256] * 8 + [512] * 4 + [1024] * 4 + [2048] * 4 + [4096] * 60


@pytest.mark.parametrize(
    ("replicates", "first", "then", "count"),
    [
        (2**16, 1024, 8192, 7),
        (10**5, 1024, 8192, 12),
        (10**6, 1024, 2**16, 16),
        (10**7, 2**14, CAP["cpu"], 19),
        (10**8, 2**17, CAP["cpu"], 189),
    ],
)
def test_a_long_run_has_few_draws(replicates, first, then, count):
    sizes = draws(cell(), replicates, "cpu")
    assert sizes == [first] * 8 + [then] * count
    assert sum(sizes) <= 9 / 8 * replicates


def test_the_cap_holds_in_long_runs():
    assert set(draws(cell(dim=3000), 10**6, "cpu")) == {128}
    assert set(draws(cell(dim=100), 10**7, "cpu")) == {4096}


def test_draws_are_cut_into_blocks_of_256_rows_until_there_are_32():
    assert [blocks_in(rows) for rows in (64, 128, 256, 512, 1024, 2048, 2**19)] == [1, 1, 1, 2, 4, 4, 4]
    assert sum(map(blocks_in, draws(cell(), 8192, "cpu"))) == 32


@pytest.mark.parametrize("dim", [1, 100])
def test_rounding_up_takes_less_than_a_quarter_more(dim):
    for replicates in (2048, 2049, 4097, 10_000, 65_537, 100_000, 2**18, 10**6 + 1, 10**7):
        assert sum(draws(cell(dim), replicates, "cpu")) < 1.25 * replicates


def test_a_small_cap_makes_every_draw_the_cap():
    wide = objectives.GaussianQuadratic(dim=3000)
    assert list(itertools.islice(ladder(wide, "cpu"), 100)) == [128] * 100


def test_the_cap_is_a_power_of_two_and_at_least_64():
    for dim in (1, 3, 100, 1000, 5000, 10**6):
        most = cap(objectives.GaussianQuadratic(dim=dim), "cpu")
        assert most & (most - 1) == 0
        assert most == SMALLEST_DRAW or most * dim <= CAP["cpu"] < 2 * most * dim


@pytest.mark.parametrize("replicates", [1, 255, 256, 257, 10_000, 123_457])
def test_replicates_are_rounded_up_to_whole_draws(replicates):
    sizes = draws(cell(), replicates, "cpu")
    assert sum(sizes) >= replicates > sum(sizes[:-1])


def test_a_longer_run_begins_with_the_shorter_one():
    short, long = draws(cell(), 5_000, "cpu"), draws(cell(), 50_000, "cpu")
    assert long[: len(short)] == short
    assert draws(cell(), 2**16, "cpu")[: len(short)] != short  # but a very long one has other draws


def test_a_deterministic_estimator_takes_one_smallest_draw():
    assert draws(Cell(Enumeration(), objectives.BernoulliQuadratic()), 10_000, "cpu") == [SMALLEST_DRAW]


def test_slices_keep_the_largest_tensor_under_the_cap():
    elements = objectives.LogisticRegression().row_elements
    assert slices(512, elements, "cpu") == 1
    assert slices(512, 10 * elements, "cpu") == 2
    assert slices(512, 10**9 * elements, "cpu") == 512
    for points in (1, 2, 3, 16, 100):
        count = slices(128, points * elements, "cpu")
        assert 128 * points * elements <= count * CALL["cpu"]


def test_common_noise_is_the_objectives_and_own_noise_the_cells():
    a, b = cell(), cell(estimator=RLOO())
    assert noise_subject(a, common=True) == noise_subject(b, common=True)
    assert noise_subject(a, common=False) != noise_subject(b, common=False)


def test_a_span_has_at_most_32_blocks_and_2_to_the_17_means():
    sizes = [256] * 80
    assert [len(span) for span in spans(sizes, 200)] == [32, 32, 16]
    assert [len(span) for span in spans(sizes, NUMBERS_PER_SPAN // 8)] == [8] * 10
    assert [len(span) for span in spans(sizes, 10**6)] == [1] * 80
    assert [draw for span in spans(sizes, 200) for draw in span] == list(range(80))
