from bench.report.figures.panels import decades, thinned
from bench.report.prepared import prepared
from tests.report.figures.drawing import figure, titles
from tests.report.records import moments


def test_many_objectives_are_cut_by_a_rule_in_the_title(monkeypatch):
    monkeypatch.setattr("bench.report.figures.panels.MOST_PANELS", 2)
    monkeypatch.setattr("bench.report.figures.panels.FEW_PANELS", 2)
    drawn = figure("variance-cost", [moments("a", f"o{i}", 1.0) for i in range(4)] + [moments("b", "o3", 1.0)])
    assert titles(drawn) == ["o0", "o3"]
    assert "The 2 of 4 objectives" in drawn.get_suptitle().replace("\n", " ")


def test_ticks_are_round_and_few():
    for low, high in [(-3.2, -1.9), (0.0, 1.3), (-7.0, 9.0), (2.1, 5.9)]:
        values = decades(low, high)
        assert 1 <= len(values) <= 7
        assert all(10**low <= v * 1.0000001 and v <= 10**high * 1.0000001 for v in values)
        assert all(f"{v:.0e}"[0] in "125" for v in values)


def test_of_many_estimators_the_best_are_drawn(monkeypatch):
    monkeypatch.setattr("bench.report.figures.panels.MOST_RUNS", 2)
    table = prepared([moments(name, "o", v) for name, v in (("a", 4.0), ("b", 1.0), ("c", 2.0), ("d", 3.0))])
    kept, note = thinned(table)
    assert list(kept["estimator"]) == ["b", "c"]
    assert note == " Of each objective, the 2 estimators with the lowest variance × cost."
    assert thinned(kept)[1] == ""
    drawn = figure("variance-cost", [moments(name, "o", v) for name, v in (("a", 4.0), ("b", 1.0), ("c", 2.0))])
    assert "the 2 estimators with the lowest" in " ".join(drawn.get_suptitle().split())
