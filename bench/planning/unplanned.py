"""How much of a study is done if its folder has no plan, only a ``spec.toml``."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.planning.plans import specs_of
from bench.planning.selectors import Selector, UsageError, covering
from bench.records.lines import Damaged, LineKind, Outcome
from bench.records.standing import Standing


def standing(folder: Path, records: Sequence[Mapping[str, Any]]) -> list[Standing]:
    """Return how many cells of an old study folder are on record; an empty list if no spec can be read.

    An old study folder has no plan, the list of its commands. A cell is an estimator on an objective. The cells are
    those of the specs in the folder, all counted in one ``Standing``. A cell is on record if a record has every value
    that the spec gives for the cell. Fields that the spec leaves out may have any value in the record.

    Args:
        folder: the study folder.
        records: the records of the study.
    """
    try:
        specs = specs_of(folder)
    except (UsageError, Damaged, OSError):
        return []
    cells = [record for record in records if record["kind"] in (LineKind.MOMENTS, LineKind.PILOT)]
    wanted, here, failed = set[tuple[str, str]](), set[tuple[str, str]](), set[tuple[str, str]]()
    for spec in specs:
        estimators, objectives = _singles(spec.estimators), _singles(spec.objectives)
        wanted |= set(itertools.product(estimators, objectives))
        by = covering(estimators, cells, "estimator"), covering(objectives, cells, "objective")
        for estimator, objective, outcome in {(r["estimator"], r["objective"], r["outcome"]) for r in cells}:
            found = itertools.product(by[0].get(estimator, ()), by[1].get(objective, ()))
            (failed if outcome == Outcome.FAILED else here).update(found)
    return [Standing(len(wanted), frozenset(" on ".join(cell) for cell in here), failed=len(failed - here))]


def _singles(selectors: Iterable[Selector]) -> list[str]:
    """Return a selector for each combination of the values in some selectors: ``rloo:n=2,4`` gives two."""
    found = []
    for each in selectors:
        for values in itertools.product(*each.params.values()):
            found.append(str(Selector(each.name, {key: (v,) for key, v in zip(each.params, values, strict=True)})))
    return found
