"""The command ``bench compare``."""

from __future__ import annotations

from json import dumps
from pathlib import Path

import click


@click.command(
    epilog="\b\n"
    "Examples:\n"
    "  bench compare results/before results/after\n"
    "  bench compare rloo:n=2 rloo:n=4 --study results/default"
)
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option(
    "--study",
    type=click.Path(path_type=Path),
    default=Path("results/default"),
    metavar="FOLDER",
    help="Where A and B were measured, if they are estimators or cells [results/default].",
)
@click.option("--json", is_flag=True, help="Print one JSON document.")
def compare(a: str, b: str, study: Path, json: bool) -> int:
    """Compare the variances of two studies, or of two estimators of one study, from their records alone.

    Two folders are compared cell by cell. Two estimators are compared on every objective that both were measured on;
    two cells, as 'rloo on gaussian-quadratic', with each other. B/A below 1 means that B has the lower variance. Where
    both saw the same noise the comparison is paired, which tells far closer variances apart.
    """
    from bench.cli.errors import DAMAGED, NOTHING, USAGE, CommandError
    from bench.planning.catalogue import did_you_mean
    from bench.records.lines import Damaged, plain
    from bench.report.compare import Unknown, of_estimators, of_studies, table

    folders = [Path(word) for word in (a, b)]
    studies = [folder.is_dir() for folder in folders]
    if any(studies) and not all(studies):
        other = b if studies[0] else a
        raise CommandError(f"{other} is no study folder. Give two folders, or two estimators of one --study.", USAGE)
    try:
        only: list[list[str]] = [[], []]
        if all(studies):
            found, *only = of_studies(*(_records(folder) for folder in folders))
        else:
            found = of_estimators(_records(study), a, b)
    except Unknown as error:
        raise CommandError(f"{error}{did_you_mean(error.label, error.known)}", USAGE) from None
    except Damaged as error:
        raise CommandError(str(error), DAMAGED) from None
    if not found:
        what = "the studies have no measured cell in common" if all(studies) else "no objective was measured with both"
        raise CommandError(f"Nothing was compared: {what}.", NOTHING)
    if json:
        cells = [each.to_json() for each in found]
        click.echo(dumps(plain({"a": a, "b": b, "cells": cells, "only_a": only[0], "only_b": only[1]})))
        return 0
    click.echo(f"A: {a}\nB: {b}\n\n{table(found)}")
    for name, labels in zip("AB", only, strict=True):
        for label in labels:
            click.echo(f"only in {name}: {label}", err=True)
    return 0


def _records(folder: Path) -> list[dict[str, object]]:
    from bench.cli.errors import USAGE, CommandError
    from bench.records import store

    records = store.read(folder)
    if not records:
        raise CommandError(f"There are no records in {folder}. Give a folder that `bench run` has written.", USAGE)
    return records
