"""The report of a study folder: its page, its tables, and every figure for which the records have data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.records import files
from bench.records.lines import LineKind, Outcome
from bench.report import by_objective, curves, figures, printed, table_csv, tables, training
from bench.report.frame import frame
from bench.report.prepared import prepared
from bench.report.references import bibtex

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

Records = Sequence[Mapping[str, Any]]
PAGE = "report.html"
FORMATS = ("html", "md", "csv", "tex", "svg", "png")
"""The formats that a report is written in, unless others are asked for."""
OTHERS = ("pdf", "parquet", "json", "bib")
"""The formats that must be asked for: figures as PDF, the rows of ``table.csv`` for other programs, and
the papers of the estimators as BibTeX."""


class Report:
    """The tables and figures of a study. Their common data are computed only once.

    Args:
        records: all or some of the study's records; they may all be failures.
        cost: the unit of the cost of an estimate, "evaluations" or "seconds".
    """

    def __init__(self, records: Records, cost: str = "evaluations") -> None:
        self.records, self.cost = records, cost
        self.undrawn = list[str]()
        """A sentence for each figure that ``write`` could not draw."""
        self.whole = "md"
        """The format of the file that has all that a terminal has no room for; empty if there is none."""
        self.trained = [record for record in records if record["kind"] == LineKind.TRAINING]

    @cached_property
    def table(self) -> pd.DataFrame | None:
        """The data frame from which tables and figures are made; None if all records are of training."""
        only_training = self.trained and len(self.trained) == len(self.records)
        return None if only_training else prepared(self.records, self.cost)

    def write(
        self,
        folder: Path,
        *,
        drawn: bool = True,
        standing: str = "",
        formats: Sequence[str] = FORMATS,
        width: float | None = None,
        called: Mapping[str, str] | None = None,
    ) -> dict[Path, str]:
        """Write the report into a folder; return the paths written, each with the SHA-256 of its content.

        The files are ``report.html``, ``figures/*``, and tables. Measurements of gradients make ``table.md``,
        ``table.csv`` and ``table.tex``; records of training make ``training.md`` and ``training.csv``. Equal records
        give equal bytes. Figures are drawn only if the records have changed. A figure without data, or one that cannot
        be drawn, is not written, and its file from an earlier report is removed.

        Args:
            folder: the study folder; made if it does not exist.
            drawn: whether to make the page and the figures. If not, the page and the figures of an earlier report stay.
            standing: how much of the study is done, in a sentence for the page; empty if it is complete.
            formats: what to write: "html", "md", "csv", "tex", "svg", "png", "pdf", "parquet", "json" or "bib".
            width: width in inches of figures for print, which have no title; None makes them for the screen.
            called: what figures call estimators and objectives, by label, in the order of the heat map; None for their
                labels.

        Raises:
            bench.report.export.Unavailable: Parquet is wanted, and pyarrow is not installed.
        """
        from bench.report.export import Format, exported

        folder.mkdir(parents=True, exist_ok=True)
        files.sweep(folder, folder / "figures", folder / "tables")
        title, trained = folder.resolve().name, self.trained
        texts, images = dict[str, str | bytes](), list[figures.Files]()
        kinds = [kind for kind in (*figures.FORMATS, "pdf") if kind in formats]
        if self.table is not None:
            found = by_objective.sections(self.table)
            texts["table.md"] = tables.markdown(self.table, title, found)
            texts["table.csv"] = table_csv.csv(self.table)
            texts["table.tex"] = tables.latex(found)
            texts |= {f"table.{form}": exported(self.records, Format(form)) for form in OTHERS[1:3] if form in formats}
            images.append(figures.images(self.table, folder / "figures", kinds, width, called))
        if trained:
            texts["training.md"] = training.markdown(trained, title)
            texts["training.csv"] = training.data(trained)
            drawings = (curves.problems(trained), trained, folder / "figures")
            images.append(figures.training_images(*drawings, kinds, width, called))
        if "bib" in formats:
            texts["methods.bib"] = bibtex(record["estimator_name"] for record in self.records if measures(record))
        texts = {name: text for name, text in texts.items() if name.rpartition(".")[2] in formats}
        made = [each for each in formats if each != "html" or drawn]
        self.whole = next((each for each in ("md", "html", "csv") if each in made), "")
        if "html" in made:
            texts = dict[str, str | bytes]({PAGE: self._page(title, standing)}) | texts
        for name, text in texts.items():
            files.write(folder / name, text)
        written = {folder / name: files.digest_of(text) for name, text in texts.items()}
        for name, image in chain.from_iterable(images if drawn and kinds else ()):
            path = folder / "figures" / name
            if image is None or isinstance(image, str):
                path.unlink(missing_ok=True)
                self.undrawn += [f"{path.with_suffix('')} cannot be drawn: {image}."] if image else []
            else:
                if not path.exists() or path.read_bytes() != image:
                    files.write(path, image)
                written[path] = files.digest_of(image)
        return written

    def _page(self, title: str, standing: str) -> str:
        from bench.report.page import page

        return page(self.table, self.records, title, standing)

    def show(self, console: Console, *, named: bool = False, brief: bool = False) -> None:
        """Print the tables. A console narrower than 100 characters gets fewer columns, and a pipe gets plain text.

        If there are many objectives, only the first tables are printed, and the others are counted.

        Args:
            console: where to print.
            named: whether to print which estimators and objectives do not fit together, with the reason, in up to 8
                lines. If not, only their number is printed.
            brief: whether to print one table, with a row for each objective, if there are three objectives or more.
        """
        if self.table is not None:
            printed.show(self.table, console, named=named, brief=brief, whole=self._whole("table"))
        if self.trained:
            training.show(self.trained, console, self._whole("training"))

    def _whole(self, stem: str) -> str:
        """Return the name of the file that has all of a table; empty if none is written."""
        return PAGE if self.whole == "html" else f"{stem}.{self.whole}" if self.whole else ""


def measures(record: Mapping[str, Any]) -> bool:
    """Return whether a record is about an estimator that was measured, trained or failed.

    The result is False if the estimator was skipped, because it does not fit the objective, and for records that are
    about no estimator.
    """
    return "estimator_name" in record and record["outcome"] != Outcome.SKIPPED


def is_one_table(records: Records) -> bool:
    """Return whether ``Report.show(brief=True)`` prints these records as one table, with a row for each objective.

    The result is True if the study has three or more objectives.
    """
    return by_objective.has_several(frame(records))
