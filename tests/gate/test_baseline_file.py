import json
import re
from pathlib import Path

import pytest

from bench.execution.progress import Silent
from bench.gate.baseline import assemble
from bench.gate.baseline_file import path_of, read, write
from bench.gate.changes import changes
from bench.gate.select import Selection
from bench.gate.stages import Options, check
from bench.planning.selectors import UsageError
from bench.planning.settings import Settings
from bench.records.lines import Damaged
from tests.gate.fabricated import entry

SETTINGS = Settings(replicates=1000)


@pytest.fixture
def saved(tmp_path):
    made = assemble(SETTINGS, [entry("two", variance=0.1 + 0.2), entry("one")])
    write(made, path_of("ci", tmp_path))
    return made


def test_a_file_gives_back_the_same_bits(saved, tmp_path):
    assert read("ci", tmp_path) == saved
    assert read("ci", tmp_path).cells[1].variance == 0.1 + 0.2
    assert read("results/baselines/ci.json", tmp_path) == saved


def test_the_committed_baseline_is_written_as_it_was_read():
    path = Path(__file__).parents[2] / "results" / "baselines" / "ci.json"
    written = path.read_text(encoding="utf-8")
    assert read(str(path)).text() == re.sub('"schema": [1234]', '"schema": 4', written)


def test_a_baseline_of_version_1_is_read_and_its_lines_stay(saved, tmp_path):
    added = ("f_evals", "grad_evals", "exact_norm", "scale", "scale_low", "scale_high")
    new = assemble(SETTINGS, [entry("one", **dict.fromkeys(added, 1.0)), entry("two", **dict.fromkeys(added, 1.0))])
    write(new, path_of("ci", tmp_path))
    broken(tmp_path, lambda text: re.sub("".join(f', "{name}": 1.0' for name in added), "", text))
    broken(tmp_path, lambda text: text.replace('"schema": 4', '"schema": 1'))
    old = read("ci", tmp_path)
    assert [e.evaluations for e in old.cells] == [None, None]
    assert old.text() == path_of("ci", tmp_path).read_text().replace('"schema": 1', '"schema": 4')
    said = "on objective: f_evals None to 1.0, grad_evals None to 1.0"
    assert changes(old, new) == [f"changed  {name} {said}" for name in ("one", "two")]


def test_a_baseline_of_a_gpu_is_read_without_one(saved, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    broken(tmp_path, lambda text: text.replace('"device": "cpu"', '"device": "cuda"'))
    found = read("ci", tmp_path)
    assert found.setting.device == "cuda"
    with pytest.raises(UsageError, match=r"^device is cuda, and torch finds no CUDA device here\. Use device='cpu'\.$"):
        check(found, Selection([], [], []), Options(), Silent())
    assert check(found, Selection([], [], []), Options(device="cpu"), Silent()).findings == []


def test_a_baseline_keeps_no_settings_beyond_those_in_its_file(saved):
    made = assemble(Settings(replicates=1000, timing=True, adapt_seed=3), saved.cells)
    assert made.setting == Settings(replicates=1000)


def test_a_cell_is_a_line_and_the_lines_are_sorted(saved):
    lines = [line for line in saved.text().splitlines() if '"estimator"' in line]
    assert [json.loads(line.rstrip(","))["estimator"] for line in lines] == ["one", "two"]
    assert "0.30000000000000004" in lines[1]


def test_the_order_of_measuring_does_not_show(saved):
    assert assemble(SETTINGS, reversed(saved.cells)).text() == saved.text()


def broken(tmp_path, change):
    path = path_of("ci", tmp_path)
    path.write_text(change(path.read_text()))


@pytest.mark.usefixtures("saved")
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text[:400], "not JSON"),
        (lambda text: text.replace('"schema": 4', '"schema": 5'), "newer stochgrad-bench"),
        (lambda text: text.replace('"schema": 4', '"schema": "2"'), "no schema number"),
        (lambda _: "[]", "no schema number"),
        (
            lambda text: text.replace('"float32"', '"float16"'),
            "damaged at setting: dtype is float32 or float64, as text .got 'float1",
        ),
        (lambda text: text.replace('"cpu"', '"tpu"', 1), "damaged at setting: device is cpu or cuda"),
        (
            lambda text: text.replace('"replicates": 1000,', '"replicates": 63,'),
            "replicates is at least 64 in a baseline",
        ),
        (lambda text: text.replace('"replicates": 1000,', '"replicates": 1e3,'), "replicates is a whole number"),
        (lambda text: text.replace('"seed": 0', f'"seed": {2**63}'), "seed is below 2.63"),
        (lambda text: text.replace('"common_noise": true', '"common_noise": 1'), "common_noise is true or false"),
        (
            lambda text: text.replace('"seed": 0', '"seed": 0, "timing": false'),
            "damaged at setting: give replicates, seed, ",
        ),
        (
            lambda text: text.replace('"seed": 0, ', ""),
            "damaged at setting: give replicates, seed, dtype, device, comm",
        ),
        (lambda text: text.replace('"replicates": 100000', '"replicates": 32'), r"damaged at cells\.0\.replicates"),
        (lambda text: text.replace('"variance": 2.0', '"variance": "2"'), r"damaged at cells\.0\.variance"),
        (lambda text: text.replace('"variance": 2.0', '"variance": -2.0'), r"damaged at cells\.0\.variance"),
        (lambda text: text.replace('"kurtosis": 15.0, ', "", 1), r"damaged at cells\.0\.kurtosis"),
        (lambda text: text.replace(entry("two").cell, entry("one").cell), "a cell twice"),
        (lambda text: text[: text.index("[")] + "[]}", "no cell"),
    ],
)
def test_a_damaged_file_is_refused_in_a_sentence(tmp_path, change, says):
    broken(tmp_path, change)
    with pytest.raises(Damaged, match=says) as caught:
        read("ci", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("saved")
def test_a_file_that_is_not_text_is_damaged(tmp_path):
    path_of("ci", tmp_path).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Damaged, match="not text"):
        read("ci", tmp_path)


@pytest.mark.usefixtures("saved")
def test_an_unknown_name_gets_a_hint(tmp_path):
    with pytest.raises(UsageError, match="Did you mean 'ci'"):
        read("cii", tmp_path)
    with pytest.raises(UsageError, match="not the name of a baseline"):
        read("../ci", tmp_path)


def test_a_failed_write_keeps_the_old_file(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(type(saved), "text", lambda _: "\ud800")  # cannot be encoded
    with pytest.raises(UnicodeEncodeError):
        write(saved, path_of("ci", tmp_path))
    assert read("ci", tmp_path) == saved
