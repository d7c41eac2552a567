"""The objective record: what is found out about a user's objective before it is measured, kept with the study."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.execution.pool import Pool
from bench.execution.progress import Progress
from bench.execution.worker import Crashed
from bench.measurement.objective_checks import QUICK, Check, Fault, check_own
from bench.objectives import Objective, is_own
from bench.planning.selectors import label
from bench.records import store
from bench.records.code import code_digest
from bench.records.environment import environment
from bench.records.identity import digest, fields_of, identity
from bench.records.lines import SCHEMA, LineKind, Lost, Outcome, Record
from estimators import command_line_name


def examine(
    objectives: Sequence[Objective], folder: Path, pool: Pool, checks: tuple[Check, ...] = QUICK, *, fresh: bool = False
) -> list[Record]:
    """Check the objectives that a user wrote, and return a new record for each that was checked.

    Two kinds of objectives are not checked: those of the catalogue, and those whose present code has passed these
    checks before, as a record in the folder shows. Records also hold ``row_elements``, the number of elements in the
    largest tensor of one estimate. A study therefore measures this number only once.

    Args:
        objectives: the objectives; ``row_elements`` of each is set from its record.
        folder: the study folder; it need not exist. Nothing is written.
        pool: has the worker process that runs the checks.
        checks: the checks to run.
        fresh: whether to ignore the records in the folder.

    Raises:
        Fault: an objective does not pass a check.
        Damaged: the folder's records cannot be read.
    """
    own = [objective for objective in objectives if is_own(objective)]
    kept = {
        line["run"]: line
        for line in (store.read(folder, lean=True) if own and not fresh else [])
        if line["kind"] == LineKind.OBJECTIVE
    }
    names, new = [check.__name__ for check in checks], list[Record]()
    for objective in own:
        head = _head(objective)
        line = kept.get(head["run"])
        if line is not None and line["code"] == head["code"]:
            objective.remember_row_elements(line["row_elements"])
            if set(names) <= set(line["checks"]):
                continue
        check_apart(objective, pool, checks)
        passed = sorted({*names, *(line["checks"] if line is not None and line["code"] == head["code"] else [])})
        new.append({**head, "row_elements": objective.row_elements, "checks": passed})
    return new


@dataclass(frozen=True)
class _Examination:
    """The checks of an objective, as work for a worker process."""

    objective: Objective
    checks: tuple[Check, ...]

    def record(self, _progress: Progress | None = None, _pool: Any = None) -> int:
        """Run the checks, and return the objective's ``row_elements``; raise ``Fault`` if a check is not passed."""
        check_own(self.objective, self.checks)
        return self.objective.row_elements


def check_apart(objective: Objective, pool: Pool | None, checks: tuple[Check, ...] = QUICK) -> None:
    """Run ``checks`` on a user's own objective in a worker process of the pool, and set its ``row_elements``.

    ``row_elements`` is the number of elements in the largest tensor of one estimate.

    An objective of the catalogue passes without a check. If ``pool`` is None, the checks run in this process.

    Raises:
        Fault: the objective does not pass, or its code ends or hangs the worker process.
    """
    if pool is None or not is_own(objective):
        check_own(objective, checks)
        return
    try:
        objective.remember_row_elements(pool.ask(_Examination(objective, checks)))
    except Crashed as crash:
        raise Fault(f"The objective {label(objective)} is at fault: the process of its checks {crash.how}.") from None
    except Lost as lost:
        raise Fault(f"The objective {label(objective)} is at fault: {lost}") from None


def _head(objective: Objective) -> Record:
    """Return the start of an objective's record: the keys that are known before it is examined."""
    return {
        "schema": SCHEMA,
        "kind": LineKind.OBJECTIVE,
        "run": digest([LineKind.OBJECTIVE, identity(objective)]),
        "code": code_digest(objective),
        "objective": label(objective),
        "objective_name": command_line_name(type(objective)),
        "objective_params": fields_of(objective),
        "objective_contents": objective.contents,
        "outcome": Outcome.MEASURED,
        "reason": None,
        "environment": environment(),
    }
