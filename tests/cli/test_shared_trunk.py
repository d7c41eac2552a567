"""An f that uses parameters of q too: the table, the report, the records and a measurement say so."""

import json

import pytest

TRUNK = """
import torch
from torch.distributions import OneHotCategorical
from bench import Expectation

torch.manual_seed(0)
inputs = torch.randn(6, 3)
net = torch.nn.ModuleDict({name: torch.nn.Linear(*size) for name, size in (("trunk", (3, 4)), ("policy", (4, 3)))})
net["value"] = torch.nn.Linear(4, 3)


def q(net):
    return OneHotCategorical(logits=net["policy"](net["trunk"](inputs)))


def f(x):
    return (x * net["value"](net["trunk"](inputs))).sum(-1).square()


problem = Expectation(q, f, net)
apart = Expectation(q, lambda x: (x * inputs).sum(-1), net)
"""
NOTE = "f uses trunk.weight, trunk.bias of theta too, as constants: the gradient through q alone is measured"


@pytest.mark.filterwarnings("ignore:f uses")
@pytest.mark.parametrize(("name", "times"), [("problem", 1), ("apart", 0)])
def test_tables_reports_and_records_say_so(call, tmp_path, name, times):
    (tmp_path / "mine.py").write_text(TRUNK)
    done = call("run", "-o", f"mine.py::{name}", "-e", "rloo", "--replicates", 200, "--no-timing", "--out", "s")
    assert done.code == 0, done.err
    assert "".join(done.out.split()).count("".join(NOTE.split())) == times
    assert (tmp_path / "s" / "table.md").read_text().count(NOTE) == times
    records = [json.loads(line) for line in (tmp_path / "s" / "records.jsonl").read_text().splitlines()]
    (shared,) = {tuple(line["shared"]) for line in records if line["kind"] == "moments"}
    assert shared == ("trunk.weight", "trunk.bias") * times
    done = call("train", "-o", f"mine.py::{name}", "-e", "rloo", "--steps", 2, "--seeds", 1, "--out", "t")
    assert done.code == 0, done.err
    assert "".join(done.out.split()).count("".join(NOTE.split())) == times
    assert (tmp_path / "t" / "training.md").read_text().count(NOTE) == times
