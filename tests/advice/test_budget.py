"""The budget of advice: how it is written, and what it pays."""

from math import inf

import pytest

from bench.advice.budget import DEFAULT, Budget
from bench.planning.selectors import UsageError


@pytest.mark.parametrize(
    ("text", "evaluations", "seconds"),
    [
        ("1e5-evals", 1e5, inf),
        ("100_000-evals", 1e5, inf),
        ("10s", inf, 10),
        ("2.5s", inf, 2.5),
        ("1e5-evals,10s", 1e5, 10),
        ("10s, 1e5-EVALS", 1e5, 10),
        (DEFAULT, 1e6, 10),
    ],
)
def test_a_budget_is_evaluations_seconds_or_both(text, evaluations, seconds):
    found = Budget.parse(text)
    assert (found.evaluations, found.seconds) == (evaluations, seconds)


@pytest.mark.parametrize("text", ["", "10", "1e5", "0s", "-1s", "10s,20s", "1e5-evals,10m", "ten s", "nan-evals"])
def test_what_is_no_budget_is_refused_in_one_sentence(text):
    with pytest.raises(UsageError, match=r"is no budget\. Write evaluations, seconds or both: 1e5-evals, 10s or"):
        Budget.parse(text)


def test_a_share_pays_no_more_than_is_left():
    budget = Budget(evaluations=1000, spent=900)
    assert budget.affords(evaluations=2, seconds=0, share=0.05) == 25
    assert budget.affords(evaluations=2, seconds=0, share=0.5) == 50  # 100 evaluations are left
    assert Budget(seconds=10).affords(evaluations=2, seconds=0.01, share=0.5) == pytest.approx(500, rel=0.01)
    assert Budget().affords(evaluations=2, seconds=0.01, share=0.5) == inf
