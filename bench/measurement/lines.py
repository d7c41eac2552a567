"""What every record line of a cell has, and the lines of cells that were skipped or failed. No cell is ever lost."""

from __future__ import annotations

import traceback
from collections.abc import Callable

from bench.measurement.draws import draws
from bench.planning.cells import Cell
from bench.planning.selectors import label
from bench.planning.settings import Settings
from bench.records.code import code_digest
from bench.records.environment import environment
from bench.records.identity import fields_of, run_id
from bench.records.lines import SCHEMA, Record
from estimators import Refusal, command_line_name


def common(cell: Cell, settings: Settings, kind: str) -> Record:
    """Return the keys that every record of a cell has."""
    total = sum(draws(cell, settings.replicates, settings.device))
    objective, estimator = cell.objective, cell.estimator
    return {
        "schema": SCHEMA,
        "kind": kind,
        "run": run_id(
            cell.id,
            dtype=settings.dtype,
            device=settings.device,
            seed=settings.seed,
            replicates=total,
            common_noise=settings.common_noise,
        ),
        "cell": cell.id,
        "code": code_digest(estimator, objective),
        "estimator": label(estimator),
        "estimator_name": command_line_name(type(estimator)),
        "estimator_params": fields_of(estimator),
        "objective": label(objective),
        "objective_name": command_line_name(type(objective)),
        "objective_params": fields_of(objective),
        "objective_contents": objective.contents,
        "family": objective.family.__name__,
        "dim": objective.dim,
        "unbiased": estimator.unbiased,
        "deterministic": estimator.deterministic,
        "dtype": settings.dtype,
        "device": settings.device,
        "seed": settings.seed,
        "common_noise": settings.common_noise,
        "replicates": total,
        "outcome": "measured",
        "reason": None,
        "environment": environment(),
    }


def skipped_record(cell: Cell, settings: Settings, reason: str) -> Record:
    """Return the record of a pair that does not fit together."""
    return {**common(cell, settings, "moments"), "outcome": "skipped", "reason": reason}


def failed_record(cell: Cell, settings: Settings, reason: str, kind: str = "moments") -> Record:
    """Return the record of a cell that could not be measured."""
    return {**common(cell, settings, kind), "outcome": "failed", "reason": reason}


class Lost(Exception):
    """A cell cannot be measured; the message is the reason on its record."""


def reason_of(error: Exception) -> str:
    """Return an exception as the reason on a record, with the place it was raised at."""
    if isinstance(error, Lost):
        return str(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({frame.filename.rsplit('/', 1)[-1]}, line {frame.lineno})"


def safely(work: Callable[[], Record], cell: Cell, settings: Settings, kind: str = "moments") -> Record:
    """Return what ``work`` returns, or the record of why it could not: no cell is a missing row."""
    try:
        return work()
    except Refusal as refusal:
        return {**skipped_record(cell, settings, str(refusal)), "kind": kind}
    except Exception as error:
        return failed_record(cell, settings, reason_of(error), kind)
