"""The dictionary has every field of real records and every column of real tables, and no other."""

import csv
import json
import re
from collections import defaultdict
from dataclasses import fields

import pytest

from bench.records.lines import LineKind, Outcome
from bench.stats.summary import Summary
from bench.stats.sums import Sums
from tests.docs.pages import ROOT

CODE = """
from dataclasses import dataclass

import torch
from torch.distributions import Independent, Normal

from bench.objectives import Objective, Problem
from estimators import RLOO, Reparameterization


@dataclass(frozen=True)
class Own(Objective):
    dim = 2
    family = Normal
    has_exact = False
    reference_estimator = Reparameterization(n=8)

    def build(self, dtype=torch.float32, device="cpu"):
        theta = {"mean": torch.ones(2, dtype=dtype, device=device, requires_grad=True)}
        q = lambda theta: Independent(Normal(theta["mean"], 1.0), 1)
        return Problem(theta, q, lambda q: lambda x: x.square().sum(-1))


@dataclass(frozen=True)
class Broken(RLOO):
    def __call__(self, f, q, generator=None, state=None):
        raise RuntimeError("broken")
"""


def dictionary():
    """Return the documented fields of every kind of record and table: whether each can be null."""
    text = (ROOT / "docs" / "records.md").read_text(encoding="utf-8")
    found = {}
    for title, body in re.findall(r"(?s)<!-- ([\w.]+): [^\n]*-->\n\n(.*?)\n\n<!-- end -->", text):
        header, _, *rows = [line[2:-2].split(" | ") for line in body.splitlines()]
        assert all(len(row) == len(header) and len(row[1]) > 2 for row in rows), title
        nullable = [row[-1].strip() != "never" if header[-1] == "null" else False for row in rows]
        found[title] = dict(zip((row[0].strip("`") for row in rows), nullable, strict=True))
    return found


KNOWN = dictionary()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study with every kind of record and every outcome but diverged, which has the fields of measured."""
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("study")
    patch.chdir(folder)
    (folder / "mine.py").write_text(CODE)
    from bench.cli import main
    from bench.report import figures

    patch.setattr(figures, "images", lambda *_given: iter(()))
    patch.setattr(figures, "training_images", lambda *_given: iter(()))
    run = "bench run -o ./mine.py::Own -o bernoulli-quadratic:dim=2 -e rloo:n=2 -e rebar -e reparameterization"
    train = "bench train -o qubo -e rloo:n=2 --steps 4 --seeds 1 --keep-weights"
    for words in (
        f"{run} -e ./mine.py::Broken --replicates 300",
        f"{run} --precision 0.2 --max-replicates 2000",
        train,
    ):
        patch.setattr("sys.argv", [*words.split(), "--out", "s", "--quiet"])
        main()
    yield folder / "s"
    patch.undo()


@pytest.fixture(scope="module")
def lines(study):
    return [json.loads(line) for line in (study / "records.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_study_has_every_kind_of_record_and_outcome(lines):
    assert {line["kind"] for line in lines} == {*LineKind}
    assert {line["outcome"] for line in lines} == {*Outcome} - {Outcome.DIVERGED}


def test_every_field_of_every_record_is_documented_and_no_other(lines):
    seen = defaultdict(set)
    for line in lines:
        known = KNOWN["every"] | ({} if line["kind"] == LineKind.OBJECTIVE else KNOWN["cell"])
        own = set(line) - set(known)
        if line["outcome"] == Outcome.MEASURED:
            seen[line["kind"]] |= own
            assert set(known) <= set(line)
        else:
            assert own <= {"precision", "pilot_replicates", "precision_reached"}
        known |= KNOWN[line["kind"]]
        assert {name for name, value in line.items() if value is None and not known[name]} == set()
    for kind, own in seen.items():
        assert own == set(KNOWN[kind]), kind


def test_every_field_inside_of_a_record_is_documented_and_no_other(lines):
    for kind in ("summary", "sums", "curves", "environment"):
        inner = [line[kind] for line in lines if kind in line]
        assert inner
        for values in inner:
            assert values.keys() == KNOWN[kind].keys(), kind
            found = {name: value if kind == "curves" else [value] for name, value in values.items()}
            if kind != "sums":
                assert {name for name, value in found.items() if None in value and not KNOWN[kind][name]} == set()


def test_the_fields_of_a_summary_are_null_where_their_type_says_so():
    nullable = {field.name: str(field.type).endswith("None") for field in fields(Summary)}
    assert nullable == KNOWN["summary"]
    assert KNOWN["sums"].keys() == Sums.__dataclass_fields__.keys()


@pytest.mark.parametrize("table", ["table.csv", "training.csv", "weights.csv"])
def test_every_column_is_documented_in_its_order_and_no_other(study, table):
    with (study / table).open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert {name.partition(".")[0] + ".FIELD" for name in header if "." in name} == {
        n for n in KNOWN[table] if "." in n
    }
    assert [name for name in header if "." not in name] == [name for name in KNOWN[table] if "." not in name]
    assert rows
    if table != "table.csv":  # whose rows of skipped cells are empty
        assert not [
            row
            for row in rows
            for name, cell in zip(header, row, strict=True)
            if not (cell or "." in name or KNOWN[table][name])
        ]
