"""The command ``bench advise``."""

import sys
from json import dumps
from shutil import get_terminal_size
from typing import Any

import click

from bench.cli import options, values
from bench.cli.errors import UNWRITTEN, reported
from bench.cli.terminal import echo, echo_json


@click.command(
    name="advise",
    epilog="\b\n"
    "Examples:\n"
    "  bench advise -o ./mine.py::problem\n"
    "  bench advise -o logistic-regression --budget 1e5-evals --per-gradient 8\n"
    "  bench advise -o ./mine.py::problem -e rloo -e straight-through -e ./mine.py::Mine\n"
    "  bench advise -o gaussian-vae --train-steps 1000",
)
@options.selector("objective", "The objective; several of one family get one recommendation.", required=True)
@options.selector("estimator", "A candidate. Without n, as in rloo, every n is tried. Default: the catalogue.")
@click.option(
    "--budget",
    metavar="BUDGET",
    help="Most evaluations, seconds or both: 1e5-evals, 10s or 1e5-evals,10s [1e6-evals,10s].",
)
@options.number("--per-gradient", help="Most evaluations of f and df/dx for one gradient in training [16].")
@click.option(
    "--at",
    metavar="POINT,...",
    help="Weights, for an objective with a field named at: initial, trained or files, one or several.",
)
@options.number("--train-steps", help="Advise for the start, the middle and the end of a training of N steps.")
@click.option(
    "--learning-rate",
    "--lr",
    type=values.Positive(),
    metavar="RATE",
    help="Learning rate of this training [0.001].",
)
@options.data_dir
@options.no_plugins
@options.device(help="Device to measure on [cpu].")
@options.dtype(help="Type of samples and gradients [float32].")
@options.seed(help="Seed of all noise [0].")
@click.option("--no-timing", is_flag=True, help="Measure no seconds.")
@options.json_option
@options.quiet_option
@reported(UNWRITTEN)
def command(
    objective: tuple[str, ...],
    estimator: tuple[str, ...],
    at: str | None,
    no_timing: bool,
    json: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Recommend an estimator for an objective.

    The candidates are measured in rounds on fresh noise, and each round keeps the better half. The report names the
    estimator with the lowest variance times evaluations, and its n. It says how sure that is, and when another
    estimator is better. It ends with the lines to paste into a training loop. Nothing is written.
    """
    from bench.advice import advise
    from bench.advice.api import PER_GRADIENT
    from bench.advice.candidates import of_selectors
    from bench.advice.result import WIDTH
    from bench.planning.spec import Spec

    table = {"name": "advice", "estimators": estimator or ["rloo"], "objectives": objective}
    spec = Spec.of(table) if at is None else Spec.of(table).with_point(at)
    settings = {key: value for key, value in given.items() if value is not None}
    _, objectives = spec.instances()
    most = settings.get("per_gradient", PER_GRADIENT)
    found = advise(
        objectives,
        estimators=of_selectors(spec.estimators, most) if estimator else None,
        timing=not no_timing,
        report=(lambda _text: None) if quiet else (lambda text: echo(f"{text} ...", err=True)),
        **settings,
    )
    width = min(WIDTH, get_terminal_size().columns) if sys.stdout.isatty() else WIDTH
    if json:
        echo_json(dumps(found.to_json()))
    else:
        echo(found.report(width))
