"""The commands ``bench baseline save``, ``list``, ``show`` and ``promote``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from json import dumps
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any

import click

from bench.cli import options, values
from bench.cli.errors import UNWRITTEN, CommandError, ExitCode, reported
from bench.cli.terminal import echo, echo_json
from bench.planning.settings import SMALLEST_DRAW
from bench.records.lines import Outcome

if TYPE_CHECKING:
    from bench.gate.baseline import Baseline
    from bench.gate.save import Draft


fresh_option = click.option("--fresh", is_flag=True, help="Ignore the cells that an interrupted command has kept.")


@click.group(name="baseline")
def command() -> None:
    """Save and manage the baselines of `bench check`."""


@command.command(name="list")
@options.json_option
@reported(UNWRITTEN)
def list_baselines(json: bool) -> None:
    """List the baselines in results/baselines."""
    from bench.gate.baseline_file import names, read
    from bench.gate.changes import count

    found = {name: read(name) for name in names()}
    if json:
        echo_json(dumps({name: {"cells": len(b.cells), **b.environment} for name, b in found.items()}))
        return
    for name, b in found.items():
        commit = b.environment.get("commit")
        at = f", commit {commit}" if commit else ""
        echo(f"{name}: {count(b.cells)}, {b.setting.replicates} replicates{at}")
    if not found:
        echo("There is no baseline in results/baselines. Make one with `bench baseline save NAME`.", err=True)


@command.command()
@options.name_argument
@options.json_option
@reported(UNWRITTEN)
def show(name: str, json: bool) -> None:
    """Show a baseline: its cells and how they were measured."""
    from bench.gate.baseline_file import as_seen_here, path_of, read
    from bench.gate.changes import table

    found = read(name)
    if json:
        echo_json(found.text())
    else:
        echo(table(as_seen_here(found, path_of(name).parent)))


@command.command(
    epilog="\b\n"
    "Examples:\n"
    "  bench baseline save ci -e rloo:n=2,4 -o gaussian-quadratic --budget quick\n"
    "  bench baseline save nightly study.toml\n"
    "  bench baseline save nightly --from results/default"
)
@options.name_argument
@click.argument("spec", required=False, type=options.PATH, callback=options.spec_path, metavar="[SPEC.toml]")
@options.selectors
@options.data_dir
@options.no_plugins
@options.folder("--from", "study", help="Use the records of a study, also of given gradients; measure nothing.")
@options.budget(help="Replicates per cell: quick 1e4; full 1e5, or 4e5 for noisier cells [full].")
@options.replicates(type=values.Count(SMALLEST_DRAW), help="Replicates per cell, instead of a budget.")
@options.seed(help="Seed of all noise [the spec's].")
@options.dtype(help="Type of samples and gradients [the spec's].")
@options.device(help="Device to measure on [the spec's].")
@options.speed_option
@options.cell_timeout
@click.option("--force", is_flag=True, help="Replace an existing baseline of this name.")
@fresh_option
@options.quiet_option
@reported()
def save(name: str, study: Path | None, force: bool, **given: Any) -> ExitCode:
    """Measure cells and save their statistics as a baseline.

    If no spec, -e or -o is given, the cells of the default study are measured. To continue after an interruption,
    repeat the command: the cells that have been measured are kept in NAME.unfinished, beside the baseline.
    """
    from bench.gate.baseline_file import path_of
    from bench.planning.selectors import UsageError

    path = path_of(name)
    if path.exists() and not force:
        raise UsageError(f"Baseline {path} exists. Renew it with `bench baseline promote {name}`, or use --force.")
    if study is None:
        with _unfinished(path):
            return _keep(name, _measured(path, **given), speed=given["speed"])
    if any(value is not False and value not in (None, ()) for key, value in given.items() if key != "quiet"):
        raise UsageError("--from takes a study as it is: leave out the spec, selectors and options of measuring.")
    from bench.gate.save import read_study

    return _keep(name, read_study(study, path.parent))


@contextmanager
def _unfinished(path: Path) -> Iterator[None]:
    """Remove the work folder of a baseline when the baseline is written; name the folder if the user interrupts."""
    from bench.gate.save import work_folder

    work = work_folder(path)
    try:
        yield
    except KeyboardInterrupt:
        echo(f"The cells that have been measured are in {work}.", err=True)
        raise
    except CommandError:  # no cell could be measured
        rmtree(work, ignore_errors=True)
        raise
    rmtree(work, ignore_errors=True)


def _measured(
    path: Path,
    spec: Path | None,
    estimator: tuple[str, ...],
    objective: tuple[str, ...],
    budget: str | None,
    replicates: int | None,
    speed: bool,
    fresh: bool,
    cell_timeout: float | None,
    quiet: bool,
    **given: Any,
) -> Draft:
    """Measure the baseline that the arguments of the command line describe."""
    from dataclasses import replace

    from bench.cli.progress import choose
    from bench.planning.spec import study

    chosen, _ = study(spec, estimator, objective, **{key: value for key, value in given.items() if value is not None})
    options.prepare_workers((*chosen.estimators, *chosen.objectives), cell_timeout=cell_timeout)
    from bench.execution.pool import Pool
    from bench.execution.rehearsal import require_sound
    from bench.gate.save import measure
    from bench.gate.select import pick

    first, _ = options.BUDGETS[budget or "full"]
    settings = replace(chosen.on_device().settings(), replicates=replicates or first)
    adaptive = replicates is None and budget != "quick"
    with Pool(cell_timeout=cell_timeout) as pool:
        require_sound(pool, chosen)
        picked = pick(chosen.estimators, chosen.objectives)
        if not (quiet or spec or estimator or objective):
            echo(f"Without a spec, -e and -o: the {len(picked)} cells of the default study are measured.", err=True)
        progress = choose(quiet=quiet)
        return measure(picked, settings, path, progress, pool, adaptive=adaptive, speed=speed, fresh=fresh)


@command.command(
    epilog="\b\nExamples:\n  bench baseline promote ci\n  bench baseline promote ci -e rloo:n=8 -o gaussian-quadratic"
)
@options.name_argument
@options.selectors
@options.data_dir
@options.no_plugins
@options.folder("--from", "study", help="The study with the new gradients, if the baseline is one of given gradients.")
@options.speed_option
@options.cell_timeout
@fresh_option
@options.quiet_option
@reported()
def promote(
    name: str,
    study: Path | None,
    estimator: tuple[str, ...],
    objective: tuple[str, ...],
    speed: bool,
    cell_timeout: float | None,
    fresh: bool,
    quiet: bool,
) -> ExitCode:
    """Measure cells again, accept the results, and print the changes.

    Without -e and -o, every cell of the baseline is measured, and cells that no longer exist are dropped. With them,
    only the selected cells are measured, new ones too; all other cells stay as they are. If the baseline is of
    gradients that were made elsewhere, --from names the study of `bench measure` that has the new ones.
    """
    from bench.cli.progress import choose
    from bench.gate.baseline_file import path_of, read, selectors

    old, path = read(name), path_of(name)
    measuring = (estimator, objective, speed, fresh, cell_timeout)
    if options.reads_given(name, given=old.given, study=study, measuring=measuring):
        from bench.gate.save import promote_given

        return _keep(name, promote_given(old, study), old)  # type: ignore[arg-type]
    folder = path.parent
    options.prepare_workers((s for entry in old.cells for s in selectors(entry, folder)), cell_timeout=cell_timeout)
    from bench.execution.pool import Pool
    from bench.execution.rehearsal import rehearse
    from bench.gate import save
    from bench.gate.select import named, select

    with Pool(cell_timeout=cell_timeout) as pool:
        broken = rehearse(pool, named(old, folder, estimator, objective))
        selection = select(old, folder, estimator, objective, broken)
        with _unfinished(path):
            draft = save.promote(old, selection, path, choose(quiet=quiet), pool, speed=speed, fresh=fresh)
            return _keep(name, draft, old, speed=speed)


def _keep(name: str, draft: Draft, old: Baseline | None = None, *, speed: bool = False) -> ExitCode:
    """Write a baseline without the cells that failed, print what changed, and return the exit code."""
    from bench.gate.baseline_file import as_seen_here, path_of, write
    from bench.gate.changes import changes, count

    for loss in draft.lost:
        echo(f"{loss.outcome}: {loss.label}: {loss.reason}", err=True)
    path = path_of(name)
    seen = as_seen_here(draft.baseline, path.parent)
    cells = seen.cells
    if not cells:
        raise CommandError("No cell could be measured, and a baseline without cells guards nothing.", ExitCode.NOTHING)
    for entry in cells:
        if entry.is_surely_biased:
            echo(f"biased already, though declared unbiased: {entry.label} (p = {entry.p_bias:.1g})", err=True)
    if speed:
        from bench.gate.speed import obstacle

        for entry in cells:
            if why := obstacle(entry):
                echo(f"speed not gateable: {entry.label}: {why}", err=True)
    write(draft.baseline, path)
    if old is not None:
        for text in changes(as_seen_here(old, path.parent), seen) or ["nothing has changed"]:
            echo(text)
    echo(f"{path}: {count(cells)}. Commit it. To compare with it: `bench check --baseline {name}`.")
    return ExitCode.FAILED if any(loss.outcome == Outcome.FAILED for loss in draft.lost) else ExitCode.FINE
