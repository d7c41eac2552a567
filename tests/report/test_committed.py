"""The tables of the committed studies are those that their records give, byte for byte."""

from pathlib import Path

import pytest

from bench.records import store
from bench.report import Report

ROOT = Path(__file__).parents[2] / "results"
STUDIES = sorted(path.parent for path in ROOT.glob(f"**/{store.LINES}"))


def test_there_are_committed_studies():
    assert {"reference", "catalogue", "vae"} <= {folder.name for folder in STUDIES}


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_the_tables_are_those_of_the_records(folder, tmp_path):
    made = Report(store.read(folder, lean=True)).write(tmp_path / folder.name, drawn=False)
    held = [path for path in made if (folder / path.name).exists()]
    assert held
    stale = [path.name for path in held if path.read_bytes() != (folder / path.name).read_bytes()]
    again = f"`bench report results/{folder.relative_to(ROOT)} --no-figures` makes them again"
    assert stale == [], f"{stale} are not those of the records: {again}"
