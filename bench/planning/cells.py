"""Cells: which estimator is measured on which objective, and why a pair does not fit."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.objectives import Objective, is_own
from bench.planning.selectors import full_label, label
from bench.planning.user_code import Ended, contained
from bench.records.identity import cell_id
from bench.records.text import described
from estimators import Estimator


@dataclass(frozen=True)
class Cell:
    """One estimator on one objective: the subject of a measurement."""

    estimator: Estimator
    objective: Objective

    @property
    def id(self) -> str:
        """Id of the cell, 16 hexadecimal digits: a digest of the names and the fields of estimator and objective."""
        return cell_id(self.estimator, self.objective)

    @property
    def is_own(self) -> bool:
        """Whether the estimator or the objective is the user's own, so that a measurement runs the user's code."""
        return not _is_ours(self.estimator) or is_own(self.objective)

    @property
    def label(self) -> str:
        """Name of the cell in messages, such as ``rloo:n=4 on gaussian-quadratic``."""
        return f"{full_label(self.estimator)} on {full_label(self.objective)}"


FACTS = ("unbiased", "value_unbiased", "deterministic", "needs_state")
"""Declared facts of an estimator that are read before a measurement, besides those that ``mismatch`` reads."""


@dataclass(frozen=True)
class Skip:
    """A cell that is not measured, and the reason: the estimator does not fit the objective, or the user's code failed.

    Args:
        cell: the estimator and the objective.
        reason: one sentence.
        failed: whether the user's code raised an exception, or declared a fact (such as ``unbiased``) that is neither
            True nor False.
    """

    cell: Cell
    reason: str
    failed: bool = False


def plan(estimators: Sequence[Estimator], objectives: Sequence[Objective]) -> tuple[list[Cell], list[Skip]]:
    """Return the cells to measure, and the pairs of estimator and objective that are skipped, with the reasons.

    A cell is an estimator on an objective. Both lists are sorted by objective, then by estimator, in the order in which
    these are given.
    """
    cells, skips = [], []
    for objective in objectives:
        for estimator in estimators:
            cell = Cell(estimator, objective)
            if skip := skip_of(cell):
                skips.append(skip)
            else:
                cells.append(cell)
    return cells, skips


def skip_of(cell: Cell) -> Skip | None:
    """Return why a cell (an estimator on an objective) cannot be measured; None if it can.

    The reason follows from what the estimator and the objective declare. An exception in a user's code is a reason,
    too.
    """
    if not cell.is_own:
        reason = mismatch(cell.estimator, cell.objective)
        return Skip(cell, reason) if reason else None
    try:
        with contained():
            reason = mismatch(cell.estimator, cell.objective)
            facts = {fact: getattr(cell.estimator, fact) for fact in FACTS}
    except Exception as error:
        return Skip(cell, str(error) if isinstance(error, Ended) else described(error), failed=True)
    wrong = [f"{fact} is {value!r}" for fact, value in facts.items() if not isinstance(value, bool)]
    if wrong:
        return Skip(
            cell, f"{label(cell.estimator)} declares no fact: {', '.join(wrong)}. Use True or False.", failed=True
        )
    return Skip(cell, reason) if reason else None


def declared(estimator: Estimator, fact: str) -> bool:
    """Return the value, True or False, of a fact that an estimator declares, such as "unbiased".

    If reading the fact raises an exception, return the value in the base class ``Estimator``.
    """
    if _is_ours(estimator):
        return bool(getattr(estimator, fact))
    try:
        with contained():
            return bool(getattr(estimator, fact))
    except Exception:
        return bool(getattr(Estimator, fact))


def _is_ours(estimator: Estimator) -> bool:
    """Return whether the estimator is one of the catalogue, and not the user's own."""
    return f"{type(estimator).__module__}.".startswith("estimators.")


def mismatch(estimator: Estimator, objective: Objective) -> str | None:
    """Return the reason why an estimator cannot be used on an objective, from declared facts alone; None if it can."""
    if reason := estimator.refuses(objective.family) or estimator.refuses_layers(objective.layer_families):
        return reason
    if estimator.needs_df and not objective.differentiable:
        return f"{estimator!r} needs df/dx, and {label(objective)} has none. Use ScoreFunction or RLOO."
    if estimator.needs_relaxed_f and not objective.relaxable:
        off = "evaluates f off the support of q"
        return f"{estimator!r} {off}, and {label(objective)} is not defined there. Use StraightThrough."
    if estimator.needs_bound and not objective.bound:
        use = "Reparameterization" if estimator.needs_df else "RLOO"
        return f"{estimator!r} needs the log-weights of a bound, and {label(objective)} is not one. Use {use}."
    if estimator.needs_costs and not objective.costs:
        return f"{estimator!r} needs a Return, an f that shows its costs, and {label(objective)} is not one. Use RLOO."
    if estimator.needs_set and not objective.sets:
        return (
            f"{estimator!r} needs a SetFunction, an f of several samples, and {label(objective)} is not one. Use RLOO."
        )
    return estimator.refuses_particles(objective.particles) if objective.bound else None
