"""Time against R and against D, on log axes, with the slope of every line at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.benchmarks.growth import slope

Lines = Mapping[str, Sequence[tuple[float, float]]]
"""Points of every line, by its name."""
COLOURS = {
    "closed": "#0173b2",
    "floor": "#5f5f5f",
    "product, mean and variance": "#029e73",
    "product, every statistic": "#d55e00",
}


def time_against(path: Path, panels: Mapping[str, Lines], xlabel: str, ylabel: str) -> None:
    """Draw one panel for each title and write it as SVG and PNG."""
    matplotlib.rcParams["svg.hashsalt"] = "stochgrad-bench"
    figure = Figure(figsize=(4.6 * len(panels) + 0.6, 4.2), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (title, lines) in zip(axes, panels.items(), strict=True):
        _panel(ax, title, lines)
        ax.set_xlabel(xlabel)
    axes[0].set_ylabel(ylabel)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(path.with_suffix(".png"), dpi=150)


def _panel(ax: Axes, title: str, lines: Lines) -> None:
    for name, color in COLOURS.items():
        points = lines.get(name, [])
        if len(points) < 2:
            continue
        x, y = ([point[k] for point in points] for k in (0, 1))
        ax.plot(x, y, marker="o", markersize=4, color=color, label=f"{name} (slope {slope(x, y):.2f})")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_title(title)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8, frameon=False)
