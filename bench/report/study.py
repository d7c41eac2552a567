"""The report of a study folder: its tables, and every figure for which the records have data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.records import files
from bench.records.lines import LineKind
from bench.report import curves, figures, tables, training
from bench.report.cost import priced
from bench.report.frame import frame
from bench.report.ranks import ranked

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

Records = Sequence[Mapping[str, Any]]


class Report:
    """The tables and figures of a study; what they have in common is computed once.

    Args:
        records: all or some of the study's records; failed ones alone are enough.
        cost: the unit in which an estimate is paid for, "evaluations" or "seconds".
    """

    def __init__(self, records: Records, cost: str = "evaluations") -> None:
        self.records, self.cost = records, cost
        self.undrawn = list[str]()
        """A sentence for each figure that ``write`` could not draw."""
        self.trained = [record for record in records if record["kind"] == LineKind.TRAINING]

    @cached_property
    def table(self) -> pd.DataFrame | None:
        """The frame that tables and figures read; None if all records are of training."""
        only_training = self.trained and len(self.trained) == len(self.records)
        return None if only_training else prepared(self.records, self.cost)

    def write(self, folder: Path, *, drawn: bool = True) -> list[Path]:
        """Write ``table.md``, ``table.csv``, ``table.tex`` and ``figures/*.svg``, ``*.png``; return the paths written.

        A study of training gets ``training.md`` and ``training.csv`` instead of the three tables; a study with both
        kinds of records gets all five files. Equal records give equal bytes. A figure is drawn only if its records have
        changed. A figure that has no data, or cannot be drawn, is not written, and its file from an earlier report is
        removed.

        Args:
            folder: the study folder; made if it does not exist.
            drawn: whether to draw the figures; if not, the figures of an earlier report stay.
        """
        folder.mkdir(parents=True, exist_ok=True)
        title, trained = folder.resolve().name, self.trained
        texts, images = dict[str, str](), list[figures.Files]()
        if self.table is not None:
            found = tables.sections(self.table)
            texts = {
                "table.md": tables.markdown(self.table, title, found),
                "table.csv": tables.csv(self.table),
                "table.tex": tables.latex(found),
            }
            images.append(figures.images(self.table, folder / "figures"))
        if trained:
            texts |= {"training.md": training.markdown(trained, title), "training.csv": training.data(trained)}
            images.append(figures.training_images(curves.problems(trained), trained, folder / "figures"))
        for name, text in texts.items():
            files.write(folder / name, text)
        written = [folder / name for name in texts]
        for name, image in chain.from_iterable(images if drawn else ()):
            path = folder / "figures" / name
            if image is None or isinstance(image, str):
                path.unlink(missing_ok=True)
                self.undrawn += [f"{path.with_suffix('')} cannot be drawn: {image}."] if image else []
            else:
                if not path.exists() or path.read_bytes() != image:
                    files.write(path, image)
                written.append(path)
        return written

    def show(self, console: Console, *, named: bool = False, brief: bool = False) -> None:
        """Print the tables. A console narrower than 100 characters gets fewer columns, and a pipe gets plain text.

        Of a study with many objectives, the first tables are printed, and the others counted.

        Args:
            console: where to print.
            named: whether to print which estimators and objectives do not fit together, with the reason, in up to 8
                lines; otherwise only the number of such pairs is printed.
            brief: whether a study of three or more objectives is printed as one table, with a row for each objective.
        """
        if self.table is not None:
            tables.show(self.table, console, named=named, brief=brief)
        if self.trained:
            training.show(self.trained, console)


def is_one_table(records: Records) -> bool:
    """Return whether ``Report.show``, asked to be brief, prints these records as one table with a row per objective.

    It does if the study has three or more objectives.
    """
    return tables.has_several(frame(records))


def prepared(records: Records, cost: str = "evaluations") -> pd.DataFrame:
    """Return the frame that tables and figures read: a row per measurement, with its price and its rank interval.

    ``cost`` is the unit of the price of an estimate, "evaluations" or "seconds".
    """
    return ranked(priced(frame(records), cost), records)
