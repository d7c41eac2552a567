"""The figures of a study. Each is drawn from the prepared frame by a function that returns None if there is no data."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from bench.report.curves import Problem

NAMES = ("heatmap", "bias-variance", "variance-cost", "variance-n", "variance-dim")
TRAINING = ("training", "training-variance", "training-pictures")
FORMATS = ("svg", "png")


def images(table: pd.DataFrame) -> Iterator[tuple[str, bytes | None]]:
    """Yield the name and the content of each figure's two files, SVG and PNG; the content is None without data."""
    for name in NAMES:
        yield from _files(name, lambda name=name: draw(name, table))  # type: ignore[misc]


def training_images(problems: Sequence[Problem]) -> Iterator[tuple[str, bytes | None]]:
    """Yield the name and the content of each training figure's SVG and PNG file; the content is None without data."""
    from bench.report.figures.training import curves, pictures, variances

    for name, drawing in zip(TRAINING, (curves, variances, pictures), strict=True):
        yield from _files(name, lambda drawing=drawing: drawing(problems))  # type: ignore[misc]


def _files(name: str, drawing: Callable[[], Figure | None]) -> Iterator[tuple[str, bytes | None]]:
    from matplotlib import rc_context

    from bench.report.figures.panels import LOOK, settle

    with rc_context(LOOK):
        figure = drawing()
        if figure is not None and figure.get_constrained_layout():
            settle(figure)
        for suffix in FORMATS:
            yield f"{name}.{suffix}", None if figure is None else _rendered(figure, suffix)


def draw(name: str, table: pd.DataFrame) -> Figure | None:
    """Return the figure of this name; None if ``table``, the prepared frame of measurements, has no data for it.

    The variance of an exact method is only rounding and is drawn as 0.
    """
    from bench.report.figures.bias_variance import bias_variance
    from bench.report.figures.heatmap import heatmap
    from bench.report.figures.scaling import variance_dim, variance_n
    from bench.report.figures.variance_cost import variance_cost

    drawings = dict(zip(NAMES, (heatmap, bias_variance, variance_cost, variance_n, variance_dim), strict=True))
    table = table.copy()
    table.loc[table["exact"], ["variance", "variance_low", "variance_high"]] = 0.0
    return drawings[name](table)


def _rendered(figure: Figure, suffix: str) -> bytes:
    """Return the file without date and library version, so that equal figures are equal files."""
    target = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if suffix == "svg" else {"Software": None}
    figure.savefig(target, format=suffix, metadata=metadata)
    return target.getvalue()
