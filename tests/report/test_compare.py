"""The words of a comparison of variances."""

from bench.report.compare import Comparison, markdown, of_estimators, of_studies, table, verdict
from tests.report import records


def compared(word, low, high):
    return Comparison("cell", "a", "b", 1.0, 1.0, "1", "1", 1.0, low, high, 1.0, 0.06, "paired", word)


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
    one_sided = Comparison(
        "cell", "a", "b", 1.0, 1.0, "1", "1", 1.0, 1.1, None, 1.0, 0.06, "paired", "no difference seen"
    )
    assert "among them: 1;" in verdict([one_sided])


def test_a_lower_variance_does_not_hide_a_bias():
    before = [records.moments(name, "qubo", 2.0, verdict="INCONCLUSIVE") for name in ("rloo", "arm", "darn")]
    after = [records.moments(name, "qubo", 2.0, verdict="BIASED", bias=0.5) for name in ("rloo", "arm")]
    after[0] = records.moments("rloo", "qubo", 1.0, verdict="DETERMINISTIC_BIASED", bias=0.5)
    before[1] = records.moments("arm", "qubo", 2.0, verdict="BIASED", bias=0.5)
    after.append(records.moments("darn", "qubo", 2.0, verdict="BIASED_WITHIN_TOL", bias=0.001))
    found, *only = of_studies(before, after)
    assert [each.biased for each in found] == ["B", "both", ""]
    assert verdict(found).endswith("a bias was found in B alone in 1; a bias was found in both in 1.")
    assert "B lower, B biased" in table(found)
    text = markdown("before", "after", found, only)
    assert "| **B lower, B biased (" in text.partition("<details>")[0]
    assert "no difference seen, both biased (" in text.partition("<details>")[2]
    (back, *_), *_ = of_studies(after, before)
    assert (back.biased, back.to_json()["biased"]) == ("A", "A")


def test_one_objective_with_other_data_or_of_another_size_is_another():
    made = records.moments("rloo", "mnist", 2.0) | {"objective_contents": {"data": "0", "exact": "1"}}
    rival, named = records.moments("arm", "mnist", 1.0), lambda text, record: record["estimator_name"] == text
    for more, number in (
        ({"objective_contents": {"data": "0"}}, 1),
        ({}, 1),
        ({"objective_contents": {"data": "2"}}, 0),
        ({"size": 3}, 0),
    ):
        found, *only = of_estimators([made, rival | more], "rloo", "arm", named)
        assert (len(found), sum(map(len, only))) == (number, 2 - 2 * number)
