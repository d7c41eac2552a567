"""Which numeric fields of estimators and objectives a study sweeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def swept(table: pd.DataFrame) -> list[str]:
    """Return the numeric parameters that a study sweeps: ``estimator.temperature``, ``objective.dim``.

    A parameter is swept if one estimator or one objective was measured with several values of it. ``table`` is the
    frame that ``bench.report.prepared.prepared`` returns.
    """
    found = []
    for kind in ("estimator", "objective"):
        values: dict[str, dict[str, set[float]]] = {}
        for name, held in zip(table[f"{kind}_name"], table[f"{kind}_params"], strict=True):
            for key, value in (held or {}).items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    values.setdefault(key, {}).setdefault(name, set()).add(float(value))
        chosen = [key for key, by in values.items() if any(len(each) > 1 for each in by.values())]
        found += [f"{kind}.{key}" for key in chosen if key not in ("n", "dim", "seed")]
    return found


def parameter(row: Any, name: str) -> float | None:
    """Return the number that a measurement has in a field; None if it has no number there.

    The field is ``name``, such as ``estimator.temperature``. ``row`` is a row of the frame of
    ``bench.report.frame.frame``.
    """
    kind, _, key = name.partition(".")
    value = (getattr(row, f"{kind}_params") or {}).get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
