"""The command ``bench run``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli import cluster, options, values
from bench.cli.errors import ExitCode, reported
from bench.cli.output import beside, finish, print_table
from bench.cli.terminal import echo
from bench.execution.cluster.address import Dask
from bench.planning.catalogue import catalogue
from bench.records.lines import LineKind, Outcome, Record

if TYPE_CHECKING:
    from bench.planning.spec import Spec

DIGITS = 19
"""From this number of digits on, a whole number may not fit into 64 bits."""


def _numbers(_context: click.Context, _param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Return the numbers in a list with commas."""
    if value is None:
        return None
    parts = [part.strip() for part in value.split(",")]
    if not all(part.isdecimal() and len(part) < DIGITS and int(part) for part in parts):
        raise click.BadParameter(f"{value!r} is not a list of whole numbers of at least 1, such as 2,4,8.")
    return tuple(map(int, parts))


@click.command(
    name="run",
    epilog="\b\n"
    "Examples:\n"
    "  bench run -e rloo:n=2,4,8 -e score-function -o bernoulli-quadratic:dim=10\n"
    "  bench run -e path/to/mine.py::MyEstimator\n"
    "  bench run --all -o path/to/mine.py::MyObjective --precision 0.05\n"
    "  bench run study.toml\n"
    "  bench run results/default",
)
@click.argument("spec", required=False, type=options.PATH, callback=options.spec_path, metavar="[SPEC.toml | FOLDER]")
@options.selector("estimator", "An estimator, such as rloo:n=2,4 or mine.py::Mine.")
@options.selector("objective", "An objective, such as gaussian-quadratic:dim=10.")
@click.option(
    "--samples",
    "--n",
    "samples",
    callback=_numbers,
    metavar="N,...",
    help="Values of n for estimators that take n and are named without it.",
)
@click.option(
    "--at",
    metavar="POINT",
    help="Weights, for objectives with a field named at. One of initial, trained, or a file of "
    "`bench train --keep-weights`.",
)
@options.data_dir
@options.no_plugins
@options.replicates(help="Independent gradients per cell [10000].")
@click.option(
    "--precision",
    type=values.Positive(1),
    metavar="H",
    help="Choose the replicates of each cell so that its variance is known to ±H, such as 0.05 for 5 %.",
)
@options.number("--max-replicates", metavar="R", help="With --precision: the most replicates per cell [1000000].")
@options.number("--adapt-steps", metavar="N", help="Most steps in which a learned estimator learns [500].")
@options.device_or_auto(help="Device to measure on [cpu].")
@options.dtype(help="Type of samples and gradients [float32].")
@options.seed(help="Seed of all noise [0].")
@options.out(help="The study folder [results/NAME].")
@options.workers(help="Processes that measure; auto is as many as there are cores and as pay off [auto].")
@cluster.options
@options.cell_timeout
@click.option("--all", "every", is_flag=True, help="Measure every estimator of the catalogue, with its defaults.")
@click.option("--no-timing", is_flag=True, help="Measure neither time nor memory.")
@click.option("--no-common-noise", is_flag=True, help="Give every cell its own noise.")
@options.rerun_option
@options.fresh_option
@options.json_option
@options.quiet_option
@reported()
def command(json: bool, quiet: bool, **given: Any) -> ExitCode:
    """Measure every estimator on every objective.

    Without arguments, this runs the default study, in less than half a minute. With only -e, the objectives come from
    the default study; with only -o, the estimators do. Results in the study folder are not measured again, unless
    they failed or their code has changed: to continue after an interruption, repeat the command.
    """
    from bench.cli.progress import choose

    named = bool(given["estimator"])
    chosen, folder, how = asked(**given)
    if given["max_replicates"] is not None and not any(each.precision for each in chosen) and not quiet:
        echo("--max-replicates has no effect: without a --precision, all --replicates are measured.", err=True)
    from bench.execution.run import Ran, run_study
    from bench.report import Report, is_one_table

    printed = []

    def show(ran: Ran) -> None:
        """Print the variances before the cells are timed, if their table has no times."""
        shown = beside(ran.records, ran.held)
        if not json and is_one_table(shown):
            print_table(Report(shown), named=named, brief=True)
            printed.append(True)

    records, held, digest = run_study(chosen, folder, choose(quiet=quiet), before_timing=show, **how)
    fixed = len(chosen) == 1 and chosen[0].precision is None
    if not quiet and fixed and (note := rounded_up(records, chosen[0].replicates)):
        echo(note, err=True)
    for note in [] if quiet else without_table(chosen):
        echo(note, err=True)
    shown = bool(printed)
    return finish(records, folder, held, digest=digest, json=json, quiet=quiet, named=named, brief=True, printed=shown)


def asked(
    spec: Path | None,
    estimator: tuple[str, ...],
    objective: tuple[str, ...],
    samples: tuple[int, ...] | None,
    at: str | None,
    out: Path | None,
    workers: int | Dask | None,
    cell_timeout: float | None,
    every: bool,
    no_timing: bool,
    no_common_noise: bool,
    rerun: tuple[str, ...],
    fresh: bool,
    **given: Any,
) -> tuple["list[Spec]", Path, dict[str, Any]]:
    """Return what a command ``bench run`` asks for: specs, study folder, and how ``run_study`` is to run them.

    The arguments are the options of the command, as click parses them. ``given`` has the options that set other keys of
    a spec; an option that was not given is None.

    Raises:
        click.UsageError: options contradict each other.
        UsageError: a spec cannot be read, or a name or value is wrong.
    """
    again = options.reruns(rerun, fresh=fresh)
    overrides = {key: value for key, value in given.items() if value is not None}
    if "precision" in overrides and "replicates" in overrides:
        raise click.UsageError("--precision finds the number of replicates, and --replicates gives it: choose one.")
    overrides |= {"precision": None} if "replicates" in overrides else {}
    overrides |= {"timing": False} if no_timing else {}
    overrides |= {"common_noise": False} if no_common_noise else {}
    from bench.planning.plans import studies

    estimator += tuple(catalogue("estimator")) if every else ()
    specs, folder = studies(spec, estimator, objective, samples, out, **overrides)
    named_selectors = [selector for each in specs for selector in (*each.estimators, *each.objectives)]
    options.prepare_workers(named_selectors, workers, cell_timeout)
    chosen = [(each if at is None else each.with_point(at)).on_device() for each in specs]
    return chosen, folder, {"workers": workers, "rerun": again, "cell_timeout": cell_timeout}


def without_table(specs: "Sequence[Spec]") -> list[str]:
    """Return a sentence for each objective whose table of scores is too large. The sentence says what to lower.

    A table of scores has the gradient of log q for each token sequence. Without the table, autograd computes these
    gradients.
    """
    from bench.measurement.look_up import too_large, weighs

    found = list[str]()
    for estimators, objectives in (spec.instances() for spec in specs):
        if any(weighs(estimator) for estimator in estimators):
            found += [sentence for each in objectives if (sentence := too_large(each))]
    return found


def rounded_up(records: Sequence[Record], asked: int) -> str:
    """Return a sentence on how many replicates each cell has; empty if all cells have as many as the user asked for.

    ``records`` are those of the cells, and ``asked`` is the number that the user asked for. A cell can have more,
    because replicates are made in whole draws (batches).
    """
    measured = [r for r in records if r["kind"] == LineKind.MOMENTS and r["outcome"] == Outcome.MEASURED]
    found = sorted({r["replicates"] for r in measured if not r["deterministic"]})
    if not found or found == [asked]:
        return ""
    count = f"{found[0]:,}" if len(found) == 1 else f"{found[0]:,} to {found[-1]:,}"
    return f"Measured {count} replicates, not {asked:,}: they are made in whole draws (batches)."
