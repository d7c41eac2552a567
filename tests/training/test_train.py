"""A folder of training: what is on record is not trained again, and nothing is lost."""

from dataclasses import replace

import pytest

from bench.execution.progress import Silent
from bench.planning.cells import plan
from bench.planning.spec import Spec
from bench.records import store
from bench.training.settings import Training
from bench.training.train import WORTH_WORKERS, TrainingRun, train
from tests.training import runs

TINY = Training(steps=2, seeds=2, replicates=0)


def spec(*estimators, objective="gaussian-quadratic"):
    return Spec.of({"estimators": list(estimators), "objectives": [objective]})


def test_what_is_on_record_is_not_trained_again(tmp_path, monkeypatch):
    first = train(spec("rloo"), TINY, tmp_path, Silent())
    assert [(r["kind"], r["seed"], r["outcome"]) for r in first] == [("training", s, "measured") for s in (0, 1)]
    trained = []
    kept = TrainingRun.record
    monkeypatch.setattr(TrainingRun, "record", lambda run, *told: trained.append(run.label) or kept(run, *told))
    assert train(spec("rloo"), TINY, tmp_path, Silent()) == first
    assert trained == []
    more = train(spec("rloo", "score-function"), replace(TINY, seeds=3), tmp_path, Silent())
    assert {(r["estimator"], r["seed"]) for r in more} == {(e, s) for e in ("rloo", "score-function") for s in range(3)}
    assert len(trained) == 4
    other = train(spec("rloo"), replace(TINY, rate=0.1), tmp_path, Silent())
    assert not {r["run"] for r in other} & {r["run"] for r in more}


def test_an_interruption_loses_the_run_under_way_and_failures_are_tried_again(tmp_path, monkeypatch):
    switch = tmp_path / "switch"
    monkeypatch.setenv("MOODY", str(switch))
    mine = f"{runs.__file__}::Moody"

    class Interrupting(Silent):
        def cell(self, text):
            if "score-function" in text:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(spec("rloo", "score-function"), TINY, tmp_path / "a", Interrupting())
    assert {r["estimator"] for r in store.read(tmp_path / "a")} == {"rloo"}
    failed = train(spec(mine, "rloo"), TINY, tmp_path / "b", Silent())
    assert sorted(r["outcome"] for r in failed) == ["failed", "failed", "measured", "measured"]
    assert any("RuntimeError: out of luck" in (r["reason"] or "") for r in failed)
    switch.touch()
    for folder, other in (("a", "score-function"), ("b", mine)):
        again = train(spec(other, "rloo"), TINY, tmp_path / folder, Silent())
        assert {r["outcome"] for r in again} == {"measured"}
        assert len(again) == 4


def test_a_run_whose_weights_are_gone_is_trained_again(tmp_path):
    (first,) = train(spec("rloo"), replace(TINY, seeds=1), tmp_path, Silent(), keep_weights=True)
    (kept,) = (tmp_path / "weights").iterdir()
    assert kept.stem == first["weights_digest"]
    kept.unlink()
    train(spec("rloo"), replace(TINY, seeds=1), tmp_path, Silent(), keep_weights=True)
    assert kept.exists()


def test_workers_are_worth_it_from_a_number_of_steps_on(tmp_path):
    (cell,) = plan(*spec("rloo").instances())[0]
    assert [TrainingRun.of(cell, replace(TINY, steps=n), 0).effort for n in (WORTH_WORKERS, 1)] == [
        1,
        1 / WORTH_WORKERS,
    ]


def test_what_does_not_fit_is_a_record_with_its_reason(tmp_path):
    records = train(spec("enumeration", "rloo"), TINY, tmp_path, Silent())
    assert [(r["outcome"], r["estimator"]) for r in records] == [
        ("skipped", "enumeration"),
        ("measured", "rloo"),
        ("measured", "rloo"),
    ]
    assert "Enumeration" in records[0]["reason"]
    assert train(spec("enumeration", "rloo"), TINY, tmp_path, Silent()) == records


def test_workers_change_no_figure_but_the_seconds(tmp_path):
    def figures(records):
        return sorted((r["estimator"], r["seed"], r["weights_digest"], r["curves"]["value"]) for r in records)

    how = replace(TINY, steps=5)
    alone = train(spec("rloo", "reparameterization"), how, tmp_path / "a", Silent(), workers=1)
    together = train(spec("rloo", "reparameterization"), how, tmp_path / "b", Silent(), workers=2)
    assert figures(alone) == figures(together)
