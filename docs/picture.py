"""Draws the picture of the README from the reference study: ``python docs/picture.py``.

It is drawn for the width of a phone: 390 pixels.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

from bench.records import store
from bench.records.lines import Outcome
from bench.report.frame import each
from bench.report.prepared import prepared

HERE = Path(__file__).parent
PICTURE = HERE / "first-look.png"
STUDY, PROBLEM = HERE.parent / "results" / "reference", "categorical-polynomial:power=3"
WIDTH, HEIGHT, PIXELS = 3.9, 4.7, 300
"""Width and height in hundreds of pixels of a phone, and the resolution: three pixels of the file for one of these."""
UNBIASED, BIASED = "#0173b2", "#d55e00"
NAMES = {"baseline=0": "no baseline", "baseline=moving-average": "moving average"}


def runs() -> list[Any]:
    """Return the measured runs of the problem, the highest variance × evaluations first."""
    table = prepared(store.read(STUDY))
    own = table[(table["problem"] == PROBLEM) & (table["outcome"] == Outcome.MEASURED) & ~table["exact"]]
    return sorted(each(own), key=lambda run: -run.variance_times_cost)


def digest(found: list[Any]) -> str:
    """Return a digest of what is drawn, which the file of the picture holds."""
    drawn = [(r.estimator, r.variance_times_cost, r.biased, r.bias_norm / r.exact_norm) for r in found]
    return hashlib.sha256(repr(drawn).encode()).hexdigest()[:16]


def draw(found: list[Any]) -> None:
    """Draw the picture: a row for each run, with its variance × evaluations, and the bias of the biased ones."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"font.family": "DejaVu Sans", "font.size": 8.5, "axes.spines.top": False}):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        ax = figure.subplots()
        best = min(r.variance_times_cost for r in found if r.fair)
        for y, run in enumerate(found):
            x, colour = run.variance_times_cost / best, BIASED if run.biased else UNBIASED
            ax.plot([x], [y], "o", color=colour, markersize=7, markerfacecolor="white" if run.biased else colour)
            if run.biased:
                ax.annotate(
                    f"bias {100 * run.bias_norm / run.exact_norm:.0f} %", (x, y), (7, -3), textcoords="offset points"
                ).set_color(BIASED)
        ax.set_xscale("log")
        ax.set_yticks(range(len(found)), [name(run) for run in found])
        ax.set_xlabel("variance × evaluations of f and ∇f\n(best unbiased = 1)")
        ax.grid(axis="x", color="#dddddd")
        ax.set_axisbelow(True)
        ax.spines["right"].set_visible(False)
        ax.set_xticks([0.1, 1, 10, 100, 1000], ["0.1", "1", "10", "100", "1000"])
        ax.minorticks_off()
        low = min(r.variance_times_cost for r in found) / best
        ax.set_xlim(low / 1.7, 3.0 * 10 ** math.floor(math.log10(found[0].variance_times_cost / best)))
        title = f"{PROBLEM}, left is better\nblue: unbiased · orange, hollow: biased"
        figure.suptitle(title, fontsize=9, x=0.02, ha="left")
        metadata = {"Software": None, "Identifier": digest(found)}
        figure.savefig(PICTURE, dpi=PIXELS, metadata=metadata, facecolor="white")


def name(run: Any) -> str:
    """Return the label of a run in two short lines."""
    label = NAMES.get(run.parameters, run.parameters)
    return run.estimator_name.replace("straight-through-", "straight-through-\n") + (f"\n{label}" if label else "")


if __name__ == "__main__":
    draw(runs())
