"""Cells: which estimator is measured on which objective, and why a pair does not fit."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.objectives import Objective
from bench.planning.selectors import full_label, label
from bench.records.identity import cell_id
from estimators import Estimator


@dataclass(frozen=True)
class Cell:
    """One estimator on one objective: the subject of a measurement."""

    estimator: Estimator
    objective: Objective

    @property
    def id(self) -> str:
        """Id of the cell, 16 hexadecimal digits, made of the identities of the estimator and the objective."""
        return cell_id(self.estimator, self.objective)

    @property
    def label(self) -> str:
        """Text for people, such as ``rloo:n=4 on gaussian-quadratic``."""
        return f"{full_label(self.estimator)} on {full_label(self.objective)}"


@dataclass(frozen=True)
class Skip:
    """An estimator and an objective that do not fit together, and the reason."""

    cell: Cell
    reason: str


def plan(estimators: Sequence[Estimator], objectives: Sequence[Objective]) -> tuple[list[Cell], list[Skip]]:
    """Return the cells to measure, and the estimators and objectives that do not fit together.

    A cell is an estimator on an objective. Both lists are in the order of the objectives and, for each objective, in
    that of the estimators.
    """
    cells, skips = [], []
    for objective in objectives:
        for estimator in estimators:
            cell = Cell(estimator, objective)
            if reason := mismatch(estimator, objective):
                skips.append(Skip(cell, reason))
            else:
                cells.append(cell)
    return cells, skips


def mismatch(estimator: Estimator, objective: Objective) -> str | None:
    """Return the reason why an estimator cannot be used on an objective, from declared facts alone; None if it can."""
    if reason := estimator.refuses(objective.family) or estimator.refuses_layers(objective.layer_families):
        return reason
    name = label(objective)
    if estimator.needs_df and not objective.differentiable:
        return f"{estimator!r} needs df/dx, and {name} has none. Use ScoreFunction or RLOO."
    if estimator.needs_relaxed_f and not objective.relaxable:
        return f"{estimator!r} evaluates f off the support of q, and {name} is not defined there. Use StraightThrough."
    if estimator.needs_bound and not objective.bound:
        use = "Reparameterization" if estimator.needs_df else "RLOO"
        return f"{estimator!r} needs the log-weights of a bound, and {name} is not one. Use {use}."
    if estimator.needs_costs and not objective.costs:
        return f"{estimator!r} needs a Return, an f that shows its costs, and {name} is not one. Use RLOO."
    return estimator.refuses_particles(objective.particles) if objective.bound else None
