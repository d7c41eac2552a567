"""How variance and bias change with a field that a study sweeps: samples, dimension, temperature and others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bench.report.figures import log_axes, marks, panels, theme
from bench.report.figures.drawing import Drawing
from bench.report.frame import each
from bench.report.layout import broken
from bench.report.lines import fit, lines, moves
from bench.report.style import Style, order, variants

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_LINES = 60
"""Most lines in a panel."""
NAMES = {"n": "number n of samples per estimate", "dim": "dimension (random coordinates)"}
"""Names of the fields that are neither an estimator's nor an objective's."""
INSIDE, INSIDE_LETTERS = 3, 36
"""Most lines, and most letters of a line's name, for a legend inside a panel."""
EXPONENT = len("  −1.00 ± 0.01")


def sweep(table: pd.DataFrame, quantity: str, field: str) -> Drawing | None:
    """Plot a quantity against a field that the study varies.

    There is a panel for each objective, and in it a line for each estimator.

    A line has three or more values of the field. A bias is divided by the norm of the exact gradient. If ``field`` is
    "dim" or another field of the objective, a variance is divided by the square of this norm. A line of biases is drawn
    only if a bias was found at one or more of its values. Return None if there is no line.

    Args:
        table: the frame that ``bench.report.prepared.prepared`` returns.
        quantity: "variance" or "bias", which is the norm of the bias vector.
        field: "n", "dim", or a numeric field such as ``estimator.temperature`` or ``objective.power``.
    """
    half, _, key = field.rpartition(".")
    table = lines(table, quantity, field)
    if table.empty:
        return None
    name = NAMES.get(field, f"{key} of the {half}")
    title = f"{quantity.title()} of one estimate against the {name}"
    if quantity == "bias":
        y = "‖bias‖ / ‖exact gradient‖"
        signs = (
            "Tick at the lower edge: no bias was found up to the end of the grey bar. Left out: estimators without any."
        )
    else:
        title += ", relative to the squared norm of the exact gradient" * moves(field)
        y = (
            "variance / ‖exact gradient‖²"
            if moves(field)
            else "variance of one estimate (squared units of the gradient)"
        )
        signs = "Larger markers: more samples n." if field != "n" else ""
    sum_law = " (−1: average of independent samples)" if (quantity, field) == ("variance", "n") else ""
    legend = f"Legend: fitted exponent ± standard error{sum_law}. Bars: 95 % intervals. {signs}".rstrip()
    return _scaling(table, quantity, f"{title}\n{legend}", (name, y))


def _scaling(table: pd.DataFrame, quantity: str, title: str, labels: tuple[str, str]) -> Drawing:
    """Plot a panel per value of ``panel``, and a line per ``series``."""
    own = table[["panel", "series"]].drop_duplicates()
    place = own.groupby("panel", sort=False).cumcount()
    if (place >= MOST_LINES).any():
        title += f" The first {MOST_LINES} lines of a panel."
        table = table.merge(own[place < MOST_LINES], on=["panel", "series"])
    problems, note = panels.chosen(table.assign(problem=table["panel"]))
    shown = table[table["panel"].isin(problems)]
    return Drawing(_draw, (shown, problems, quantity, title + note, labels))


def _draw(table: pd.DataFrame, problems: Sequence[str], quantity: str, title: str, labels: tuple[str, str]) -> Figure:
    """Draw a panel for each objective in ``problems``."""
    from matplotlib.transforms import ScaledTranslation

    own = table[["panel", "series"]].drop_duplicates()
    most = int(own["panel"].value_counts().max())
    longest = max(len(theme.called(series)) for series in own["series"].unique()) + EXPONENT
    inside = most <= INSIDE and longest <= INSIDE_LETTERS and theme.page() == theme.PAGE
    below = theme.page() < theme.PAGE
    width = 3.4 if inside or below else 2.2 + 0.06 * (16 + longest)  # room for the legend beside each panel
    across = max(1, int(theme.page() / (0.5 + theme.LETTER * longest) if below else 15 / width))
    letters = max(20, int((theme.page() - 0.6) / theme.LETTER) - EXPONENT) if below else longest
    entry = {series: broken(theme.called(series), letters) for series in own["series"]}
    entries = int(own["series"].map(lambda series: 1 + entry[series].count("\n")).groupby(own["panel"]).sum().max())
    height = 2.6 if inside else 2.6 + 0.16 * entries if below else max(2.6, 0.19 * most + 0.3)
    figure, axes = panels.panels(problems, title, width=width, height=height, across=across)
    panels.label(axes, *labels)
    for problem, ax in axes.items():
        group = table[table["panel"] == problem]
        names = dict(zip(group["series"], group["estimator_name"], strict=True))
        places = {name: place for place, name in enumerate(order(list(names.values())))}
        look = variants(dict(sorted(names.items(), key=lambda item: places[item[1]])))
        lacking = [series for series in look if not group.loc[group["series"] == series, "biased"].all()]
        for series, style in look.items():
            part = group[group["series"] == series].sort_values("x")
            shift = (lacking.index(series) - (len(lacking) - 1) / 2) if series in lacking else 0.0
            shift *= min(3.0, 30 / max(len(lacking), 1))
            _line(ax, part, quantity, entry[series], style, shift)
        straight = not (group["x"] > 0).all()
        log_axes.logarithmic(ax, straight=straight)
        values = sorted(set(group["x"]))
        if straight:
            spare = 0.05 * (values[-1] - values[0])
            ax.set_xlim(values[0] - spare, values[-1] + spare)
        else:
            ax.set_xlim(values[0] / 1.25, values[-1] * 1.25)
        log_axes.ticks(ax.xaxis, values[:: math.ceil(len(values) / 8)])
        if inside:  # clear of the lines
            bottom, top = ax.get_ylim()
            ax.set_ylim(bottom, top * (top / bottom) ** (0.12 * len(look)))
            first, last = (group.loc[group["x"] == end, "value"].median() for end in (values[0], values[-1]))
            where: Any = "upper right" if first > last else "upper left"
            ax.legend(loc=where, fontsize=7.5, handlelength=3, borderaxespad=0.2)
        elif below:
            down = 16 + 9 * len(ax.get_xlabel().splitlines())  # past the numbers and the name of the axis
            beneath = ax.transAxes + ScaledTranslation(-24 / 72, -down / 72, figure.dpi_scale_trans)
            ax.legend(loc="upper left", bbox_to_anchor=(0, 0), bbox_transform=beneath, fontsize=6, handlelength=3)
        else:
            ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.02), fontsize=7.5, handlelength=3, borderaxespad=0.2)
    return figure


def _line(ax: Axes, part: pd.DataFrame, quantity: str, label: str, style: Style, shift: float) -> None:
    """Draw a series: its estimates, a line through them except lower limits, and its exponent in the legend.

    ``shift`` moves the ticks of biases that were not found aside, in 1/72 inch, so that those of several series differ.
    """
    if quantity == "bias":
        for row in each(part[~part["biased"]]):
            marks.unfound(ax, row.x, row.high, style, shift)
        drawn = part[part["biased"] & (part["value"] > 0)]
        for row in each(drawn):
            marks.mark(ax, row.x, row.value, row, style)
            marks.whisker(ax, (row.x, max(row.low, row.value * 1e-3)), (row.x, row.high), style.colour)
    else:
        for row in each(part.assign(variance=part["value"], variance_low=part["low"], variance_high=part["high"])):
            marks.interval(ax, row.x, row, style)
        drawn = part[part["value"] > 0]
    exponent = ""
    if fitted := fit(part, quantity):
        exponent = f"  {round(fitted[0], 2) + 0.0:.2f} ± {max(fitted[1], 0.01):.2f}".replace("  -", "  −")
    n = float(part["n"].iloc[0]) if part["n"].nunique() == 1 else 1.0
    ax.plot(
        drawn["x"],
        drawn["value"],
        label=f"{label}{exponent}",
        dashes=style.dashes or (None, None),
        zorder=1,
        **marks.marker(style, hollow=not part["fair"].all(), n=n),
    )
