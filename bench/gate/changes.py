"""The changes between two baselines, and a baseline as a table."""

import math
from collections.abc import Sequence

from bench.gate.baseline import Baseline, Entry

AGREEMENT = 1e-6
"""Largest relative difference at which two statistics of the same samples count as equal."""


def same_statistics(entry: Entry, other: Entry) -> bool:
    """Tell whether two measurements of the same samples agree in their statistics, except for the last digits."""
    pairs = [(getattr(entry, n), getattr(other, n)) for n in ("variance", "cv2", "kurtosis", "bias_norm")]
    return entry.replicates == other.replicates and all(_close(a, b) for a, b in pairs)


def _close(a: float | None, b: float | None) -> bool:
    return a is b is None or (a is not None and b is not None and math.isclose(a, b, rel_tol=AGREEMENT, abs_tol=1e-30))


def changes(old: Baseline | None, new: Baseline) -> list[str]:
    """Return the changes between two baselines: one line of text per cell that is new, gone or changed."""
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
    for name in ("replicates", "status", "unbiased", "deterministic"):
        if getattr(old, name) != getattr(new, name):
            said.append(f"{name} {getattr(old, name)} to {getattr(new, name)}")
    if old.fingerprint != new.fingerprint:
        said.append("other samples")
    return ", ".join(said) or "only in the last digits, or in its speed"


def count(cells: int | Sequence[Entry]) -> str:
    """Return the number of cells as text, such as ``1 cell`` or ``12 cells``."""
    number = cells if isinstance(cells, int) else len(cells)
    return f"{number} cell{'' if number == 1 else 's'}"


def table(found: Baseline) -> str:
    """Return a baseline as text for a terminal: how it was measured, and one line per cell."""
    s = found.setting
    how = f"{count(found.cells)}, {s.replicates} replicates, seed {s.seed}, {s.dtype} on {s.device}"
    made_with = f"made with {', '.join(f'{key} {value}' for key, value in found.environment.items() if value)}"
    rows = [("estimator", "objective", "variance", "R", "status", "guarded against")]
    for e in found.cells:
        rows.append((e.estimator, e.objective, e.said, str(e.replicates), e.status, ", ".join(_guards(e)) or "nothing"))
    return "\n".join([how, made_with, "", *_columns(rows)])


def _guards(entry: Entry) -> list[str]:
    """Return the faults that a check of a cell can find."""
    growth = "growth" if not entry.is_heavy else "growth of the truncated variance" if entry.truncated_mean else ""
    found = [growth if entry.variance else "randomness"]
    found += ["bias"] * (entry.unbiased and entry.sees_bias) + ["speed"] * bool(entry.speed)
    return [word for word in found if word]


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]
