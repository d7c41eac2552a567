"""The option ``--data-dir``, of every command that computes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

VARIABLE = "BENCH_DATA_DIR"
"""That of ``bench.objectives``, without torch."""

F = TypeVar("F", bound=Callable[..., object])


def data_dir(command: F) -> F:
    """Give a command the option; what it names is in the environment while the command runs, workers included."""
    return click.option(
        "--data-dir",
        type=click.Path(path_type=Path),
        metavar="FOLDER",
        envvar=VARIABLE,
        expose_value=False,
        callback=_named,
        help=f"Where the files of data=mnist, fashion-mnist and omniglot lie; also {VARIABLE}.",
    )(command)


def _named(context: click.Context, _param: click.Parameter, value: Path | None) -> None:
    if value is None:
        return
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(value)
    context.call_on_close(lambda: _restore(before))


def _restore(before: str | None) -> None:
    os.environ.pop(VARIABLE, None)
    if before is not None:
        os.environ[VARIABLE] = before
