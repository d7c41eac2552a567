import importlib.metadata
import json
from pathlib import Path

import torch

import bench
from bench.cli import doctor


def test_the_findings_describe_this_machine(call):
    found = json.loads(call("doctor", "--json").out)
    assert found["torch"] == importlib.metadata.version("torch")
    assert found["package bench"] == str(Path(bench.__file__).parent)
    assert found["torch threads"] == torch.get_num_threads()
    assert found["other packages that provide bench"] == "none"
    assert found["cores"] >= 1


def test_every_finding_is_a_line(call):
    lines = call("doctor").out.splitlines()
    assert [line.partition("  ")[0].strip() for line in lines] == list(doctor.findings())


def test_a_rival_distribution_is_named(monkeypatch):
    owners = {"bench": ["stochgrad-bench", "frappe-bench"]}
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: owners)
    assert doctor.findings()["other packages that provide bench"] == "frappe-bench"
