"""The commands `baseline`: save, list, show, promote."""

import json

import pytest

from tests.cli.baselines import FEWER, SAVE, write_own


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
    write_own(tmp_path, FEWER)
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
    for words in (("--budget", "quick"), ("--seed", 0), ("--speed",), ("-e", "rloo"), ("study/spec.toml",)):
        refused = call("baseline", "save", "other", "--from", "study", *words)
        assert refused.code == 2
        assert "--from takes a study as it is" in refused.err


def test_a_cell_that_fails_is_left_out_and_reported(call, tmp_path):
    write_own(tmp_path, "raise RuntimeError('broken on purpose')")
    words = ("baseline", "save", "own", "-e", "mine.py::Mine", "-o", "gaussian-quadratic", "--quiet")
    done = call(*words)
    assert done.code == 4
    assert "broken on purpose" in done.err
    assert "guards nothing" in done.err
    done = call(*words, "-e", "rloo", "--replicates", 500)
    assert done.code == 1
    assert "1 cell." in done.out


def test_a_biased_cell_is_reported_when_it_is_saved(call, tmp_path):
    write_own(tmp_path, "return 1.5 * Reparameterization(n=4)(f, q, generator)")
    done = call("baseline", "save", "own", "-e", "mine.py::Mine", "-o", "gaussian-quadratic", "--replicates", 5000)
    assert done.code == 0
    assert "biased already" in done.err
