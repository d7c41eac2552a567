"""The commands of the gate: ``bench check`` and ``bench baseline``."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from bench import names
from bench.names import Kind

if TYPE_CHECKING:
    from bench.baseline import Baseline, Entry, Setting
    from bench.gate import Picked, Selection
    from bench.record import Record

BIASED = 1e-6
"""p-value of the bias below which a cell that is saved is called biased."""

F = TypeVar("F", bound=Callable[..., Any])

BUDGETS = {"quick": (10_000, 1_000), "full": (100_000, 10_000)}
"""Replicates of a baseline and of the first stage of a check."""


@contextmanager
def _told() -> Iterator[None]:
    """Turn what a stage raises for its user, and an interrupt, into one sentence and an exit code."""
    from bench.cli import INTERRUPTED, CommandError, _told

    try:
        with _told():
            yield
    except KeyboardInterrupt:
        raise CommandError(f"Interrupted; nothing was written. Again: {shlex.join(_argv())}", INTERRUPTED) from None


def _argv() -> list[str]:
    return ["bench", *sys.argv[1:]]


def _complete(kind: Kind) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    def complete(_context: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        known = names.catalogue(kind)
        return [CompletionItem(n, help=f["description"]) for n, f in known.items() if n.startswith(incomplete)]

    return complete


def _complete_baseline(_context: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from bench import baseline

    return [CompletionItem(name) for name in baseline.names() if name.startswith(incomplete)]


def _selectors(command: F) -> F:
    for kind, flag in (("objective", "-o"), ("estimator", "-e")):
        command = click.option(
            flag,
            f"--{kind}",
            multiple=True,
            metavar="SELECTOR",
            shell_complete=_complete(kind),  # type: ignore[arg-type]
            help=f"Only this {kind}, as in `bench run`. Repeatable.",
        )(command)
    return command


name_argument = click.argument("name", shell_complete=_complete_baseline)
quiet_option = click.option("--quiet", is_flag=True, help="No progress on stderr.")
device_option = click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Where to measure.")
json_option = click.option("--json", is_flag=True, help="Print one JSON document.")


# check


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
    "--baseline", required=True, metavar="NAME", shell_complete=_complete_baseline, help="What to compare with."
)
@_selectors
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
    with _told():
        from bench import progress
        from bench.baseline import path_of, read
        from bench.cli import NOTHING, CommandError

        found = read(baseline)
        if dtype not in (None, found.setting.dtype):
            raise CommandError(
                f"Baseline {baseline} was measured in {found.setting.dtype}, and --dtype asks for {dtype}: no cell "
                "can be compared. Leave --dtype out, or save a baseline in it.",
                NOTHING,
            )
        from bench.gate import Options, select
        from bench.gate import check as compare
        from bench.gate.words import Printer

        first = BUDGETS[budget][1] if budget else replicates
        options = Options(replicates=first, speed=speed or "off", **given)  # type: ignore[arg-type]
        selection = select(found, path_of(baseline).parent, estimator, objective)
        if explain:
            selection = _only(selection, explain)
        printer = Printer(baseline, found, compare(found, selection, options, progress.choose(quiet=quiet)))
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
    from bench.gate import Selection
    from bench.names import did_you_mean
    from bench.selectors import UsageError

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


# baseline


@click.group()
def baseline() -> None:
    """Save, list, show and promote baselines: what `bench check` compares with."""


@baseline.command(name="list")
@json_option
def list_(json: bool) -> None:
    """List the baselines of this folder."""
    with _told():
        from bench.baseline import names, read

        found = {name: read(name) for name in names()}
    if json:
        click.echo(dumps({name: {"cells": len(b.cells), **b.environment} for name, b in found.items()}))
        return
    for name, b in found.items():
        click.echo(
            f"{name}: {len(b.cells)} cells, {b.setting.replicates} replicates, commit {b.environment.get('commit')}"
        )
    if not found:
        click.echo("There is no baseline in results/baselines. Make one with `bench baseline save NAME`.", err=True)


@baseline.command()
@name_argument
@json_option
def show(name: str, json: bool) -> None:
    """Show a baseline: its cells and how they were measured."""
    with _told():
        from bench.baseline import read, table

        found = read(name)
    click.echo(found.text() if json else f"{table(found)}\n", nl=False)


@baseline.command(
    epilog="\b\n"
    "Examples:\n"
    "  bench baseline save ci -e rloo:n=2,4 -o gaussian-quadratic --budget quick\n"
    "  bench baseline save nightly study.toml\n"
    "  bench baseline save nightly --from results/default"
)
@name_argument
@click.argument("spec", required=False, type=click.Path(path_type=Path), metavar="[SPEC.toml]")
@_selectors
@click.option(
    "--from", "study", type=click.Path(path_type=Path), metavar="FOLDER", help="Take a study's records instead."
)
@click.option("--budget", type=click.Choice(list(BUDGETS)), help="Replicates: quick 1e4, full 1e5 or 4e5 [full].")
@click.option("--replicates", type=click.IntRange(64), metavar="R", help="Replicates of every cell.")
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Root of all noise [the spec's].")
@click.option("--dtype", type=click.Choice(["float32", "float64"]), help="Of samples and gradients [the spec's].")
@device_option
@click.option("--speed", is_flag=True, help="Time every cell in nine fresh processes too.")
@click.option("--force", is_flag=True, help="Replace a baseline of this name.")
@quiet_option
def save(
    name: str,
    spec: Path | None,
    estimator: tuple[str, ...],
    objective: tuple[str, ...],
    study: Path | None,
    budget: str | None,
    replicates: int | None,
    speed: bool,
    force: bool,
    quiet: bool,
    **given: Any,
) -> int:
    """Measure cells and keep their statistics as a baseline.

    Without selectors: the cells of the default study.
    """
    with _told():
        from bench.baseline import path_of
        from bench.selectors import UsageError

        path = path_of(name)
        if path.exists() and not force:
            raise UsageError(
                f"Baseline {path} exists. Take new figures in with `bench baseline promote {name}`, or --force."
            )
        if study is not None:
            if (
                spec
                or estimator
                or objective
                or budget
                or replicates
                or speed
                or any(v is not None for v in given.values())
            ):
                raise UsageError("--from takes a study as it is: leave selectors, the spec and all budgets out.")
            new, lost = _from_study(study, path.parent)
            return _keep(name, None, new, lost)
        from bench.gate import pick
        from bench.spec import study as study_of

        overrides = {key: value for key, value in given.items() if value is not None}
        chosen, _ = study_of(spec, estimator, objective, **overrides)
        chosen = chosen.on_device()
        from bench.baseline import Setting

        wanted = replicates or BUDGETS[budget or "full"][0]
        setting = Setting(
            replicates=wanted,
            seed=chosen.seed,
            dtype=chosen.dtype,
            device=chosen.device,  # type: ignore[arg-type]
            common_noise=chosen.common_noise,
        )
        adaptive = replicates is None and budget != "quick"
        picked = pick(chosen.estimators, chosen.objectives)
        entries, lost = _entries(picked, setting, path.parent, adaptive=adaptive, speed=speed, quiet=quiet)
        return _keep(name, None, _assembled(setting, entries), lost)


@baseline.command(
    epilog="\b\nExamples:\n  bench baseline promote ci\n  bench baseline promote ci -e rloo:n=8 -o gaussian-quadratic"
)
@name_argument
@_selectors
@click.option("--speed", is_flag=True, help="Time every cell in nine fresh processes too.")
@quiet_option
def promote(name: str, estimator: tuple[str, ...], objective: tuple[str, ...], speed: bool, quiet: bool) -> int:
    """Measure cells again and accept them as the baseline, with all changes told.

    Without selectors: every cell; those that cannot be made any more are dropped. With selectors: those cells only, and
    the ones that the baseline does not have yet; all others stay as they are.
    """
    with _told():
        from bench.baseline import path_of, read
        from bench.gate import select

        old, folder = read(name), path_of(name).parent
        selection = select(old, folder, estimator, objective)
        picked = [p for _, p in selection.cells] + selection.new
        timed = speed or any(entry.speed for entry, _ in selection.cells)
        adaptive = any(entry.replicates > 2 * old.setting.replicates for entry in old.cells)
        entries, lost = _entries(picked, old.setting, folder, adaptive=adaptive, speed=timed, quiet=quiet)
        again = {entry.cell for entry in entries} | {missing.entry.cell for missing in selection.missing}
        stay = [entry for entry in old.cells if entry.cell not in again]
        return _keep(name, old, _assembled(old.setting, [*stay, *entries]), lost)


def _entries(
    picked: list[Picked], setting: Setting, folder: Path, *, adaptive: bool, speed: bool, quiet: bool
) -> tuple[list[Entry], list[Record]]:
    """Measure cells for a baseline; return their entries, and the records of those that failed or refused."""
    from bench import progress
    from bench.baseline import entry_of
    from bench.gate import accept
    from bench.gate.measure import settings_of
    from bench.gate.speed import baseline_costs

    settings, shown, lines = settings_of(setting), progress.choose(quiet=quiet), []
    shown.start(len(picked), 0)
    try:
        for p in picked:
            shown.cell(p.cell.label)
            lines.append(accept(p.cell, settings, shown.block, adaptive=adaptive))
            shown.finish(lines[-1])
    finally:
        shown.end()
    costs = baseline_costs(picked, settings) if speed else {}
    entries = [
        entry_of(
            line, str(p.estimator.relative_to(folder)), str(p.objective.relative_to(folder)), costs.get(line["cell"])
        )
        for line, p in zip(lines, picked, strict=True)
        if line["outcome"] == "measured"
    ]
    return entries, [line for line in lines if line["outcome"] != "measured"]


def _from_study(study: Path, folder: Path) -> tuple[Baseline, list[Record]]:
    """Return the baseline that a study's records make, and the records of its failed cells."""
    from bench import store
    from bench.baseline import Setting, entry_of
    from bench.gate import pick
    from bench.selectors import UsageError
    from bench.spec import FILE, Spec

    spec = Spec.read(study / FILE).on_device()
    records = [r for r in store.read(study) if r["kind"] == "moments"]
    keys = ("seed", "dtype", "device", "common_noise")
    records = [r for r in records if all(r[key] == getattr(spec, key) for key in keys)]
    latest = {r["cell"]: r for r in sorted(records, key=lambda r: r["replicates"])}
    picked = [p for p in pick(spec.estimators, spec.objectives) if p.cell.id in latest]
    entries = [
        entry_of(latest[p.cell.id], str(p.estimator.relative_to(folder)), str(p.objective.relative_to(folder)))
        for p in picked
        if latest[p.cell.id]["outcome"] == "measured"
    ]
    if not entries:
        raise UsageError(f"{study} holds no measured cell of its own spec. Run `bench run {study}` first.")
    setting = Setting(replicates=max(64, spec.replicates), **{key: getattr(spec, key) for key in keys})
    return _assembled(setting, entries), [r for r in latest.values() if r["outcome"] == "failed"]


def _assembled(setting: Setting, entries: list[Entry]) -> Baseline:
    from bench.baseline import assemble

    return assemble(setting, entries)


def _keep(name: str, old: Baseline | None, new: Baseline, lost: list[Record]) -> int:
    """Write a baseline and say what changed; 1 if cells could not be measured."""
    from bench.baseline import changes, path_of, write
    from bench.cli import FAILED, NOTHING, CommandError

    for line in lost:
        click.echo(f"{line['outcome']}: {line['estimator']} on {line['objective']}: {line['reason']}", err=True)
    if not new.cells:
        raise CommandError("No cell could be measured, and a baseline without cells guards nothing.", NOTHING)
    for entry in new.cells:
        if entry.unbiased and entry.p_bias is not None and entry.p_bias < BIASED:
            click.echo(f"biased already, though declared unbiased: {entry.label} (p = {entry.p_bias:.1g})", err=True)
    path = path_of(name)
    write(new, path)
    if old is not None:
        for text in changes(old, new) or ["nothing has changed"]:
            click.echo(text)
    click.echo(f"{path}: {len(new.cells)} cells. Commit it, and guard it with `bench check --baseline {name}`.")
    return FAILED if any(line["outcome"] == "failed" for line in lost) else 0
