"""The figures of a study. Each is drawn from the prepared frame by a function that returns None if there is no data."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.records import installed
from bench.records.lines import LineKind, plain
from bench.records.text import described
from bench.report.figures.drawing import Drawing
from bench.report.figures.memory import Memory
from bench.report.figures.texts import laid_out_once
from bench.report.figures.theme import Names, styled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from bench.report.curves import Problem
    from bench.report.figures.forest import Ratio

NAMES = ("heatmap", "efficiency", "bias-variance", "direction", "variance-cost")
"""Figures of every study; those of swept fields are in ``names``."""
TRAINING = ("training", "training-variance", "training-pictures")
FORMATS = ("svg", "png")
"""Formats of a figure that are drawn unless others are asked for; PDF, whose text stays text, is the third."""
HEAD = 2048
"""Bytes of a figure's file that hold what it says of itself."""


Files = Iterator[tuple[str, bytes | str | None]]
"""Names of files with their contents; in place of a content None without data, or a text: why it cannot be drawn."""
TIMED = ("variance-cost", "efficiency")
TIMES = "seconds|cost|noisy|peak_bytes|run$|wall|unit|price|efficiency"
"""Columns of the frame, as a regular expression, that only the figures ``TIMED`` are drawn from."""
MADE = "bench.report"
"""What every file of a figure says of itself."""
SWEEPS = ("variance-", "bias-")
"""How the names of figures of swept fields begin."""


def images(
    table: pd.DataFrame,
    folder: Path,
    formats: Sequence[str] = FORMATS,
    width: float | None = None,
    called: Names | None = None,
) -> Files:
    """Yield the name and the content of each figure's files.

    If a figure cannot be drawn, the reason takes the place of the content; if there are no data for the figure, None
    does. If a file in ``folder`` was drawn from the same data by the same code, it is not drawn again, and its content
    is yielded as it is.

    Args:
        table: the frame that ``bench.report.prepared.prepared`` returns.
        folder: the folder of the figures.
        formats: the files of each figure: "svg", "png" or "pdf".
        width: width in inches of figures for print; None makes them for the screen.
        called: what estimators and objectives are called; None for their labels.
    """
    chosen, table = names(table), _exact_at_zero(table)
    for path in sorted(folder.glob("*-*.*")):  # of fields that were swept in an earlier report
        if path.stem.startswith(SWEEPS) and path.stem not in chosen and MADE.encode() in path.read_bytes()[:HEAD]:
            yield path.name, None
    drawings = {name: functools.partial(_drawing, name, table) for name in chosen}
    yield from _files(drawings, _shown, folder, formats, width, called)


def training_images(
    problems: Sequence[Problem],
    records: Sequence[Mapping[str, Any]],
    folder: Path,
    formats: Sequence[str] = FORMATS,
    width: float | None = None,
    called: Names | None = None,
) -> Files:
    """Yield the name and the content of each training figure's files.

    If a figure cannot be drawn, the reason takes the place of the content; if there are no data for the figure, None
    does. If a file in ``folder`` was drawn from the same records by the same code, it is not drawn again, and its
    content is yielded as it is.

    Args:
        problems: the objectives with their training settings.
        records: the records from which ``problems`` were made.
        folder: the folder of the figures.
        formats: the files of each figure: "svg", "png" or "pdf".
        width: width in inches of figures for print; None makes them for the screen.
        called: what estimators and objectives are called; None for their labels.
    """
    from bench.report.figures.training import curves, pictures, variances

    digest = hashlib.sha256(json.dumps(plain(records)).encode()).hexdigest()
    pairs = zip(TRAINING, (curves, variances, pictures), strict=True)
    drawings = {name: functools.partial(Drawing, drawing, (problems,)) for name, drawing in pairs}
    yield from _files(drawings, lambda *_: digest, folder, formats, width, called)


def _shown(name: str, drawing: Drawing) -> str:
    """Return a digest of what a figure shows. The columns that hold times count only if the figure is of ``TIMED``."""
    found = hashlib.sha256()
    for part in drawing.shown:
        if isinstance(part, str | int | list | tuple):
            found.update(f"\x1d{part!r}".encode())
            continue
        for column in part:
            if name in TIMED or not re.search(TIMES, str(column)):
                values = part[column]
                content = values.to_numpy().tobytes() if values.dtype.kind in "bif" else repr(values.tolist()).encode()
                found.update(f"\x1e{column}\x1e".encode() + content)
    return found.hexdigest()


def _files(
    drawings: Mapping[str, Callable[[], Drawing | None]],
    data: Callable[[str, Drawing], str],
    folder: Path,
    formats: Sequence[str],
    width: float | None,
    called: Names | None,
) -> Files:
    """Yield the files of figures. ``data`` returns a digest of what one shows: equal ones are not made again.

    ``drawings`` has the function that selects what a figure shows, by the figure's name.
    """
    memory = Memory(folder)
    for name, select in drawings.items():
        files, own = [f"{name}.{suffix}" for suffix in formats], ""
        contents: list[bytes | str | None] = [None] * len(files)
        try:
            with styled(width, called), _quiet():
                if drawing := select():
                    about = f"{width}{called}{data(name, drawing)}{installed.digest()}"
                    own = hashlib.sha256(about.encode()).hexdigest()[:16]
                    contents = [memory.find(file, own) for file in files]
                    if None in contents and (figure := _settled(drawing)):
                        contents = [rendered(figure, suffix) for suffix in formats]
        except Exception as error:  # the tables are worth more than a figure
            contents = [described(error), *[None] * (len(files) - 1)]
        for file, content in zip(files, contents, strict=True):
            memory.keep(file, own, content)
            yield file, content
    memory.save()


def known(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of all figures that a study with these records may have."""
    from bench.report.frame import frame

    return [*names(frame(records)), *TRAINING]


def plotted(
    name: str,
    records: Sequence[Mapping[str, Any]],
    cost: str = "evaluations",
    width: float | None = None,
    called: Names | None = None,
    *,
    fixed: bool = True,
) -> Figure | None:
    """Return a figure of a study as its report draws it; None if the records have no data for it.

    Args:
        name: one of ``known(records)``.
        records: the records of the study.
        cost: the unit of the cost of an estimate, "evaluations" or "seconds".
        width: width in inches of a figure for print, which has no title; None makes one for the screen.
        called: what estimators and objectives are called; None for their labels.
        fixed: whether the layout is final. If not, it is computed again wherever the figure is drawn or saved.
    """
    from bench.report.curves import problems
    from bench.report.figures.training import curves, pictures, variances
    from bench.report.prepared import prepared

    trained = [record for record in records if record["kind"] == LineKind.TRAINING]
    measured = [record for record in records if record["kind"] != LineKind.TRAINING]
    with styled(width, called), _quiet():
        if name in TRAINING:
            drawing = (curves, variances, pictures)[TRAINING.index(name)]
            return _settled(lambda: drawing(problems(trained)), fixed=fixed) if trained else None
        return _settled(lambda: draw(name, prepared(measured, cost), width, called), fixed=fixed) if measured else None


def comparison(rows: Sequence[Ratio], axis: str, suffix: str, *, margin: float, title: str) -> bytes:
    """Return the file of a figure of ratios with their intervals, as bytes.

    Args:
        rows: the ratios.
        axis: the name of the ratio.
        suffix: the format of the file: "svg", "pdf" or "png".
        margin: ratios within ``margin`` of 1 are shaded, 0.05 for 5 %.
        title: the title of the figure.

    Raises:
        ValueError: there is no ratio.
    """
    from bench.report.figures.forest import forest

    with styled(None), _quiet():
        figure = _settled(lambda: forest(rows, axis, margin=margin, title=title))
        if figure is None:
            raise ValueError("a figure of ratios needs at least one (got none).")
        return rendered(figure, suffix)


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings(), laid_out_once():
        warnings.simplefilter("ignore", UserWarning)  # of letters that the font lacks, and of labels without end
        yield


def _settled(drawing: Callable[[], Figure | None], *, fixed: bool = True) -> Figure | None:
    from bench.report.figures.panels import settle

    figure = drawing()
    if figure is not None and figure.get_constrained_layout():
        settle(figure, fixed=fixed)
    return figure


def names(table: pd.DataFrame) -> list[str]:
    """Return the names of all figures that a study may have, including those of the fields that it sweeps.

    ``table`` is the frame that ``bench.report.prepared.prepared`` returns.
    """
    from bench.report.lines import sweeps

    return [*NAMES, *sweeps(table)]


def draw(name: str, table: pd.DataFrame, width: float | None = None, called: Names | None = None) -> Figure | None:
    """Return the figure with the given name, such as ``heatmap`` or ``variance-n``; None if there are no data for it.

    The variance of an exact method is only rounding, and is drawn as 0.

    Args:
        name: one of ``names(table)``.
        table: the frame that ``bench.report.prepared.prepared`` returns.
        width: width in inches of a figure for print; None makes one for the screen.
        called: what estimators and objectives are called; None for their labels.
    """
    with styled(width, called):
        drawing = _drawing(name, _exact_at_zero(table))
        return None if drawing is None else drawing()


def _exact_at_zero(table: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with the variance 0 of exact methods, whose variance is only rounding."""
    table = table.copy()
    table.loc[table["exact"], ["variance", "variance_low", "variance_high"]] = 0.0
    return table


def _drawing(name: str, table: pd.DataFrame) -> Drawing | None:
    """Return what the figure with the given name shows; None if there are no data for it."""
    from bench.report.figures.bias_variance import bias_variance
    from bench.report.figures.direction import direction
    from bench.report.figures.efficiency import COLUMNS, efficiency
    from bench.report.figures.heatmap import heatmap
    from bench.report.figures.scaling import sweep
    from bench.report.figures.variance_cost import variance_cost
    from bench.report.lines import sweeps

    match name:
        case "heatmap":
            return Drawing(heatmap, (table.drop(columns=["estimator_params", "objective_params"]),))
        case "efficiency":
            return Drawing(efficiency, (table[list(COLUMNS)],))
        case "bias-variance":
            return bias_variance(table)
        case "direction":
            return direction(table)
        case "variance-cost":
            return variance_cost(table)
    return sweep(table, *sweeps(table)[name])


def rendered(figure: Figure, suffix: str) -> bytes:
    """Return the file of a figure in the format ``suffix``: "svg", "pdf" or "png".

    The file has the figure's title as metadata, but no date and no version of a library. So equal figures give equal
    files.
    """
    target, dpi, said = io.BytesIO(), figure.dpi, figure.get_gid() or ""
    canvas: Any
    # Figure.savefig would draw the figure once more, to lay out what is settled.
    match suffix:
        case "svg":
            from matplotlib.backends.backend_svg import FigureCanvasSVG

            canvas = FigureCanvasSVG(figure)
            canvas.print_svg(target, metadata={"Identifier": MADE, "Description": said, "Date": None, "Creator": None})
            figure.set_dpi(dpi)
        case "pdf":
            from matplotlib.backends.backend_pdf import FigureCanvasPdf  # takes long, and few want it

            dates = {"CreationDate": None, "ModDate": None, "Creator": None, "Producer": None}
            canvas = FigureCanvasPdf(figure)
            canvas.print_pdf(target, metadata=dates | {"Keywords": MADE, "Subject": said})
            figure.set_dpi(dpi)
        case _:
            from matplotlib.backends.backend_agg import FigureCanvasAgg

            canvas = FigureCanvasAgg(figure)
            canvas.print_png(target, metadata={"Identifier": MADE, "Description": said, "Software": None})
    return target.getvalue()
