"""The pilot record: the number of replicates that a cell needs for the wanted precision.

A run that stops as soon as its own interval is narrow has often not sampled its tail yet, and reports too small a
variance. Therefore the pilot has noise of its own, and its statistics are discarded. The published results come from a
fresh run of the size that the pilot found (Stein 1945, Annals of Mathematical Statistics 16:243). The pilot looks at
the variance only, never at the bias.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from bench.measurement.adaptation import adapt_state
from bench.measurement.draws import ladder, take_until
from bench.measurement.engine import Engine
from bench.measurement.lines import head, run_of
from bench.measurement.summaries import OnProgress, ignore, summarise_draws
from bench.planning.cells import Cell
from bench.planning.settings import Settings
from bench.records.identity import digest
from bench.records.lines import LineKind, Outcome, Record
from bench.stats import PrecisionTarget, Summary, half_width, is_precise, look_schedule, planned_replicates

Look = Callable[[str, float, float, int], None]
"""Called whenever a pilot checks its precision, with the cell's label, half-widths reached and wanted, replicates."""


def pilot_head(cell: Cell, settings: Settings, target: PrecisionTarget) -> Record:
    """Return the start of a pilot record: the keys that are known before the pilot runs.

    The pilot is the run that finds how many replicates a cell (an estimator on an objective) needs for the precision in
    ``target``. ``settings`` say how the cell is measured. The run id depends on the precision.
    """
    line = head(cell, replace(settings, replicates=target.max_replicates), LineKind.PILOT)
    return {**line, "run": digest([line["run"], target.half_width]), "precision": target.half_width}


def run_pilot(
    cell: Cell, settings: Settings, target: PrecisionTarget, progress: OnProgress = ignore, look: Look = lambda *_: None
) -> Record:
    """Run a pilot and return its record, with the number of replicates that the cell needs.

    The pilot is a run that only serves to plan the measurement of a cell, an estimator on an objective. The number in
    its record is at most ``target.max_replicates``.

    Args:
        cell: the estimator and the objective.
        settings: how the cell is measured. The number of replicates in the settings is not used.
        target: the precision wanted for the variance, and the most replicates.
        progress: called with the number of replicates done, and the number at the next check of the precision.
        look: called at every check of the precision, with the cell's label, the half-width reached, the half-width
            wanted, and the number of replicates so far.

    Raises:
        Lost: gradients were not finite.
    """
    begin, line, most = time.perf_counter(), pilot_head(cell, settings, target), target.max_replicates
    done = planned = line["replicates"]
    looks: list[list[float]] = []
    if not cell.estimator.deterministic:
        seen = list(_looks(Engine(cell, replace(settings, replicates=most)), target, progress, look))
        done, last = seen[-1]
        looks = [[replicates, half_width(summary)] for replicates, summary in seen]
        enough = is_precise(last, target.half_width)
        planned = min(most, planned_replicates(last, target.half_width)) if enough else most
    found = {"pilot_replicates": done, "planned_replicates": planned, "looks": looks}
    found["leads_to"] = run_of(cell, replace(settings, replicates=planned))
    return {**line, **found, "wall_seconds": time.perf_counter() - begin}


def _looks(engine: Engine, target: PrecisionTarget, progress: OnProgress, look: Look) -> Iterator[tuple[int, Summary]]:
    """Yield the replicates and the summary at every look, until the target is reached or the replicates are spent."""
    adapt_state(engine)
    # The ladder of short runs, however high the limit: it begins with small draws, and the pilot may end soon.
    sizes = take_until(target.max_replicates, ladder(engine.cell.objective, engine.settings.device))
    looks = look_schedule(target.max_replicates)
    for sums, summary in summarise_draws(engine, LineKind.PILOT, sizes, looks, progress):
        look(engine.cell.label, half_width(summary), target.half_width, sums.replicates)
        yield sums.replicates, summary
        if is_precise(summary, target.half_width):
            return


def with_precision(line: Record, pilot: Record) -> Record:
    """Return a copy of a moments record, ``line``, with three more keys, from the cell's pilot record.

    The pilot is the run that found how many replicates the cell (an estimator on an objective) needs. The keys are the
    wanted precision, the pilot's number of replicates, and whether the measurement reached the precision.
    """
    wanted = {"precision": pilot["precision"], "pilot_replicates": pilot["pilot_replicates"]}
    if line["outcome"] != Outcome.MEASURED:
        return {**line, **wanted, "precision_reached": None}
    reached = line["deterministic"] or half_width(Summary.from_json(line["summary"])) <= pilot["precision"]
    return {**line, **wanted, "precision_reached": bool(reached)}
