"""What a command prints at its end, and its exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.errors import FAILED, NOTHING, CommandError

if TYPE_CHECKING:
    from bench.records.lines import Record


PIPE_WIDTH = 160
"""Columns of a table that is not printed on a terminal."""


def _show(
    records: Sequence[Record],
    folder: Path,
    files: Sequence[Path],
    *,
    cost: str = "seconds",
    json: bool,
    quiet: bool,
) -> None:
    if json:
        from bench.records.lines import plain

        lines = [{key: value for key, value in record.items() if key != "sums"} for record in records]
        click.echo(dumps(plain({"folder": str(folder), "files": [str(file) for file in files], "records": lines})))
    else:
        from rich.console import Console

        from bench import report

        report.print_table(records, Console(width=None if sys.stdout.isatty() else PIPE_WIDTH), cost)
    if not quiet:
        figures = sum(file.suffix == ".svg" for file in files)
        texts = [file.name for file in files if file.parent == folder]
        click.echo(f"{folder}: {', '.join(['records.jsonl', *texts])} and {figures} figures", err=True)


def _verdict(records: Sequence[Record]) -> int:
    """Return the exit code of a run: 0, or 1 if something failed; end with 4 if there was nothing to measure."""
    outcomes = {record["outcome"] for record in records}
    if "failed" in outcomes:
        return FAILED
    if not outcomes & {"measured", "diverged"}:
        reasons = dict.fromkeys(record["reason"] for record in records)
        raise CommandError(
            f"No cell could be measured, because no pair fits together: {' '.join([*reasons][:3])}", NOTHING
        )
    return 0
