from bench.gate.baseline import assemble
from bench.gate.changes import changes, same_statistics
from bench.planning.settings import Settings
from tests.gate.fabricated import entry


def test_changes_are_reported_cell_by_cell():
    old = assemble(Settings(replicates=1000), [entry("two"), entry("one")])
    new = assemble(old.setting, [entry("one", variance=3.0, status="HEAVY_TAIL", fingerprint="g"), entry("three")])
    said = changes(old, new)
    assert [line.split()[:2] for line in said] == [["new", "three"], ["gone", "two"], ["changed", "one"]]
    assert "variance 2 to 3 (times 1.5)" in said[2]
    assert "OK to HEAVY_TAIL" in said[2]
    assert "other samples" in said[2]
    assert changes(old, old) == []


def test_statistics_of_one_sample_may_differ_in_their_last_digits_only():
    assert same_statistics(entry(), entry(variance=2.0 + 1e-9))
    assert not same_statistics(entry(), entry(variance=2.01))
    assert not same_statistics(entry(), entry(replicates=64))
    assert not same_statistics(entry(), entry(bias_norm=None))
