"""The command `run` from its words to its exit code, with the smallest of runs."""

import contextlib
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from bench.cli import main
from bench.execution import tasks
from bench.measurement import score_table
from bench.planning import catalogue as names
from bench.planning import spec
from bench.records import store
from bench.records.code import NOISE
from bench.records.lines import SCHEMA
from bench.report import Report

TINY = ("--replicates", "64", "--no-timing", "--quiet")

MINE = """
import os
import time
from dataclasses import dataclass
from estimators import Estimator, ScoreFunction

@dataclass(frozen=True)
class Mine(Estimator):
    factor: float = 1.0

    def __call__(self, f, q, generator=None, state=None):
        if os.environ.get("MINE") == "fail":
            raise RuntimeError("out of luck")
        if os.environ.get("MINE") == "hang":
            time.sleep(60)
        return self.factor * ScoreFunction()(f, q, generator)
"""


def lines(folder):
    return [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.delenv("MINE", raising=False)
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return f"{path.name}::Mine"


# usage


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "-e", "rlo"], "Unknown estimator 'rlo'. Did you mean 'rloo'?"),
        (["run", "-e", "rlo", "-e", "rloo:"], "Did you mean 'rloo'? 'rloo:' is not a selector"),
        (
            ["run", "-o", "bernouli-quadratic"],
            "Unknown objective 'bernouli-quadratic'. Did you mean 'bernoulli-quadratic'?",
        ),
        (["run", "-e", "rloo:m=3"], "rloo has no parameter 'm' (it has n, credit)."),
        (["run", "-e", "rloo:n=x"], "rloo:n needs a whole number (got 'x')."),
        (["run", "-e", "rloo:n=1"], "RLOO needs n >= 2 (got n=1)"),
        (["run", "-e", "rloo", "--samples", "1"], "RLOO needs n >= 2 (got n=1)"),
        (["run", "-e", "absent.py::Mine"], "There is no file"),
        (["run", "--samples", "2,x"], "'2,x' is not a list of whole numbers of at least 1, such as 2,4,8."),
        (["run", "--samples", "0"], "'0' is not a list"),
        (["run", "--seed", "x"], "'--seed'"),
        (["run", "--seed", "-1"], "'--seed'"),
        (["run", "--replicates", "0"], "'0' is not a whole number from 1 to 10^12. Write it as 10000, 10_000 or 1e4."),
        (["run", "--replicates", "1.5e0"], "'1.5e0' is not a whole number"),
        (["run", "--replicates", "nan"], "'nan' is not a whole number"),
        (["run", "--replicates", "1e999999999"], "'1e999999999' is not a whole number"),
        (["check", "--baseline", "ci", "--replicates", "many"], "'many' is not a whole number"),
        (["run", "--dtype", "float16"], "'--dtype'"),
        (["run", "--replicate", "3"], "No such option"),
        (["rnu"], "No such command 'rnu'"),
        (["run", "absent.toml"], "absent.toml cannot be read: No such file or directory."),
        (["run", "broken.toml"], "broken.toml is not TOML"),
        (["run", "wrong.toml"], "wrong.toml: objectives: give at least one objective"),
        (["run", "wrong.toml"], "sed: there is no such key. Did you mean 'seed'?"),
        (["run", "."], "spec.toml cannot be read"),
        (["run", "-e", "rloo", "--out", "broken.toml"], "broken.toml cannot be written: File exists."),
        (["run", "-e", "rloo", "--out", "broken.toml/deep"], "cannot be written: Not a directory."),
        (["report", "absent"], "There are no records in 'absent'."),
        (["report"], "Missing argument"),
    ],
)
def test_what_the_user_got_wrong_is_one_sentence_and_exit_code_2(call, tmp_path, words, message):
    (tmp_path / "broken.toml").write_text("seed = = 1")
    (tmp_path / "wrong.toml").write_text('sed = 1\nestimators = ["rloo"]\nobjectives = []')
    result = call(*words)
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith("Error: ")
    assert result.err.count("\n") == 1
    assert message in result.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.toml", "wrong.toml"]


def test_a_missing_gpu_is_a_usage_error(call, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = call("run", "-e", "rloo", "--device", "cuda")
    assert result.code == 2
    assert "Use --device cpu or auto" in result.err


def test_a_precision_and_a_number_of_replicates_exclude_each_other(call):
    result = call("run", "-e", "rloo", "--precision", "0.05", "--replicates", "64")
    assert result.code == 2
    assert "--precision finds the number of replicates, and --replicates gives it: choose one." in result.err
    assert call("run", "-e", "rloo", "--precision", "5").code == 2
    limited = call("run", "-e", "rloo", "-o", "qubo", "--max-replicates", "100", "--replicates", "64", "--no-timing")
    assert "--max-replicates has no effect: without a --precision" in limited.err


# results


def test_a_precision_is_reached_or_said_not_to_be(call):
    words = ("-e", "reparameterization", "-o", "gaussian-cosine", "--no-timing")
    loud = call("run", *words, "--precision", "0.2", "--max-replicates", "3000")
    assert loud.code == 0
    assert "pilot of reparameterization:n=1 on gaussian-cosine" in loud.err
    assert "not within" not in loud.err + loud.out
    short = call("run", *words, "--precision", "0.02", "--max-replicates", "3000")
    assert "not within ±2 %: reparameterization:n=1 on gaussian-cosine, with 3,072 replicates" in short.err
    assert "not within ±2 %" in short.out
    again = call("run", *words, "--precision", "0.02", "--max-replicates", "3000", "--json", "--quiet")
    (line,) = json.loads(again.out)["records"]
    assert (line["precision"], line["precision_reached"], line["replicates"]) == (0.02, False, 3072)
    fixed = call("run", "results/reparameterization-on-gaussian-cosine", "--replicates", "64", "--json", "--quiet")
    assert [r["replicates"] for r in json.loads(fixed.out)["records"]] == [256]


def test_json_is_one_document_with_every_record(call, tmp_path):
    result = call("run", "-e", "rloo:n=2,4", "-e", "enumeration", "-o", "gaussian-cosine", "--json", *TINY)
    document = json.loads(result.out)
    assert (result.code, result.err) == (0, "")
    assert document["folder"] == "results/rloo+enumeration-on-gaussian-cosine"
    outcomes = {r["estimator"]: r["outcome"] for r in document["records"]}
    assert outcomes == {"rloo": "measured", "rloo:n=4": "measured", "enumeration": "skipped"}
    assert all("sums" not in r for r in document["records"])
    assert set(map(os.path.basename, document["files"])) == {"table.md", "table.csv", "table.tex"}
    assert all((tmp_path / file).exists() for file in document["files"])


def test_a_count_may_be_written_as_a_power_of_ten_and_the_run_says_what_was_made_of_it(call, tmp_path):
    words = ("run", "-e", "rloo", "-o", "bernoulli-quadratic", "--no-timing", "--out", "s")
    said = call(*words, "--replicates", "3e2").err
    assert "Measured 512 replicates, not 300: they are made in whole draws (batches).\n" in said
    assert {line["replicates"] for line in lines(tmp_path / "s") if line["kind"] == "moments"} == {512}
    assert "whole draws" not in call(*words, "--replicates", "1_024").err
    assert "whole draws" not in call(*words, "--replicates", "300", "--quiet").err


def test_the_number_to_lower_is_named_where_a_table_of_scores_is_too_large(call, monkeypatch):
    monkeypatch.setattr(score_table, "MOST_BYTES", 2_000)
    small = "verifier:vocabulary=3,length=3,prompts=1"
    words = ("run", "-o", small, "--replicates", "64", "--no-timing", "--workers", "1")
    assert "from autograd" not in call(*words, "-e", "enumeration").err
    said = call(*words, "-e", "rloo").err
    assert f"{small}: gradients come from autograd, not from a table. The score table of TablePolicy" in said
    assert "Lower length from 3 to 2 or vocabulary from 3 to 2.\n" in said


def test_the_table_goes_to_stdout_and_everything_else_to_stderr(call):
    words = ("-e", "rloo", "-o", "gaussian-cosine", "--replicates", "64", "--no-timing")
    loud = call("run", *words)
    assert loud.code == 0
    assert loud.err.splitlines()[0] == "measurements: 1"
    assert "results/rloo-on-gaussian-cosine: records.jsonl, table.md" in loud.err
    assert loud.out.startswith("gaussian-cosine\n")
    assert call("run", *words, "--quiet") == (0, loud.out, "")


def test_the_variances_of_several_objectives_are_printed_before_the_timing_which_can_be_resumed(
    call, tmp_path, monkeypatch
):
    on = [word for name in ("gaussian-cosine", "gaussian-exponential", "qubo") for word in ("-o", name)]
    words = ("run", "-e", "rloo", "-e", "score-function", *on, "--replicates", "64", "--out", "here")
    real, timed = tasks.measure_timing, []

    def interrupted(*given):
        if len(timed) == 2:
            raise KeyboardInterrupt
        timed.append(given)
        return real(*given)

    monkeypatch.setattr(tasks, "measure_timing", interrupted)
    first = call(*words)
    assert first.code == 130
    assert re.search(r"(?m)^  qubo +\S+", first.out.partition("In short\n")[2])
    before = lines(tmp_path / "here")
    assert [line["kind"] for line in before] == ["moments"] * 6 + ["timing"] * 2
    assert not (tmp_path / "here" / "table.md").exists()
    monkeypatch.setattr(tasks, "measure_timing", real)
    again = call(*words)
    assert (again.code, again.out) == (0, first.out)
    after = lines(tmp_path / "here")
    assert after[: len(before)] == before
    assert [line["kind"] for line in after[len(before) :]] == ["timing"] * 4
    assert (tmp_path / "here" / "table.md").exists()
    assert call(*words, "--quiet") == (0, first.out, "")
    assert "rank" in call("report", "here").out


def test_figures_of_a_few_cells_are_left_to_the_report(call, monkeypatch):
    real, seen = Report.write, []

    def write(report, folder, *, drawn, **others):
        seen.append(drawn)
        return real(report, folder, drawn=drawn, **others)

    monkeypatch.setattr(Report, "write", write)
    words = ("run", "-o", "gaussian-cosine", "--replicates", "64", "--no-timing", "--out", "here")
    assert "`bench report here` draws figures.\n" in call(*words, "-e", "rloo:n=2,3,4").err
    call(*words, "-e", "rloo:n=5,6,7,8")
    assert seen == [False, True]


def test_flags_reach_the_records(call, tmp_path):
    result = call(
        *("run", "-e", "rloo", "-o", "gaussian-cosine", "--samples", "2,3", "--seed", "5", "--dtype", "float64"),
        *("--no-common-noise", "--out", "here", *TINY),
    )
    assert result.code == 0
    assert [(r["estimator"], r["seed"], r["dtype"], r["common_noise"]) for r in lines(tmp_path / "here")] == [
        ("rloo", 5, "float64", False),
        ("rloo:n=3", 5, "float64", False),
    ]
    assert spec.Spec.read(tmp_path / "here" / "spec.toml").timing is False


def test_every_option_has_an_environment_variable(call, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_RUN_ESTIMATOR", "rloo:n=3 score-function")
    monkeypatch.setenv("BENCH_RUN_OBJECTIVE", "gaussian-cosine")
    monkeypatch.setenv("BENCH_RUN_SEED", "9")
    monkeypatch.setenv("BENCH_RUN_NO_TIMING", "1")
    monkeypatch.setenv("BENCH_RUN_REPLICATES", "64")
    monkeypatch.setenv("BENCH_RUN_OUT", "there")
    assert call("run").code == 0
    assert [(r["estimator"], r["seed"]) for r in lines(tmp_path / "there")] == [("rloo:n=3", 9), ("score-function", 9)]


def test_a_spec_file_gives_the_study(call, tmp_path):
    (tmp_path / "toys.toml").write_text(
        'replicates = 64\ntiming = false\nestimators = ["st"]\nobjectives = ["bernoulli-quadratic"]'
    )
    assert call("run", "toys.toml").code == 0
    assert [r["estimator"] for r in lines(tmp_path / "results" / "toys")] == ["straight-through"]


def test_every_estimator_is_measured_or_skipped_with_a_reason(call, tmp_path):
    done = call("run", "--all", "-o", "poisson-quadratic", "--replicates", 64, "--no-timing", "--quiet", "--out", "all")
    assert done.code == 0, done.err
    records = [json.loads(line) for line in (tmp_path / "all" / "records.jsonl").read_text().splitlines()]
    outcomes = {r["estimator_name"]: r for r in records if r["kind"] == "moments"}
    assert set(outcomes) == set(names.catalogue("estimator"))
    measured = {name for name, r in outcomes.items() if r["outcome"] == "measured"}
    assert {"score-function", "measure-valued", "go", "stochastic-ad", "exponential-arrival"} <= measured
    assert all(r["outcome"] == "skipped" and r["reason"] for name, r in outcomes.items() if name not in measured)


# going on


def test_a_second_run_measures_only_what_is_missing(call, tmp_path):
    here = ("-o", "gaussian-cosine", "--out", "here", *TINY)
    call("run", "-e", "rloo", *here)
    first = lines(tmp_path / "here")
    assert len(first) == 1
    again = call("run", "-e", "rloo", *here, "--json")
    assert lines(tmp_path / "here") == first
    assert [r["run"] for r in json.loads(again.out)["records"]] == [first[0]["run"]]
    call("run", "-e", "rloo", "-e", "score-function", *here)
    assert [r["estimator"] for r in lines(tmp_path / "here")] == ["rloo", "score-function"]
    call("run", "-e", "rloo", *here, "--seed", "1")
    assert [(r["estimator"], r["seed"]) for r in lines(tmp_path / "here")[2:]] == [("rloo", 1)]


def test_a_cell_whose_noise_is_another_is_measured_again(call, tmp_path, monkeypatch):
    words = ("run", "-e", "rloo", "-o", "gaussian-cosine", "--out", "here", *TINY)
    call(*words)
    monkeypatch.setattr("bench.records.code.NOISE", NOISE + 1)
    call(*words)
    old, new = lines(tmp_path / "here")
    assert old["run"] == new["run"]
    assert old["code"] != new["code"]
    assert [line["code"] for line in store.read(tmp_path / "here")] == [new["code"]]


def test_a_study_folder_is_a_spec(call, tmp_path):
    call("run", "-e", "rloo", "-o", "gaussian-cosine", "--out", "here", *TINY)
    first = (tmp_path / "here" / "records.jsonl").read_bytes()
    assert call("run", "here", "--quiet") == call("run", "here/spec.toml", "--quiet")
    assert (tmp_path / "here" / "records.jsonl").read_bytes() == first


def test_a_users_own_estimator_is_measured(call, tmp_path, mine):
    assert call("run", "-e", f"{mine}:factor=1,2", "-o", "gaussian-cosine", "--out", "here", *TINY).code == 0
    one, two = lines(tmp_path / "here")
    assert (one["estimator"], two["estimator"]) == ("mine", "mine:factor=2")
    assert two["mean"] == pytest.approx([2 * x for x in one["mean"]])
    os.chdir(tmp_path / "here")
    assert call("run", tmp_path / "here", "--quiet").code == 0
    assert len(lines(tmp_path / "here")) == 2


def test_a_failed_cell_is_exit_code_1_and_is_measured_again(call, tmp_path, mine, monkeypatch):
    words = (
        "run",
        "-e",
        "rloo",
        "-e",
        mine,
        "-o",
        "gaussian-cosine",
        "--out",
        "here",
        "--replicates",
        "64",
        "--no-timing",
    )
    monkeypatch.setenv("MINE", "fail")
    result = call(*words)
    assert result.code == 1
    assert "failed: mine on gaussian-cosine: RuntimeError: out of luck" in result.err
    assert [r["outcome"] for r in lines(tmp_path / "here")] == ["measured", "failed"]
    monkeypatch.setenv("MINE", "well")
    assert call(*words).code == 0
    assert [(r["estimator"], r["outcome"]) for r in lines(tmp_path / "here")[2:]] == [("mine", "measured")]


def test_when_no_pair_fits_together_the_exit_code_is_4_and_says_why(call):
    result = call("run", "-e", "enumeration", "-o", "gaussian-cosine", *TINY)
    assert result.code == 4
    assert result.err.startswith(
        "Error: No cell could be measured, because no estimator fits its objective: Enumeration() serves"
    )
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not a record\n", "line 1, is not JSON"),
        (f'{{"schema":{SCHEMA + 1},"kind":"moments","run":"0"}}\n', "Install a newer stochgrad-bench"),
    ],
)
def test_a_damaged_or_newer_store_is_exit_code_5(call, tmp_path, text, message):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "records.jsonl").write_text(text)
    for words in (["run", "-e", "rloo", "-o", "gaussian-cosine", "--out", "here", *TINY], ["report", "here"]):
        result = call(*words)
        assert (result.code, result.out) == (5, "")
        assert result.err.startswith("Error: ")
        assert message in result.err
    assert (tmp_path / "here" / "records.jsonl").read_text() == text


def test_a_folder_that_another_process_writes_is_a_usage_error(call, tmp_path):
    with store.Store(tmp_path / "here"):
        result = call("run", "-e", "rloo", "-o", "gaussian-cosine", "--out", "here", *TINY)
    assert result.code == 2
    assert "is being written by another bench" in result.err


# as a process


def test_an_interrupt_keeps_what_was_measured_and_says_how_to_go_on(call, tmp_path, mine):
    words = ["run", "-e", "rloo", "-e", mine, "-o", "gaussian-cosine", "--out", "my study", *TINY]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    records = tmp_path / "my study" / "records.jsonl"
    with subprocess.Popen(
        [sys.executable, "-m", "bench", *words],
        cwd=tmp_path,
        env={**environment, "MINE": "hang"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job ignores it
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while not (records.exists() and records.read_text().endswith("\n")) and time.monotonic() < deadline:
                time.sleep(0.05)
            time.sleep(0.2)  # let the second cell begin
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    assert last == f"Interrupted; what was measured is safe. Go on with: {shlex.join(['bench', *words])}"
    kept = lines(records.parent)
    assert [r["estimator"] for r in kept] == ["rloo"]
    program, *command = shlex.split(last.partition("Go on with: ")[2])
    assert (program, call(*command).code) == ("bench", 0)
    assert lines(records.parent)[0] == kept[0]
    assert [r["estimator"] for r in lines(records.parent)] == ["rloo", "mine"]


def read_all(terminal):
    """Return what is written to a terminal, until its other end is closed."""
    text = b""
    with contextlib.suppress(OSError):
        while chunk := os.read(terminal, 65536):
            text += chunk
    os.close(terminal)
    return text.decode()


@pytest.mark.parametrize("plain", [False, True])
def test_a_terminal_gets_a_bar_and_colours_unless_no_color_is_set(monkeypatch, tmp_path, plain):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "xterm-256color")
    if plain:
        monkeypatch.setenv("NO_COLOR", "1")
    words = ["-e", "rloo", "-o", "gaussian-cosine", "--out", "here", "--replicates", "64", "--no-timing"]
    monkeypatch.setattr(sys, "argv", ["bench", "run", *words])
    ours, theirs = pty.openpty()
    with ThreadPoolExecutor(1) as reader:
        text = reader.submit(read_all, ours)
        with os.fdopen(theirs, "w") as terminal, monkeypatch.context() as streams:
            streams.setattr(sys, "stdout", terminal)
            streams.setattr(sys, "stderr", terminal)
            assert main() == 0
    assert "1/1" in text.result()
    coloured = re.search(r"\x1b\[[0-9;]*3[0-9][;m]", text.result()) is not None
    assert coloured != plain


def test_a_pipe_gets_no_escape_codes(call):
    result = call("run", "-e", "rloo", "-o", "gaussian-cosine", "--replicates", "64", "--no-timing")
    assert result.code == 0
    assert "\x1b" not in result.out + result.err
