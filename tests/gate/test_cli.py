import json
import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

SAVE = ("baseline", "save", "ci", "-e", "reparameterization:n=1,4", "-o", "gaussian-quadratic", "--quiet")
MINE = """
from dataclasses import dataclass
from estimators import Reparameterization, ScoreFunction

@dataclass(frozen=True)
class Mine(Reparameterization):
    def __call__(self, f, q, generator=None, state=None):
        {body}
"""
GOOD, FEWER = "return Reparameterization(n=4)(f, q, generator)", "return Reparameterization(n=1)(f, q, generator)"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a baseline, made by the command itself."""
    return tmp_path_factory.mktemp("saved")


@pytest.fixture
def ci(call, tmp_path, saved):
    """A small baseline in this test's folder."""
    if not (saved / "results").exists():
        done = call(*SAVE, "--replicates", 3000)
        assert done.code == 0, done.err
        shutil.copytree(tmp_path / "results", saved / "results")
    else:
        shutil.copytree(saved / "results", tmp_path / "results")
    return tmp_path / "results" / "baselines" / "ci.json"


def mine(folder: Path, body: str = GOOD) -> None:
    """Write an estimator, and have this process forget the one before: it loads a user's file once."""
    (folder / "mine.py").write_text(MINE.format(body=body))
    for name in [name for name, module in sys.modules.items() if str(folder) in str(getattr(module, "__file__", ""))]:
        del sys.modules[name]


@pytest.fixture
def with_mine(call, tmp_path):
    """A baseline of a user's own estimator, which a test may then break."""
    mine(tmp_path)
    done = call("baseline", "save", "own", "-e", "mine.py::Mine", "-o", "gaussian-quadratic", "--replicates", 5000)
    assert done.code == 0, done.err
    return tmp_path / "results" / "baselines" / "own.json"


# exit codes, each in a process of its own


@pytest.mark.usefixtures("ci")
def test_0_an_untouched_tree_passes(start):
    done = start("check", "--baseline", "ci")
    assert (done.code, done.out) == (0, "passed: 2 identical (baseline ci, 2 cells)\n")


@pytest.mark.usefixtures("with_mine")
def test_1_a_cell_that_fails(start, tmp_path):
    mine(tmp_path, "raise RuntimeError('broken on purpose')")
    done = start("check", "--baseline", "own")
    assert done.code == 1
    assert "broken on purpose" in done.out
    assert "incomplete: 1 failed" in done.out


def test_2_no_such_baseline(start):
    done = start("check", "--baseline", "none")
    assert done.code == 2
    assert "bench baseline save none" in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.usefixtures("with_mine")
def test_3_a_larger_variance(start, tmp_path):
    mine(tmp_path, FEWER)
    done = start("check", "--baseline", "own", "--quiet")
    assert done.code == 3
    assert "regressed" in done.out
    assert "bench check --baseline own --explain" in done.out
    assert "FAILED: 1 regressed" in done.out


def test_4_nothing_was_compared(start, ci):
    done = start("check", "--baseline", "ci", "-e", "score-function", "--quiet")
    assert done.code == 4
    assert "nothing was judged: 1 new" in done.out
    assert "bench baseline promote ci -e score-function -o gaussian-quadratic" in done.out


def test_5_a_newer_baseline(start, ci):
    ci.write_text(ci.read_text().replace('"schema": 1', '"schema": 99'))
    done = start("check", "--baseline", "ci")
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
        (("--margin", -1), "margin is a fraction"),
        (("--budget", "quick", "--replicates", 100), "say the same"),
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
    mine(tmp_path, FEWER)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    forms = ("--markdown", tmp_path / "comment.md", "--junit", tmp_path / "junit.xml")
    done = call("check", "--baseline", "own", "--json", "--quiet", *forms)
    assert done.code == 3
    report = json.loads(done.out)
    (finding,) = report["findings"]
    assert (report["exit_code"], finding["verdict"]) == (3, "regressed")
    assert finding["change"] == pytest.approx(4, rel=0.2)
    assert done.err.startswith("::error title=regressed%3A mine.py%3A%3AMine on gaussian-quadratic::variance times")
    comment = (tmp_path / "comment.md").read_text()
    assert comment.startswith("### ❌")
    assert "| **regressed** | `mine.py::Mine`" in comment
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("1", "1", "0")
    assert "variance times" in suite[0][0].get("message")


@pytest.mark.usefixtures("with_mine")
def test_explain_shows_the_evidence_and_how_to_make_it_again(call, tmp_path):
    mine(tmp_path, FEWER)
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


# baselines


@pytest.mark.usefixtures("ci")
def test_a_baseline_is_not_replaced_unless_forced(call):
    done = call(*SAVE, "--replicates", 500)
    assert done.code == 2
    assert "promote" in done.err
    assert call(*SAVE, "--replicates", 500, "--force").code == 0
    assert json.loads(call("baseline", "show", "ci", "--json").out)["setting"]["replicates"] == 500


@pytest.mark.usefixtures("ci")
def test_list_and_show(call):
    assert call("baseline", "list").out.startswith("ci: 2 cells, 3000 replicates")
    assert json.loads(call("baseline", "list", "--json").out)["ci"]["cells"] == 2
    shown = call("baseline", "show", "ci").out
    assert "reparameterization:n=4  gaussian-quadratic" in shown
    assert "growth, bias" in shown


def test_list_without_baselines_says_how_to_make_one(call):
    done = call("baseline", "list")
    assert (done.code, done.out) == (0, "")
    assert "bench baseline save" in done.err


@pytest.mark.usefixtures("ci")
def test_show_needs_no_torch(start):
    done = start("baseline", "show", "ci", PYTHONPROFILEIMPORTTIME="1")
    assert done.code == 0
    imported = {line.rpartition("|")[2].strip() for line in done.err.splitlines()}
    assert "bench.gate.baseline" in imported
    assert "torch" not in imported


def test_promote_says_what_has_changed(call, with_mine, tmp_path):
    mine(tmp_path, FEWER)
    assert call("check", "--baseline", "own", "--quiet").code == 3
    done = call("baseline", "promote", "own", "--quiet")
    assert done.code == 0
    assert "changed  ../../mine.py::Mine on gaussian-quadratic: variance" in done.out
    assert call("check", "--baseline", "own", "--quiet").code == 0


@pytest.mark.usefixtures("ci")
def test_promote_takes_in_a_new_cell_and_leaves_the_others(call, ci):
    before = [line for line in ci.read_text().splitlines() if "reparam" in line]
    done = call("baseline", "promote", "ci", "-e", "rloo", "-o", "gaussian-quadratic", "--quiet")
    assert done.code == 0
    assert done.out.startswith("new      rloo on gaussian-quadratic\n")
    after = [line.rstrip(",") for line in ci.read_text().splitlines()]
    assert all(line.rstrip(",") in after for line in before)
    assert json.loads(call("check", "--baseline", "ci", "--json", "--quiet").out)["verdicts"] == {"identical": 3}


@pytest.mark.usefixtures("ci")
def test_promoting_an_untouched_tree_changes_nothing(call, ci):
    before = ci.read_text()
    done = call("baseline", "promote", "ci", "--quiet")
    assert done.out.startswith("nothing has changed\n")
    assert ci.read_text() == before


def test_promote_drops_what_cannot_be_made(call, ci):
    ci.write_text(ci.read_text().replace('"estimator": "reparameterization:n=4"', '"estimator": "gone"'))
    done = call("baseline", "promote", "ci", "--quiet")
    assert "gone     gone on gaussian-quadratic" in done.out
    assert call("check", "--baseline", "ci", "--quiet").code == 0


def test_a_study_becomes_a_baseline(call, tmp_path):
    run = ("run", "-e", "rloo", "-o", "gaussian-quadratic:dim=3", "--replicates", 3000, "--no-timing", "--quiet")
    assert call(*run, "--out", "study").code == 0
    done = call("baseline", "save", "nightly", "--from", "study")
    assert done.code == 0, done.err
    assert call("check", "--baseline", "nightly", "--quiet").out.startswith("passed: 1 identical")
    assert call("baseline", "save", "other", "--from", "study", "--budget", "quick").code == 2


def test_a_cell_that_fails_is_left_out_and_told(call, tmp_path):
    mine(tmp_path, "raise RuntimeError('broken on purpose')")
    words = ("baseline", "save", "own", "-e", "mine.py::Mine", "-o", "gaussian-quadratic", "--quiet")
    done = call(*words)
    assert done.code == 4
    assert "broken on purpose" in done.err
    assert "guards nothing" in done.err
    done = call(*words, "-e", "rloo", "--replicates", 500)
    assert done.code == 1
    assert "1 cell." in done.out


def test_what_is_biased_already_is_told_when_it_is_saved(call, tmp_path):
    mine(tmp_path, "return 1.5 * Reparameterization(n=4)(f, q, generator)")
    done = call("baseline", "save", "own", "-e", "mine.py::Mine", "-o", "gaussian-quadratic", "--replicates", 5000)
    assert done.code == 0
    assert "biased already" in done.err
