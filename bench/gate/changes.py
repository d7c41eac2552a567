"""The changes between two baselines, and a baseline as a table."""

import math
from collections.abc import Sequence

from bench.gate.baseline import Baseline, Entry
from bench.planning.settings import SMALLEST_DRAW
from bench.stats.gate import ALPHA_VARIANCE, SCREENING, STAGE_TWO_FACTOR, default_margin, smallest_change

NOTE = (
    "A check with its defaults finds these sizes with probability 0.9: relative growth of the variance, and bias in "
    "the direction of the exact gradient, relative to it."
)
"""Note below a table of faults: what the sizes in it mean."""
NOTE_GIVEN = NOTE.replace("A check with its defaults", "A check of as many new gradients")
AGREEMENT = 1e-6
"""Largest relative difference at which two statistics of the same samples count as equal."""


def same_statistics(entry: Entry, other: Entry) -> bool:
    """Return whether the statistics of two measurements agree, up to a relative difference of 1e-6.

    Both measurements, ``entry`` and ``other``, are baseline entries of one cell (an estimator on an objective), made
    from equal samples. The numbers of replicates must be equal. Compared are the variance, the norm of the bias, and
    two statistics of the squared norms of centred gradients: variance/mean² and the kurtosis.
    """
    pairs = [(getattr(entry, n), getattr(other, n)) for n in ("variance", "cv2", "kurtosis", "bias_norm")]
    return entry.replicates == other.replicates and all(_close(a, b) for a, b in pairs)


def _close(a: float | None, b: float | None) -> bool:
    return a is b is None or (a is not None and b is not None and math.isclose(a, b, rel_tol=AGREEMENT, abs_tol=1e-30))


def changes(old: Baseline | None, new: Baseline) -> list[str]:
    """Return the changes between two baselines: a line of text per cell that is new, gone or changed.

    A line is like ``changed rloo:n=4 on gaussian-quadratic: variance 2.31 to 2.64 (times 1.14)``. A baseline is a file
    of accepted statistics, a cell an estimator on an objective. If ``old`` is None, all cells are new.
    """
    before = {entry.cell: entry for entry in old.cells} if old else {}
    after = {entry.cell: entry for entry in new.cells}
    lines = [f"new      {entry.label}" for cell, entry in after.items() if cell not in before]
    lines += [f"gone     {entry.label}" for cell, entry in before.items() if cell not in after]
    for cell, entry in after.items():
        if cell in before and before[cell] != entry:
            lines.append(f"changed  {entry.label}: {_difference(before[cell], entry)}")
    return lines


def _difference(old: Entry, new: Entry) -> str:
    said = []
    if old.variance != new.variance:
        comparable = old.variance and not (old.is_heavy or new.is_heavy)
        ratio = f" (times {new.variance / old.variance:.3g})" if comparable else ""
        said.append(f"variance {old.said} to {new.said}{ratio}")
    for name in ("replicates", "status", "unbiased", "deterministic", "f_evals", "grad_evals"):
        if getattr(old, name) != getattr(new, name):
            said.append(f"{name} {getattr(old, name)} to {getattr(new, name)}")
    if old.fingerprint != new.fingerprint:
        said.append("other samples")
    return ", ".join(said) or "only in the last digits, or in its speed"


def count(cells: int | Sequence[Entry]) -> str:
    """Return a number of cells, or of baseline entries, as text: ``1 cell`` or ``12 cells``.

    A cell is an estimator on an objective.
    """
    number = cells if isinstance(cells, int) else len(cells)
    return f"{number} cell{'' if number == 1 else 's'}"


def table(found: Baseline) -> str:
    """Return a baseline as text for a terminal: how it was measured, and one line per cell.

    A baseline is a file of accepted statistics, a cell an estimator on an objective.
    """
    s = found.setting
    how = f"{count(found.cells)}, {s.replicates} replicates, seed {s.seed}, {s.dtype} on {s.device}"
    made_with = f"made with {', '.join(f'{key} {value}' for key, value in found.environment.items() if value)}"
    rows = [("estimator", "objective", "variance", "cv²", "R", "status", "guarded against")]
    for e in found.cells:
        guards = ", ".join(_guards(e, found)) or "nothing"
        rows.append((e.estimator, e.objective, e.said, f"{e.cv2:.3g}", str(e.replicates), e.status, guards))
    return "\n".join([how, made_with, "", *_columns(rows), "", NOTE_GIVEN if found.given else NOTE])


def _guards(entry: Entry, baseline: Baseline) -> list[str]:
    """Return the faults that a check of a cell can find, with the smallest sizes if they are known."""
    first, cells = max(SMALLEST_DRAW, baseline.setting.replicates // SCREENING), len(baseline.cells)
    second = STAGE_TWO_FACTOR * first
    if baseline.given:  # one stage, with as many gradients
        first = second = entry.replicates
    growth = smallest_change(
        entry.gate,
        screening=first,
        confirming=second,
        margin=default_margin(entry.cv2),
        cells=cells,
        alpha=ALPHA_VARIANCE,
    )
    found = [] if entry.variance else ["randomness"]
    if growth is not None:
        found.append(f"growth{' of the truncated variance' if entry.is_heavy else ''}{_from(growth)}")
    if entry.unbiased and entry.sees_bias:
        found.append(f"bias{_from(entry.smallest_bias(screening=first, confirming=second, cells=cells))}")
    return found + ["more evaluations"] * (entry.evaluations is not None) + ["speed"] * bool(entry.speed)


def _from(least: float | None) -> str:
    return f" from {least:.1%}" if least else ""


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]
