"""The committed studies: their tables, byte for byte, and the figures that pages show are those of their records."""

import copy
import io
import re
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from bench.records import store
from bench.report import Report, figures
from bench.report.figures.theme import styled

REPOSITORY = Path(__file__).parents[2]
ROOT = REPOSITORY / "results"
STUDIES = sorted(path.parent for path in ROOT.glob(f"**/{store.LINES}"))
PAGES = (REPOSITORY / "README.md", *REPOSITORY.glob("docs/*.md"), *ROOT.glob("*/README.md"))
PICTURES = {(page.parent / p).resolve() for page in PAGES for p in re.findall(r"[\w./-]*/?\w+\.png", page.read_text())}
SHOWN = sorted(path for path in PICTURES if path.parents[1] in STUDIES and path.exists())
"""The figures of committed studies that a page shows."""
ROUNDING = 0.05
"""Largest difference of a colour, from 0 to 1, that the rounding of another processor may make."""


def stale_tables(records, folder, tmp_path):
    """Return the names of the tables of a committed study that records do not give, and the number of its tables."""
    made = Report(records).write(tmp_path / folder.name, drawn=False)
    held = [path for path in made if (folder / path.name).exists()]
    return [path.name for path in held if path.read_bytes() != (folder / path.name).read_bytes()], len(held)


def is_stale(figure, records):
    """Return whether records give another figure than the committed file shows."""
    drawn = figures.plotted(figure.stem, records)
    with styled(None):
        made = plt.imread(io.BytesIO(figures.rendered(drawn, "png")))
    held = plt.imread(figure)
    return made.shape != held.shape or np.abs(made - held).max() > ROUNDING


def changed(records):
    """Return records whose first variance, or the first one of the first training run, is a tenth larger."""
    found = copy.deepcopy(records)
    first = next(record for record in found if record["outcome"] == "measured" and {"summary", "curves"} & set(record))
    if "summary" in first:
        first["summary"] |= {key: 1.1 * first["summary"][key] for key in ("variance", "variance_low", "variance_high")}
    else:
        first["curves"]["variance"][0] *= 1.1
    return found


def test_there_are_committed_studies_and_figures():
    assert {"reference", "catalogue", "vae"} <= {folder.name for folder in STUDIES}
    assert {"efficiency", "direction", "training", "training-variance"} <= {path.stem for path in SHOWN}


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_the_tables_are_those_of_the_records(folder, tmp_path):
    stale, number = stale_tables(store.read(folder, lean=True), folder, tmp_path)
    assert number
    again = f"`bench report results/{folder.relative_to(ROOT)} --no-figures` makes them again"
    assert stale == [], f"{stale} are not those of the records: {again}"


@pytest.mark.parametrize("figure", SHOWN, ids=lambda figure: str(figure.relative_to(ROOT)))
def test_the_figures_that_pages_show_are_those_of_the_records(figure):
    pinned = re.search(r"^matplotlib==(\S+)", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE)[1]
    if mpl.__version__ != pinned:
        pytest.skip(f"figures are those of matplotlib {pinned}")
    folder = figure.parents[1]
    again = f"`bench report results/{folder.relative_to(ROOT)}` draws it again"
    assert not is_stale(figure, store.read(folder, lean=True)), f"{figure.name} is not that of the records: {again}"


def test_another_record_is_noticed(tmp_path):
    for folder, figure in ((ROOT / "reference", "efficiency.png"), (ROOT / "vae", "training-variance.png")):
        records = changed(store.read(folder, lean=True))
        assert stale_tables(records, folder, tmp_path)[0]
        assert is_stale(folder / "figures" / figure, records)
