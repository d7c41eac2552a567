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

from bench.records.lines import LineKind
from bench.records.text import described

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from bench.report.curves import Problem
    from bench.report.figures.forest import Ratio

NAMES = ("heatmap", "bias-variance", "direction", "variance-cost", "variance-n", "variance-dim")
TRAINING = ("training", "training-variance", "training-pictures")
FORMATS = ("svg", "png")
"""Formats of a figure that are drawn unless others are asked for; PDF, whose text stays text, is the third."""
HEAD = 2048
"""Bytes of a figure's file that hold its digest."""


Files = Iterator[tuple[str, bytes | str | None]]
"""Names of files with their contents; in place of a content None without data, or a text: why it cannot be drawn."""
TIMES = "seconds|cost|noisy|peak_bytes|run$|wall|unit|price"
"""Columns of the frame, as a regular expression, that only the figure ``variance-cost`` is drawn from."""


def images(table: pd.DataFrame, folder: Path, formats: Sequence[str] = FORMATS) -> Files:
    """Yield the name and the content of each figure's files, or why there is none (``Files``).

    ``table`` is the frame that ``bench.report.prepared.prepared`` returns, and ``formats`` names the files: "svg",
    "png" or "pdf". The files hold a digest of the data and of the code that drew them. A file in ``folder`` whose
    digest is still right is not drawn again: its content is yielded as it is.
    """
    all_columns = _digest(table)
    without_times = _digest(table[[c for c in table if not re.search(TIMES, str(c))]])
    for name in NAMES:
        key = all_columns if name == "variance-cost" else without_times
        yield from _files(name, lambda name=name: draw(name, table), key, folder, formats)  # type: ignore[misc]


def training_images(
    problems: Sequence[Problem], records: Sequence[Mapping[str, Any]], folder: Path, formats: Sequence[str] = FORMATS
) -> Files:
    """Yield the name and the content of each training figure's files, or why there is none (``Files``).

    ``problems`` are the objectives with their training settings, made of ``records``; ``formats`` names the files:
    "svg", "png" or "pdf". The files hold a digest of the
    records and of the code that drew them. A file in ``folder`` whose digest is still right is not drawn again: its
    content is yielded as it is.
    """
    from bench.report.figures.training import curves, pictures, variances

    key = hashlib.sha256(f"{_code()}{json.dumps(records, default=str)}".encode()).hexdigest()[:16]
    for name, drawing in zip(TRAINING, (curves, variances, pictures), strict=True):
        yield from _files(name, lambda drawing=drawing: drawing(problems), key, folder, formats)  # type: ignore[misc]


def _digest(table: pd.DataFrame) -> str:
    """Return a digest of the data in a frame and of the code that draws."""
    found = hashlib.sha256(_code().encode())
    for name in table:
        column = table[name]
        found.update(f"\x1e{name}\x1e".encode())
        is_number = column.dtype.kind in "bif"
        found.update(column.to_numpy().tobytes() if is_number else "\x1f".join(map(str, column.tolist())).encode())
    return found.hexdigest()[:16]


@functools.cache
def _code() -> str:
    here = Path(__file__).parents[1]
    return "".join(path.read_text(encoding="utf-8") for path in sorted(here.rglob("*.py")))


def _files(name: str, drawing: Callable[[], Figure | None], key: str, folder: Path, formats: Sequence[str]) -> Files:
    paths = [folder / f"{name}.{suffix}" for suffix in formats]
    held = [path.read_bytes() if path.exists() else b"" for path in paths]
    if all(key.encode() in content[:HEAD] for content in held):
        yield from zip((path.name for path in paths), held, strict=True)
        return
    try:
        contents: list[bytes | str | None] = _drawn(drawing, key, formats)
    except Exception as error:  # the tables are worth more than a figure
        contents = [described(error), *[None] * (len(paths) - 1)]
    yield from zip((path.name for path in paths), contents, strict=True)


def _drawn(drawing: Callable[[], Figure | None], key: str, formats: Sequence[str]) -> list[bytes | str | None]:
    with _look():
        figure = _settled(drawing)
        return [None if figure is None else _rendered(figure, suffix, key) for suffix in formats]


def plotted(name: str, records: Sequence[Mapping[str, Any]], cost: str = "evaluations") -> Figure | None:
    """Return a figure of a study as its report draws it; None if the records have no data for it.

    Args:
        name: one of ``NAMES`` or of ``TRAINING``.
        records: the records of the study.
        cost: the unit in which an estimate is paid for, "evaluations" or "seconds".
    """
    from bench.report.curves import problems
    from bench.report.figures.training import curves, pictures, variances
    from bench.report.prepared import prepared

    trained = [record for record in records if record["kind"] == LineKind.TRAINING]
    measured = [record for record in records if record["kind"] != LineKind.TRAINING]
    with _look():
        if name in TRAINING:
            drawing = (curves, variances, pictures)[TRAINING.index(name)]
            return _settled(lambda: drawing(problems(trained))) if trained else None
        return _settled(lambda: draw(name, prepared(measured, cost))) if measured else None


def comparison(rows: Sequence[Ratio], axis: str, suffix: str, *, margin: float, title: str) -> bytes:
    """Return a figure of ratios with their intervals as a file of the format ``suffix``: svg, pdf or png.

    ``axis`` names the ratio; ratios within ``margin`` of 1, such as 0.05 for 5 %, are shaded.
    Raises ``ValueError`` if there is no ratio.
    """
    from bench.report.figures.forest import forest

    with _look():
        figure = _settled(lambda: forest(rows, axis, margin=margin, title=title))
        if figure is None:
            raise ValueError("a figure of ratios needs at least one (got none).")
        return _rendered(figure, suffix, "")


@contextmanager
def _look() -> Iterator[None]:
    """Give figures that are made inside the block the look of a report."""
    from matplotlib import rc_context

    from bench.report.figures.panels import LOOK

    with rc_context(LOOK), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of letters that the font lacks, and of labels without end
        yield


def _settled(drawing: Callable[[], Figure | None]) -> Figure | None:
    from bench.report.figures.panels import settle

    figure = drawing()
    if figure is not None and figure.get_constrained_layout():
        settle(figure)
    return figure


def draw(name: str, table: pd.DataFrame) -> Figure | None:
    """Return one figure by its name, such as ``heatmap`` or ``variance-cost``; None if ``table`` has no data for it.

    ``table`` is the frame that ``bench.report.prepared.prepared`` returns. The variance of an exact method is only
    rounding and is drawn as 0.
    """
    from bench.report.figures.bias_variance import bias_variance
    from bench.report.figures.direction import direction
    from bench.report.figures.heatmap import heatmap
    from bench.report.figures.scaling import variance_dim, variance_n
    from bench.report.figures.variance_cost import variance_cost

    drawings = dict(
        zip(NAMES, (heatmap, bias_variance, direction, variance_cost, variance_n, variance_dim), strict=True)
    )
    table = table.copy()
    table.loc[table["exact"], ["variance", "variance_low", "variance_high"]] = 0.0
    return drawings[name](table)


def _rendered(figure: Figure, suffix: str, key: str) -> bytes:
    """Return the file with a key, and without date and library version, so that equal figures are equal files."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    target, dpi = io.BytesIO(), figure.dpi
    canvas: Any
    # Figure.savefig would draw the figure once more, to lay out what is settled.
    match suffix:
        case "svg":
            canvas = FigureCanvasSVG(figure)
            canvas.print_svg(target, metadata={"Identifier": key, "Date": None, "Creator": None})
            figure.set_dpi(dpi)
        case "pdf":
            dates = {"CreationDate": None, "ModDate": None, "Creator": None, "Producer": None}
            canvas = FigureCanvasPdf(figure)
            canvas.print_pdf(target, metadata=dates | {"Keywords": key})
            figure.set_dpi(dpi)
        case _:
            canvas = FigureCanvasAgg(figure)
            canvas.print_png(target, metadata={"Identifier": key, "Software": None})
    return target.getvalue()
