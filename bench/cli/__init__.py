"""The command line: parse words, call one stage, print. Imports that take time are inside the command that needs them.

Data goes to stdout; progress, notes and errors to stderr. Exit codes: 0 fine, 1 a cell failed, 2 usage, 4 no cell could
be measured, 5 the records are damaged or newer, 130 interrupted.
"""

from __future__ import annotations

import errno
import os
import shlex
import sys
from pathlib import Path

import click

from bench.cli import baseline, check, compare, doctor, list, report, run, train
from bench.cli.errors import FAILED, INTERRUPTED, CommandError


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


for command in (
    run.run,
    report.report,
    list.list_,
    doctor.doctor,
    compare.compare,
    train.train,
    check.check,
    baseline.baseline,
):
    cli.add_command(command)
