"""What is measured again: what failed, what was made by other code, all, or nothing; what is missing always is."""

import pytest

from bench.execution.progress import Silent
from bench.records import store
from bench.records.lines import USUAL, Rerun
from bench.training.settings import Training
from bench.training.train import train
from tests.execution.specs import spec_of
from tests.running import run

FAILED, STALE, BOTH, FINE, MISSING = (
    "gaussian-quadratic:dim=1",
    *(f"gaussian-quadratic:dim={n}" for n in (2, 3, 4, 5)),
)
SPEC = spec_of("rloo", replicates=64).model_copy(
    update={"objectives": tuple(spec_of("rloo", objective=name).objectives[0] for name in (FAILED, STALE, BOTH, FINE))}
)
WHOLE = SPEC.model_copy(update={"objectives": (*SPEC.objectives, spec_of("rloo", objective=MISSING).objectives[0])})


def spoiled(record):
    """Return a record as if it had failed, or as if other code had made it, by its objective."""
    name = record["objective"]
    other = {"code": "0" * 16} if name in (STALE, BOTH) else {}
    failed = {"outcome": "failed", "reason": "It broke."} if name in (FAILED, BOTH) else {}
    return {**record, **other, **failed}


@pytest.fixture(scope="module")
def spoiled_study(tmp_path_factory):
    return [spoiled(record) for record in run(SPEC, tmp_path_factory.mktemp("whole"), Silent())]


class Watch(Silent):
    def __init__(self):
        self.measured, self.said = [], []

    def finish(self, record):
        self.measured.append(record["objective"])

    def stand(self, standing, records):
        self.said.append(standing)


AGAIN = {
    frozenset({Rerun.NONE}): [],
    frozenset({Rerun.FAILED}): [FAILED, BOTH],
    frozenset({Rerun.STALE}): [STALE, BOTH],
    USUAL: [FAILED, STALE, BOTH],
    frozenset({Rerun.ALL}): [FAILED, STALE, BOTH, FINE],
}


@pytest.mark.parametrize("rerun", AGAIN, ids=lambda rerun: "+".join(sorted(rerun)))
def test_what_is_measured_again(rerun, spoiled_study, tmp_path):
    with store.Store(tmp_path) as writer:
        for record in spoiled_study:
            writer.append(record)
    watch = Watch()
    records = run(WHOLE, tmp_path, watch, rerun=rerun)
    assert watch.measured == [*AGAIN[rerun], MISSING]
    assert len(records) == 5, "the records that are kept count"
    kept = [name for name in (FAILED, BOTH) if name not in AGAIN[rerun]]
    assert [record["objective"] for record in records if record["outcome"] == "failed"] == kept
    first = {
        "none": "2 of 5 cells are here, 2 failed, 1 to go",
        "failed": "2 of 5 cells are here, 2 failed, 1 to go",
        "stale": "1 of 5 cells are here, 2 failed, 2 to go (1 of them because their code has changed)",
        "failed+stale": "1 of 5 cells are here, 2 failed, 2 to go (1 of them because their code has changed)",
    }
    last = f"{5 - len(kept)} of 5 cells are here" + (f", {len(kept)} failed" if kept else "")
    assert watch.said == ([first[name], last] if (name := "+".join(sorted(rerun))) in first else [])


def test_runs_of_training_are_chosen_alike(tmp_path):
    spec, how = spec_of("rloo"), Training(steps=2, seeds=2, replicates=0)
    records = train(spec, how, tmp_path, Silent())
    with store.Store(tmp_path) as writer:
        writer.append({**records[0], "outcome": "failed", "reason": "It broke."})
    watch = Watch()
    train(spec, how, tmp_path, watch, rerun={Rerun.NONE})
    assert (watch.measured, watch.said[0]) == ([], "1 of 2 runs are here, 1 failed")
    watch = Watch()
    train(spec, how, tmp_path, watch)
    assert (len(watch.measured), watch.said) == (1, ["1 of 2 runs are here, 1 failed", "2 of 2 runs are here"])


def test_an_interruption_says_how_far_the_study_has_come(tmp_path):
    class Stop(Watch):
        def finish(self, record):
            super().finish(record)
            if len(self.measured) == 2:
                raise KeyboardInterrupt

    stop = Stop()
    with pytest.raises(KeyboardInterrupt):
        run(SPEC, tmp_path, stop)
    assert stop.said == ["2 of 4 cells are here, 2 to go"]
