"""How many replicates a cell needs: a pilot looks at its precision as it grows, says how many, and is thrown away.

A run that stops when its own interval is narrow has often not met its tail yet, and reports too small a variance. So
the pilot has noise of its own, and what is published comes from a fresh run of the size that the pilot asked for
(Stein 1945, Annals of Mathematical Statistics 16:243). It looks at the variance alone, never at the bias.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from bench.measurement.adaptation import learn
from bench.measurement.draws import ladder, up_to
from bench.measurement.engine import Engine
from bench.measurement.lines import Lost, common
from bench.measurement.reduction.blocks import block_partial
from bench.planning.cells import Cell
from bench.planning.settings import Settings
from bench.records.identity import digest
from bench.records.lines import Record
from bench.stats import (
    Accumulator,
    PrecisionTarget,
    Summary,
    half_width,
    is_precise,
    look_schedule,
    planned_replicates,
    summarise,
)

KIND = "pilot"
"""Kind of the record, and the stage that its noise is seeded by: that of no other measurement."""
Look = Callable[[str, float, float, int], None]
"""Is told a cell's label, the half-width reached and the one wanted, and the replicates, at every look."""


def identity(cell: Cell, settings: Settings, target: PrecisionTarget) -> Record:
    """Return the keys of a pilot's line that are known before it is made; its run has the target in its identity."""
    line = common(cell, replace(settings, replicates=target.max_replicates), KIND)
    return {**line, "run": digest([line["run"], target.half_width]), "precision": target.half_width}


def pilot_record(
    cell: Cell, settings: Settings, target: PrecisionTarget, told: Callable[[int, int], None], look: Look
) -> Record:
    """Make a pilot and return its line, with the replicates that it asks for, at most ``target.max_replicates``.

    Args:
        cell: what to measure.
        settings: how; their replicates count for nothing.
        target: what is wanted.
        told: called with replicates done and those of the next look after every block.
        look: called at every look.

    Raises:
        Lost: gradients were not finite.
    """
    begin = time.perf_counter()
    line = identity(cell, settings, target)
    if cell.estimator.deterministic:
        done = planned = line["replicates"]
        looks: list[list[float]] = []
    else:
        most = target.max_replicates
        found = list(_looks(Engine(cell, replace(settings, replicates=most)), target, told, look))
        done, last = found[-1]
        looks = [[done, half_width(summary)] for done, summary in found]
        wanted = planned_replicates(last, target.half_width) if is_precise(last, target.half_width) else most
        planned = min(wanted, most)
    return {
        **line,
        "pilot_replicates": done,
        "planned_replicates": planned,
        "looks": looks,
        "wall_seconds": time.perf_counter() - begin,
    }


def _looks(
    engine: Engine, target: PrecisionTarget, told: Callable[[int, int], None], look: Look
) -> Iterator[tuple[int, Summary]]:
    """Yield replicates and what is known at every look, until the target is reached or the replicates are spent."""
    learn(engine)
    most = target.max_replicates
    sizes = up_to(most, ladder(engine.cell.objective, engine.settings.device))  # small ones first: it may end soon
    centre = engine.batch(sizes[0], engine.generator(KIND, 0)).double().mean(0)
    done, coming = 0, look_schedule(most)
    sums = Accumulator(engine.groups, replicates=sum(sizes), centre=centre.cpu().numpy(), exact=None)
    for index, rows in enumerate(sizes):
        done += rows
        sums.add(
            block_partial(
                engine.batch(rows, engine.generator(KIND, index)),
                index=index,
                groups=engine.groups,
                centre=centre,
                exact=None,
                replicates=max(coming[0], done),  # a block hands over as many of its largest values as the look needs
                workspace=engine.workspace,
            )
        )
        told(done, max(coming[0], done))
        if done < coming[0]:
            continue
        if sums.nonfinite:
            raise Lost(
                f"{sums.nonfinite} of {done} gradients of the pilot were not finite (NaN, infinite, or too large to "
                "square). Look for log(0), overflow or an f that returns NaN."
            )
        summary = summarise(sums.sums(), exact=None, dtype=engine.settings.dtype)
        look(engine.cell.label, half_width(summary), target.half_width, done)
        yield done, summary
        coming = [n for n in coming if n > done]
        if is_precise(summary, target.half_width) or not coming:
            return


def judged(line: Record, pilot: Record) -> Record:
    """Return a moments line with what it was to reach, what its pilot took, and whether it is reached."""
    asked = {"precision": pilot["precision"], "pilot_replicates": pilot["pilot_replicates"]}
    if line["outcome"] != "measured":
        return {**line, **asked, "precision_reached": None}
    summary = Summary.from_json(line["summary"])
    reached = line["deterministic"] or half_width(summary) <= pilot["precision"]
    return {**line, **asked, "precision_reached": bool(reached)}
