"""The command line: parse words, call one stage, print. Imports that take time are inside the command that needs them.

Data goes to stdout; progress, notes and errors to stderr. Exit codes: 0 fine, 1 a cell failed, 2 usage, 4 no cell could
be measured, 5 the records are damaged or newer, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from bench import cli_baseline, cli_compare, cli_gate, cli_train, names
from bench.cli_data import data_dir
from bench.cli_options import complete
from bench.names import Kind

if TYPE_CHECKING:
    from bench.record import Record

FAILED, USAGE, NOTHING, DAMAGED, INTERRUPTED = 1, 2, 4, 5, 130

PIPE_WIDTH = 160
"""Columns of a table that is not printed on a terminal."""


class CommandError(Exception):
    """Ends the command with one sentence and an exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def main() -> int:
    """Run the command line, and return its exit code. Whatever the user got wrong is one sentence on stderr."""
    program = "stochgrad-bench" if Path(sys.argv[0]).stem == "stochgrad-bench" else "bench"
    try:
        code = cli.main(prog_name=program, standalone_mode=False, auto_envvar_prefix="BENCH")
    except (CommandError, click.ClickException) as error:
        message = error.format_message() if isinstance(error, click.ClickException) else str(error)
        click.echo(f"Error: {' '.join(message.split())}", err=True)
        return error.exit_code
    except click.Abort:  # click's word for KeyboardInterrupt
        command = shlex.join([program, *sys.argv[1:]])
        click.echo(f"Interrupted; what was measured is safe. Go on with: {command}", err=True)
        return INTERRUPTED
    except OSError as error:
        if error.errno != errno.EPIPE:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has left, as head does
        return FAILED
    return code if isinstance(code, int) else 0


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn what a stage raises for its user into one sentence and an exit code."""
    from bench.record import Damaged
    from bench.selectors import UsageError
    from bench.store import Busy

    try:
        yield
    except (UsageError, Busy) as error:
        raise CommandError(str(error), USAGE) from None
    except Damaged as error:
        raise CommandError(str(error), DAMAGED) from None
    except OSError as error:
        if error.filename is None:
            raise
        raise CommandError(
            f"{error.filename} cannot be written: {error.strerror}. Choose another folder.", USAGE
        ) from None


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every option can be set by an environment variable too: --seed of run by BENCH_RUN_SEED.",
)
@click.version_option(package_name="stochgrad-bench", prog_name="stochgrad-bench")
@click.pass_context
def cli(context: click.Context) -> None:
    """Measure the bias, variance and cost of Monte Carlo gradient estimators."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _samples(_context: click.Context, _param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Return the numbers of a comma list."""
    if value is None:
        return None
    parts = [part.strip() for part in value.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise click.BadParameter(f"{value!r} is not a list of whole numbers from 1 on, as in 2,4,8.")
    return tuple(int(part) for part in parts)


@cli.command(
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
        from bench import progress, report, store
        from bench.spec import study

        estimator += tuple(names.catalogue("estimator")) if every else ()
        chosen, folder = study(spec, estimator, objective, samples, out, **overrides)
        chosen = chosen if at is None else chosen.with_point(at)
        from bench.run import run as measure

        records = measure(chosen.on_device(), folder, progress.choose(quiet=quiet), workers)
        files = report.write(folder, store.read(folder))
    _show(records, folder, files, json=json, quiet=quiet)
    return _verdict(records)


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
        from bench.record import plain

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


@cli.command()
@click.argument("path", type=click.Path(path_type=Path), metavar="FOLDER")
@click.option(
    "--cost",
    type=click.Choice(["seconds", "evaluations"]),
    default="seconds",
    help="What an estimate costs: seconds where they were measured [default], or evaluations of f and its gradient.",
)
@click.option("--json", is_flag=True, help="Print the records as one JSON document instead of the table.")
@click.option("--quiet", is_flag=True, help="No notes on stderr.")
def report(path: Path, cost: str, json: bool, quiet: bool) -> None:
    """Rebuild a study's tables and figures from its records alone."""
    with _told():
        from bench import report, store

        folder = path.parent if path.name == store.LINES else path
        records = store.read(folder)
        if not records:
            raise CommandError(f"There are no records in {folder}. Give a folder that `bench run` has written.", USAGE)
        files = report.write(folder, records, cost)
    _show(records, folder, files, cost=cost, json=json, quiet=quiet)


@cli.command(name="list")
@click.argument("what", required=False, type=click.Choice(["estimators", "objectives"]))
@click.option("--json", is_flag=True, help="Print one JSON document.")
def list_(what: str | None, json: bool) -> None:
    """List the estimators and objectives, one line each."""
    kinds = [kind for kind in get_args(Kind) if what in (None, f"{kind}s")]
    if json:
        click.echo(dumps({f"{kind}s": names.catalogue(kind) for kind in kinds}))
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for kind in kinds:
        lines = [_line(name, facts) for name, facts in names.catalogue(kind).items()]
        columns = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            text = "  ".join(word.ljust(size) for word, size in zip(line, columns, strict=True)).rstrip()
            click.echo(text if width is None or len(text) <= width else f"{text[: width - 1]}…")


def _line(name: str, facts: dict[str, Any]) -> tuple[str, ...]:
    """Return the words that ``list`` says of an entry: name, facts, description."""
    if "family" in facts:
        lacks = [("no exact gradient", facts["has_exact"]), ("f has no gradient", facts["differentiable"])]
        said = [facts["family"], f"dim {facts['dim']}", *(words for words, has in lacks if not has)]
    else:
        bias = (
            "exact" if facts["deterministic"] and facts["unbiased"] else "unbiased" if facts["unbiased"] else "biased"
        )
        needs = f"needs {' and '.join(facts['needs'])}" if facts["needs"] else ""
        served = "/".join(names.served(facts)) + ("" if facts["families"] else " family")
        said = [bias, served, *filter(None, [needs])]
    defaults = {key: dumps(field["default"]).strip('"') for key, field in facts["fields"].items()}
    fields = ",".join(f"{key}={default}" for key, default in defaults.items())
    also = f" Also: {', '.join(facts['aliases'])}." if facts["aliases"] else ""
    cost = f" Cost: {facts['cost']}." if facts.get("cost") else ""
    return name, ", ".join(said), fields, f"{facts['description']}{cost}{also}"


@cli.command()
@click.option("--json", is_flag=True, help="Print one JSON document.")
def doctor(json: bool) -> None:
    """Show what this installation is made of, and what is wrong with it."""
    from bench.doctor import findings

    found = findings()
    if json:
        click.echo(dumps(found))
        return
    size = max(map(len, found))
    for key, value in found.items():
        click.echo(f"{key.ljust(size)}  {value}")


cli.add_command(cli_compare.compare)
cli.add_command(cli_train.train)
cli.add_command(cli_gate.check)
cli.add_command(cli_baseline.baseline)
