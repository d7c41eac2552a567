"""The command ``bench check``."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli import options
from bench.cli.errors import UNWRITTEN, CommandError, ExitCode, reported
from bench.cli.terminal import echo, echo_json
from bench.records.files import LOST, make_folder, output

if TYPE_CHECKING:
    from bench.gate.baseline import Baseline
    from bench.gate.words import Printer


@click.command(
    name="check",
    epilog="\b\n"
    "Exit codes: 0 passed, 1 a cell could not be measured, 2 wrong usage, 3 a confirmed fault or a\n"
    "missing cell, 4 nothing was compared (with --strict: a cell could not be judged; with\n"
    "--speed=fail: no speed could be), 5 damaged or newer baseline, 130 interrupted.\n\n"
    "\b\n"
    "Examples:\n"
    "  bench check --baseline ci\n"
    "  bench check --baseline ci -e rloo:n=4\n"
    "  bench check --baseline ci --explain 'rloo:n=4 on gaussian-quadratic'\n"
    "  bench check --baseline policy --from results/policy",
)
@click.option(
    "--baseline",
    required=True,
    metavar="NAME",
    shell_complete=options.complete_baseline,
    help="Name or path of the baseline to compare with.",
)
@options.selectors
@options.data_dir
@options.no_plugins
@options.folder("--from", "study", help="The study with the new gradients, if the baseline is one of given gradients.")
@options.budget(help="Replicates of the first stage: quick 1000, full 10000.")
@options.replicates(help="Replicates of the first stage [a tenth of the baseline's].")
@options.seed(help="Seed of the first stage [the baseline's].")
@click.option(
    "--margin", type=float, metavar="M", help="Growth of a variance that passes, 0.1 for 10 % [0.05 or 0.1, by cell]."
)
@options.dtype(help="Refuse the baseline if it has another dtype.")
@options.device(help="Device to measure on [the baseline's].")
@click.option("--strict", is_flag=True, help="Exit with code 4 if a cell could not be judged.")
@click.option("--remeasure", is_flag=True, help="Also measure identical cells, and compare their statistics.")
@click.option(
    "--speed",
    type=click.Choice(["advisory", "fail"]),
    is_flag=False,
    flag_value="advisory",
    help="Also compare costs; with --speed=fail, a slower cell fails the build.",
)
@click.option("--explain", metavar="CELL", help="Check only the cell with this label or id; print all evidence.")
@options.cell_timeout
@options.json_option
@click.option("--markdown", type=options.OUTPUT, metavar="FILE", help="Also write a report for a pull request.")
@click.option("--junit", type=options.OUTPUT, metavar="FILE", help="Also write a report in JUnit XML.")
@options.quiet_option
@reported(UNWRITTEN)
def command(
    baseline: str,
    estimator: tuple[str, ...],
    objective: tuple[str, ...],
    study: Path | None,
    budget: str | None,
    replicates: int | None,
    dtype: str | None,
    speed: str | None,
    explain: str | None,
    json: bool,
    markdown: Path | None,
    junit: Path | None,
    cell_timeout: float | None,
    quiet: bool,
    **given: Any,
) -> int:
    """Fail if an estimator is worse than in a baseline.

    An estimator is worse if its variance has grown, if it is declared unbiased and has become biased, or if it
    evaluates f more often. Cells whose samples equal the baseline's pass at once. All other cells are tested, with very
    rare false alarms. With -e and -o, only the selected cells are checked. If the baseline is of gradients that were
    made elsewhere, --from names the study of `bench measure` that has the new ones.
    """
    if budget and replicates is not None:
        raise click.UsageError("--budget and --replicates both set the replicates: give one of them.")
    from bench.gate.baseline_file import read

    for path in filter(None, (markdown, junit)):
        _check_writable(path)
    found = read(baseline)
    if dtype not in (None, found.setting.dtype):
        raise CommandError(
            f"Baseline {baseline} was measured in {found.setting.dtype}, and --dtype asks for {dtype}: no cell can be "
            "compared. Leave --dtype out, or save another baseline with this dtype.",
            ExitCode.NOTHING,
        )
    how = dict[str, Any](replicates=options.BUDGETS[budget][1] if budget else replicates, speed=speed or "off", **given)
    measuring = (estimator, objective, budget, replicates, dtype, speed, cell_timeout, given["seed"], given["device"])
    if options.reads_given(baseline, given=found.given, study=study, measuring=(*measuring, given["remeasure"])):
        printer = _given(baseline, found, explain, how | {"study": study})
    else:
        printer = _measured(baseline, found, estimator, objective, explain, how, cell_timeout=cell_timeout, quiet=quiet)
    if json:
        echo_json(printer.json())
    else:
        echo(printer.explain(printer.findings[0]) if explain and printer.findings else printer.text())
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in printer.annotations():
            echo(line, err=True)
    written = [_write(path, text) for path, text in ((markdown, printer.markdown), (junit, printer.junit)) if path]
    return printer.report.exit_code or max(written, default=ExitCode.FINE)


def _given(name: str, baseline: Baseline, explain: str | None, how: dict[str, Any]) -> Printer:
    """Check given gradients, and return the report."""
    from bench.gate import given
    from bench.gate.stages import Options
    from bench.gate.words import Printer

    return Printer(name, baseline, given.check(baseline, how["study"], Options(**how), explain))


def _measured(
    name: str,
    baseline: Baseline,
    estimator: tuple[str, ...],
    objective: tuple[str, ...],
    explain: str | None,
    how: dict[str, Any],
    *,
    cell_timeout: float | None,
    quiet: bool,
) -> Printer:
    """Measure and check the cells of a baseline, and return the report."""
    from bench.cli.progress import choose
    from bench.gate.baseline_file import path_of, selectors

    folder = path_of(name).parent
    options.prepare_workers(
        (s for entry in baseline.cells for s in selectors(entry, folder)), cell_timeout=cell_timeout
    )
    from bench.execution.pool import Pool
    from bench.execution.rehearsal import rehearse
    from bench.gate.select import named, select
    from bench.gate.stages import Options, check
    from bench.gate.words import Printer

    with Pool(cell_timeout=cell_timeout) as pool:
        broken = rehearse(pool, named(baseline, folder, estimator, objective))
        selection = select(baseline, folder, estimator, objective, broken)
        if explain:
            selection = selection.only(explain)
        return Printer(name, baseline, check(baseline, selection, Options(**how), choose(quiet=quiet), pool))


def _check_writable(path: Path) -> None:
    """Make the folder of a report, before anything is measured for it; raise ``OSError`` if this fails."""
    make_folder(path.parent)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))


def _write(path: Path, text: Callable[[], str]) -> ExitCode:
    """Write a report, and return the exit code for it; if it cannot be written, say so on stderr."""
    try:
        output(path, text())
    except OSError as error:
        echo(f"Error: {path} cannot be written: {error.strerror}.", err=True)
        return ExitCode.FAILED if error.errno in LOST else ExitCode.USAGE
    return ExitCode.FINE
