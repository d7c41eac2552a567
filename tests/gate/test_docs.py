"""Figures and words of the gate's documentation."""

from pathlib import Path

import pytest

from bench.gate.findings import Verdict
from bench.stats.gate import (
    ALPHA_BIAS,
    ALPHA_VARIANCE,
    STAGE_TWO_FACTOR,
    GateCell,
    baseline_replicates,
    default_margin,
    smallest_change,
)

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "gate.md").read_text(encoding="utf-8")


def rows(header):
    """Return the cells of the table whose first column has this title."""
    table = PAGE[PAGE.index(f"| {header} |") :].split("\n\n")[0].splitlines()[2:]
    return [[word.strip() for word in line.strip("|").split("|")] for line in table]


@pytest.mark.parametrize("row", rows("cv² of the squared norms"), ids=lambda row: f"cv² {row[0]}")
def test_the_smallest_changes_equal_the_codes(row):
    cv2 = float(row[0])
    found = []
    for replicates, first in ((10_000, 1_000), (baseline_replicates(cv2), 10_000)):
        base = GateCell(replicates=replicates, variance=1.0, cv2=cv2, kurtosis=3.0, rho=0.1, khat=0.0)
        seen = smallest_change(
            base,
            screening=first,
            confirming=STAGE_TWO_FACTOR * first,
            margin=default_margin(cv2),
            cells=200,
            alpha=ALPHA_VARIANCE,
        )
        found.append(f"{seen:.0%}".replace("%", " %"))
    assert row[1:] == [f"{default_margin(cv2):.0%}".replace("%", " %"), *found]


def test_every_verdict_is_explained():
    assert sorted(row[0] for row in rows("verdict")) == sorted(Verdict)


def test_the_levels_equal_the_codes():
    assert (ALPHA_VARIANCE, ALPHA_BIAS) == (5e-4, 4e-4)
    assert "5·10⁻⁴" in PAGE
    assert "4·10⁻⁴" in PAGE
    assert f"with {STAGE_TWO_FACTOR} R₁ replicates" in PAGE
