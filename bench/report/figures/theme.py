"""The look of figures, on the screen and in print."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from bench.report.layout import broken, shortened

PAGE = 13.6
"""Width of a page for the screen, in inches: four panels."""
WIDTH: ContextVar[float] = ContextVar("width", default=PAGE)
Names = Mapping[str, str]
"""What estimators and objectives are called, by label or by command-line name, in the order of the heat map."""
NAMES: ContextVar[Names] = ContextVar("names", default={})  # noqa: B039
LETTER = 0.055
"""Width of a letter in a legend in print, in inches."""
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
    """Return the width in inches of a figure with several panels.

    In print, the width is the one that ``styled`` was given. Figures for the screen have a fixed width.
    """
    return WIDTH.get()


def called(label: str) -> str:
    """Return what figures call an estimator or an objective, in at most 64 letters.

    The names are those that ``styled`` has received. If one of them belongs to the label, it is returned. If ``rloo``
    has the name RLOO, and ``rloo:n=4`` has none, ``rloo:n=4`` is called ``RLOO (n=4)``. In all other cases the label
    itself is returned.
    """
    names = NAMES.get()
    name, _, fields = label.partition(":")
    if label not in names and name in names:
        return shortened(f"{names[name]} ({fields.replace(',', ', ')})")
    return shortened(names.get(label, label))


def in_lines(label: str, width: int = 42) -> str:
    """Return what figures call an estimator or an objective, broken into lines.

    It is broken like a cell of a table (``bench.report.layout.broken``) if it has more than ``width`` letters.
    """
    return broken(called(label), width)


def in_order(labels: list[str]) -> list[str]:
    """Return labels in the order of the names that were given to ``styled``; labels without a name come last."""
    places = {label: place for place, label in enumerate(NAMES.get())}
    return sorted(labels, key=lambda label: places.get(label, len(places)))


@contextmanager
def styled(width: float | None, names: Names | None = None) -> Iterator[None]:
    """In a ``with`` block, give new figures the look of a report: for print if ``width``, in inches, is given.

    Settings of the user's own, as in a ``matplotlibrc``, do not count: equal data give equal figures everywhere.
    Figures for print have smaller type, and no title. ``names`` are what estimators and objectives are called, by label
    or by command-line name; None for no such names.
    """
    from matplotlib import style

    small = {"font.size": 7, "axes.titlesize": 7, "legend.fontsize": 6.5, "axes.labelsize": 7} if width else {}
    held = WIDTH.set(width or PAGE), NAMES.set(names or {})
    try:
        with style.context(["default", LOOK | small]):
            yield
    finally:
        WIDTH.reset(held[0])
        NAMES.reset(held[1])


def points(size: float) -> float:
    """Return the font size in points for the present figure: ``size`` on the screen, and less in print."""
    return size if page() == PAGE else 0.78 * size
