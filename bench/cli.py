"""The command line: parse words, call one stage, print. Every import that takes time is inside the command that needs it.

Data goes to stdout; progress, warnings and errors to stderr. Exit codes: 0 fine, 1 a cell failed, 2 usage, 4 no cell could
be measured, 5 the records are damaged or newer, 130 interrupted.
"""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import sys
from json import dumps
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from bench import names
from bench.names import Kind

FAILED, USAGE, NOTHING, DAMAGED, INTERRUPTED = 1, 2, 4, 5, 130


class Stop(click.ClickException):
    """Ends the command with one sentence and an exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def main() -> int:
    """Run the command line, and return its exit code. Whatever the user got wrong is one sentence on stderr."""
    try:
        code = cli.main(prog_name="bench", standalone_mode=False, auto_envvar_prefix="BENCH")
    except click.ClickException as error:
        click.echo(f"Error: {error.format_message()}", err=True)
        return error.exit_code
    except click.Abort:
        return INTERRUPTED
    except OSError as error:
        if error.errno != errno.EPIPE:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has left, as head does
        return FAILED
    return code if isinstance(code, int) else 0


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every option can be set by an environment variable too: --seed of run by BENCH_RUN_SEED.",
)
@click.version_option(package_name="stochgrad-bench", prog_name="bench")
@click.pass_context
def cli(context: click.Context) -> None:
    """Measure the bias, variance and cost of Monte Carlo gradient estimators."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


class Samples(click.ParamType):
    """A comma list of whole numbers."""

    name = "samples"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the numbers as a tuple."""
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in value.split(",")]
        if not all(part.isdecimal() and int(part) for part in parts):
            self.fail(f"{value!r} is not a list of whole numbers from 1 on, as in 2,4,8.", param, ctx)
        return tuple(int(part) for part in parts)


def _completion(kind: Kind) -> Any:
    def complete(_context: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        known = {**names.catalogue(kind), **{alias: names.catalogue(kind)[n] for alias, n in names.aliases(kind).items()}}
        return [CompletionItem(n, help=f["description"]) for n, f in known.items() if n.startswith(incomplete)]

    return complete


@cli.command()
@click.argument("spec", required=False, type=click.Path(path_type=Path), metavar="[SPEC.toml | FOLDER]")
@click.option(
    "-e",
    "--estimator",
    multiple=True,
    metavar="SELECTOR",
    shell_complete=_completion("estimator"),
    help="An estimator, as rloo:n=2,4 or mine.py::Mine. Repeatable.",
)
@click.option(
    "-o",
    "--objective",
    multiple=True,
    metavar="SELECTOR",
    shell_complete=_completion("objective"),
    help="An objective, as gaussian-quadratic:dim=10. Repeatable.",
)
@click.option("--samples", type=Samples(), metavar="N,N,...", help="n of every estimator that has one and was not given it.")
@click.option("--replicates", type=click.IntRange(min=1), metavar="R", help="Independent calls of each cell [10000].")
@click.option("--device", type=click.Choice(["cpu", "cuda", "auto"]), help="Where to measure [cpu].")
@click.option("--dtype", type=click.Choice(["float32", "float64"]), help="Of samples and gradients [float32].")
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Root of all noise [0].")
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER", help="The study folder [results/NAME].")
@click.option("--no-timing", is_flag=True, help="Leave out the timing pass.")
@click.option("--no-common-noise", is_flag=True, help="Give every cell noise of its own.")
@click.option("--json", is_flag=True, help="Print one JSON document instead of the table.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
@click.pass_context
def run(
    context: click.Context,
    spec: Path | None,
    estimator: tuple[str, ...],
    objective: tuple[str, ...],
    samples: tuple[int, ...] | None,
    out: Path | None,
    no_timing: bool,
    no_common_noise: bool,
    json: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Measure every estimator on every objective.

    Without arguments: the default study, about a minute. With -e or -o alone, the other half is the default study's.
    What the study folder holds already is not measured again, so the same command goes on after an interruption.

    \b
    bench run -e rloo:n=2,4,8 -e score-function -o bernoulli-quadratic:dim=10
    bench run -e path/to/mine.py::MyEstimator
    bench run study.toml
    bench run results/default
    """
    overrides = {key: value for key, value in given.items() if value is not None}
    overrides |= {"timing": False} if no_timing else {}
    overrides |= {"common_noise": False} if no_common_noise else {}
    with _one_sentence():
        from bench.spec import study

        chosen, folder = study(spec, estimator, objective, samples, out, **overrides)
        records = _measure(chosen.on_device(), folder, quiet=quiet)
        files = _write_report(folder)
    counts = {word: sum(r["outcome"] == word for r in records) for word in ("measured", "failed", "skipped")}
    if json:
        short = [{key: value for key, value in r.items() if key != "sums"} for r in records]
        click.echo(dumps({"folder": str(folder), "files": [str(f) for f in files], **counts, "records": plain(short)}))
    else:
        _print_table(records)
    ...


