"""The speed gate: it tells whether the cost of a cell has grown since the baseline.

The cost is t(estimator)/t(sample + f): the time of the estimator divided by the time of one sample and one evaluation
of f, timed in turn in one fresh process. Times vary more between processes than within one, so whole processes are
repeated (Kalibera & Jones 2013): nine for a baseline, one for a check, three to confirm.
"""

import math
import multiprocessing
import pickle
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from statistics import stdev

import torch

from bench.gate.baseline import Entry
from bench.gate.select import Picked
from bench.measurement.lines import head, safely
from bench.measurement.timing import measure_timing
from bench.planning.loading import load
from bench.planning.selectors import Selector
from bench.planning.settings import Settings
from bench.records.lines import LineKind, Outcome

BASELINE_PROCESSES, CONFIRM_PROCESSES = 9, 3
MARGIN = 0.25
"""Relative growth of a cell's cost that passes."""
NOISIEST = 0.08
"""Speed is not gateable if log(cost) has a larger standard deviation than this between the baseline's processes."""


def log_costs(picked: Sequence[Picked], settings: Settings) -> dict[str, float]:
    """Time cells in one fresh process, and return log(cost) by cell id. Cells that fail are left out.

    A cell is an estimator on an objective. The cost is the time of the estimator, divided by the time of one sample and
    one evaluation of f.

    If the process dies, the result is empty.
    """
    cells = pickle.dumps([p.cell for p in picked])
    halves = [(p.estimator, p.objective) for p in picked]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(_timed, cells, halves, settings).result()
        except BrokenProcessPool:
            return {}


def _timed(cells: bytes, halves: list[tuple[Selector, Selector]], settings: Settings) -> dict[str, float]:
    torch.set_num_threads(1)
    for estimator, objective in halves:  # a user's module has to be loaded before its instances
        load(estimator, "estimator")
        load(objective, "objective")
    found = {}
    for cell in pickle.loads(cells):
        line = safely(partial(measure_timing, cell, settings), head(cell, settings, LineKind.TIMING))
        if line["outcome"] == Outcome.MEASURED:
            found[cell.id] = math.log(line["cost"])
    return found


def baseline_costs(picked: Sequence[Picked], settings: Settings) -> dict[str, list[float]]:
    """Time cells in nine fresh processes, and return nine values of log(cost) for each cell, by cell id.

    A cell is an estimator on an objective. The cost is the time of the estimator, divided by the time of one sample and
    one evaluation of f. Cells that fail are left out.
    """
    runs = [log_costs(picked, settings) for _ in range(BASELINE_PROCESSES)]
    return {p.cell.id: [run[p.cell.id] for run in runs] for p in picked if all(p.cell.id in run for run in runs)}


def judge(cells: Sequence[tuple[Entry, Picked]], settings: Settings) -> dict[str, tuple[str, str]]:
    """Time cells, and return by cell id whether the cell is slower than in the baseline, and the reason.

    The values are pairs of texts; the first is ``unchanged``, ``slower`` or ``not gateable``. A cell is an estimator on
    an objective, and the baseline is the file of accepted statistics. The cost of a cell is the time of the estimator,
    divided by the time of one sample and one evaluation of f. A cell is slower if its cost is more than 25 % above the
    baseline's median cost in each of four fresh processes.
    """
    found = {entry.cell: ("not gateable", obstacle(entry)) for entry, _ in cells if obstacle(entry)}
    suspects = [(entry, picked) for entry, picked in cells if entry.cell not in found]
    growth: dict[str, list[float]] = {entry.cell: [] for entry, _ in suspects}
    for _ in range(1 + CONFIRM_PROCESSES):
        costs = log_costs([picked for _, picked in suspects], settings) if suspects else {}
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
    """Return the reason why a cell's speed cannot be compared with the baseline's; empty if the speed can be compared.

    The baseline is the file of accepted statistics, and ``entry`` is the cell's entry in it. There are two reasons: the
    entry has no times, or its times differ too much between processes.
    """
    if entry.speed is None or len(entry.speed) < 2:
        return "the baseline has no speed for this cell; save it with --speed"
    spread = stdev(entry.speed)
    return f"the baseline's cost varies by {spread:.0%} between processes" if spread > NOISIEST else ""
