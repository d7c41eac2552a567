"""The words of a comparison of variances."""

from bench.report.compare import Comparison, verdict


def compared(word, low, high):
    return Comparison("cell", "a", "b", "1", "1", 1.0, low, high, 1.0, 0.06, "paired", word)


def test_an_interval_without_1_that_is_no_difference_is_explained():
    lower, within, outside = (
        compared("B lower", 0.8, 0.9),
        ("no difference seen", 0.9, 1.1),
        ("no difference seen", 1.1, 1.3),
    )
    assert "intervals" not in verdict([lower, compared(*within)])
    assert verdict([lower, compared(*within), compared(*outside)]).endswith(
        "no difference was seen in 2 (intervals without 1 among them: 1; the error rate of 5 % is that of all 3 cells "
        "together)."
    )
    one_sided = Comparison("cell", "a", "b", "1", "1", 1.0, 1.1, None, 1.0, 0.06, "paired", "no difference seen")
    assert "among them: 1;" in verdict([one_sided])
