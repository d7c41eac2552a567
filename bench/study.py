"""A study in Python: ``bench.load`` reads study folders, ``bench.run`` measures, and both return a ``Study``.

Loading a study and reading its numbers needs no torch.
"""

from __future__ import annotations

import gc
import shlex
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.planning.catalogue import did_you_mean
from bench.planning.selectors import UsageError
from bench.records import files, merge, store
from bench.records.lines import LineKind, Record
from bench.report import export, figures, references
from bench.report.study import measures

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from bench.planning.spec import Spec


class Study:
    """The records of a study as data frames and figures, made by ``bench.load`` and ``bench.run``.

    Args:
        records: the records, each a dictionary; long vectors may be left out of them.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = list(records)

    def frame(self, *, training: bool | None = None) -> pd.DataFrame:
        """Return the study as a tidy data frame, with the columns of ``bench export``.

        A row is one measurement of an estimator on an objective. Every field of the estimators and objectives has a
        column, such as ``estimator.temperature`` or ``objective.dim``, even if all have the default. A number that was
        not measured is a missing value. The page "Tables and records" of the documentation explains all columns.

        Args:
            training: True for rows that are the checkpoints of training runs, False for rows that are measurements.
                None means True if the study holds training runs only, else False.
        """
        return export.rows(self.records, checkpoints=self._trained == {True} if training is None else training)

    def plot(
        self,
        name: str,
        *,
        cost: Literal["evaluations", "seconds"] = "evaluations",
        width: float | None = None,
        labels: str | PathLike[str] | Mapping[str, Mapping[str, str]] | None = None,
    ) -> Figure:
        """Return a figure of the report, to be shown, changed or saved with ``savefig``.

        ``savefig`` follows your own settings of matplotlib: ``matplotlib.rcParams["pdf.fonttype"] = 42`` keeps the text
        in a PDF as text. ``bench report --format pdf`` uses this setting.

        Args:
            name: the name of the figure's file without the ending, such as "heatmap", "variance-n" or "training".
            cost: the unit of the cost of an estimate.
            width: width in inches of a figure for print, which has no title; None makes one for the screen.
            labels: what the figure calls estimators and objectives: the path of a file of labels, or a dictionary such
                as ``{"estimators": {"rloo": "RLOO"}}``. The rows and columns of the heat map have the order of these
                names. None for the names in the records, such as ``rloo:n=4``.

        Raises:
            ValueError: there is no such figure, the study has no data for it, or another argument is wrong.
        """
        if cost not in ("evaluations", "seconds"):
            raise ValueError(f"The cost is counted in 'evaluations' or 'seconds' (got {cost!r}).")
        if width is not None and not (isinstance(width, int | float) and 2 <= width <= 20):
            raise ValueError(f"The width of a figure for print is 2 to 20 inches, or None (got {width!r}).")
        known = figures.known(self.records)
        if name not in known:
            hint = did_you_mean(str(name), known) or f" Choose from {', '.join(known)}."
            raise ValueError(f"There is no figure {name!r}.{hint}")
        called = None if labels is None else self._called(labels)
        figure = figures.plotted(name, self.records, cost, width, called, fixed=False)
        if figure is None:
            raise ValueError(f"This study has no data for the figure {name!r}.")
        return figure

    def bibtex(self) -> str:
        """Return the papers of the estimators in the study as BibTeX. An estimator of your own has none."""
        return references.bibtex(record["estimator_name"] for record in self.records if measures(record))

    def _called(self, labels: str | PathLike[str] | Mapping[str, Mapping[str, str]]) -> dict[str, str]:
        from bench.planning import naming
        from bench.planning.labelling import labels_of

        is_path = isinstance(labels, str | PathLike)
        given = naming.read_labels(Path(labels)) if is_path else labels_of(labels, "labels")  # type: ignore[arg-type]
        naming.check(given, self.records)
        return naming.called(self.records, labels=given)

    @property
    def _trained(self) -> set[bool]:
        return {record["kind"] == LineKind.TRAINING for record in self.records}

    def __repr__(self) -> str:
        def count(key: str) -> str:
            number = len({record[key] for record in self.records if key in record})
            return f"{number:,} {key}{'s' * (number != 1)}"

        return f"Study({', '.join(map(count, ('run', 'estimator', 'objective')))})"


def load(*folders: str | PathLike[str]) -> Study:
    """Return the study in one or several study folders, made by ``bench run`` or ``bench train``. Needs no torch.

    If several folders hold the same measurement, the first folder whose result did not fail counts.

    Args:
        folders: the study folders, or their ``records.jsonl``.

    Raises:
        ValueError: no folder was given, one is no path, one cannot be read, or one holds no records.
        bench.records.lines.Damaged: the records are damaged.
    """
    if not folders:
        raise ValueError("load needs a study folder, as in bench.load('results/default').")
    for folder in folders:
        if not _is_path(folder):
            raise ValueError(
                f"load needs paths of study folders, as in bench.load('before', 'after') (got {folder!r})."
            )
    paths = [path.parent if path.name == store.LINES else path for path in map(Path, folders)]
    try:
        for path in paths:
            if not (path / store.LINES).is_file() or not (path / store.LINES).stat().st_size:
                raise ValueError(f"There are no records in {str(path)!r}. Give a folder that `bench run` has written.")
        return Study(merge.together(store.read(path, lean=True) for path in paths))
    except OSError as error:
        raise ValueError(f"{error.filename} cannot be read: {error.strerror}.") from None
    finally:
        gc.unfreeze()


def run(
    spec: str | PathLike[str] | Sequence[str] | Mapping[str, Any],
    *,
    out: str | PathLike[str] | None = None,
    workers: int | None = 1,
    progress: bool = False,
    **settings: Any,
) -> Study:
    """Measure what a spec asks for, and return the results as a study.

    The study folder keeps the records. A measurement that the folder holds already is not repeated, unless it failed or
    its code has changed. ``bench report`` makes the tables and figures of the folder.

    Args:
        spec: one of three: the path of a ``spec.toml`` or of a study folder; the words of a command ``bench run``, as a
            text or a list, with or without ``bench run`` itself; or a dictionary with the keys of a spec. Paths in a
            dictionary start at the working folder.
        out: the study folder; None for ``results/NAME``, with the name of the spec, as on the command line.
        workers: number of processes that measure; None for as many as pay off. An option ``--workers`` in the words of
            ``spec`` takes precedence. Code of your own always runs in a separate process.
        progress: whether to write progress to stderr.
        settings: keys of a spec that replace those of ``spec``, such as ``replicates=2000`` or ``seed=1``.

    Raises:
        ValueError: the spec cannot be read, a name or value is wrong, or the study folder cannot be read or written.
        OSError: the disk is full or broken.
        bench.planning.selectors.NothingFits: no estimator fits its objective.
        bench.records.lines.Damaged: the study folder is damaged.
        bench.records.lock.Busy: another process is writing to the study folder.
    """
    from bench.cli.progress import choose
    from bench.execution.run import run_study
    from bench.planning.spec import Spec
    from bench.planning.user_code import contained

    if out is not None and not _is_path(out):
        raise UsageError(f"out is the path of a study folder, as in out='results/mine' (got {out!r}).")
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise UsageError(f"workers is a number of processes, 1 or more, or None (got {workers!r}).")
    Spec.of({"estimators": ["rloo"], "objectives": ["qubo"], **settings})  # a fault of theirs is not one of the spec
    with contained():
        specs, folder, how = _asked(spec, None if out is None else Path(out), settings, workers)
        try:
            return Study(run_study(specs, folder, choose(quiet=not progress), **how).records)
        except OSError as error:
            if error.filename is None or error.errno in files.LOST:
                raise
            raise UsageError(f"{files.said(error)}. Choose another folder.") from None
        finally:
            gc.unfreeze()


def _asked(
    spec: Any, out: Path | None, settings: Mapping[str, Any], workers: int | None
) -> tuple[list[Spec], Path, dict[str, Any]]:
    """Return the specs, the study folder, and how ``run_study`` is to run them."""
    from bench.planning.plans import studies
    from bench.planning.spec import Spec

    how = {"workers": workers}
    if isinstance(spec, Mapping):
        given = Spec.placed({**spec, **settings}, Path())
        return [given.on_device()], out or Path("results") / given.name, how
    if isinstance(spec, PathLike) or (isinstance(spec, str) and spec and Path(spec).exists()):
        specs, folder = studies(Path(spec), out=out, **settings)
        return [each.on_device() for each in specs], folder, how
    if not isinstance(spec, Sequence) or isinstance(spec, bytes | bytearray):
        raise UsageError(f"A spec is a path, words of `bench run` or a dictionary (got {type(spec).__name__}).")
    try:
        words = shlex.split(spec) if isinstance(spec, str) else [str(word) for word in spec]
    except ValueError:
        raise UsageError(f"A quotation mark lacks its partner in {spec!r}.") from None
    return _of_words(words[2:] if words[:2] == ["bench", "run"] else words, out, settings)


def _is_path(value: Any) -> bool:
    return isinstance(value, PathLike) or (isinstance(value, str) and value != "")


def _of_words(
    words: list[str], out: Path | None, settings: Mapping[str, Any]
) -> tuple[list[Spec], Path, dict[str, Any]]:
    """Return what the words of the command ask for."""
    import click

    from bench.cli import cluster
    from bench.cli.errors import CommandError
    from bench.cli.run import asked, command

    try:
        given = command.make_context("bench.run", words, help_option_names=[]).params
        del given["json"], given["quiet"]
        given |= settings if out is None else {**settings, "out": out}
        return asked(**cluster.placed(given))
    except (click.ClickException, CommandError) as error:
        said = error.format_message() if isinstance(error, click.ClickException) else str(error)
        raise UsageError(said) from None
