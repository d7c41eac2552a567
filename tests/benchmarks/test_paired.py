"""The comparison of two versions: laps in turn, and a verdict only if the interval excludes 1."""

from tests.benchmarks.paired import KINDS, ROOT, Version, compared, name_of, verdict
from tests.benchmarks.workloads import ROWS


def test_a_version_is_slower_only_if_the_interval_says_so():
    assert verdict([1.2] * 15)[3] == "slower"
    assert verdict([0.8] * 15)[3] == "faster"
    assert verdict([0.9] * 7 + [1.1] * 8)[3] == ""
    assert verdict([1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6])[0] == 1.3


def test_both_versions_take_turns():
    class Recorded:
        def __init__(self, seconds):
            self.each = seconds

        def seconds(self, kind, row):
            order.append((self.each, kind, row))
            return self.each

    order = []
    slow, fast = Recorded(2.0), Recorded(1.0)
    found = list(compared(slow, fast, ["a"], laps=2))
    assert found == [("a", kind, [2.0, 2.0]) for kind in KINDS]
    assert [each for each, kind, _ in order if kind == "whole"] == [1.0, 2.0, 2.0, 1.0]


def test_a_checkout_times_a_row_also_of_an_estimator_that_learns():
    learned = next(row for row in ROWS if row.learned)
    with Version(ROOT) as version:
        assert version.seconds("lean", name_of(learned)) > 0
