"""The command line. A command parses its arguments, calls one function and prints; slow imports are inside it.

Data goes to stdout; progress, notes and errors go to stderr.
"""

import errno
import os
import re
import sys
from collections.abc import Sequence

import click

from bench import interrupts
from bench.cli import (
    advise,
    audit,
    baseline,
    check,
    check_objective,
    compare,
    completion,
    doctor,
    export,
    list,
    measure,
    merge,
    new,
    report,
    run,
    train,
    verify,
)
from bench.cli.encoding import spell_what_terminals_lack
from bench.cli.errors import INTERRUPTS, CommandError, ExitCode, program
from bench.cli.options import misplaced
from bench.cli.terminal import echo
from bench.records.text import printable


def main() -> int:
    """Run the command line, and return its exit code. A mistake of the user is reported in one sentence on stderr."""
    spell_what_terminals_lack()
    os.environ["MPLBACKEND"] = "agg"  # figures are only written: a backend of the environment may not even exist here
    try:
        code = cli.main(prog_name=program(), standalone_mode=False, auto_envvar_prefix="BENCH")
    except (CommandError, click.ClickException) as error:
        message = error.format_message() if isinstance(error, click.ClickException) else str(error)
        if found := re.match(r"Got unexpected extra arguments? \((\S+)", message):
            message += f". {misplaced(found[1].rstrip(')'))}"
        prefix = "" if error.exit_code in INTERRUPTS else "Error: "
        echo(f"{prefix}{printable(message)}", err=True)
        return error.exit_code
    except click.Abort:  # an interrupt that no command has reported
        echo("Interrupted.", err=True)
        return interrupts.end()
    except MemoryError:
        echo("Error: There is not enough memory for this. What was measured is safe.", err=True)
        return ExitCode.FAILED
    except OSError as error:
        if error.filename is not None:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno != errno.EPIPE:  # otherwise the reader has left, as head does
            echo(f"Error: The output cannot be written: {error.strerror}.", err=True)
        return ExitCode.FAILED
    return code if isinstance(code, int) else ExitCode.FINE


class Ordered(click.Group):
    """A group of commands. It lists the commands in the order in which they were added."""

    def list_commands(self, _context: click.Context) -> Sequence[str]:  # type: ignore[override]
        """Return the names of the commands, in the order in which they were added."""
        return [*self.commands]


@click.group(
    cls=Ordered,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every option can also be set by an environment variable, such as BENCH_RUN_SEED for `bench run --seed`.",
)
@click.version_option(None, "-V", "--version", package_name="stochgrad-bench", prog_name="stochgrad-bench")
@click.pass_context
def cli(context: click.Context) -> None:
    """Measure the bias, variance and cost of Monte Carlo gradient estimators."""
    if context.invoked_subcommand is None:
        echo(context.get_help())


for module in (
    run,
    advise,
    audit,
    report,
    compare,
    list,
    new,
    train,
    measure,
    baseline,
    check,
    check_objective,
    export,
    merge,
    verify,
    completion,
    doctor,
):
    cli.add_command(module.command)


@cli.command(name="help", hidden=True)
@click.argument("name", required=False)
@click.pass_context
def show_help(context: click.Context, name: str | None) -> None:
    """Show the help of a command, or of all commands."""
    command = cli.get_command(context, name) if name else cli
    if command is None:
        raise click.UsageError(f"No such command {name!r}.")
    outer = context.parent if name else None
    echo(command.get_help(click.Context(command, info_name=name or program(), parent=outer)))
