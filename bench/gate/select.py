"""The cells that a check compares, narrowed by selectors: cells of the baseline, missing cells and new cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.gate.baseline import Baseline, Entry
from bench.gate.baseline_file import selectors
from bench.planning.catalogue import Kind, did_you_mean
from bench.planning.cells import Cell, plan, skip_of
from bench.planning.instances import expand
from bench.planning.selectors import Forbidden, Selector, Unloadable, UsageError, full_label, label, names, parse
from bench.records.identity import fields_of
from bench.records.text import message, printable
from estimators import command_line_name

KINDS: tuple[Kind, Kind] = ("estimator", "objective")
Half = tuple[Any, Selector]
"""An estimator or an objective, and the selector that names it."""


@dataclass(frozen=True)
class Picked:
    """A cell (an estimator on an objective), and the selectors that name exactly its estimator and its objective.

    A selector is a name with values for its parameters, such as ``rloo:n=4``.
    """

    cell: Cell
    estimator: Selector
    objective: Selector

    @property
    def label(self) -> str:
        """Label such as ``rloo:n=4 on gaussian-quadratic``.

        Paths of users' files in the label are relative to the working folder.
        """
        halves = (self.estimator, self.cell.estimator), (self.objective, self.cell.objective)
        return shown(*(_single(selector, instance) for selector, instance in halves))

    @property
    def facts(self) -> dict[str, Any]:
        """The part of a record that describes the cell: names, parameters and labels of estimator and objective."""
        found: dict[str, Any] = {}
        for kind, half in (("estimator", self.cell.estimator), ("objective", self.cell.objective)):
            found |= {f"{kind}_name": command_line_name(type(half)), f"{kind}_params": fields_of(half)}
            found[kind] = label(half)
        return found


@dataclass(frozen=True)
class Missing:
    """An entry of the baseline whose cell cannot be made, with its label and the reason.

    A cell is an estimator on an objective. The cell no longer exists or, if ``is_broken`` is True, the user's code
    raises an exception.
    """

    entry: Entry
    label: str
    reason: str
    is_broken: bool = False


@dataclass(frozen=True)
class Selection:
    """The cells of a check, in three lists.

    ``cells`` has the entries of the baseline with their cells, ``missing`` the entries whose cell cannot be made, and
    ``new`` the cells without an entry. A baseline is the gate's file of accepted statistics, one entry per cell (an
    estimator on an objective).
    """

    cells: list[tuple[Entry, Picked]]
    missing: list[Missing]
    new: list[Picked]

    def only(self, wanted: str) -> Selection:
        """Return a selection of one cell of the baseline. ``wanted`` is the cell's label or the beginning of its id.

        A cell is an estimator on an objective, a baseline the gate's file of accepted statistics.

        Raises:
            UsageError: ``wanted`` matches no cell, or more than one.
        """
        known = {entry.cell: picked.label for entry, picked in self.cells}
        known |= {missing.entry.cell: missing.label for missing in self.missing}
        found = [cell for cell, label in known.items() if wanted == label or cell.startswith(wanted)]
        found = found or [entry.cell for entry, picked in self.cells if names(wanted, picked.facts)]
        if len(found) != 1:
            hint = did_you_mean(wanted, known.values())
            raise UsageError(
                f"{wanted!r} is {'the beginning of several ids' if found else 'not a cell of the baseline'}.{hint} "
                "Give a label such as 'rloo:n=4 on gaussian-quadratic', or an id."
            )
        cells = [pair for pair in self.cells if pair[0].cell in found]
        return Selection(cells, [missing for missing in self.missing if missing.entry.cell in found], [])


def pick(estimators: Sequence[Selector], objectives: Sequence[Selector]) -> list[Picked]:
    """Return the cells that selectors make: every estimator on every objective that the estimator fits.

    A selector is a name with values for its parameters, such as ``rloo:n=2,4``.

    Raises:
        UsageError: a selector has an unknown name, parameter or value.
    """
    return _pairs(_instances(estimators, "estimator"), _instances(objectives, "objective"))


def named(
    baseline: Baseline, folder: Path, estimators: Sequence[str] = (), objectives: Sequence[str] = ()
) -> list[tuple[Selector, Kind]]:
    """Return all selectors of a baseline and of a command line, each once, with its kind: estimator or objective.

    A selector is a text such as ``rloo:n=4``.

    Args:
        baseline: the file of accepted statistics.
        folder: the folder of the baseline; paths of users' files in the baseline are relative to it.
        estimators: selectors of the command line; paths in them are relative to the working folder.
        objectives: selectors of the command line; paths in them are relative to the working folder.
    """
    found: dict[tuple[str, Kind], tuple[Selector, Kind]] = {}
    pairs = [pair for entry in baseline.cells for pair in zip(selectors(entry, folder), KINDS, strict=True)]
    given = zip((estimators, objectives), KINDS, strict=True)
    pairs += [(_read(text), kind) for texts, kind in given for text in texts]
    for selector, kind in pairs:
        found.setdefault((str(selector), kind), (selector, kind))
    return [*found.values()]


def select(
    baseline: Baseline,
    folder: Path,
    estimators: Sequence[str] = (),
    objectives: Sequence[str] = (),
    broken: Mapping[tuple[str, Kind], UsageError] | None = None,
) -> Selection:
    """Return the cells (estimators on objectives) to compare with a baseline.

    Without ``estimators`` and ``objectives``, these are all cells of the baseline. Otherwise they are the cells that
    the two lists select; an empty list selects all that the baseline has. Selected cells that the baseline lacks count
    as new.

    Args:
        baseline: the file of accepted statistics.
        folder: the folder of the baseline; paths of users' files in the baseline are relative to it.
        estimators: selectors, such as ``rloo:n=4``, of the estimators to check.
        objectives: selectors of the objectives to check.
        broken: the error of each selector whose code failed in a worker process. A key is the selector and what it
            selects, "estimator" or "objective". This process does not load such code. None if there are none.

    Raises:
        UsageError: a selector has an unknown name, parameter or value.
    """
    broken = broken or {}
    given = [_given(estimators, "estimator", broken), _given(objectives, "objective", broken)]
    cells: list[tuple[Entry, Picked]] = []
    missing: list[Missing] = []
    halves: list[dict[str, Half]] = [{}, {}]
    for entry in baseline.cells:
        estimator, objective = selectors(entry, folder)
        made = [_made(estimator, "estimator", broken), _made(objective, "objective", broken)]
        for half, found in zip(halves, made, strict=True):
            if not isinstance(found, UsageError):
                half[label(found[0])] = found
        if not all(_is_wanted(found, chosen) for found, chosen in zip(made, given, strict=True)):
            continue
        errors = [found for found in made if isinstance(found, UsageError)]
        cell = None if errors else Cell(*(found[0] for found in made if not isinstance(found, UsageError)))
        skip = skip_of(cell) if cell else None
        reason = skip.reason if skip else _changed(entry, cell) if cell else str(errors[0])
        if cell and not reason:
            cells.append((entry, Picked(cell, estimator, objective)))
        else:
            is_broken = any(isinstance(error, Unloadable) for error in errors) or bool(skip and skip.failed)
            missing.append(Missing(entry, shown(estimator, objective), message(reason or ""), is_broken))
    asked = _pairs(*(chosen or half for chosen, half in zip(given, halves, strict=True))) if any(given) else []
    known = {entry.cell for entry in baseline.cells}
    return Selection(cells, missing, [p for p in asked if p.cell.id not in known])


def shown(estimator: Selector, objective: Selector) -> str:
    """Return the label of a cell, an estimator on an objective: ``rloo:n=4 on gaussian-quadratic``.

    Paths of users' files in the label are relative to the working folder.
    """
    return printable(f"{estimator.relative_to(Path())} on {objective.relative_to(Path())}")


def _pairs(estimators: dict[str, Half], objectives: dict[str, Half]) -> list[Picked]:
    cells, _ = plan([e for e, _ in estimators.values()], [o for o, _ in objectives.values()])
    return [Picked(c, estimators[label(c.estimator)][1], objectives[label(c.objective)][1]) for c in cells]


def _read(text: str) -> Selector:
    return parse(text).anchored(Path())


def _given(texts: Sequence[str], kind: Kind, broken: Mapping[tuple[str, Kind], UsageError]) -> dict[str, Half]:
    grids = [_read(text) for text in texts]
    for error in (broken[key] for grid in grids if (key := (str(grid), kind)) in broken):
        raise error
    return _instances(grids, kind)


def _instances(grids: Sequence[Selector], kind: Kind) -> dict[str, Half]:
    """Return the instances in these grids by their labels, each with its own selector."""
    found = [(instance, _single(grid, instance)) for grid in grids for instance in expand(grid, kind)]
    return {label(instance): (instance, selector) for instance, selector in found}


def _single(grid: Selector, instance: Any) -> Selector:
    """Return the selector of one instance of a grid."""
    short = parse(full_label(instance))
    name = f"{grid.file[0]}::{type(instance).__name__}" if grid.file else grid.name if ":" in grid.name else short.name
    return Selector(name, short.params)


def _made(selector: Selector, kind: Kind, broken: Mapping[tuple[str, Kind], UsageError]) -> Half | UsageError:
    if error := broken.get((str(selector), kind)):
        return error
    try:
        return expand(selector, kind)[0], selector
    except Forbidden:
        raise
    except UsageError as error:
        return error


def _is_wanted(found: Half | UsageError, chosen: dict[str, Half]) -> bool:
    return not chosen or (not isinstance(found, UsageError) and label(found[0]) in chosen)


def _changed(entry: Entry, cell: Cell) -> str | None:
    if entry.cell == cell.id:
        return None
    files = ", or a file that it is made of" if getattr(cell.objective, "contents", None) else ""
    return (
        f"{entry.label} is now {cell.label} with another identity, {cell.id} instead of {entry.cell}: a default has "
        f"changed{files}. A released default must not change; give the new one another name."
    )
