"""The commands `baseline`: save, list, show, promote."""

import json
import re
import subprocess
from functools import partial

import pytest

from bench.gate.measure import measure_for_baseline
from bench.planning.selectors import UsageError
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
    rows = [line for line in shown.splitlines() if line.startswith("reparam")]
    for row in rows:
        assert re.search(r"growth from [0-9.]+%, bias from [0-9.]+%, more evaluations$", row)
    cv2 = [cell["cv2"] for cell in json.loads(call("baseline", "show", "ci", "--json").out)["cells"]]
    assert [row.split()[3] for row in rows] == [f"{value:.3g}" for value in cv2]


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
    assert "changed  mine.py::Mine:n=1 on gaussian-quadratic: variance" in done.out
    assert call("check", "--baseline", "own", "--quiet").code == 0


@pytest.mark.usefixtures("ci")
def test_promote_takes_in_a_new_cell_and_leaves_the_others(call, ci):
    before = [line for line in ci.read_text().splitlines() if "reparam" in line]
    done = call("baseline", "promote", "ci", "-e", "rloo", "-o", "gaussian-quadratic", "--quiet")
    assert done.code == 0
    assert done.out.startswith("new      rloo:n=2 on gaussian-quadratic\n")
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


def test_a_save_without_selectors_says_what_is_measured(call, monkeypatch):
    from bench.gate import save

    def stopped(picked, *_arguments, **_options):
        raise UsageError(f"{len(picked)} cells")

    monkeypatch.setattr(save, "measure", stopped)
    done = call("baseline", "save", "ci")
    said, error = done.err.splitlines()
    assert said == f"Without a spec, -e and -o: the {error.split()[1]} cells of the default study are measured."
    assert call("baseline", "save", "ci", "-e", "rloo").err.startswith("Error: ")


def test_a_speed_that_cannot_be_gated_is_said_when_it_is_saved(call, monkeypatch):
    from bench.gate import speed

    left = iter(range(9))

    def noisy(picked, _settings, _timeout):
        return dict.fromkeys([p.cell.id for p in picked], 0.2 * next(left))

    monkeypatch.setattr(speed, "log_costs", noisy)
    done = call(*SAVE, "--replicates", 300, "--speed")
    assert done.code == 0
    said = "reparameterization:n=4 on gaussian-quadratic: the baseline's cost varies by 55% between processes"
    assert f"speed not gateable: {said}" in done.err
    checked = call("check", "--baseline", "ci", "--speed=fail", "--quiet")
    assert checked.code == 4
    assert "no speed could be judged (--speed=fail): 2 identical" in checked.out
    assert call("check", "--baseline", "ci", "--speed", "--quiet").code == 0


def test_a_baseline_has_the_commit_of_the_users_repository(call, tmp_path):
    git = ("git", "-C", str(tmp_path), "-c", "user.name=me", "-c", "user.email=me@home")
    for words in (("init", "-q"), ("commit", "-q", "--allow-empty", "-m", "one")):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    assert call(*SAVE, "--replicates", 300).code == 0
    commit = json.loads(call("baseline", "list", "--json").out)["ci"]["commit"]
    assert head.startswith(commit)


def test_one_cell_has_one_name_in_every_command(call, tmp_path, with_mine):
    """Paths of users' files are relative to the working folder, wherever the baseline lies."""
    name = "mine.py::Mine:n=1"
    assert '"../../mine.py::Mine:n=1"' in with_mine.read_text()
    shown = call("baseline", "show", "own")
    assert f"\n{name}  " in shown.out
    checked = call("check", "--baseline", "own", "--explain", f"{name} on gaussian-quadratic")
    assert checked.out.startswith(f"cell          {name} on")
    write_own(tmp_path, FEWER)
    promoted = call("baseline", "promote", "own", "--quiet")
    assert f"changed  {name} on " in promoted.out
    write_own(tmp_path, "raise ValueError")
    promoted = call("baseline", "promote", "own")
    assert f"failed: {name} on " in promoted.err
    for text in (shown.out, checked.out, promoted.out, promoted.err):
        assert "../mine.py" not in text


def test_an_interrupted_baseline_goes_on_and_ends_with_the_same_bytes(call, ci, monkeypatch, tmp_path):
    whole = ci.read_bytes()
    ci.unlink()
    work, measured = tmp_path / "results" / "baselines" / "ci.unfinished", []

    def measure(cell, *more, interrupted=True, **named):
        if interrupted and measured:
            raise KeyboardInterrupt
        measured.append(cell)
        return measure_for_baseline(cell, *more, **named)

    words = (*SAVE[:-1], "--replicates", 3000)
    monkeypatch.setattr("bench.gate.save.measure_for_baseline", measure)
    done = call(*words)
    assert (done.code, ci.exists(), work.is_dir(), len(measured)) == (130, False, True, 1)
    assert "The cells that have been measured are in results/baselines/ci.unfinished." in done.err
    assert "what was measured is safe. Go on with: bench baseline save ci" in done.err
    monkeypatch.setattr("bench.gate.save.measure_for_baseline", partial(measure, interrupted=False))
    done = call(*words)
    assert (done.code, ci.read_bytes(), work.exists(), len(measured)) == (0, whole, False, 2)
    assert "1 of 2 cells are here; records of" in done.err
    assert call(*words, "--force").code == 0
    assert len(measured) == 4, "a baseline that is complete leaves nothing to take cells from"


def test_cells_kept_for_other_settings_are_not_used(call, ci, monkeypatch):
    whole = ci.read_bytes()

    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bench.gate.save.assemble", fail)
        assert call(*SAVE, "--replicates", 3000, "--seed", 1, "--force").code == 130
    assert call(*SAVE, "--replicates", 3000, "--force").code == 0
    assert ci.read_bytes() == whole
