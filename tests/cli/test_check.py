"""The command `check` from its words to its exit code."""

import json
import re
from xml.etree import ElementTree

import pytest

from tests.cli.baselines import FEWER, write_own

# exit codes


@pytest.mark.usefixtures("ci")
def test_0_an_untouched_tree_passes(call):
    done = call("check", "--baseline", "ci")
    assert (done.code, done.out) == (0, "passed: 2 identical (baseline ci, 2 cells)\n")


@pytest.mark.usefixtures("with_mine")
def test_1_a_cell_that_fails(call, tmp_path):
    write_own(tmp_path, "raise RuntimeError('broken on purpose')")
    done = call("check", "--baseline", "own")
    assert done.code == 1
    assert "broken on purpose" in done.out
    assert "incomplete: 1 failed" in done.out


def test_2_no_such_baseline(call):
    done = call("check", "--baseline", "none")
    assert done.code == 2
    assert "bench baseline save none" in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.usefixtures("with_mine")
def test_3_a_larger_variance(start, tmp_path):  # as a process, which ends with the code that main returns
    write_own(tmp_path, FEWER)
    done = start("check", "--baseline", "own", "--quiet")
    assert done.code == 3
    assert "regressed" in done.out
    assert "bench check --baseline own --explain" in done.out
    assert "FAILED: 1 regressed" in done.out


def test_4_nothing_was_compared(call, ci):
    done = call("check", "--baseline", "ci", "-e", "score-function", "--quiet")
    assert done.code == 4
    assert "nothing was judged: 1 new" in done.out
    assert "bench baseline promote ci -e score-function:n=1 -o gaussian-quadratic" in done.out


def test_5_a_newer_baseline(call, ci):
    ci.write_text(ci.read_text().replace('"schema": 4', '"schema": 99'))
    done = call("check", "--baseline", "ci")
    assert done.code == 5
    assert "schema 99" in done.err


def test_130_an_interrupt(call, ci, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.gate.stages.first_draws", interrupted)
    done = call("check", "--baseline", "ci", "--quiet")
    assert done.code == 130
    assert "Interrupted" in done.err
    assert "bench check --baseline ci --quiet" in done.err


# what else can be wrong


def test_a_damaged_baseline(call, ci):
    ci.write_text(ci.read_text()[:300])
    assert call("check", "--baseline", "ci").code == 5


@pytest.mark.usefixtures("ci")
def test_a_baseline_of_another_dtype(call):
    done = call("check", "--baseline", "ci", "--dtype", "float64")
    assert done.code == 4
    assert "float32" in done.err
    assert "float64" in done.err


def test_an_estimator_that_is_not_known_any_more_is_missing(call, ci):
    ci.write_text(ci.read_text().replace('"estimator": "reparameterization:n=4"', '"estimator": "reparametrisation"'))
    done = call("check", "--baseline", "ci", "--quiet")
    assert done.code == 3
    assert "missing" in done.out
    assert "Did you mean 'reparameterization'?" in done.out
    assert "1 identical" in done.out
    assert call("check", "--baseline", "ci", "-e", "reparameterization", "--quiet").code == 0


def test_a_default_that_changed_makes_a_cell_missing(call, ci):
    entry = next(line for line in ci.read_text().splitlines() if ":n=4" in line)
    cell = json.loads(entry.rstrip(","))["cell"]
    ci.write_text(ci.read_text().replace(cell, "0" * 16))
    done = call("check", "--baseline", "ci", "--quiet")
    assert done.code == 3
    assert "a default has changed" in done.out


@pytest.mark.usefixtures("ci")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--replicates", 10), "at least 64 replicates (got 10)"),
        (("--margin", -1), "margin must be a fraction"),
        (("--budget", "quick", "--replicates", 100), "both set the replicates"),
        (("-e", "rlo"), "Did you mean 'rloo'?"),
        (("--explain", "nothing"), "not a cell of the baseline"),
        (("--baseline", "../ci"), "not the name of a baseline"),
    ],
)
def test_what_the_user_got_wrong_is_a_sentence(call, words, says):
    done = call("check", "--baseline", "ci", "--quiet", *words)
    assert done.code == 2
    assert says in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.usefixtures("ci")
def test_another_seed_has_every_cell_tested(call):
    done = call("check", "--baseline", "ci", "--seed", 3, "--json", "--quiet")
    report = json.loads(done.out)
    assert done.code == 0
    assert report["verdicts"] == {"unchanged": 2}
    assert {finding["screen_seed"] for finding in report["findings"]} == {3}


def test_strict_fails_what_could_not_be_judged(call, ci):
    wild = ci.read_text()
    entry = json.loads(next(line for line in wild.splitlines() if ":n=4" in line).rstrip(","))
    for key in ("cv2", "truncated_cv2"):
        wild = wild.replace(json.dumps(entry[key]), "5000.0")
    ci.write_text(wild)
    words = ("check", "--baseline", "ci", "--quiet", "--seed", 3, "-e", "reparameterization:n=4")
    done = call(*words)
    assert done.code == 0
    assert "inconclusive" in done.out
    done = call(*words, "--strict")
    assert done.code == 4
    assert "--strict" in done.out


# what is shown


@pytest.mark.usefixtures("with_mine")
def test_every_form_of_the_report_tells_the_fault(call, tmp_path, monkeypatch):
    write_own(tmp_path, FEWER)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    forms = ("--markdown", tmp_path / "comment.md", "--junit", tmp_path / "junit.xml")
    done = call("check", "--baseline", "own", "--json", "--quiet", *forms)
    assert done.code == 3
    report = json.loads(done.out)
    (finding,) = report["findings"]
    assert (report["exit_code"], finding["verdict"]) == (3, "regressed")
    assert finding["change"] == pytest.approx(4, rel=0.2)
    assert done.err.startswith(
        "::error title=regressed%3A mine.py%3A%3AMine%3An=1 on gaussian-quadratic::variance times"
    )
    comment = (tmp_path / "comment.md").read_text()
    assert comment.startswith("### ❌")
    assert "| **regressed** | `mine.py::Mine:n=1`" in comment
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("1", "1", "0")
    assert "variance times" in suite[0][0].get("message")


@pytest.mark.usefixtures("with_mine")
def test_explain_shows_the_evidence_and_how_to_make_it_again(call, tmp_path):
    write_own(tmp_path, FEWER)
    done = call("check", "--baseline", "own", "--explain", "mine.py::Mine on gaussian-quadratic", "--quiet")
    assert done.code == 3
    for word in ("screen", "confirm", "margin 5%", "p = ", "replicates", "seed", "variance", "could see"):
        assert word in done.out
    again = done.out.splitlines()[-1]
    assert "bench check --baseline own --explain" in again
    assert "--replicates 512 --seed 0" in again


@pytest.mark.usefixtures("ci")
def test_explain_takes_the_beginning_of_an_id(call, ci):
    cell = json.loads(next(line for line in ci.read_text().splitlines() if ":n=4" in line).rstrip(","))["cell"]
    done = call("check", "--baseline", "ci", "--explain", cell[:8], "--quiet")
    assert done.code == 0
    assert "identical: the same samples" in done.out
    assert "no test" in done.out


@pytest.mark.parametrize(
    "wanted",
    [
        "reparameterization:n=4,noise=iid on gaussian-quadratic:dim=10",
        "Reparameterization:n=4 on GaussianQuadratic",
        "pathwise:n=4 on gaussian_quadratic:target=0",
    ],
)
def test_explain_accepts_any_selector_of_a_cell(call, ci, wanted):
    cells = json.loads(ci.read_text())["cells"]
    cell = next(entry["cell"] for entry in cells if entry["estimator"] == "reparameterization:n=4")
    done = call("check", "--baseline", "ci", "--explain", wanted, "--quiet")
    assert (done.code, cell in done.out) == (0, True), done.err


@pytest.mark.parametrize(
    "wanted", ["mine on gaussian-quadratic", "./mine.py::Mine on gaussian-quadratic", "mine:Mine on gaussian-quadratic"]
)
def test_explain_accepts_every_name_of_an_estimator_of_ones_own(call, with_mine, wanted):
    assert call("check", "--baseline", "own", "--explain", wanted, "--quiet").code == 0


@pytest.mark.usefixtures("ci")
def test_a_bias_that_could_have_been_missed_is_said_where_it_passes(call):
    done = call("check", "--baseline", "ci", "--quiet", "--seed", 3)
    assert done.code == 0
    part = re.search(
        r"^passed: 2 unchanged .*; a bias below (\d+)% of an exact gradient could have been missed$", done.out
    )
    cell = "reparameterization on gaussian-quadratic"
    shown = call("check", "--baseline", "ci", "--quiet", "--seed", 3, "--explain", cell).out
    seen = re.search(r"could see +a bias of ([0-9.]+)% of the exact gradient or more in its direction", shown)
    assert round(float(seen[1])) == int(part[1])  # n = 1 is the noisier cell of the two
    assert re.search(r"evaluations +1 evaluation of f and 1 of df/dx per estimate", shown)
    few = call("check", "--baseline", "ci", "--quiet", "--seed", 3, "--replicates", 30_000)
    assert "could have been missed" not in few.out


@pytest.mark.usefixtures("ci")
def test_a_baseline_without_evaluations_says_so_once(call, ci):
    old = re.sub(r', "(f_evals|grad_evals|exact_norm|scale|scale_low|scale_high)": [-0-9.e]+', "", ci.read_text())
    ci.write_text(old.replace('"schema": 4', '"schema": 1'))
    done = call("check", "--baseline", "ci", "--quiet")
    assert done.code == 0
    assert done.out.splitlines() == [
        "To compare evaluations of f, which the baseline lacks for 2 cells: `bench baseline promote ci`",
        "passed: 2 identical (baseline ci, 2 cells)",
    ]
    assert call("baseline", "promote", "ci", "--quiet").code == 0
    assert call("check", "--baseline", "ci", "--quiet").out == "passed: 2 identical (baseline ci, 2 cells)\n"
