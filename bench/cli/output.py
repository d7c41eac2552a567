"""What commands do with the records of a study: read them, print them, and derive an exit code from them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli.errors import CommandError, ExitCode, program
from bench.cli.terminal import echo, echo_json, echo_styled, screen
from bench.records.lines import Outcome

if TYPE_CHECKING:
    from bench.records.lines import Record
    from bench.records.standing import Standing
    from bench.records.store import Reading
    from bench.report import Report

FEW = 6
"""Most records of a study that ``bench run`` draws no figures of: its table is quicker to read."""


def read_records(folder: Path) -> list[Record]:
    """Return the records of a study folder, at least one.

    The records lack most of their ``sums``, from which their statistics were computed: tables do not need them.

    Raises:
        CommandError: the folder holds no records.
        Damaged: the records cannot be read.
    """
    return reading_of(folder).records


def reading_of(folder: Path) -> Reading:
    """Return the records of a study folder, at least one, as ``read_records`` returns them, and their digest.

    Raises:
        CommandError: the folder holds no records.
        Damaged: the records cannot be read.
    """
    from bench.records import store

    found = store.reading(folder)
    if not found.records:
        message = f"There are no records in {str(folder)!r}. Give a folder that `bench run` has written."
        raise CommandError(message, ExitCode.USAGE)
    return found


def to_go(folder: Path, records: Sequence[Record]) -> str:
    """Return how much of a study folder's plan is done, and the commands that do the rest; empty if all is done.

    A folder without a plan is compared with its ``spec.toml``. ``records`` are those of the folder. If the plan cannot
    be read, the text is the error message. No error is raised, because a report needs no plan.
    """
    from bench.planning import unplanned
    from bench.records import plan
    from bench.records.files import Unreadable
    from bench.records.lines import Damaged
    from bench.records.standing import standings

    try:
        lines = plan.read(folder)
        found = standings(lines, records) if lines else unplanned.standing(folder, records)
    except Damaged as error:
        return str(error)
    except Unreadable as error:
        return f"{error.filename} cannot be read: {error.strerror}."
    return " ".join(sentence(each, folder) for each in found if not each.is_complete)


def sentence(standing: Standing, folder: Path) -> str:
    """Return, as a sentence, how much of a study folder is done, and the command that does the rest if there is one.

    ``standing`` counts the cells or training runs: those done, those failed and those asked for.
    """
    if standing.is_complete:
        return f"{standing}."
    command = "train" if standing.noun == "runs" else "run"
    return f"{standing}: `{program()} {command} {shlex.quote(str(folder))}` goes on."


def print_table(report: Report, *, named: bool = False, brief: bool = False) -> None:
    """Print the tables of a report on stdout, one for each objective.

    Args:
        report: the report.
        named: whether the user has named the estimators. If so, the estimators that do not fit an objective are
            printed, with the reason.
        brief: whether to print one table, with a row for each objective, if there are three or more objectives.
    """
    printed = screen()
    with printed.capture() as text:  # rich ends the program if the reader of a pipe has left
        report.show(printed, named=named, brief=brief)
    echo_styled(text.get())


def print_json(records: Sequence[Record], folder: Path | None, files: Sequence[Path]) -> None:
    """Print the records of a study folder and the paths of its ``files`` as one JSON document on stdout.

    ``folder`` is None if the records were not written.

    The sums in the records, from which their statistics were computed, are left out.
    """
    from bench.records.lines import plain

    lines = [{key: value for key, value in record.items() if key != "sums"} for record in records]
    place = None if folder is None else str(folder)
    echo_json(dumps(plain({"folder": place, "files": [str(file) for file in files], "records": lines})))


def complain(report: Report) -> None:
    """Print on stderr which figures could not be drawn for a report that was written, and why."""
    for what in report.undrawn:
        echo(f"{what} The tables are complete.", err=True)


def list_files(folder: Path, files: Sequence[Path], *, brief: bool = False, few: bool = False) -> None:
    """List the ``files`` of a study folder, or of a folder that holds only a report, and say what to open next.

    ``brief`` says whether only one table for all objectives was printed. ``few`` says whether no figures were drawn
    because the study is small. If one of them is True, the command that prints all tables or draws the figures is
    named. The list is written to stderr.
    """
    from bench.records.store import LINES

    figures = len({file.stem for file in files if file.parent != folder})
    texts = [file.name for file in files if file.parent == folder]
    held = [LINES] if (folder / LINES).exists() else []
    drawn = f"{figures} figure{'s' * (figures != 1)}"
    echo(f"{folder}: {' and '.join(filter(None, (', '.join([*held, *texts]), drawn)))}", err=True)
    page = next((text for text in texts if text.endswith(".html")), "")
    if few:
        echo(f"`{program()} report {shlex.quote(str(folder))}` draws figures.", err=True)
    if page:
        more = f"; `{program()} report {shlex.quote(str(folder))}` prints all tables" if brief else ""
        echo(f"Open next: {folder / page}, in a browser{more}.", err=True)


def finish(
    records: Sequence[Record],
    folder: Path,
    held: Sequence[Record] | None = None,
    *,
    json: bool,
    quiet: bool,
    named: bool = False,
    brief: bool = False,
    printed: bool = False,
    digest: str = "",
) -> ExitCode:
    """Print the records of a command, write the report of the study, and return the exit code for the outcomes.

    The tables also have all other estimators that the folder has on the same objectives, so that the best of all is
    recommended.

    Args:
        records: the records of the command: those that it made, and those that it found in the folder and used again.
        folder: the study folder.
        held: all records of the folder; None to read them from the folder.
        json: whether to print the command's records as JSON.
        quiet: whether to print no notes.
        named: whether the user has named the estimators. If so, the estimators that do not fit an objective are
            printed.
        brief: whether to print one table, with a row for each objective, if there are three or more objectives.
        printed: whether the tables have been printed already.
        digest: what ``bench.records.store.digest`` returned for the folder when ``held`` was read; empty if unknown.

    Raises:
        NothingFits: nothing was measured, because every estimator refused its objective.
    """
    from bench.cli.once import Write, once
    from bench.planning.selectors import NothingFits
    from bench.records import store
    from bench.report import Report
    from bench.report.study import FORMATS

    outcomes = {record["outcome"] for record in records}
    refused = not outcomes & {Outcome.MEASURED, Outcome.DIVERGED, Outcome.FAILED}

    def make(write: Write) -> None:
        every, found = held or (), digest
        if held is None:
            read = store.reading(folder)
            every, found = read.records, read.digest
        whole = Report(every)
        if not (json or printed or refused):
            near = beside(records, every)
            print_table(whole if len(near) == len(every) else Report(near), named=named, brief=brief)
        few = brief and len(every) <= FEW and not any((folder / "figures").glob("*"))
        how = {"drawn": not few, "standing": "", "formats": FORMATS, "width": None}
        written = write(whole, [found], called=_names(every, folder), **how)
        complain(whole)
        if json and not refused:
            print_json(records, folder, written)
        if not quiet and not refused:
            list_files(folder, written, brief=brief, few=few)

    runs = sorted({record["run"] for record in records})
    asked = (runs, quiet, named, brief, printed, refused)

    measured, others = (lambda: [digest or store.digest(folder)]), lambda: [store.digest_of_plan(folder)]
    once(make, folder, measured, others, *asked, silent=json)
    if refused:
        raise NothingFits(record["reason"] for record in records)
    return ExitCode.FAILED if Outcome.FAILED in outcomes else ExitCode.FINE


def _names(records: Sequence[Record], folder: Path) -> dict[str, str] | None:
    """Return what the figures of a study call its estimators and objectives; None for their labels.

    A file of labels that cannot be read is left to ``bench report``, which says what is wrong with it.
    """
    from bench.planning.naming import called, labels_in, specs_of_all
    from bench.planning.selectors import UsageError

    specs = specs_of_all([folder])
    try:
        given = labels_in([folder], specs)
    except UsageError:
        return None
    return called(records, specs, given) if any(given.values()) else None


def beside(records: Sequence[Record], held: Sequence[Record]) -> list[Record]:
    """Return the records in ``held`` whose objective also has a record in ``records``.

    ``held`` are all records of the study folder.
    """
    objectives = {record["objective"] for record in records}
    return [record for record in held if record["objective"] in objectives]
