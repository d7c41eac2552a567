"""The commands ``bench baseline``: save, list, show, promote."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.errors import told
from bench.cli.options import BUDGETS, data_dir, device_option, json_option, name_argument, quiet_option, selectors
from bench.planning.settings import SMALLEST_DRAW

if TYPE_CHECKING:
    from bench.gate.baseline import Baseline, Entry, Setting
    from bench.gate.select import Picked
    from bench.records.lines import Record


BIASED = 1e-6
"""p-value of the bias below which a cell that is saved is called biased."""


@click.group()
def baseline() -> None:
    """Save, list, show and promote baselines: what `bench check` compares with."""


@baseline.command(name="list")
@json_option
def list_(json: bool) -> None:
    """List the baselines of this folder."""
    with told():
        from bench.gate.baseline import names, read
        from bench.gate.changes import count

        found = {name: read(name) for name in names()}
    if json:
        click.echo(dumps({name: {"cells": len(b.cells), **b.environment} for name, b in found.items()}))
        return
    for name, b in found.items():
        click.echo(f"{name}: {count(b.cells)}, {b.setting.replicates} replicates, commit {b.environment.get('commit')}")
    if not found:
        click.echo("There is no baseline in results/baselines. Make one with `bench baseline save NAME`.", err=True)


@baseline.command()
@name_argument
@json_option
def show(name: str, json: bool) -> None:
    """Show a baseline: its cells and how they were measured."""
    with told():
        from bench.gate.baseline import read
        from bench.gate.changes import table

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
@selectors
@data_dir
@click.option(
    "--from", "study", type=click.Path(path_type=Path), metavar="FOLDER", help="Take a study's records instead."
)
@click.option("--budget", type=click.Choice(list(BUDGETS)), help="Replicates: quick 1e4, full 1e5 or 4e5 [full].")
@click.option("--replicates", type=click.IntRange(SMALLEST_DRAW), metavar="R", help="Replicates of every cell.")
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
    with told():
        from bench.gate.baseline import path_of
        from bench.planning.selectors import UsageError

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
        from bench.gate.select import pick
        from bench.planning.spec import study as study_of

        overrides = {key: value for key, value in given.items() if value is not None}
        chosen, _ = study_of(spec, estimator, objective, **overrides)
        chosen = chosen.on_device()
        from bench.gate.baseline import Setting

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
@selectors
@data_dir
@click.option("--speed", is_flag=True, help="Time every cell in nine fresh processes too.")
@quiet_option
def promote(name: str, estimator: tuple[str, ...], objective: tuple[str, ...], speed: bool, quiet: bool) -> int:
    """Measure cells again and accept them as the baseline, with all changes told.

    Without selectors: every cell; those that cannot be made any more are dropped. With selectors: those cells only, and
    the ones that the baseline does not have yet; all others stay as they are.
    """
    with told():
        from bench.gate.baseline import path_of, read
        from bench.gate.select import select

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
    from bench.cli.progress import choose
    from bench.gate.baseline import entry_of
    from bench.gate.measure import accept, settings_of
    from bench.gate.speed import baseline_costs

    settings, shown, lines = settings_of(setting), choose(quiet=quiet), []
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
    from bench.gate.baseline import Setting, entry_of
    from bench.gate.select import pick
    from bench.planning.selectors import UsageError
    from bench.planning.spec import FILE, Spec
    from bench.records import store

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
    entries = [entry.untruncated() if entry.is_heavy else entry for entry in entries]  # a study measures no pairs
    if not entries:
        raise UsageError(f"{study} holds no measured cell of its own spec. Run `bench run {study}` first.")
    setting = Setting(replicates=max(SMALLEST_DRAW, spec.replicates), **{key: getattr(spec, key) for key in keys})
    return _assembled(setting, entries), [r for r in latest.values() if r["outcome"] == "failed"]


def _assembled(setting: Setting, entries: list[Entry]) -> Baseline:
    from bench.gate.baseline import assemble

    return assemble(setting, entries)


def _keep(name: str, old: Baseline | None, new: Baseline, lost: list[Record]) -> int:
    """Write a baseline and say what changed; 1 if cells could not be measured."""
    from bench.cli.errors import FAILED, NOTHING, CommandError
    from bench.gate.baseline import path_of, write
    from bench.gate.changes import changes, count

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
    click.echo(f"{path}: {count(new.cells)}. Commit it, and guard it with `bench check --baseline {name}`.")
    return FAILED if any(line["outcome"] == "failed" for line in lost) else 0
