"""Every kind of record has one shape, which agrees with what the program writes and reads."""

import dataclasses
import hashlib
import json
import os
import shutil
from typing import get_args

import pytest

from bench.records import arrays, shapes, store
from bench.records.lines import Damaged, LineKind
from bench.stats import summary, sums
from tests.docs.pages import ROOT
from tests.report import records, training_records

COMMITTED = ("reference", "catalogue", "vae")


def test_the_words_and_fields_are_those_of_the_statistics():
    assert set(get_args(shapes.Status)) == set(summary.Status)
    assert set(get_args(shapes.Verdict)) == set(summary.BiasVerdict)
    assert set(get_args(shapes.Flag)) == set(summary.Flag)
    assert set(get_args(shapes.Direction)) == set(summary.Direction)
    assert set(shapes.Summary.__annotations__) - set(summary.RENAMED) == {
        field.name for field in dataclasses.fields(summary.Summary)
    }
    assert set(shapes.Sums.__annotations__) == {field.name for field in dataclasses.fields(sums.Sums)}
    assert set(shapes.DONE) == set(LineKind)


@pytest.mark.parametrize("name", COMMITTED)
def test_the_committed_studies_are_read_for_ever(name):
    folder = ROOT / "results" / name
    keys = {(r["run"], r["kind"]) for r in map(json.loads, (folder / store.LINES).read_text().splitlines())}
    assert {(record["run"], record["kind"]) for record in store.read(folder)} == keys


@pytest.fixture(scope="module")
def lines():
    """A record of each kind and outcome of the committed studies, as text without files of vectors."""
    found = {}
    for name in COMMITTED:
        for line in (ROOT / "results" / name / store.LINES).read_text().splitlines():
            record = json.loads(line)
            if '"array"' not in line:
                found.setdefault((record["kind"], record["outcome"]), record)
    return found


def refused(tmp_path, record, says):
    (tmp_path / store.LINES).write_text(json.dumps(record) + "\n")
    with pytest.raises(Damaged) as caught:
        store.read(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / store.LINES}, line 1, is damaged at {says}"), caught.value


def test_a_missing_key_and_a_wrong_value_are_named(tmp_path, lines):
    moments, training = lines["moments", "measured"], lines["training", "measured"]
    without = {key: value for key, value in moments.items() if key != "outcome"}
    refused(tmp_path, without, "outcome: Field required")
    refused(tmp_path, moments | {"outcome": "outcame"}, "outcome: Input should be 'measured'")
    refused(tmp_path, moments | {"seed": True}, "seed: Input should be a valid integer")
    refused(tmp_path, moments | {"run": [1]}, "run: Input should be a valid string")
    refused(tmp_path, moments | {"kind": "momenta"}, "kind: one of moments, timing")
    refused(tmp_path, moments | {"summary": moments["summary"] | {"status": "FINE"}}, "summary.status: Input should be")
    refused(tmp_path, moments | {"summary": moments["summary"] | {"variance": -1.0}}, "summary.variance: Input should")
    refused(tmp_path, moments | {"mean": moments["mean"][1:]}, "mean: its length is not `size`")
    sums = moments["sums"]
    more = sums | {"block_rows": [1e230, *sums["block_rows"][1:]]}
    refused(tmp_path, moments | {"sums": more}, "sums.block_rows: blocks have at least one row each, and `replicates`")
    refused(tmp_path, moments | {"outcome": "failed", "reason": None}, "reason: a record that is failed needs one")
    refused(tmp_path, training | {"looks": training["looks"][:2]}, "curves.step: there is not one for each")
    shorter = training["curves"] | {"value": training["curves"]["value"][1:]}
    refused(tmp_path, training | {"curves": shorter}, "curves.value: its length is not that of step")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"dim":', '"dim":' + "9" * 5000),
        ('"dim":', '"dim":NaN,"x":'),
        ('"reason":', '"deep":' + "[" * 100_000 + "]" * 100_000 + ',"reason":'),
        ('"seed":', '"seed":9223372036854775808,"x":'),
        ('"objective_params":{', '"objective_params":{"x":1' + "0" * 400 + ","),
    ],
)
def test_numbers_and_nesting_beyond_reason_are_refused(tmp_path, lines, old, new):
    text = json.dumps(lines["moments", "skipped"], separators=(",", ":"))
    assert old in text
    (tmp_path / store.LINES).write_text(text.replace(old, new, 1) + "\n")
    with pytest.raises(Damaged, match="line 1"):
        store.read(tmp_path)


def test_half_a_character_is_replaced(tmp_path, lines):
    record = lines["moments", "skipped"] | {"estimator": "rl\ud800oo", "family": "\U0001f600"}
    (tmp_path / store.LINES).write_text(json.dumps(record) + "\n")
    (found,) = store.read(tmp_path)
    assert (found["estimator"], found["family"]) == ("rl oo", "\U0001f600")


def test_a_newer_record_names_the_version_that_wrote_it(tmp_path, lines):
    record = lines["moments", "skipped"]
    newer = record | {"schema": 99, "environment": record["environment"] | {"stochgrad_bench": "7.5"}}
    (tmp_path / store.LINES).write_text(json.dumps(newer) + "\n")
    with pytest.raises(
        Damaged, match=r"has schema 99 \(written by stochgrad-bench 7.5\), and this version reads up to 1"
    ):
        store.read(tmp_path)


def test_keys_of_later_versions_are_let_through(tmp_path, lines):
    (tmp_path / store.LINES).write_text(json.dumps(lines["moments", "measured"] | {"later": {"x": 1}}) + "\n")
    assert store.read(tmp_path)[0]["later"] == {"x": 1}


def test_the_invented_records_of_other_tests_have_the_shape_too(tmp_path):
    with store.Store(tmp_path) as writer:
        for record in (*records.study(), *training_records.study()):
            writer.append({"estimator_params": {}, "objective_params": {}, **record})
    assert store.read(tmp_path)


ARRAY_EDITS = {
    "empty": (lambda _: b"", "has changed"),
    "a bit": (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "has changed"),
    "cut short": (lambda content: content[:200], "has changed"),
}


@pytest.fixture
def study(tmp_path):
    shutil.copytree(ROOT / "results" / "reference", tmp_path / "study", ignore=shutil.ignore_patterns("figures"))
    return tmp_path / "study"


@pytest.mark.parametrize(("edit", "says"), ARRAY_EDITS.values(), ids=ARRAY_EDITS)
def test_an_array_that_is_not_what_its_name_says_is_refused(study, edit, says):
    path = sorted((study / "arrays").iterdir())[0]
    path.write_bytes(edit(path.read_bytes()))
    with pytest.raises(Damaged, match=says):
        store.read(study)


def test_a_vector_is_found_however_its_key_is_spelled(study):
    wanted = store.read(study)
    path = study / store.LINES
    path.write_bytes(path.read_bytes().replace(b'"array"', b'"\\u0061rray"'))
    assert repr(store.read(study)) == repr(wanted)


def _hostile(header: bytes) -> bytes:
    """A file of numpy's format with this header and 16 bytes of data."""
    padded = header + b" " * (117 - len(header)) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + bytes(16)


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (-2,), }",
        b"{'descr': '|O', 'fortran_order': False, 'shape': (2,), }",
        b"{'descr': '<c16', 'fortran_order': False, 'shape': (1,), }",
        b"__import__('os').abort()",
        b"(" * 100,
    ],
)
def test_a_header_that_does_not_fit_its_file_is_refused_before_memory_is_used(study, header):
    content = _hostile(header)
    name = f"arrays/{hashlib.sha256(content).hexdigest()}.npy"
    (study / name).write_bytes(content)
    with pytest.raises(Damaged, match="holds no vector"):
        arrays.load(name, study)


@pytest.mark.parametrize("name", ["../outside.npy", "/etc/passwd", "/dev/stdin", "arrays/x.npy", 5, None, ["arrays"]])
def test_the_name_of_an_array_leads_nowhere_else(study, name):
    with pytest.raises(Damaged, match="names are hashes"):
        arrays.load(name, study)


def test_an_array_that_is_a_link_or_a_pipe_is_refused(study):
    first, second = sorted((study / "arrays").iterdir())[:2]
    first.rename(study / "elsewhere.npy")
    first.symlink_to(study / "elsewhere.npy")
    with pytest.raises(Damaged, match="Is a link, which is not followed"):
        arrays.load(f"arrays/{first.name}", study)
    second.unlink()
    os.mkfifo(second)
    with pytest.raises(Damaged, match="Is not a regular file"):
        arrays.load(f"arrays/{second.name}", study)
