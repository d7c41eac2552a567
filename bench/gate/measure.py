"""The measurements of the gate: a whole cell for a baseline, a few blocks or a run truncated at c0 for a check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bench import reference
from bench.baseline import Setting
from bench.cells import fingerprint, moments_record, safely, single_thread
from bench.engine import FINGERPRINT_BLOCKS, Engine, Settings
from bench.plan import Cell
from bench.record import Record
from bench.selectors import UsageError
from bench.stats.gate import baseline_replicates

Told = Callable[[int, int], None]


def settings_of(setting: Setting, device: str | None = None) -> Settings:
    """Return how the cells of a baseline are measured.

    Raises:
        UsageError: that cannot be done here, such as on a CUDA device where there is none.
    """
    try:
        return Settings(setting.replicates, setting.seed, setting.dtype, device or setting.device, setting.common_noise)
    except ValueError as error:
        raise UsageError(str(error)) from None


def measured(cell: Cell, settings: Settings, told: Told, truncate_at: float | None = None) -> Record:
    """Return the moments record of a cell, with the squared norms also truncated at a value where one is given."""

    def work() -> Record:
        stand_in = reference.here(cell.objective, reference.settings_of(settings))
        return moments_record(Engine(cell, settings, truncate_at=truncate_at), told, reference=stand_in)

    with single_thread():
        return safely(work, cell, settings)


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
    wanted = settings.replicates
    if adaptive:
        wanted = max(wanted, baseline_replicates(summary["cv2"]))
    cut = summary["cut"] or None
    if wanted == settings.replicates and (summary["truncated_at"] or cut is None):
        return line
    return measured(cell, replace(settings, replicates=wanted), told, cut)


def first_blocks(cell: Cell, settings: Settings) -> tuple[str, bool]:
    """Return the fingerprint of a cell's first blocks, and whether these are all the blocks that a run would have."""
    with single_thread():
        engine = Engine(cell, settings)
        return fingerprint(engine), len(engine.sizes) <= FINGERPRINT_BLOCKS
