"""A folder of several commands: exactly their cells, whatever the version that made it, and a person's file first."""

import json

import pytest

from bench.execution.progress import Silent
from bench.planning.plans import specs_of, studies
from bench.planning.selectors import UsageError
from bench.planning.spec import FILE, Spec
from bench.records import plan, store
from tests.execution.specs import spec_of, with_reference
from tests.running import run

FIRST = spec_of("rloo", objective="gaussian-quadratic:dim=2", replicates=64)
SECOND = spec_of("score-function", objective="bernoulli-quadratic:dim=2", replicates=64, seed=1)
OWN = """
from dataclasses import dataclass
from estimators import RLOO


@dataclass(frozen=True)
class Mine(RLOO):
    pass
"""
CELLS = {("rloo", "gaussian-quadratic:dim=2", 0), ("score-function", "bernoulli-quadratic:dim=2", 1)}


def cells(folder):
    return {(r["estimator"], r["objective"], r["seed"]) for r in store.read(folder)}


@pytest.fixture
def folder(tmp_path):
    for spec in (FIRST, SECOND):
        run(spec, tmp_path / "here", Silent())
    return tmp_path / "here"


def test_a_folder_of_two_commands_goes_on_with_exactly_their_cells(folder):
    assert specs_of(folder) == [FIRST, SECOND]
    assert Spec.read(folder / FILE) == SECOND.model_copy(update={"name": "study"}), "the spec of the last command"
    before = (folder / store.LINES).read_bytes(), (folder / plan.FILE).read_bytes()
    run(specs_of(folder), folder, Silent())
    assert ((folder / store.LINES).read_bytes(), (folder / plan.FILE).read_bytes()) == before
    (folder / store.LINES).write_bytes(b"")
    records = run(specs_of(folder), folder, Silent())
    assert cells(folder) == CELLS
    assert len(records) == 2


def test_the_options_of_a_command_hold_for_every_spec_of_the_folder(folder):
    specs, home = studies(folder, seed=7)
    assert (home, [spec.seed for spec in specs]) == (folder, [7, 7])
    assert len(studies(folder, ("rloo",), ("qubo",), seed=7)[0]) == 1, "equal specs are one"
    with pytest.raises(UsageError, match="seed"):
        studies(folder, seed=-1)


def test_the_spec_of_an_older_version_becomes_the_first_line_of_the_plan(folder):
    (folder / plan.FILE).unlink()
    assert specs_of(folder) == [SECOND], "a folder without a plan has its spec.toml"
    run(FIRST, folder, Silent())
    assert specs_of(folder) == [SECOND, FIRST]
    run(specs_of(folder), folder, Silent())
    assert [len(line["runs"]) for line in plan.read(folder)] == [1, 1]


def test_a_spec_that_a_person_has_edited_is_the_only_one_and_stays(folder):
    path = folder / FILE
    edited = path.read_text().replace('"score-function"', '"rloo:n=3"')
    path.write_text(edited)
    for _ in range(2):
        (spec,) = specs_of(folder)
        assert [str(selector) for selector in spec.estimators] == ["rloo:n=3"]
        run(spec, folder, Silent())
    run(FIRST, folder, Silent())
    assert path.read_text() == edited
    assert specs_of(folder) == [spec]
    assert [line["by_hand"] for line in plan.read(folder)] == [False, False, True]


def test_a_line_that_this_version_cannot_read_stops_only_a_command_that_needs_it(folder):
    line = json.loads((folder / plan.FILE).read_text().splitlines()[0])
    line["spec"]["estimators"] = ["no-such-estimator"]
    with (folder / plan.FILE).open("a") as file:
        file.write(json.dumps(line) + "\n")
    run(FIRST, folder, Silent())
    with pytest.raises(UsageError, match=r"plan.jsonl, the line written at .*no-such-estimator"):
        specs_of(folder)


def test_each_seed_has_a_reference_of_its_own(tmp_path):
    records = run([with_reference("rloo", seed=seed, replicates=64) for seed in (0, 1)], tmp_path, Silent())
    stored = {r["seed"]: r["standard_error"] for r in store.read(tmp_path) if r["kind"] == "reference"}
    assert {r["seed"]: r["reference_error"] for r in records} == stored
    assert len(stored) == 2


def test_own_files_are_found_from_wherever_the_command_is_given(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    specs, folder = studies(None, ("./mine.py::Mine",), ("qubo",), None, tmp_path / "deep" / "er", replicates=64)
    run(specs, folder, Silent())
    assert plan.read(folder)[0]["spec"]["estimators"] == ["../../mine.py::Mine"]
    monkeypatch.chdir("/")
    assert specs_of(folder) == specs
