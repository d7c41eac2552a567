"""The command ``bench compare``."""

from __future__ import annotations

import shlex
import shutil
import sys
from json import dumps
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import click

from bench.cli.errors import UNCHANGED, CommandError, ExitCode, reported
from bench.cli.options import OUTPUT, folder, json_option
from bench.cli.output import read_records
from bench.cli.terminal import PIPE_WIDTH, echo, echo_json
from bench.records.files import output

if TYPE_CHECKING:
    from bench.records.lines import Record
    from bench.report.compare import Comparison

FIGURES = (".svg", ".pdf", ".png")
SHOWN = 10
"""Runs of one study alone that are named; the others are counted."""


@click.command(
    name="compare",
    epilog="\b\n"
    "Examples:\n"
    "  bench compare results/before results/after\n"
    "  bench compare rloo:n=2 rloo:n=4 --study results/default\n"
    "  bench compare before-0,before-1 after-0,after-1 --pool\n"
    "  bench compare results/before results/after --format md > comment.md",
)
@click.argument("sides", nargs=-1, metavar="A B")
@click.option("-e", "-o", "named", multiple=True, hidden=True, help="A or B, as other commands spell them.")
@folder(
    "--study",
    default="results/default",
    help="The study that has A and B, if they are estimators or cells; or several, with commas [results/default].",
)
@click.option("--pool", is_flag=True, help="Make one comparison of all seeds of a cell.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "md", "json"]),
    help="Format of the output; md is a comment for a pull request [text].",
)
@click.option("--figure", type=OUTPUT, metavar="FILE", help="Also draw the ratios: FILE.svg, FILE.pdf or FILE.png.")
@json_option
@reported(UNCHANGED)
def command(
    sides: tuple[str, ...],
    named: tuple[str, ...],
    study: Path,
    pool: bool,
    form: str | None,
    figure: Path | None,
    json: bool,
) -> None:
    """Compare two studies, two estimators or two cells.

    Their variances are compared, and nothing is measured. A and B are two study folders, which are compared cell by
    cell. Or they are two estimators of one study, compared on every objective on which both were measured. Or they are
    two cells of one study, such as 'rloo on gaussian-quadratic'. A ratio B/A below 1 means that B has the lower
    variance. If A and B saw the same noise, the comparison is paired, and finds much smaller differences. In place of
    one folder you can give several, with commas between them. With --pool, all seeds of a cell count as one
    measurement.
    """
    from bench.planning.catalogue import did_you_mean
    from bench.planning.selectors import UsageError, names
    from bench.records.lines import plain
    from bench.records.store import uncollected
    from bench.report.compare import Unknown, markdown, of_estimators, of_studies, table, verdict

    a, b = _two(sides, named)
    if json and form not in (None, "json"):
        raise UsageError(f"--json and --format {form} contradict each other: choose one.")
    if figure is not None and figure.suffix not in FIGURES:
        raise UsageError(f"{figure} is no figure: give a file that ends in {', '.join(FIGURES)}.")
    paths = _folders(a), _folders(b)
    studies = [bool(folders) for folders in paths]
    if any(studies) and not all(studies):
        other = b if studies[0] else a
        raise UsageError(f"{other!r} is not a study folder. Give two folders, or two estimators of one --study.")
    if not any(studies) and (" on " in a) != (" on " in b):
        cell, estimator = (a, b) if " on " in a else (b, a)
        raise UsageError(f"{cell!r} is a cell, and {estimator!r} an estimator. Give two cells or two estimators.")
    only: list[list[str]] = [[], []]
    with uncollected():
        if all(studies):
            found, *only = of_studies(*map(_records, paths), pooled=pool)
        else:
            try:
                found, *only = of_estimators(_records(_folders(str(study)) or [study]), a, b, names, pooled=pool)
            except Unknown as error:
                alike = [known for known in error.known if (" on " in known) == (" on " in error.label)]
                held = f" It has {', '.join(alike[:SHOWN])}{', ...' if len(alike) > SHOWN else ''}."
                raise UsageError(f"{error}{did_you_mean(error.label, error.known) or held}") from None
            except CommandError as error:
                raise CommandError(f"{a!r} and {b!r} are no study folders. {error}", error.exit_code) from None
    if not found:
        what = "the studies have no measured cell in common" if all(studies) else "no objective was measured with both"
        lists = [labels[0] + (f" and {len(labels) - 1} more" if labels[1:] else "") for labels in only if labels]
        has = f" A has {lists[0]}, and B {lists[1]}." if len(lists) == 2 else ""
        raise CommandError(f"Nothing was compared: {what}, in equal settings.{has}", ExitCode.NOTHING)
    if figure is not None:
        _draw(figure, found, a, b)
    if json or form == "json":
        cells = [each.to_json() for each in found]
        echo_json(dumps(plain({"a": a, "b": b, "cells": cells, "only_a": only[0], "only_b": only[1]})))
        return
    if form == "md":
        echo(markdown(a, b, found, only), nl=False)
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_WIDTH
    echo(f"A: {a}\nB: {b}\n\n{table(found, width)}\n\n{fill(verdict(found), width)}")
    for name, labels in zip("AB", only, strict=True):
        for label in labels[:SHOWN]:
            echo(f"only in {name}: {label}", err=True)
        if len(labels) > SHOWN:
            echo(f"only in {name}: {len(labels) - SHOWN} more; --json lists all", err=True)


def _folders(side: str) -> list[Path]:
    """Return the study folders that a side of a comparison names, joined with commas; none if it names no folder."""
    found = {part: _folder(part) for part in ([side] if _folder(side) else side.split(","))}
    if absent := [part for part, there in found.items() if there is None]:
        if len(absent) == len(found):
            return []
        raise click.UsageError(f"{absent[0]!r} is not a study folder.")
    return [path for path in found.values() if path is not None]


def _folder(text: str) -> Path | None:
    """Return the study folder that a text names, which may be the path of its records; None if there is none."""
    from bench.records.store import LINES

    path = Path(text).parent if Path(text).name == LINES else Path(text)
    return path if text and path.is_dir() else None


def _records(folders: list[Path]) -> list[Record]:
    """Return the records of study folders, each measurement once. Raise ``UsageError`` if a folder has none."""
    from bench.planning.selectors import UsageError
    from bench.records.lines import LineKind
    from bench.records.merge import together

    held = [read_records(folder) for folder in folders]
    for path, records in zip(folders, held, strict=True):
        if all(record["kind"] == LineKind.TRAINING for record in records):
            raise UsageError(f"{path} holds training alone, and variances are compared: see `bench report {path}`.")
    return together(held)


def _draw(path: Path, found: list[Comparison], a: str, b: str) -> None:
    """Draw comparisons into a file. Raise ``CommandError`` if no cell has a ratio."""
    from bench.report.compare import MARGIN, ratios
    from bench.report.figures import comparison

    rows = ratios(found)
    if not rows:
        raise CommandError("No figure was drawn: no cell has a ratio.", ExitCode.NOTHING)
    title = f"A: {a}, B: {b}. Shaded: within {MARGIN:.0%}."
    output(path, comparison(rows, "variance of B / variance of A", path.suffix[1:], margin=MARGIN, title=title))


def _two(sides: tuple[str, ...], named: tuple[str, ...]) -> tuple[str, str]:
    """Return the two sides of a comparison; raise ``click.UsageError`` if the words are not two."""
    if named:
        raise click.UsageError(f"{' '.join(named)} needs no -e or -o here: `bench compare A B --study FOLDER`.")
    if len(sides) == 2:
        return sides[0], sides[1]
    folders = [side for side in sides if _folder(side)]
    if len(sides) == 3 and len(folders) == 1:
        others = shlex.join(side for side in sides if side not in folders)
        raise click.UsageError(f"Give the study with --study: `bench compare {others} --study {folders[0]}`.")
    got = f"got {len(sides)}: {', '.join(sides)}" if sides else "got none"
    raise click.UsageError(f"bench compare needs two studies, two estimators or two cells ({got}).")
