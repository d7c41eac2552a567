"""The generated study is one that the program could have written."""

from bench.execution.progress import Silent
from bench.records import store
from tests.benchmarks import large_study
from tests.running import run


def test_a_generated_study_is_whole_and_nothing_of_it_is_measured_again(tmp_path, monkeypatch):
    monkeypatch.setattr(large_study, "REPLICATES", 256)
    monkeypatch.setattr(large_study, "ESTIMATORS", ("rloo:n=2,4",))
    spec = large_study.wide(20)
    assert large_study.make(spec, tmp_path / "study") == 4
    before = (tmp_path / "study" / store.LINES).read_bytes()
    found = run(spec, tmp_path / "study", Silent(), 1)
    assert (tmp_path / "study" / store.LINES).read_bytes() == before
    assert len({record["run"] for record in found}) == len({record["fingerprint"] for record in found}) == 4
    assert len({record["objective"] for record in found}) == 2
