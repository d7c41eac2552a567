"""The command ``bench run``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bench.cli.errors import _told
from bench.cli.options import complete, data_dir
from bench.cli.output import _show, _verdict
from bench.planning import catalogue as names


def _samples(_context: click.Context, _param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Return the numbers of a comma list."""
    if value is None:
        return None
    parts = [part.strip() for part in value.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise click.BadParameter(f"{value!r} is not a list of whole numbers from 1 on, as in 2,4,8.")
    return tuple(int(part) for part in parts)


@click.command(
    epilog="\b\n"
    "Examples:\n"
    "  bench run -e rloo:n=2,4,8 -e score-function -o bernoulli-quadratic:dim=10\n"
    "  bench run -e path/to/mine.py::MyEstimator\n"
    "  bench run study.toml\n"
    "  bench run results/default"
)
@click.argument("spec", required=False, type=click.Path(path_type=Path), metavar="[SPEC.toml | FOLDER]")
@click.option(
    "-e",
    "--estimator",
    multiple=True,
    metavar="SELECTOR",
    shell_complete=complete("estimator"),
    help="An estimator, as rloo:n=2,4 or mine.py::Mine. Repeatable.",
)
@click.option(
    "-o",
    "--objective",
    multiple=True,
    metavar="SELECTOR",
    shell_complete=complete("objective"),
    help="An objective, as gaussian-quadratic:dim=10. Repeatable.",
)
@click.option(
    "--samples", callback=_samples, metavar="N,...", help="n of every estimator that has one and was not given it."
)
@click.option(
    "--at", metavar="POINT", help="Weights of networks: initial, trained, or a file of `bench train --keep-weights`."
)
@data_dir
@click.option("--replicates", type=click.IntRange(1), metavar="R", help="Independent calls of each cell [10000].")
@click.option(
    "--precision",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="H",
    help="Instead: as many calls as bring the variance within ±H of itself, as 0.05.",
)
@click.option(
    "--max-replicates", type=click.IntRange(1), metavar="R", help="With --precision, where a cell stops [1000000]."
)
@click.option("--device", type=click.Choice(["cpu", "cuda", "auto"]), help="Where to measure [cpu].")
@click.option("--dtype", type=click.Choice(["float32", "float64"]), help="Of samples and gradients [float32].")
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Root of all noise [0].")
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER", help="The study folder [results/NAME].")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Processes that measure [as many as pay off].")
@click.option("--all", "every", is_flag=True, help="Every estimator of the catalogue, with its defaults.")
@click.option("--no-timing", is_flag=True, help="Leave out the timing pass.")
@click.option("--no-common-noise", is_flag=True, help="Give every cell noise of its own.")
@click.option("--json", is_flag=True, help="Print one JSON document instead of the table.")
@click.option("--quiet", is_flag=True, help="No progress and no notes on stderr.")
def run(
    spec: Path | None,
    estimator: tuple[str, ...],
    objective: tuple[str, ...],
    samples: tuple[int, ...] | None,
    at: str | None,
    out: Path | None,
    workers: int | None,
    every: bool,
    no_timing: bool,
    no_common_noise: bool,
    json: bool,
    quiet: bool,
    **given: Any,
) -> int:
    """Measure every estimator on every objective.

    Without arguments: the default study, about a minute. With -e or -o alone, the other half is the default study's.
    What the study folder holds already is not measured again: the same command goes on after an interruption.
    """
    overrides = {key: value for key, value in given.items() if value is not None}
    if "precision" in overrides and "replicates" in overrides:
        raise click.UsageError("--precision finds the number of replicates, and --replicates gives it: choose one.")
    overrides |= {"precision": None} if "replicates" in overrides else {}
    overrides |= {"timing": False} if no_timing else {}
    overrides |= {"common_noise": False} if no_common_noise else {}
    with _told():
        from bench import report
        from bench.cli.progress import choose
        from bench.planning.spec import study
        from bench.records import store

        estimator += tuple(names.catalogue("estimator")) if every else ()
        chosen, folder = study(spec, estimator, objective, samples, out, **overrides)
        chosen = chosen if at is None else chosen.with_point(at)
        from bench.execution.run import run as measure

        records = measure(chosen.on_device(), folder, choose(quiet=quiet), workers)
        files = report.write(folder, store.read(folder))
    _show(records, folder, files, json=json, quiet=quiet)
    return _verdict(records)
