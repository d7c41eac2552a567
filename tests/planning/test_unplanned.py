"""How much of a study is done, by its spec alone."""

import pytest

from bench.planning.unplanned import standing
from tests.report.records import line, moments

SPEC = """
name = "study"
estimators = ["rloo:n=2,4", "reparameterization"]
objectives = ["gaussian-quadratic:dim=1,10", "gaussian-cosine"]
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "spec.toml").write_text(SPEC)
    return tmp_path


def test_cells_without_a_record_are_counted(folder):
    records = [moments("rloo:n=2", "gaussian-quadratic:dim=1", 1.0, dim=1), line("rloo:n=4", "gaussian-cosine")]
    (found,) = standing(folder, records)
    assert str(found) == "2 of 9 cells are here, 7 to go"


def test_a_failure_is_not_here(folder):
    (found,) = standing(folder, [line("rloo:n=4", "gaussian-cosine", outcome="failed", reason="It broke.")])
    assert str(found) == "0 of 9 cells are here, 1 failed, 8 to go"


def test_a_field_that_the_spec_leaves_out_may_have_any_value(folder):
    records = [
        moments(f"{e},other=3" if ":" in e else e, o, 1.0, dim=dim)
        for e in ("rloo:n=2", "rloo:n=4", "reparameterization")
        for o, dim in (("gaussian-quadratic:dim=1", 1), ("gaussian-quadratic:dim=10", 10), ("gaussian-cosine", 1))
    ]
    (found,) = standing(folder, records)
    assert found.is_complete


def test_a_spec_that_cannot_be_read_says_nothing(folder):
    (folder / "spec.toml").write_text("estimators = [")
    assert standing(folder, []) == []
    (folder / "spec.toml").unlink()
    assert standing(folder, []) == []
