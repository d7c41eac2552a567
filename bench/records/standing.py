"""How much of a study is done: what its plan asks for, against its records. No torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.records.lines import LineKind, Outcome, Record
from bench.records.plan import trains

COUNTED = (
    "run", "kind", "outcome", "leads_to", "cell", "dtype", "device", "seed", "common_noise", "precision",
)  # fmt: skip
"""The keys of a record that tell how much of a study is done."""


@dataclass(frozen=True)
class Standing:
    """How much of a study is done.

    Args:
        cells: number of runs (measurements, or training runs) that were asked for.
        here: ids of the runs that are on record and did not fail.
        failed: number of runs whose record is a failure.
        untimed: number of runs on record that are still to be timed.
        stale: number of runs that are measured again because their code has changed.
        noun: plural of what is counted: "cells" or "runs".
    """

    cells: int
    here: frozenset[str]
    failed: int = 0
    untimed: int = 0
    stale: int = 0
    noun: str = "cells"

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to do: every run is on record, none has failed, and none is still to be timed."""
        return len(self.here) == self.cells and not self.untimed

    def __str__(self) -> str:
        """Return the numbers as text: ``73 of 120 cells are here, 3 failed, 44 to go``."""
        missing = self.cells - len(self.here) - self.failed
        of = f" ({self.stale} of them because their code has changed)" if self.stale else ""
        one = f"{self.noun.removesuffix('s')} is" if self.cells == 1 else f"{self.noun} are"
        parts = [f"{len(self.here)} of {self.cells} {one} here"]
        parts += [f"{self.failed} failed"] if self.failed else []
        parts += [f"{missing} to go{of}"] if missing else []
        parts += [f"{self.untimed} to be timed"] if self.untimed else []
        return ", ".join(parts)


def planned(lines: Iterable[Mapping[str, Any]]) -> dict[str, bool]:
    """Return the ids of the runs that the ``lines`` of a plan ask for, each with True if the run is to be timed."""
    timed = dict[str, bool]()
    for line in lines:
        for run in line["runs"]:
            timed[run] = timed.get(run, False) or bool(line["spec"].get("timing"))
    return timed


def standings(lines: Iterable[Mapping[str, Any]], records: Sequence[Record]) -> list[Standing]:
    """Return how much of a study is done: one entry for its measurements, then one for its training runs.

    An entry is left out if the plan asks for no such run.

    Args:
        lines: the lines of the study's plan.
        records: the valid records of the study. They need only the keys that are listed in ``COUNTED``.
    """
    kinds = {"cells": list[Mapping[str, Any]](), "runs": list[Mapping[str, Any]]()}
    for line in lines:
        kinds["runs" if trains(line) else "cells"].append(line)
    return [standing(runs, records, noun) for noun, part in kinds.items() if (runs := planned(part))]


def standing(runs: Mapping[str, bool], records: Iterable[Record], noun: str = "cells") -> Standing:
    """Return how much of a study is done.

    Args:
        runs: the ids of the runs that were asked for; the value of each is True if it is to be timed. A pilot finds how
            many replicates a measurement needs. The id of a pilot asks for this measurement, too.
        records: the valid records of the study.
        noun: plural of what is counted: "cells" or "runs".
    """
    ends, times, reached, pilots = dict[str, Outcome](), set[str](), dict[tuple[Any, ...], str](), list[Record]()
    for record in records:
        if record["kind"] == LineKind.TIMING:
            times.add(record["run"])
        elif record["kind"] == LineKind.PILOT and record["run"] in runs:
            pilots.append(record)
        elif record["kind"] in (LineKind.MOMENTS, LineKind.TRAINING):
            ends[record["run"]] = record["outcome"]
            if "precision" in record:
                reached[_wanted(record)] = record["run"]
    run_of = dict[str, str]()  # the measurement that a pilot has led to
    for pilot in pilots:
        if pilot["outcome"] == Outcome.FAILED:
            ends.setdefault(pilot["run"], Outcome.FAILED)
        elif found := pilot.get("leads_to") or reached.get(_wanted(pilot)):  # early records lack the first
            run_of[pilot["run"]] = found
    held = {run: ends[end] for run in runs if (end := run_of.get(run, run)) in ends}
    here = frozenset(run for run, outcome in held.items() if outcome != Outcome.FAILED)
    untimed = [r for r in here if runs[r] and held[r] == Outcome.MEASURED and run_of.get(r, r) not in times]
    return Standing(len(runs), here, len(held) - len(here), len(untimed), noun=noun)


def _wanted(record: Record) -> tuple[Any, ...]:
    """Return what a pilot and the measurement after it have in common."""
    return tuple(record[key] for key in ("cell", "dtype", "device", "seed", "common_noise", "precision"))
