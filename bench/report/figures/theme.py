"""The look of figures, on the screen and in print."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

PAGE = 13.6
"""Width of a page for the screen, in inches: four panels."""
WIDTH: ContextVar[float] = ContextVar("width", default=PAGE)
LOOK: Any = {  # some releases of matplotlib type every key of its settings, others none
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.linewidth": 0.7,
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.4,
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,  # text in PDF stays text
    "figure.dpi": 150,
    "text.hinting": "no_hinting",  # so that the layout fits at every resolution
    "text.parse_math": False,  # a dollar sign in a user's label is a dollar sign
    "svg.hashsalt": "bench.report",
    "svg.fonttype": "path",
}
GRID = "#d5d5d5"


def page() -> float:
    """Return the width in inches of a figure with several panels."""
    return WIDTH.get()


@contextmanager
def styled(width: float | None) -> Iterator[None]:
    """Inside the block, give new figures the look of a report; for print if ``width``, in inches, is given.

    Figures for print have smaller type, and no title.
    """
    from matplotlib import rc_context

    small = {"font.size": 7, "axes.titlesize": 7.5, "legend.fontsize": 6.5, "axes.labelsize": 7} if width else {}
    token = WIDTH.set(width or PAGE)
    try:
        with rc_context(LOOK | small):
            yield
    finally:
        WIDTH.reset(token)


def points(size: float) -> float:
    """Return the size in points that type gets in print if it has ``size`` points on the screen."""
    return size if page() == PAGE else 0.78 * size
