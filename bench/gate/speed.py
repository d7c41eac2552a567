"""The speed gate: it tells whether the cost unit has grown, in fresh processes.

The cost unit of a cell is t(estimator)/t(sample + f), timed interleaved in one process. Processes differ more than
blocks do, so processes are repeated (Kalibera & Jones 2013): nine for a baseline, one for a check, three to confirm.
"""

import math
import multiprocessing
import pickle
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
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
"""Growth of the cost unit that passes."""
NOISIEST = 0.08
"""Standard deviation of the logarithm of the cost unit between processes; noisier cells are not guarded."""


def log_costs(picked: Sequence[Picked], settings: Settings) -> dict[str, float]:
    """Return the logarithm of each cost unit by cell id, timed in one fresh process; failed cells are left out."""
    cells = pickle.dumps([p.cell for p in picked])
    halves = [(p.estimator, p.objective) for p in picked]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_timed, cells, halves, settings).result()


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
    """Return the logarithms of each cost unit by cell id, one per process."""
    runs = [log_costs(picked, settings) for _ in range(BASELINE_PROCESSES)]
    return {p.cell.id: [run[p.cell.id] for run in runs] for p in picked if all(p.cell.id in run for run in runs)}


def judge(cells: Sequence[tuple[Entry, Picked]], settings: Settings) -> dict[str, tuple[str, str]]:
    """Return ``unchanged``, ``slower`` or ``not gateable`` for each cell id, and the reason.

    A cell is slower if its cost has grown by more than the margin in a first process and in three more that confirm it.
    """
    found = {entry.cell: ("not gateable", _obstacle(entry)) for entry, _ in cells if _obstacle(entry)}
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


def _obstacle(entry: Entry) -> str:
    if entry.speed is None or len(entry.speed) < 2:
        return "the baseline has no speed; save it with --speed"
    spread = stdev(entry.speed)
    return f"the baseline's cost varies by {spread:.0%} between processes" if spread > NOISIEST else ""
