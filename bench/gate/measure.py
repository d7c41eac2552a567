"""The measurements of the gate: a cell for a baseline, a cell for a check, or only the first draws of a cell."""

from dataclasses import dataclass, replace
from pathlib import Path

from bench.gate import pairs
from bench.measurement import reference
from bench.measurement.adaptation import adapt_state
from bench.measurement.counting import count_evaluations
from bench.measurement.engine import Engine
from bench.measurement.lines import head, run_of, safely
from bench.measurement.moments import fingerprint_of, measure_moments
from bench.measurement.source import FINGERPRINT_DRAWS
from bench.measurement.summaries import OnProgress
from bench.measurement.threads import single_thread
from bench.planning.cells import Cell
from bench.planning.settings import Settings
from bench.planning.user_code import set_apart
from bench.records import unfinished
from bench.records.lines import LineKind, Outcome, Record
from bench.stats.gate import baseline_replicates, is_heavy

COUNTED_CALLS = 100
"""A changed number of evaluations counts only if this many calls agree on it, since it may depend on the noise."""


def measure_cell(
    cell: Cell,
    settings: Settings,
    progress: OnProgress,
    truncate_at: float | None = None,
    *,
    heavy: bool = False,
    keep: Path | None = None,
) -> Record:
    """Measure a cell (an estimator on an objective), and return its moments record.

    A truncated variance is the mean of min(w, cut). Here w is the squared norm of a centred gradient or, if ``heavy``
    is True, half the squared distance of two gradients.

    Args:
        cell: the estimator and the objective.
        settings: how the cell is measured.
        progress: called with the number of replicates done and the total.
        truncate_at: the cut. If it is None and ``heavy`` is True, the cut is the 99 % quantile of w. If it is None and
            ``heavy`` is False, the record has no truncated variance.
        heavy: whether the squared norms have a heavy tail in the baseline, the file of accepted statistics.
        keep: a folder for the sums of a measurement that takes longer than half a minute. After an interruption, the
            measurement continues from them. None to keep no sums.
    """

    def work() -> Record:
        stand_in = reference.in_process(cell.objective, reference.settings_of(settings))
        engine = Engine(cell, settings, truncate_at=None if heavy else truncate_at)
        sums = None if keep is None else unfinished.path_of(keep, run_of(cell, settings))
        line = measure_moments(engine, progress, reference=stand_in, keep=sums)
        return _with_pairs(line, cell, settings, truncate_at) if heavy else line

    with single_thread():
        return safely(work, head(cell, settings, LineKind.MOMENTS))


def measure_for_baseline(
    cell: Cell, settings: Settings, progress: OnProgress, *, adaptive: bool, keep: Path | None = None
) -> Record:
    """Measure a cell (an estimator on an objective) for a baseline, and return its moments record.

    A baseline is a file of accepted statistics. The record also has the truncated variance, the mean of min(w, cut).
    Here w is the squared norm of a centred gradient. If w has a heavy tail, half the squared distance of two gradients
    takes its place. The cut is the 99 % quantile of w. If the sums of the run do not contain the truncated variance at
    this cut, the cell is measured a second time, with the cut known.

    Args:
        cell: the estimator and the objective.
        settings: how the cell is measured.
        progress: called with the number of replicates done and the total.
        adaptive: whether to take at least 1e5 replicates, and at least 4e5 if the variance of the squared norms is
            above 10 times their squared mean.
        keep: a folder for the sums of a run that takes longer than half a minute. After an interruption, the run
            continues from them. None to keep no sums.
    """
    line = measure_cell(cell, settings, progress, keep=keep)
    if line["outcome"] != Outcome.MEASURED:
        return line
    summary = line["summary"]
    wanted = max(settings.replicates, baseline_replicates(summary["cv2"]) if adaptive else 0)
    cut = summary["cut"] or None
    if wanted > settings.replicates or (cut is not None and not summary["truncated_at"]):
        settings = replace(settings, replicates=wanted)
        line = measure_cell(cell, settings, progress, cut, keep=keep)
    if line["outcome"] != Outcome.MEASURED or not is_heavy(line["summary"]["khat"]):
        return line
    measured, given = line, settings
    with single_thread():
        return safely(lambda: _with_pairs(measured, cell, given, None), head(cell, given, LineKind.MOMENTS))


def _with_pairs(line: Record, cell: Cell, settings: Settings, cut: float | None) -> Record:
    """Return the record with the truncated variance of pairs, for which the gradients are drawn again."""
    found = pairs.truncated(pairs.distances(Engine(cell, settings)), cut)
    return {**line, "summary": {**line["summary"], **found}}


@dataclass(frozen=True)
class FirstDraws:
    """What the first 8 draws (batches of replicates) of a cell show. A cell is an estimator on an objective.

    Args:
        fingerprint: digest of the settings and of the gradients in these draws. Equal fingerprints mean equal samples.
        are_all: whether the whole run of the cell consists of these draws.
        evaluations: evaluations of f and of df/dx per estimate.
    """

    fingerprint: str
    are_all: bool
    evaluations: tuple[float, float]


def first_draws(cell: Cell, settings: Settings) -> FirstDraws:
    """Return a digest of the gradients of a cell's first 8 draws (batches), and the evaluations of f and of df/dx.

    A cell is an estimator on an objective. ``settings`` say how the cell is measured.
    """
    with single_thread(), set_apart():
        engine = Engine(cell, settings)
        fingerprint = fingerprint_of(engine)
        return FirstDraws(fingerprint, len(engine.sizes) <= FINGERPRINT_DRAWS, count_evaluations(engine))


def evaluations_vary(cell: Cell, settings: Settings) -> bool:
    """Return whether the number of evaluations of f or of df/dx varies from call to call.

    Up to 100 calls of the cell's estimator are counted. A cell is an estimator on an objective; ``settings`` say how it
    is measured.
    """
    with single_thread(), set_apart():
        engine = Engine(cell, settings)
        adapt_state(engine)
        first = count_evaluations(engine)
        return any(count_evaluations(engine, call) != first for call in range(1, COUNTED_CALLS))
