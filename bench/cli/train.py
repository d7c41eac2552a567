"""The command ``bench train``."""

from pathlib import Path
from typing import Any

import click

from bench.cli import cluster, options
from bench.cli.errors import ExitCode, reported
from bench.cli.output import finish
from bench.execution.cluster.address import Dask
from bench.training.settings import OPTIMIZERS


@click.command(
    name="train",
    epilog="\b\n"
    "Exit codes: 0 fine (a run that diverges is a result), 1 a run failed, 2 wrong usage, 4 no estimator\n"
    "fits its objective, 5 damaged or newer records, 130 interrupted.\n\n"
    "\b\n"
    "Examples:\n"
    "  bench train -o gaussian-vae -e reparameterization -e score-function -e rloo:n=4\n"
    "  bench train -o bernoulli-vae:dim=12,batch=64 -e disarm -e rebar --steps 5000 --lr 3e-4\n"
    "  bench train -o qubo -e rloo:n=2,8 --optimizer sgd --lr 0.1 --seeds 10",
)
@options.selector("objective", "An objective to train, such as gaussian-vae:dim=4.", required=True)
@options.selector("estimator", "An estimator to train it with, such as rloo:n=4.", required=True)
@options.number("--steps", help="Steps of the optimizer [2000].")
@options.number("--seeds", help="Runs of each estimator, with seeds 0 to N-1 [6].")
@click.option("--optimizer", type=click.Choice(OPTIMIZERS), help="The optimizer; all but the rate as in torch [adam].")
@click.option("--lr", "rate", type=float, metavar="RATE", help="Learning rate, above 0 [0.001].")
@options.number("--measure-every", help="Steps from one measurement to the next [a twentieth of all steps].")
@options.replicates(
    type=options.Count(0), help="Replicates of each measurement of the variance; 0 for no measurement [256]."
)
@options.dtype(help="Type of weights and samples [float32].")
@options.device_or_auto(help="Device to train on [cpu].")
@options.data_dir
@options.no_plugins
@options.out(help="The study folder [results/train-NAME].")
@click.option(
    "--keep-weights",
    is_flag=True,
    help="Write the final weights of every run to FOLDER/weights; FOLDER/weights.csv lists them.",
)
@options.workers(help="Processes that train; auto is as many as there are cores and as pay off [auto].")
@cluster.options
@options.cell_timeout
@options.rerun_option
@options.fresh_option
@options.json_option
@options.quiet_option
@reported()
def command(
    objective: tuple[str, ...],
    estimator: tuple[str, ...],
    out: Path | None,
    keep_weights: bool,
    workers: int | Dask | None,
    cell_timeout: float | None,
    rerun: tuple[str, ...],
    fresh: bool,
    json: bool,
    quiet: bool,
    **given: Any,
) -> ExitCode:
    """Train with every estimator, several times.

    This shows how the variance of an estimator affects learning. All estimators begin at the same weights and see the
    same data in the same order. Results in the study folder are not trained again: to continue after an interruption,
    repeat the command.
    """
    from bench.cli.progress import choose
    from bench.planning.selectors import UsageError
    from bench.planning.spec import study

    again = options.reruns(rerun, fresh=fresh)
    chosen = {key: value for key, value in given.items() if value is not None}
    spec, folder = study(None, estimator, objective, device=chosen.get("device", "cpu"))
    options.prepare_workers((*spec.estimators, *spec.objectives), workers, cell_timeout)
    spec = spec.on_device()
    from bench.training.settings import Training
    from bench.training.train import train

    try:
        how = Training(**chosen | {"device": spec.device})
    except ValueError as error:
        raise UsageError(f"--lr: {error}" if "rate" in str(error) else str(error)) from None
    folder = out or folder.with_name(f"train-{folder.name}")
    records = train(
        spec,
        how,
        folder,
        choose(quiet=quiet),
        workers,
        keep_weights=keep_weights,
        rerun=again,
        cell_timeout=cell_timeout,
    )
    return finish(records, folder, json=json, quiet=quiet)
