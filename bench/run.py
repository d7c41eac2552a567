"""The straight line: a spec is planned into cells, each cell is measured, each measurement is a line in a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

from bench import reference, store
from bench.cells import common, safely, single_thread, skipped_record, timing_record
from bench.engine import Settings
from bench.execute import LARGE, Pool, Preload, cores, elements, measured
from bench.objectives import Objective
from bench.plan import Cell, plan
from bench.record import Record
from bench.selectors import label
from bench.spec import FILE, Spec
from bench.stats import Reference


class Progress(Protocol):
    """Who is told how far a run is."""

    def start(self, total: int, done: int) -> None:
        """Take in how many pieces of work there are, and how many of them are on record already."""

    def cell(self, label: str) -> None:
        """Take in what is measured now."""

    def block(self, done: int, total: int) -> None:
        """Take in how many replicates of the current cell are done, and how many there will be."""

    def finish(self, record: Record) -> None:
        """Take in a record that is on disk now."""

    def end(self) -> None:
        """Take in that the run is over, or was interrupted."""


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


def run(spec: Spec, folder: Path, progress: Progress, workers: int | None = 1) -> list[Record]:
    """Measure what a study folder lacks, and return the records of the spec's runs.

    Each record is on disk when its cell ends: an interrupted run loses only the cell it was in. Cells that failed, or
    whose code has changed, are measured again. Timing comes last and alone.

    Args:
        spec: what to measure; "auto" device must be decided (``Spec.on_device``).
        folder: the study folder, made if there is none.
        progress: is told how far the run is.
        workers: processes that measure, one thread each; None for as many as there are processors and work for. Their
            number changes no figure. Timing always runs alone.

    Raises:
        UsageError: an estimator or an objective cannot be made.
        Damaged: the folder's records cannot be read.
        OSError, Busy: the folder cannot be written.
    """
    estimators, objectives = spec.instances()
    cells, skips = plan(estimators, objectives)
    settings = settings_of(spec)
    with store.Store(folder) as writer:
        _keep_spec(spec, folder / FILE)
        lines = {(r["run"], r["kind"]): r for r in store.read(folder)}

        def missing(cell: Cell, kind: str, how: Settings = settings) -> bool:
            wanted = common(cell, how, kind)
            line = lines.get((wanted["run"], kind))
            return line is None or line["outcome"] == "failed" or line["code"] != wanted["code"]

        def keep(line: Record) -> None:
            writer.append(line)
            lines[line["run"], line["kind"]] = line

        for skip in skips:
            if missing(skip.cell, "moments"):
                keep(skipped_record(skip.cell, settings, skip.reason))
        measuring = [cell for cell in cells if missing(cell, "moments")]
        timing = [cell for cell in cells if settings.timing and missing(cell, "timing")]
        sharp = reference.settings_of(settings)
        standing = _references(measuring)
        lacking = [cell for cell in standing if missing(cell, reference.KIND, sharp)]
        total = len(cells) * (2 if settings.timing else 1) + len(lacking)
        progress.start(total, total - len(measuring) - len(timing) - len(lacking))
        try:
            with single_thread():
                for cell in lacking:
                    progress.cell(f"reference of {label(cell.objective)}")
                    work = partial(reference.reference_record, cell, sharp, progress.block)
                    line = safely(work, cell, sharp, reference.KIND)
                    keep(line)
                    progress.finish(line)
                references = {c.objective: reference.read(lines[_run_id(c, sharp), reference.KIND]) for c in standing}
                count = _workers(workers, measuring, settings)
                for line in _measure_all(measuring, settings, progress, count, spec, references):
                    keep(line)
                    progress.finish(line)
                for cell in timing:
                    if lines[_run_id(cell, settings), "moments"]["outcome"] == "measured":
                        progress.cell(f"timing {cell.label}")
                        line = safely(partial(timing_record, cell, settings), cell, settings, "timing")
                        keep(line)
                        progress.finish(line)
        finally:
            progress.end()
    wanted = {_run_id(cell, settings) for cell in [*cells, *(skip.cell for skip in skips)]}
    return [r for r in store.read(folder) if r["run"] in wanted]


def _keep_spec(spec: Spec, path: Path) -> None:
    """Write what the folder is a study of: this spec, and what it was a study of before."""
    whole = spec.extending(Spec.read(path)) if path.exists() else spec
    path.write_text(whole.to_toml(path.parent), encoding="utf-8")


def _run_id(cell: Cell, settings: Settings) -> str:
    return str(common(cell, settings, "moments")["run"])


def _workers(workers: int | None, cells: list[Cell], settings: Settings) -> int:
    """Return how many processes to use: starting them must be worth it, and one drives a GPU."""
    if settings.device != "cpu":
        return 1
    if workers is None:
        return cores() if sum(elements(cell, settings) for cell in cells) > LARGE else 1
    return workers


def _references(cells: list[Cell]) -> list[Cell]:
    """Return what stands in for the exact gradients that the cells' objectives do not have, each once."""
    found = (reference.cell_of(objective) for objective in dict.fromkeys(cell.objective for cell in cells))
    return [cell for cell in found if cell is not None]


def _measure_all(
    cells: list[Cell],
    settings: Settings,
    progress: Progress,
    workers: int,
    spec: Spec,
    references: Mapping[Objective, Reference | None],
) -> Iterator[Record]:
    """Yield the moments line of every cell: small cells a worker each, then large ones with their blocks spread."""
    if workers == 1:
        for cell in cells:
            progress.cell(cell.label)
            yield measured(cell, settings, progress.block, reference=references.get(cell.objective))
        return
    preload: Preload = [(s, "estimator") for s in spec.estimators] + [(s, "objective") for s in spec.objectives]
    large = [cell for cell in cells if elements(cell, settings) > LARGE]
    with Pool(workers, preload) as pool:
        progress.cell(f"{len(cells) - len(large)} cells on {workers} workers")
        yield from pool.cells([cell for cell in cells if cell not in large], settings, references)
        for cell in large:
            progress.cell(cell.label)
            yield measured(cell, settings, progress.block, pool, references.get(cell.objective))
