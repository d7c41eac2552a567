"""The command ``bench train``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bench.cli.options import complete, data_dir

OPTIMIZERS = ("adam", "sgd", "rmsprop")
"""The keys of ``bench.training.settings.OPTIMIZERS``, without torch."""


@click.command(
    epilog="\b\n"
    "Exit codes: 0 fine (a run that diverges is a result), 1 a run failed, 2 usage, 4 nothing fits\n"
    "together, 5 damaged or newer records, 130 interrupted.\n\n"
    "\b\n"
    "Examples:\n"
    "  bench train -o gaussian-vae -e reparameterization -e score-function -e rloo:n=4\n"
    "  bench train -o bernoulli-vae:dim=12,batch=64 -e disarm -e rebar --steps 5000 --lr 3e-4\n"
    "  bench train -o qubo -e rloo:n=2,8 --optimizer sgd --lr 0.1 --seeds 10"
)
@click.option(
    "-o",
    "--objective",
    multiple=True,
    required=True,
    metavar="SELECTOR",
    shell_complete=complete("objective"),
    help="What to train, as gaussian-vae:dim=4. Repeatable.",
)
@click.option(
    "-e",
    "--estimator",
    multiple=True,
    required=True,
    metavar="SELECTOR",
    shell_complete=complete("estimator"),
    help="An estimator to train it with, as rloo:n=4. Repeatable.",
)
@click.option("--steps", type=click.IntRange(1), metavar="N", help="Steps of the optimizer [2000].")
@click.option("--seeds", type=click.IntRange(1), metavar="N", help="Runs of each estimator, of seeds 0 to N-1 [6].")
@click.option("--optimizer", type=click.Choice(OPTIMIZERS), help="[adam]")
@click.option("--lr", "rate", type=float, metavar="RATE", help="Learning rate, above 0 [0.001].")
@click.option(
    "--measure-every", type=click.IntRange(1), metavar="N", help="Steps from look to look [a twentieth of all]."
)
@click.option(
    "--replicates", type=click.IntRange(0), metavar="R", help="Of the variance at each look; 0: leave it out [256]."
)
@click.option("--dtype", type=click.Choice(["float32", "float64"]), help="Of weights and samples [float32].")
@click.option("--device", type=click.Choice(["cpu", "cuda", "auto"]), help="Where to train [cpu].")
@data_dir
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER", help="The study folder [results/train-NAME].")
@click.option("--keep-weights", is_flag=True, help="Write the weights of every run, for `bench run --at`.")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Processes that train [as many as pay off].")
@click.option("--json", is_flag=True, help="Print one JSON document instead of the table.")
@click.option("--quiet", is_flag=True, help="No progress and no notes on stderr.")
def train(
    objective: tuple[str, ...],
    estimator: tuple[str, ...],
    out: Path | None,
    keep_weights: bool,
    workers: int | None,
    json: bool,
    quiet: bool,
    **given: Any,
) -> int:
    """Train with every estimator, several times, and see what its variance does to learning.

    All estimators begin at the same weights and see the same data in the same order. What the study folder holds
    already is not trained again: the same command goes on after an interruption.
    """
    from bench.cli.errors import _told
    from bench.cli.output import _show, _verdict

    chosen = {key: value for key, value in given.items() if value is not None}
    with _told():
        from bench import report
        from bench.cli.progress import choose
        from bench.planning.selectors import UsageError
        from bench.planning.spec import study
        from bench.records import store

        spec, folder = study(None, estimator, objective, out=out, device=chosen.get("device", "cpu"))
        spec = spec.on_device()
        chosen["device"] = spec.device
        from bench.training.settings import Training
        from bench.training.train import train as learn

        try:
            how = Training(**chosen)
        except ValueError as error:
            raise UsageError(f"--lr: {error}" if "rate" in str(error) else str(error)) from None
        folder = out or folder.with_name(f"train-{folder.name}")
        records = learn(spec, how, folder, choose(quiet=quiet), workers, keep_weights=keep_weights)
        files = report.write(folder, store.read(folder))
    _show(records, folder, files, json=json, quiet=quiet)
    return _verdict(records)
