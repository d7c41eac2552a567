"""Plug-ins that misbehave cost themselves alone, and the cells of the catalogue keep their bits."""

import pytest

from tests.execution import plugins

QUICK = [row for row in plugins.ESTIMATORS if row.quick]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_estimator_that_misbehaves_costs_itself_alone(start, tmp_path, monkeypatch, workers):
    """One study has all of them: what one of them breaks, the others would show."""
    monkeypatch.chdir(tmp_path)
    assert [f"{row}: {wrong}" for row, wrong in plugins.study(start, QUICK, workers) if wrong] == []


@pytest.mark.parametrize("name", ["C exit", "interrupt", "post-init exits"])
def test_a_file_that_ends_its_process_is_one_sentence(call, name):
    assert [f"{row}: {wrong}" for row, wrong in plugins.imports(call, [name]) if wrong] == []


@pytest.mark.parametrize("name", ["f ends the process", "exact crashes"])
def test_an_objective_that_ends_its_process_is_one_sentence(call, name):
    assert [f"{row}: {wrong}" for row, wrong in plugins.objectives(call, [name]) if wrong] == []


def test_no_check_passes_if_the_code_ends_its_process(call):
    assert [f"{row}: {wrong}" for row, wrong in plugins.gate(call, ["C exit", "C exit at import"]) if wrong] == []
