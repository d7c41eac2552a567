"""The options that name a Dask cluster."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from bench.execution.cluster.address import Dask

F = TypeVar("F", bound=Callable[..., Any])


def options(command: F) -> F:
    """Add to a command the options that name a Dask cluster.

    The command must also have the option ``--workers``, a number of processes. If the user names a cluster, the command
    gets the cluster as its argument ``workers``, in place of the number.
    """

    @functools.wraps(command)
    def run(**given: Any) -> Any:
        return command(**placed(given))

    for option in (
        click.option(
            "--scheduler-file",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Use the Dask cluster whose scheduler wrote this file.",
        ),
        click.option(
            "--scheduler",
            metavar="ADDRESS",
            help="Use the Dask cluster of this scheduler, such as tcp://10.0.0.1:8786. Times are measured here, "
            "when nothing else runs.",
        ),
        click.option(
            "--executor",
            type=click.Choice(["local", "dask"]),
            help="Where the workers run: under this command, or in a Dask cluster on this machine [local].",
        ),
    ):
        run = option(run)
    return cast(F, run)


def placed(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a command, with one argument, ``workers``, for all options that say where to measure.

    ``given`` has the arguments as click parsed them. ``workers`` is a number of processes, the Dask cluster that the
    options name, or None for as many processes as pay off. The options ``executor``, ``scheduler`` and
    ``scheduler_file`` are left out of the result.

    Raises:
        click.UsageError: options contradict each other.
    """
    names = ("workers", "executor", "scheduler", "scheduler_file")
    others = {key: value for key, value in given.items() if key not in names}
    return {**others, "workers": _where(*(given[name] for name in names))}


def _where(workers: int | None, executor: str | None, scheduler: str | None, file: Path | None) -> int | Dask | None:
    """Return where the work is done, or end the command with a message if options contradict each other."""
    if scheduler is not None and file is not None:
        raise click.UsageError("--scheduler and --scheduler-file both name a Dask cluster: choose one.")
    if scheduler is None and file is None:
        return Dask(workers=workers) if executor == "dask" else workers
    option = "--scheduler" if file is None else "--scheduler-file"
    if executor == "local":
        raise click.UsageError(f"{option} names a Dask cluster, and --executor local wants none: choose one.")
    port = (scheduler or "").rpartition(":")[2]
    if scheduler is not None and not (port.isdecimal() and 0 < int(port[:9]) < 2**16):
        said = "is no address with a port from 1 to 65535: write it as tcp://10.0.0.1:8786."
        raise click.UsageError(f"--scheduler {scheduler} {said}")
    if workers is not None:
        raise click.UsageError(f"{option} names a cluster with workers of its own. Leave --workers out.")
    return Dask(scheduler, file)
