"""User's files from the command line: what is measured when helpers stand beside them."""

import re
import sys

import pytest

from bench.records import store

PLUGIN = """
from dataclasses import dataclass
from estimators import Estimator, ScoreFunction
{head}

@dataclass(frozen=True)
class {name}(Estimator):
    def __call__(self, f, q, generator=None, state=None):
        {body}
        return SCALE * ScoreFunction()(f, q, generator)
"""
RUN = ("-o", "bernoulli-quadratic:dim=3,target=0.2", "--replicates", "20000", "--no-timing", "--quiet", "--out", "o")


def write(folder, name, scale, head="from utils import SCALE", body="pass"):
    folder.mkdir(exist_ok=True)
    (folder / "est.py").write_text(PLUGIN.format(head=head, body=body, name=name))
    (folder / "utils.py").write_text(f"SCALE = {scale}\n")


def summaries(folder):
    return {record["estimator"]: record["summary"] for record in store.read(folder)}


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(("head", "body"), [("from utils import SCALE", "pass"), ("", "from utils import SCALE")])
def test_each_plugin_is_measured_with_its_own_helper(call, tmp_path, workers, head, body):
    """Three times the gradient has nine times the variance and, relative to the exact gradient, a bias of 2."""
    write(tmp_path / "one", "First", 1, head, body)
    write(tmp_path / "two", "Second", 3, head, body)
    done = call("run", "-e", "one/est.py::First", "-e", "two/est.py::Second", *RUN, "--workers", workers)
    assert done.code == 0, done.err
    first, second = (summaries(tmp_path / "o")[name] for name in ("first", "second"))
    assert second["variance"] == pytest.approx(9 * first["variance"])
    assert (first["verdict"] == "BIASED", second["verdict"]) == (False, "BIASED")


@pytest.mark.parametrize("changed", ["utils.py", "base.py"])
def test_a_changed_helper_or_base_class_is_measured_again(call, tmp_path, changed):
    def run():
        for name in [name for name in sys.modules if name.startswith("_bench_user_")]:
            del sys.modules[name]
        done = call("run", "-e", "one/est.py::First", *RUN)
        assert done.code == 0, done.err
        return summaries(tmp_path / "o")["first"]["variance"]

    write(tmp_path / "one", "First", 1, "from base import Estimator\nfrom utils import SCALE")
    (tmp_path / "one" / "base.py").write_text("from estimators import Estimator\n")
    before = run()
    assert run() == before
    if changed == "utils.py":
        (tmp_path / "one" / changed).write_text("SCALE = 3\n")
        assert run() == pytest.approx(9 * before)
    else:
        (tmp_path / "one" / changed).write_text("from estimators import Estimator\nx = 1\n")
        run()
    lines = (tmp_path / "o" / store.LINES).read_text().splitlines()
    assert len(lines) == 2, "measured once, and again after the change"


def test_the_run_says_what_it_took_from_the_records(call):
    words = ("run", "-e", "rloo", "-e", "rloo:n=4", "-o", "gaussian-cosine", "--replicates", "64", "--no-timing")
    assert "cells are here" not in call(*words).err
    assert re.search(r"^2 of 2 cells are here; records of \d+ \w+ \d{4}, \d\d:\d\d.*--fresh", call(*words).err, re.M)
    assert "cells are here" not in call(*words, "--fresh").err
    assert "cells are here" not in call(*words, "--quiet").err


def test_a_folder_without_an_init_file_is_imported_from_the_working_folder(call, tmp_path, monkeypatch):
    write(tmp_path / "spaced", "Spaced", 3, head="from spaced.utils import SCALE")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    assert call("run", "-e", "spaced.est:Spaced", *RUN).code == 0
    assert summaries(tmp_path / "o")["spaced"]["verdict"] == "BIASED"
