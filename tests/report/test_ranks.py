from bench.report.cost import priced
from bench.report.frame import frame
from bench.report.ranks import ranked
from tests.report.records import deterministic, heavy, moments


def test_ranks_are_intervals_over_the_runs_that_have_a_variance():
    records = [
        moments("a", "o", 1.0, half=0.01),
        moments("b", "o", 3.0, half=0.01),
        moments("c", "o", 3.0, half=0.01),
        heavy("d", "o", 0.5),
        deterministic("e", "o"),
    ]
    table = ranked(priced(frame(records)), records).set_index("estimator")
    assert list(table.loc[["a", "b", "c"], "rank_low"]) == [1, 2, 2]
    assert list(table.loc[["a", "b", "c"], "rank_high"]) == [1, 3, 3]
    assert table.loc[["d", "e"], "rank_low"].isna().all()
