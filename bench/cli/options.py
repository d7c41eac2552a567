"""Options and arguments that several commands share."""

import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from bench.cli.values import Count, Location, Output, Positive, Processes
from bench.execution.cluster.address import Dask
from bench.planning.catalogue import Kind, canonical_name
from bench.planning.completion import completions
from bench.planning.plugins import ALLOWED
from bench.planning.selectors import Selector, UsageError
from bench.records.lines import USUAL, Rerun

F = TypeVar("F", bound=Callable[..., Any])
BUDGETS = {"quick": (10_000, 1_000), "full": (100_000, 10_000)}
"""For each budget, the replicates per cell of a baseline, and of the first stage of a check."""
PATH = Location()
VARIABLE = "BENCH_DATA_DIR"
"""Environment variable for the folder of images; its name is repeated here, as ``bench.objectives`` imports torch."""


def complete(kind: Kind) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Return a function that completes names in a shell: of estimators or of objectives, as ``kind`` says.

    The names are selectors, such as ``rloo:n=2``.
    """

    def completed(_context: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(word, help=text) for word, text in completions(kind, incomplete).items()]

    return completed


def complete_baseline(_context: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the names of baselines that begin with ``incomplete``, for completion in a shell."""
    from bench.gate import baseline_file

    return [CompletionItem(name) for name in baseline_file.names() if name.startswith(incomplete)]


# words in the wrong place


def misplaced(word: str) -> str:
    """Return a sentence on the option to which a word belongs; empty if this cannot be guessed.

    ``word`` was typed without its option. For ``rloo`` the sentence is ``rloo is an estimator: give it as -e rloo.``
    """
    for kind, option in (("estimator", "-e"), ("objective", "-o")):
        if canonical_name(kind, word.partition(":")[0]):  # type: ignore[arg-type]
            return f"{word} is an {kind}: give it as {option} {word}."
    if ".py:" in word:
        return f"{word} is a class of a file: give an estimator as -e {word}, and an objective as -o {word}."
    if word.replace(",", "").isdecimal():
        return f"Join several values with commas, as in --samples 2,{word}."
    if "=" in word:
        return f"{word} is a parameter: join it to a name with a colon, as in -e rloo:{word}."
    return ""


def spec_path(_context: click.Context, _param: click.Parameter, value: Path | None) -> Path | None:
    """Return the path that was given for a spec, unchanged; a callback of click.

    A path where nothing exists can be a word that belongs to an option, as ``rloo`` belongs to ``-e``. In this case,
    the command ends with a message that says so.
    """
    if value is not None and not value.exists() and (hint := misplaced(str(value))):
        raise click.UsageError(f"There is no spec or folder {str(value)!r}. {hint}")
    return value


# what to measure


def selector(kind: Kind, text: str, *, required: bool = False) -> Callable[[F], F]:
    """Return a decorator that gives a command an option for names: ``-e`` for estimators, or ``-o`` for objectives.

    ``kind`` is "estimator" or "objective". The names are selectors, such as ``rloo:n=2``. ``text`` is the help text of
    the option, and ``required`` says whether the command needs the option.
    """
    return click.option(
        "-e" if kind == "estimator" else "-o",
        f"--{kind}",
        multiple=True,
        required=required,
        metavar="SELECTOR",
        shell_complete=complete(kind),
        help=f"{text} Repeatable.",
    )


def selectors(command: F) -> F:
    """Add the options ``-e`` and ``-o`` to a command, which select cells of a baseline by estimator and objective."""
    command = selector("objective", "Select this objective, written as for `bench run`.")(command)
    return selector("estimator", "Select this estimator, written as for `bench run`.")(command)


def data_dir(command: F) -> F:
    """Add the option ``--data-dir`` to a command: the folder of the image files that some objectives read.

    The files are those of data sets such as MNIST. While the command runs, the environment variable ``BENCH_DATA_DIR``
    has the folder, also in its workers.
    """
    return click.option(
        "--data-dir",
        type=PATH,
        metavar="FOLDER",
        envvar=VARIABLE,
        expose_value=False,
        callback=_set_variable,
        help=f"Folder of the image files for data=mnist, fashion-mnist and omniglot [${VARIABLE}].",
    )(command)


def _set_variable(context: click.Context, _param: click.Parameter, value: Path | None) -> None:
    if value is None:
        return
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(value)
    context.call_on_close(lambda: _restore_variable(before))


def no_plugins(command: F) -> F:
    """Add the option ``--no-plugins`` to a command. With the option, no file or module of a user is imported.

    Every command that makes estimators or objectives from selectors has this option.
    """
    return click.option(
        "--no-plugins",
        is_flag=True,
        envvar="BENCH_NO_PLUGINS",
        expose_value=False,
        callback=_refuse_plugins,
        help="Import no file or module that a selector, a study or a baseline names [BENCH_NO_PLUGINS].",
    )(command)


def _refuse_plugins(context: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        token = ALLOWED.set(False)
        context.call_on_close(lambda: ALLOWED.reset(token))


def _restore_variable(before: str | None) -> None:
    os.environ.pop(VARIABLE, None)
    if before is not None:
        os.environ[VARIABLE] = before


def prepare_workers(
    named: Iterable[Selector], workers: int | Dask | None = None, cell_timeout: float | None = None
) -> None:
    """Begin to prepare worker processes if the command will need them. Call this before anything slow is loaded.

    Workers are needed in three cases: a selector in ``named`` is for a class in a user's own file or module, there are
    several ``workers``, or there is a ``cell_timeout``.
    """
    several = isinstance(workers, int) and workers > 1
    if several or cell_timeout is not None or any(selector.is_own for selector in named):
        from bench.execution.forking import prepare

        prepare()


name_argument = click.argument("name", shell_complete=complete_baseline)


# how to measure it, and what to write: each command adds the help text, which names the default in brackets


OUTPUT = Output()
number = partial(click.option, type=Count(), metavar="N")
folder = partial(click.option, type=PATH, metavar="FOLDER")
replicates = partial(number, "--replicates", metavar="R")
budget = partial(click.option, "--budget", type=click.Choice(list(BUDGETS)))
seed = partial(click.option, "--seed", type=click.IntRange(0, 2**63 - 1), metavar="N")
dtype = partial(click.option, "--dtype", type=click.Choice(["float32", "float64"]))
device = partial(click.option, "--device", type=click.Choice(["cpu", "cuda"]))
device_or_auto = partial(device, type=click.Choice(["cpu", "cuda", "auto"]))
workers = partial(click.option, "--workers", type=Processes(), metavar="N|auto")
cell_timeout = click.option(
    "--cell-timeout",
    type=Positive(),
    metavar="SECONDS",
    help="Give up a cell that makes no progress for so many seconds [1800]. With this option every cell runs in a "
    "worker process; without it, only cells with code of your own do.",
)
out = partial(folder, "--out")


rerun_option = click.option(
    "--rerun",
    type=click.Choice([word.value for word in Rerun]),
    multiple=True,
    help="Which results in the study folder are measured again: those that failed, those whose code has changed "
    "(stale), all, or none [failed and stale]. Repeatable. What is missing is measured in any case.",
)


def reruns(words: Sequence[str], *, fresh: bool) -> frozenset[Rerun]:
    """Return which work is done again, according to the words of ``--rerun`` and the flag ``--fresh``.

    The words are "failed", "stale" (the code has changed since), "all" and "none". Without a word, failed and stale
    work is done again. The flag means ``--rerun all``.

    Raises:
        click.UsageError: the words contradict each other, or the flag.
    """
    chosen = frozenset(map(Rerun, words))
    if fresh and chosen - {Rerun.ALL}:
        raise click.UsageError("--fresh means --rerun all: leave out one of the two options.")
    if len(chosen) > 1 and (alone := chosen & {Rerun.ALL, Rerun.NONE}):
        raise click.UsageError(f"--rerun {min(alone)} stands alone: leave out the other --rerun.")
    return frozenset({Rerun.ALL}) if fresh else chosen or USUAL


# flags

speed_option = click.option("--speed", is_flag=True, help="Also time every cell, in nine fresh processes.")
json_option = click.option("--json", is_flag=True, help="Print one JSON document.")
fresh_option = click.option(
    "--fresh", is_flag=True, help="Do all work again, whatever the study folder holds: --rerun all."
)
quiet_option = click.option("--quiet", is_flag=True, help="Write neither progress nor notes to stderr.")


# given gradients


def reads_given(name: str, *, given: bool, study: Path | None, measuring: Iterable[Any]) -> bool:
    """Return whether a command measures nothing, and reads given gradients (made elsewhere) from a study.

    Args:
        name: the baseline's name.
        given: whether the baseline, the file of accepted statistics, holds given gradients.
        study: the study folder with the new gradients; None if there is none.
        measuring: the values of the options that say what is measured and how.

    Raises:
        UsageError: the baseline needs a study, or there is a study and also a value in ``measuring``.
    """
    if study is None and not given:
        return False
    if study is None:
        raise UsageError(
            f"Baseline {name} holds gradients that were made elsewhere. Measure the new ones with `bench measure "
            "--gradients FILE.npy --out FOLDER`, and add --from FOLDER."
        )
    if any(value is not False and value not in (None, ()) for value in measuring):
        raise UsageError("--from takes a study as it is: leave out the selectors and the options of measuring.")
    return True
