"""The command ``bench train``."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli import cluster, options, values
from bench.cli.errors import ExitCode, reported
from bench.cli.output import finish
from bench.execution.cluster.address import Dask
from bench.records.lines import Record
from bench.training.settings import OPTIMIZERS

if TYPE_CHECKING:
    from bench.planning.spec import Spec
    from bench.training.settings import Training


@click.command(
    name="train",
    epilog="\b\n"
    "Exit codes: 0 fine (a run that diverges is a result), 1 a run failed, 2 wrong usage, 4 no estimator\n"
    "fits its objective, 5 damaged or newer records, 130 interrupted.\n\n"
    "\b\n"
    "Examples:\n"
    "  bench train -o gaussian-vae -e reparameterization -e score-function -e rloo:n=4\n"
    "  bench train -o bernoulli-vae:dim=12,batch=64 -e disarm -e rebar --steps 5000 --lr 3e-4\n"
    "  bench train -o qubo -e rloo:n=2,8 --optimizer sgd --lr 0.1 --seeds 10\n"
    "  bench train results/train-rloo-on-qubo",
)
@click.argument("path", type=options.PATH, required=False, metavar="[FOLDER]")
@options.selector("objective", "An objective to train, such as gaussian-vae:dim=4.")
@options.selector("estimator", "An estimator to train it with, such as rloo:n=4.")
@options.number("--steps", help="Steps of the optimizer [2000].")
@options.number("--seeds", help="Runs of each estimator, with seeds 0 to N-1 [6].")
@click.option("--optimizer", type=click.Choice(OPTIMIZERS), help="The optimizer; all but the rate as in torch [adam].")
@click.option("--lr", "rate", type=float, metavar="RATE", help="Learning rate, above 0 [0.001].")
@options.number("--measure-every", help="Steps from one measurement to the next [a twentieth of all steps].")
@options.replicates(
    type=values.Count(0), help="Replicates of each measurement of the variance; 0 for no measurement [256]."
)
@options.dtype(help="Type of weights and samples [float32].")
@options.device_or_auto(help="Device to train on [cpu].")
@options.data_dir
@options.no_plugins
@options.out(help="The study folder [FOLDER, or results/train-NAME].")
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
    path: Path | None,
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
    repeat the command, or give the FOLDER alone to continue all of its training.
    """
    from bench.cli.progress import choose

    again = options.reruns(rerun, fresh=fresh)
    chosen = {key: value for key, value in given.items() if value is not None}
    asked, folder = _asked(path, estimator, objective, out, chosen)
    named = [selector for spec, _ in asked for selector in (*spec.estimators, *spec.objectives)]
    options.prepare_workers(named, workers, cell_timeout)
    placed = [(spec.on_device(), table) for spec, table in asked]
    from bench.training.train import train

    records = dict[tuple[str, str], Record]()
    settings = [_settings(table, {**chosen, "device": spec.device}, folder) for spec, table in placed]
    for (spec, table), how in zip(placed, settings, strict=True):
        made = train(
            spec,
            how,
            folder,
            choose(quiet=quiet),
            workers,
            keep_weights=keep_weights or table.get("keep_weights", False),
            rerun=again,
            cell_timeout=cell_timeout,
        )
        records |= {(record["run"], record["kind"]): record for record in made}
    return finish([*records.values()], folder, json=json, quiet=quiet)


def _asked(
    path: Path | None,
    estimators: tuple[str, ...],
    objectives: tuple[str, ...],
    out: Path | None,
    chosen: Mapping[str, Any],
) -> "tuple[list[tuple[Spec, dict[str, Any]]], Path]":
    """Return what the words of the command ask for: each spec with the settings of its plan, and the study folder.

    Args:
        path: the study folder whose training is continued; None for new training.
        estimators: selectors; if empty, those of the plan.
        objectives: selectors; if empty, those of the plan.
        out: the study folder that is written; None for ``path``, or for one named after the selectors.
        chosen: the settings in the words, by their names.

    Raises:
        UsageError: the folder has no plan of training, a selector lacks, or a name is wrong.
    """
    from bench.planning.plans import trainings
    from bench.planning.selectors import UsageError
    from bench.planning.spec import chosen as replaced
    from bench.planning.spec import study

    device = {"device": chosen["device"]} if "device" in chosen else {}
    if path is not None:
        if not path.is_dir():
            raise UsageError(f"There is no folder {str(path)!r}. {options.misplaced(str(path))}".rstrip())
        return trainings(path, **replaced(path, estimators, objectives, **device)), out or path
    for option, texts in (("-o", objectives), ("-e", estimators)):
        if not texts:
            raise UsageError(f"Missing option '{option}': say what to train, or give the folder of a training.")
    spec, folder = study(None, estimators, objectives, **device)
    return [(spec, {})], out or folder.with_name(f"train-{folder.name}")


def _settings(table: Mapping[str, Any], chosen: Mapping[str, Any], folder: Path) -> "Training":
    """Return the settings of a training: those in the words of the command, ``chosen``, and else those of the plan.

    Raises:
        UsageError: a value is out of its range.
    """
    from bench.planning.selectors import UsageError
    from bench.records.plan import FILE
    from bench.training.settings import Training

    try:
        Training.of(chosen)
    except ValueError as error:
        raise UsageError(f"--lr: {error}" if "rate" in str(error) else str(error)) from None
    try:
        return Training.of({**table, **chosen})
    except ValueError as error:
        raise UsageError(f"{folder / FILE}: {error}") from None
