"""The command ``bench check``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.errors import told
from bench.cli.options import BUDGETS, complete_baseline, data_dir, device_option, json_option, quiet_option, selectors

if TYPE_CHECKING:
    from bench.gate.select import Selection


@click.command(
    epilog="\b\n"
    "Exit codes: 0 fine, 1 a cell failed, 2 usage, 3 a confirmed fault or a missing cell,\n"
    "4 nothing was compared (with --strict: or judged), 5 damaged or newer baseline.\n\n"
    "\b\n"
    "Examples:\n"
    "  bench check --baseline ci\n"
    "  bench check --baseline ci -e rloo:n=4\n"
    "  bench check --baseline ci --explain 'rloo:n=4 on gaussian-quadratic'"
)
@click.option(
    "--baseline", required=True, metavar="NAME", shell_complete=complete_baseline, help="What to compare with."
)
@selectors
@data_dir
@click.option(
    "--budget", type=click.Choice(list(BUDGETS)), help="Replicates of the first stage: quick 1000, full 10000."
)
@click.option("--replicates", type=int, metavar="R", help="The same, in numbers [a tenth of the baseline's].")
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Of the first stage [the baseline's].")
@click.option("--margin", type=float, metavar="M", help="Growth that is let pass [0.05 or 0.1, by the cell].")
@click.option("--dtype", type=click.Choice(["float32", "float64"]), help="Refuse a baseline of another one.")
@device_option
@click.option("--strict", is_flag=True, help="Fail (4) if any cell could not be judged.")
@click.option("--remeasure", is_flag=True, help="Measure identical cells too, and compare their statistics.")
@click.option(
    "--speed",
    type=click.Choice(["advisory", "fail"]),
    is_flag=False,
    flag_value="advisory",
    help="Compare costs too; --speed=fail fails the build.",
)
@click.option("--explain", metavar="CELL", help="Check this one cell (its label or id) and show all of the evidence.")
@json_option
@click.option("--markdown", type=click.Path(path_type=Path), metavar="FILE", help="Write a pull-request comment.")
@click.option("--junit", type=click.Path(path_type=Path), metavar="FILE", help="Write JUnit XML.")
@quiet_option
def check(
    baseline: str,
    estimator: tuple[str, ...],
    objective: tuple[str, ...],
    budget: str | None,
    replicates: int | None,
    dtype: str | None,
    speed: str | None,
    explain: str | None,
    json: bool,
    markdown: Path | None,
    junit: Path | None,
    quiet: bool,
    **given: Any,
) -> int:
    """Fail if a variance has grown, or an unbiased estimator has become biased, since a baseline.

    Cells whose samples are the baseline's pass at once; the others are tested, so that a suite without a fault
    practically never fails. Selectors narrow what is measured.
    """
    if budget and replicates is not None:
        raise click.UsageError("--budget and --replicates say the same: give one of them.")
    with told():
        from bench.cli.errors import NOTHING, CommandError
        from bench.cli.progress import choose
        from bench.gate.baseline import path_of, read

        found = read(baseline)
        if dtype not in (None, found.setting.dtype):
            raise CommandError(
                f"Baseline {baseline} was measured in {found.setting.dtype}, and --dtype asks for {dtype}: no cell "
                "can be compared. Leave --dtype out, or save a baseline in it.",
                NOTHING,
            )
        from bench.gate.select import select
        from bench.gate.stages import Options
        from bench.gate.stages import check as compare
        from bench.gate.words import Printer

        first = BUDGETS[budget][1] if budget else replicates
        options = Options(replicates=first, speed=speed or "off", **given)  # type: ignore[arg-type]
        selection = select(found, path_of(baseline).parent, estimator, objective)
        if explain:
            selection = _only(selection, explain)
        printer = Printer(baseline, found, compare(found, selection, options, choose(quiet=quiet)))
        if markdown:
            markdown.write_text(printer.markdown(), encoding="utf-8")
        if junit:
            junit.write_text(printer.junit(), encoding="utf-8")
    if json:
        click.echo(printer.json())
    elif explain and printer.findings:
        click.echo(printer.explain(printer.findings[0]))
    else:
        click.echo(printer.text())
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in printer.annotations():
            click.echo(line, err=True)
    return printer.report.exit_code


def _only(selection: Selection, wanted: str) -> Selection:
    """Return the part of a selection that is the one cell which a label or the beginning of an id names."""
    from bench.gate.select import Selection
    from bench.planning.catalogue import did_you_mean
    from bench.planning.selectors import UsageError

    known = {entry.cell: picked.label for entry, picked in selection.cells}
    known |= {missing.entry.cell: missing.label for missing in selection.missing}
    found = [cell for cell, label in known.items() if wanted == label or cell.startswith(wanted)]
    if len(found) != 1:
        hint = did_you_mean(wanted, known.values())
        raise UsageError(
            f"{wanted!r} is {'the beginning of several ids' if found else 'not a cell of the baseline'}.{hint} "
            "Give a label such as 'rloo:n=4 on gaussian-quadratic', or an id."
        )
    return Selection(
        [pair for pair in selection.cells if pair[0].cell in found],
        [missing for missing in selection.missing if missing.entry.cell in found],
        [],
    )
