"""The measurements of the gate: a whole cell for a baseline, a few blocks or a truncated run for a check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bench.gate import pairs
from bench.measurement import reference
from bench.measurement.engine import FINGERPRINT_DRAWS, Engine
from bench.measurement.lines import head, safely
from bench.measurement.moments import fingerprint_of, moments_record
from bench.measurement.threads import single_thread
from bench.planning.cells import Cell
from bench.planning.settings import Settings
from bench.records.lines import LineKind, Record
from bench.stats.gate import baseline_replicates, is_heavy

Told = Callable[[int, int], None]


def measured(
    cell: Cell, settings: Settings, told: Told, truncate_at: float | None = None, *, heavy: bool = False
) -> Record:
    """Return the moments record of a cell, with the variance also truncated where a value for that is given.

    Args:
        cell: what to measure.
        settings: how.
        told: is told replicates done and in all.
        truncate_at: where squared norms, or of a heavy tail the distances of pairs, are cut off.
        heavy: has the baseline a heavy tail?
    """

    def work() -> Record:
        stand_in = reference.in_process(cell.objective, reference.settings_of(settings))
        engine = Engine(cell, settings, truncate_at=None if heavy else truncate_at)
        line = moments_record(engine, told, reference=stand_in)
        return _of_pairs(line, cell, settings, truncate_at) if heavy else line

    with single_thread():
        return safely(work, head(cell, settings, LineKind.MOMENTS))


def _of_pairs(line: Record, cell: Cell, settings: Settings, cut: float | None) -> Record:
    """Return a record with the truncated variance of its pairs, for which its gradients are drawn again."""
    found = pairs.truncated(pairs.distances(Engine(cell, settings)), cut)
    return {**line, "summary": {**line["summary"], **found}}


def accept(cell: Cell, settings: Settings, told: Told, *, adaptive: bool) -> Record:
    """Return the record of a cell for a baseline.

    Args:
        cell: what to measure.
        settings: how; their replicates are the first run's.
        told: is told replicates done and in all.
        adaptive: give the noisier cells the replicates that they need, 4e5 where cv² > 10.
    """
    line = measured(cell, settings, told)
    if line["outcome"] != "measured":
        return line
    summary = line["summary"]
    wanted = max(settings.replicates, baseline_replicates(summary["cv2"]) if adaptive else 0)
    cut = summary["cut"] or None
    if wanted > settings.replicates or (cut is not None and not summary["truncated_at"]):
        settings = replace(settings, replicates=wanted)
        line = measured(cell, settings, told, cut)
    if is_heavy(line["summary"]["khat"]):
        with single_thread():
            line = _of_pairs(line, cell, settings, None)
    return line


def first_draws(cell: Cell, settings: Settings) -> tuple[str, bool]:
    """Return the fingerprint of a cell's first draws, and whether these are all the draws that a run would have."""
    with single_thread():
        engine = Engine(cell, settings)
        return fingerprint_of(engine), len(engine.sizes) <= FINGERPRINT_DRAWS
