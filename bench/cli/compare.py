"""The command ``bench compare``."""

import shlex
import shutil
import sys
from json import dumps
from pathlib import Path

import click

from bench.cli.errors import UNCHANGED, CommandError, ExitCode, reported
from bench.cli.options import folder, json_option
from bench.cli.output import PIPE_WIDTH, read_records
from bench.cli.terminal import echo, echo_json

SHOWN = 10
"""Runs of one study alone that are named; the others are counted."""


@click.command(
    name="compare",
    epilog="\b\n"
    "Examples:\n"
    "  bench compare results/before results/after\n"
    "  bench compare rloo:n=2 rloo:n=4 --study results/default",
)
@click.argument("sides", nargs=-1, metavar="A B")
@click.option("-e", "-o", "named", multiple=True, hidden=True, help="A or B, as other commands spell them.")
@folder(
    "--study",
    default="results/default",
    help="The study that has A and B, if they are estimators or cells [results/default].",
)
@json_option
@reported(UNCHANGED)
def command(sides: tuple[str, ...], named: tuple[str, ...], study: Path, json: bool) -> None:
    """Compare two studies, two estimators or two cells.

    Their variances are compared, and nothing is measured. A and B are two study folders, compared cell by cell; or two
    estimators of one study, compared on every objective that both were measured on; or two cells of one study, such as
    'rloo on gaussian-quadratic'. B/A below 1 means that B has the lower variance. If both saw the same noise, the
    comparison is paired, and finds much smaller differences.
    """
    from bench.planning.catalogue import did_you_mean
    from bench.planning.selectors import UsageError, names
    from bench.records.lines import plain
    from bench.report.compare import Unknown, of_estimators, of_studies, table

    a, b = _two(sides, named)
    paths = Path(a), Path(b)
    studies = [path.is_dir() for path in paths]
    if any(studies) and not all(studies):
        other = b if studies[0] else a
        raise UsageError(f"{other} is not a study folder. Give two folders, or two estimators of one --study.")
    if not any(studies) and (" on " in a) != (" on " in b):
        cell, estimator = (a, b) if " on " in a else (b, a)
        raise UsageError(f"{cell!r} is a cell, and {estimator!r} an estimator. Give two cells or two estimators.")
    only: list[list[str]] = [[], []]
    if all(studies):
        found, *only = of_studies(*map(read_records, paths))
    else:
        try:
            found = of_estimators(read_records(study), a, b, names)
        except Unknown as error:
            raise UsageError(f"{error}{did_you_mean(error.label, error.known)}") from None
    if not found:
        what = "the studies have no measured cell in common" if all(studies) else "no objective was measured with both"
        raise CommandError(f"Nothing was compared: {what}.", ExitCode.NOTHING)
    if json:
        cells = [each.to_json() for each in found]
        echo_json(dumps(plain({"a": a, "b": b, "cells": cells, "only_a": only[0], "only_b": only[1]})))
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_WIDTH
    echo(f"A: {a}\nB: {b}\n\n{table(found, width)}")
    for name, labels in zip("AB", only, strict=True):
        for label in labels[:SHOWN]:
            echo(f"only in {name}: {label}", err=True)
        if len(labels) > SHOWN:
            echo(f"only in {name}: {len(labels) - SHOWN} more; --json lists all", err=True)


def _two(sides: tuple[str, ...], named: tuple[str, ...]) -> tuple[str, str]:
    """Return the two sides of a comparison; raise ``click.UsageError`` if the words are not two."""
    if named:
        raise click.UsageError(f"{' '.join(named)} needs no -e or -o here: `bench compare A B --study FOLDER`.")
    if len(sides) == 2:
        return sides[0], sides[1]
    folders = [side for side in sides if Path(side).is_dir()]
    if len(sides) == 3 and len(folders) == 1:
        others = shlex.join(side for side in sides if side not in folders)
        raise click.UsageError(f"Give the study with --study: `bench compare {others} --study {folders[0]}`.")
    got = f"got {len(sides)}: {', '.join(sides)}" if sides else "got none"
    raise click.UsageError(f"bench compare needs two studies, two estimators or two cells ({got}).")
