"""The straight line: a spec is planned into cells, each cell is measured, each measurement is a line in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from bench import store
from bench.engine import Engine, Settings
from bench.cells import common, moments_record, safely, skipped_record, timing_record
from bench.plan import Cell, plan
from bench.record import Record
from bench.spec import FILE, Spec


class Progress(Protocol):
    """Who is told how far a run is."""

    def start(self, total: int, done: int) -> None:
        """``total`` pieces of work lie ahead, of which ``done`` are on record already."""

    def cell(self, label: str, position: int) -> None:
        """A piece begins: its name, and its number from 1."""

    def block(self, done: int, total: int) -> None:
        """Replicates of the current cell: done, and in all."""

    def finish(self, record: Record) -> None:
        """A piece has ended and its record is on disk."""

    def end(self) -> None:
        """The run is over, or was interrupted."""


def settings_of(spec: Spec) -> Settings:
    """Return how a spec measures; its device must be decided."""
    return Settings(
        replicates=spec.replicates,
        seed=spec.seed,
        dtype=spec.dtype,
        device=spec.device,
        common_noise=spec.common_noise,
        timing=spec.timing,
    )


def run(spec: Spec, folder: Path, progress: Progress) -> list[Record]:
    """Measure what a study folder lacks, and return the records of the spec's runs.

    Each record is on disk when its cell ends: an interrupted run loses only the cell it was in. Cells that failed are
    measured again. Timing comes last and alone.

    Args:
        spec: what to measure; "auto" device must be decided (``Spec.on_device``).
        folder: the study folder, made if there is none.
        progress: is told how far the run is.

    Raises:
        UsageError: an estimator or an objective cannot be made.
        Damaged: the folder's records cannot be read.
        OSError, Busy: the folder cannot be written.
    """
    estimators, objectives = spec.instances()
    cells, skips = plan(estimators, objectives)
    settings = settings_of(spec)
    with store.Store(folder) as writer:
        (folder / FILE).write_text(spec.to_toml(folder), encoding="utf-8")
        outcomes = {(r["run"], r["kind"]): r["outcome"] for r in store.read(folder)}

        def missing(cell: Cell, kind: str) -> bool:
            return outcomes.get((_run_id(cell, settings), kind), "failed") == "failed"

        def keep(line: Record) -> None:
            writer.append(line)
            outcomes[line["run"], line["kind"]] = line["outcome"]

        for skip in skips:
            if missing(skip.cell, "moments"):
                keep(skipped_record(skip.cell, settings, skip.reason))
        work = [(kind, cell) for kind in _kinds(settings) for cell in cells]
        todo = [(kind, cell) for kind, cell in work if missing(cell, kind)]
        progress.start(len(work), len(work) - len(todo))
        try:
            for position, (kind, cell) in enumerate(todo, len(work) - len(todo) + 1):
                progress.cell(cell.label if kind == "moments" else f"timing {cell.label}", position)
                if kind == "timing" and outcomes[_run_id(cell, settings), "moments"] != "measured":
                    continue  # what could not be measured is not timed
                line = _measured(cell, settings, kind, progress)
                keep(line)
                progress.finish(line)
        finally:
            progress.end()
    wanted = {_run_id(cell, settings) for cell in [*cells, *(skip.cell for skip in skips)]}
    return [r for r in store.read(folder) if r["run"] in wanted]


def _kinds(settings: Settings) -> list[str]:
    return ["moments", "timing"] if settings.timing else ["moments"]


def _run_id(cell: Cell, settings: Settings) -> str:
    return str(common(cell, settings, "moments")["run"])


def _measured(cell: Cell, settings: Settings, kind: str, progress: Progress) -> Record:
    if kind == "timing":
        return safely(lambda: timing_record(cell, settings), cell, settings, "timing")
    return safely(
        lambda: moments_record(cell, settings, Engine(cell, settings), progress.block),
        cell,
        settings,
    )
