"""The speed gate: it tells whether the cost of a cell has grown since the baseline.

The cost is t(estimator)/t(sample + f): the time of the estimator divided by the time of one sample and one evaluation
of f, timed in turn in one fresh process. Times vary more between processes than within one, so whole processes are
repeated (Kalibera & Jones 2013): nine for a baseline, one for a check, three to confirm.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import stdev
from typing import Any

from bench.execution.progress import Progress, Silent
from bench.execution.serving import Job
from bench.execution.worker import PATIENCE, Worker
from bench.gate.baseline import Entry
from bench.gate.select import Picked
from bench.measurement.lines import head, safely
from bench.measurement.timing import measure_timing
from bench.planning.catalogue import Kind
from bench.planning.cells import Cell
from bench.planning.selectors import Selector
from bench.planning.settings import Settings
from bench.records.lines import LineKind, Lost, Outcome

BASELINE_PROCESSES, CONFIRM_PROCESSES = 9, 3
MARGIN = 0.25
"""Relative growth of a cell's cost that passes."""
NOISIEST = 0.08
"""Speed is not gateable if log(cost) has a larger standard deviation than this between the baseline's processes."""


@dataclass(frozen=True)
class _Timings:
    """The timing of some cells, as work for a worker process."""

    cells: list[Cell]
    settings: Settings

    def record(self, progress: Progress | None = None, _pool: Any = None) -> dict[str, float]:
        """Return log(cost) by cell id. Cells that fail are left out. ``progress`` receives the label of each cell."""
        found = {}
        for cell in self.cells:
            (progress or Silent()).cell(cell.label)
            timing = head(cell, self.settings, LineKind.TIMING)
            line = safely(partial(measure_timing, cell, self.settings), timing)
            if line["outcome"] == Outcome.MEASURED:
                found[cell.id] = math.log(line["cost"])
        return found


def log_costs(picked: Sequence[Picked], settings: Settings, cell_timeout: float | None = None) -> dict[str, float]:
    """Time cells in one fresh process, and return log(cost) by cell id. Cells that fail are left out.

    A cell is an estimator on an objective. The cost is the time of the estimator, divided by the time of one sample and
    one evaluation of f. The result is empty if the process dies, or is ended.

    Args:
        picked: the cells.
        settings: how the cells are measured.
        cell_timeout: seconds without progress after which the process is ended; None for half an hour.
    """
    preload: list[tuple[Selector, Kind]] = [(p.estimator, "estimator") for p in picked]
    preload += [(p.objective, "objective") for p in picked]
    worker = Worker(preload, PATIENCE if cell_timeout is None else cell_timeout, fresh=True)
    try:
        worker.ask(Job(_Timings([p.cell for p in picked], settings)))
        return worker.answer()  # type: ignore[no-any-return]
    except Lost:
        return {}
    finally:
        worker.stop()


def baseline_costs(
    picked: Sequence[Picked], settings: Settings, cell_timeout: float | None = None
) -> dict[str, list[float]]:
    """Time cells in nine fresh processes, and return nine values of log(cost) for each cell, by cell id.

    A cell is an estimator on an objective. The cost is the time of the estimator, divided by the time of one sample and
    one evaluation of f. Cells that fail are left out.

    Args:
        picked: the cells.
        settings: how the cells are measured.
        cell_timeout: seconds without progress after which a process is ended; None for half an hour.
    """
    runs = [log_costs(picked, settings, cell_timeout) for _ in range(BASELINE_PROCESSES)]
    return {p.cell.id: [run[p.cell.id] for run in runs] for p in picked if all(p.cell.id in run for run in runs)}


def judge(
    cells: Sequence[tuple[Entry, Picked]], settings: Settings, cell_timeout: float | None = None
) -> dict[str, tuple[str, str]]:
    """Time cells, and return for each, by cell id, a verdict on its speed and the reason.

    A cell is timed in up to four fresh processes. Its cost is the time of the estimator, divided by the time of one
    sample and one evaluation of f. The verdict is one of three texts:

    - ``slower``: in all four processes, the cost is more than 25 % above the median cost in the baseline.
    - ``not gateable``: the cell could not be timed, or the baseline has no times, or these differ too much.
    - ``unchanged``: neither of these.

    Args:
        cells: the cells (estimators on objectives), each with its entry in the baseline, the file of accepted
            statistics.
        settings: how the cells are measured.
        cell_timeout: seconds without progress after which a process is ended; None for half an hour.
    """
    found = {entry.cell: ("not gateable", obstacle(entry)) for entry, _ in cells if obstacle(entry)}
    suspects = [(entry, picked) for entry, picked in cells if entry.cell not in found]
    growth: dict[str, list[float]] = {entry.cell: [] for entry, _ in suspects}
    for _ in range(1 + CONFIRM_PROCESSES):
        costs = log_costs([picked for _, picked in suspects], settings, cell_timeout) if suspects else {}
        for entry, _ in suspects:
            if entry.cell not in costs:
                found[entry.cell] = "not gateable", "it could not be timed"
            elif entry.log_cost is not None:
                growth[entry.cell].append(costs[entry.cell] - entry.log_cost)
        suspects = [s for s in suspects if s[0].cell not in found and growth[s[0].cell][-1] > math.log1p(MARGIN)]
    slow = {entry.cell for entry, _ in suspects}
    for cell, values in growth.items():
        word = "slower" if cell in slow else "unchanged"
        times = f"{math.exp(min(values, default=0.0)):.3g}"
        found.setdefault(cell, (word, f"cost times {times} in {len(values)} processes, margin {MARGIN:.0%}"))
    return found


def obstacle(entry: Entry) -> str:
    """Return the reason why a cell's speed cannot be compared with the baseline; empty if it can be compared.

    The baseline is the file of accepted statistics, and ``entry`` is the cell's entry in it. There are two reasons: the
    entry has no times, or its times differ too much between processes.
    """
    if entry.speed is None or len(entry.speed) < 2:
        return "the baseline has no speed for this cell; save it with --speed"
    spread = stdev(entry.speed)
    return f"the baseline's cost varies by {spread:.0%} between processes" if spread > NOISIEST else ""
