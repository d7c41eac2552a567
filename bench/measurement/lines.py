"""The keys of every record, and the records of cells that were skipped or failed, so that no cell lacks a record."""

from collections.abc import Callable

from bench.measurement.draws import draws
from bench.planning.cells import Cell, declared
from bench.planning.selectors import label
from bench.planning.settings import ADAPT_STEPS, Settings
from bench.planning.user_code import Ended, set_apart
from bench.records.code import code_digest
from bench.records.environment import environment
from bench.records.identity import fields_of, run_id
from bench.records.lines import SCHEMA, LineKind, Lost, Outcome, Record
from bench.records.text import described, message
from estimators import InvalidIntegrand, InvalidLoss, Refusal, command_line_name


def replicates_of(cell: Cell, settings: Settings) -> int:
    """Return the number of replicates of a cell: the number in the settings, rounded up to whole draws (batches).

    A cell is an estimator on an objective.
    """
    return sum(draws(cell, settings.replicates, settings.device))


def run_of(cell: Cell, settings: Settings) -> str:
    """Return the id of the run that measures a cell (an estimator on an objective) with these settings."""
    dtype, device, seed, common = settings.dtype, settings.device, settings.seed, settings.common_noise
    rows = replicates_of(cell, settings)
    steps = (
        settings.adapt_steps
        if settings.adapt_steps != ADAPT_STEPS and declared(cell.estimator, "needs_state")
        else None
    )
    return run_id(
        cell.id, dtype=dtype, device=device, seed=seed, replicates=rows, common_noise=common, adapt_steps=steps
    )


def head(cell: Cell, settings: Settings, kind: LineKind) -> Record:
    """Return the first keys of a cell's record, which are known before anything is measured.

    A cell is an estimator on an objective. ``kind`` is the kind of record, such as moments or timing.
    """
    objective, estimator = cell.objective, cell.estimator
    return {
        "schema": SCHEMA,
        "kind": kind,
        "run": run_of(cell, settings),
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
        "shared": list(objective.shared),
        "unbiased": declared(estimator, "unbiased"),
        "deterministic": declared(estimator, "deterministic"),
        "dtype": settings.dtype,
        "device": settings.device,
        "seed": settings.seed,
        "common_noise": settings.common_noise,
        "replicates": replicates_of(cell, settings),
        "outcome": Outcome.MEASURED,
        "reason": None,
        "environment": environment(),
    }


def skipped(head: Record, reason: str) -> Record:
    """Return the record of a cell whose estimator does not fit its objective; ``reason`` says why.

    The record consists of ``head`` (the keys that are known before the work), the outcome "skipped" and the reason.
    """
    return {**head, "outcome": Outcome.SKIPPED, "reason": message(reason)}


def failed(head: Record, reason: str) -> Record:
    """Return the record of work that failed; ``reason`` says why.

    The record consists of ``head`` (the keys that are known before the work), the outcome "failed" and the reason.
    """
    return {**head, "outcome": Outcome.FAILED, "reason": message(reason)}


def safely(work: Callable[[], Record], head: Record) -> Record:
    """Do the work and return its record. If the work raises an exception, return a record of the exception.

    The record of an exception consists of ``head`` (the keys that are known before the work), the outcome and the
    reason. The outcome is "skipped" if the estimator refused the objective, else "failed".
    """
    try:
        with set_apart():
            return work()
    except InvalidIntegrand as fault:  # a refusal, but the fault lies in f and not in the choice of the estimator
        return failed(head, str(fault))
    except Refusal as refusal:
        return skipped(head, str(refusal))
    except Exception as error:
        return failed(head, reason_of(error))


def reason_of(error: Exception) -> str:
    """Return the text that a record gives as the reason of an exception: the message of ``error``.

    The message of a ``Lost``, ``Ended``, ``InvalidIntegrand`` or ``InvalidLoss`` is a sentence for the user. For any
    other exception, its type and the place where it was raised are added.
    """
    return str(error) if isinstance(error, Lost | Ended | InvalidIntegrand | InvalidLoss) else described(error)
