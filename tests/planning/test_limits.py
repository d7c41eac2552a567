"""Sizes in somebody else's files are bounded before memory is used for them: one sentence each."""

import json
import os

import pytest

from bench.gate import baseline_file
from bench.measurement import draws
from bench.measurement.engine import Engine
from bench.objectives import BernoulliQuadratic, GaussianQuadratic
from bench.planning.cells import Cell
from bench.planning.instances import expand
from bench.planning.selectors import UsageError, parse
from bench.planning.settings import MOST, Settings
from bench.planning.spec import Spec
from bench.records import store
from bench.records.lines import Damaged, Lost
from bench.training.settings import Training
from estimators import RLOO
from tests.docs.pages import ROOT

NAMES = 'estimators = ["rloo"]\nobjectives = ["qubo"]\n'


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (f"{NAMES}seed = {'9' * 5000}", "is not TOML: its numbers or its nesting are too large"),
        (f"{NAMES}name = {'[' * 20_000}", "is not TOML: its numbers or its nesting are too large"),
        (f"{NAMES}replicates = {10 * MOST}", "replicates: Input should be less than or equal to 1000000000000"),
        (f"{NAMES}max_replicates = {10 * MOST}", "max_replicates: Input should be less than or equal to"),
    ],
)
def test_a_spec_too_large_is_one_sentence(tmp_path, text, match):
    (tmp_path / "spec.toml").write_text(text)
    with pytest.raises(UsageError, match=match):
        Spec.read(tmp_path / "spec.toml")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda held: "[" * 20_000, "is no baseline: its numbers or its nesting are too large"),
        (
            lambda held: json.dumps(held).replace('"schema": ', f'"schema": {"9" * 5000}'),
            "its numbers or its nesting are too large",
        ),
        (
            lambda held: json.dumps(held | {"setting": held["setting"] | {"replicates": int("9" * 400)}}),
            "at most 1,000",
        ),
        (lambda held: json.dumps(held | {"cells": [held["cells"][0] | {"replicates": 10**15}]}), "cells.0.replicates"),
        (lambda held: json.dumps(held | {"cells": [held["cells"][0] | {"objective": "a\0b.py::M"}]}), "null character"),
    ],
)
def test_a_baseline_too_large_is_one_sentence(tmp_path, change, match):
    held = json.loads((ROOT / "results" / "baselines" / "ci.json").read_text())
    (tmp_path / "b.json").write_text(change(held))
    with pytest.raises(Damaged, match=match):
        baseline_file.read("b.json", tmp_path)


def test_selectors_too_large_are_one_sentence():
    with pytest.raises(UsageError, match=r"dim needs a whole number \(got '1000.*The largest is 2\^63 - 1"):
        expand(parse(f"qubo:dim={10**40}"), "objective")
    many = ",".join(map(str, range(2, 1200)))
    with pytest.raises(UsageError, match=r"more than 1,000,000 objectives"):
        expand(parse(f"qubo:dim={many},seed={many}"), "objective")
    with pytest.raises(UsageError, match="no null character"):
        parse("x\0y.py::M")
    with pytest.raises(UsageError, match=r"text in UTF-8, as its records are.*Rename the file"):
        parse("x\udc85y.py::M")


def test_a_run_has_no_more_draws_than_memory_can_hold():
    with pytest.raises(
        UsageError, match=r"are more than 1,048,576 draws \(batches\), which have 67,108,864 replicates"
    ):
        draws.sizes_of(GaussianQuadratic(dim=100_000), MOST, "cpu")
    with pytest.raises(ValueError, match=r"replicates is at most 1,000,000,000,000 \(got 1000"):
        Settings(replicates=10**400)


def test_an_objective_too_large_is_refused_before_it_is_built(monkeypatch):
    with pytest.raises(Lost, match=r"One sample of the objective would take 3,725,290 GiB of memory, and there are"):
        Engine(Cell(RLOO(), BernoulliQuadratic(dim=10**15)), Settings(64))
    sizes = {"SC_PHYS_PAGES": 16, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf", sizes.get)
    with pytest.raises(Lost, match=r"64 gradients would take .* Choose a smaller bernoulli-quadratic"):
        Engine(Cell(RLOO(), BernoulliQuadratic(dim=1000)), Settings(64))


def test_training_lists_no_more_than_memory_can_hold():
    with pytest.raises(ValueError, match=r"seeds is at most 1,000,000"):
        Training(seeds=10**7)
    with pytest.raises(ValueError, match=r"measure_every makes more than 1,000,000 checkpoints"):
        Training(steps=10**9, measure_every=1)


def test_memory_that_runs_out_is_one_sentence(call, monkeypatch, tmp_path):
    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr(store, "reading", full)
    done = call("compare", ".", ".")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "There is not enough memory" in done.err
    done = call("run", "-e", "rloo", "-o", "qubo", "--samples", "9" * 5000)
    assert (done.code, "is not a list of whole numbers" in done.err) == (2, True)
