"""The gate for gradients that were made elsewhere."""

import json
from pathlib import Path

import numpy as np
import pytest

from bench.gate import given
from bench.gate.baseline_file import read
from bench.gate.findings import Verdict
from bench.gate.stages import Options
from bench.measurement.given import Given, measure_given
from bench.records.store import Store
from bench.stats.gate import variance_statistic

EXACT = np.array([1.0, -2.0, 0.5])
OLD = "results/baselines/policy.json"


def gradients(seed, rows=4_000, scale=1.0, spread=1.0):
    noise = np.random.default_rng(seed).standard_normal((rows, EXACT.size))
    return scale * EXACT + spread * noise


def study(folder, *, name="grouped", exact=EXACT, unbiased=True, evaluations=1.0, rows=None, **how):
    """Write the study of gradients to a folder, and return its name."""
    made = gradients(**how) if rows is None else rows
    with Store(folder) as store:
        store.append(measure_given(Given(name, made, exact, "policy", evaluations=evaluations, unbiased=unbiased)))
    return folder.name


@pytest.fixture
def policy(call, tmp_path):
    """A baseline of given gradients."""
    done = call("baseline", "save", "policy", "--from", study(tmp_path / "old", seed=0))
    assert (done.code, done.err) == (0, "")
    return call


def check(call, folder, *words):
    return call("check", "--baseline", "policy", "--from", folder, *words)


def test_the_same_gradients_are_identical(policy):
    done = check(policy, "old")
    assert (done.code, done.out) == (0, "passed: 1 identical (baseline policy, 1 cell)\n")


def test_other_gradients_of_one_law_pass(policy, tmp_path):
    done = check(policy, study(tmp_path / "new", seed=1, rows=None))
    assert (done.code, done.out.partition(" (")[0]) == (0, "passed: 1 unchanged")


def test_gradients_that_begin_alike_are_tested(policy, tmp_path):
    rows = np.concatenate([gradients(0), gradients(1, spread=2.0)])
    done = check(policy, study(tmp_path / "new", rows=rows))
    assert done.code == 3
    assert "regressed" in done.out


@pytest.mark.parametrize(
    ("how", "verdict"),
    [
        ({"seed": 1, "spread": 1.2}, Verdict.REGRESSED),
        ({"seed": 1, "spread": 1.01}, Verdict.UNCHANGED),
        ({"seed": 1, "spread": 0.8}, Verdict.IMPROVED),
        ({"seed": 1, "scale": 0.75}, Verdict.BIASED),
        ({"seed": 0, "evaluations": 4.0}, Verdict.COSTLIER),
        ({"seed": 0, "exact": 2 * EXACT}, Verdict.MISSING),
        ({"seed": 0, "name": "other"}, Verdict.MISSING),
    ],
)
def test_verdicts(policy, tmp_path, how, verdict):
    study(tmp_path / "new", **how)
    report = given.check(read(OLD, tmp_path), tmp_path / "new", Options(study=tmp_path / "new"))
    assert report.findings[0].verdict is verdict


def test_the_test_is_that_of_the_second_stage_made_once(policy, tmp_path):
    study(tmp_path / "new", seed=1, spread=1.05)
    old = read(OLD, tmp_path)
    (found,) = given.check(old, tmp_path / "new", Options(study=tmp_path / "new", margin=0.02)).findings
    (new,) = given.baseline_of(given.read(tmp_path / "new")).cells
    assert found.p == found.p_variance == variance_statistic(old.cells[0].gate, new.gate, 0.02)[1]
    assert found.p_adjusted == found.p
    assert found.p_truncated is None


def test_only_declared_gradients_are_tested_for_a_bias(call, tmp_path):
    for name, words in (("declared", {}), ("silent", {"unbiased": False})):
        call("baseline", "save", name, "--from", study(tmp_path / name, seed=0, **words))
        new = study(tmp_path / f"new-{name}", seed=1, scale=0.75, **words)
        assert call("check", "--baseline", name, "--from", new).code == (3 if name == "declared" else 0)
        assert ("bias from" in call("baseline", "show", name).out) == (name == "declared")


def test_a_baseline_shows_what_as_many_gradients_find(policy, tmp_path):
    shown = policy("baseline", "show", "policy").out
    study(tmp_path / "new", seed=1)
    (found,) = given.check(read(OLD, tmp_path), tmp_path / "new", Options(study=tmp_path / "new")).findings
    assert f"growth from {found.smallest_change:.1%}, " in shown
    assert "A check of as many new gradients finds these sizes" in shown


def test_a_heavy_tail_is_not_gateable(call, tmp_path):
    rows = np.random.default_rng(0).standard_cauchy((4_000, 3))
    call("baseline", "save", "policy", "--from", study(tmp_path / "old", rows=rows))
    done = check(call, study(tmp_path / "new", rows=-rows))
    assert done.code == 4
    assert "given gradients have no truncated variance to compare" in done.out


def test_the_commands_that_are_named_go_on(policy, tmp_path):
    new = study(tmp_path / "new", seed=1, spread=1.2)
    done = check(policy, new, "--explain", "grouped on policy")
    assert "tested        4000 given gradients, once\n" in done.out
    assert "again         bench check --baseline policy --from new --explain 'grouped on policy' (at " in done.out
    said = check(policy, new).out
    assert "`bench baseline promote policy --from new`" in said
    promoted = policy("baseline", "promote", "policy", "--from", new)
    assert promoted.out.startswith("changed  grouped on policy: variance ")
    assert check(policy, new).out.startswith("passed: 1 identical")
    assert json.loads((tmp_path / OLD).read_text())["given"] is True


def test_a_name_that_is_new_is_named_and_promoted_beside_the_others(policy, tmp_path):
    study(tmp_path / "old", name="leave-one-out", seed=3)
    assert "new" in check(policy, "old").out
    assert policy("baseline", "promote", "policy", "--from", study(tmp_path / "one", name="third", seed=4)).code == 0
    assert [entry.estimator for entry in read(OLD, tmp_path).cells] == ["grouped", "third"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("check", "--baseline", "policy"), "holds gradients that were made elsewhere. Measure the new ones with"),
        (("baseline", "promote", "policy"), "holds gradients that were made elsewhere. Measure the new ones with"),
        (("check", "--baseline", "policy", "--from", "old", "-e", "rloo"), "--from takes a study as it is"),
        (("check", "--baseline", "policy", "--from", "old", "--seed", "0"), "--from takes a study as it is"),
        (("check", "--baseline", "policy", "--from", "old", "--explain", "x"), "such as 'grouped on policy'"),
        (("check", "--baseline", "policy", "--from", "nothing"), "nothing has no gradients of `bench measure"),
        (("check", "--baseline", "policy", "--from", "single"), "has gradients in float64, and single in float32"),
        (("baseline", "save", "two", "--from", "both"), "gradients in float32 and float64: a baseline has one dtype"),
        (("baseline", "save", "two", "--from", "colon"), "'rloo:n=2' cannot be a name in a baseline"),
    ],
)
def test_mistakes_are_one_sentence(policy, tmp_path, words, message):
    single = gradients(1).astype(np.float32)
    study(tmp_path / "single", rows=single)
    study(tmp_path / "both", rows=single)
    study(tmp_path / "both", name="double", seed=2)
    study(tmp_path / "colon", name="rloo:n=2", seed=2)
    (tmp_path / "nothing").mkdir()
    done = policy(*words)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") <= 4


def test_a_baseline_of_estimators_takes_no_study(policy):
    ci = Path(__file__).parents[2] / "results" / "baselines" / "ci.json"
    done = policy("check", "--baseline", str(ci), "--from", "old")
    assert done.code == 2
    assert "The baseline is one of estimators" in done.err
