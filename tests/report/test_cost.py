import math

from bench.report.cost import advice, priced
from bench.report.frame import each, frame
from tests.report.records import deterministic, heavy, moments, timing

OPEN = "INCONCLUSIVE"


def say(*records):
    return advice(each(priced(frame(records))))


def test_a_clear_winner_is_named_alone_with_the_factor_to_the_next():
    text = say(moments("a", "o", 1.0, verdict=OPEN), moments("b", "o", 4.0, verdict=OPEN))
    assert text.startswith("use a: lowest variance × evaluations of f and its gradient of 2 unbiased")
    low, high = 4 * math.exp(-0.06), 4 * math.exp(0.06)
    assert f"b needs {low:.1f}–{high:.1f} times as much for the same precision" in text


def test_overlapping_intervals_have_no_winner():
    text = say(moments("a", "o", 1.0, verdict=OPEN, half=0.1), moments("b", "o", 1.1, verdict=OPEN, half=0.1))
    assert text.startswith("use a or b: tied for the lowest")


def test_many_ties_are_counted():
    text = say(*(moments(name, "o", 1.0 + i / 100, verdict=OPEN, half=0.2) for i, name in enumerate("abcde")))
    assert "use a, b or 3 more:" in text


def test_an_open_upper_end_is_no_clear_loser():
    text = say(moments("a", "o", 1.0, verdict=OPEN, high=None), moments("b", "o", 9.0, verdict=OPEN))
    assert text.startswith("use a or b")


def test_the_cost_decides_and_is_named():
    cheap, dear = moments("cheap", "o", 2.0, verdict=OPEN), moments("dear", "o", 1.0, verdict=OPEN)
    text = say(cheap, timing(cheap, 1e-6), dear, timing(dear, 9e-6))
    assert text.startswith("use cheap: lowest variance × seconds of 2 unbiased")


def test_a_heavy_tail_is_never_recommended():
    text = say(heavy("wild", "o", 1e-9), moments("tame", "o", 5.0, verdict=OPEN))
    assert text == "tame: the only unbiased estimator here with a variance to trust"


def test_a_biased_estimator_wins_only_up_to_a_budget():
    biased = moments("biased", "o", 0.01, bias=0.5, unbiased=False)
    text = say(moments("a", "o", 10.0, verdict=OPEN), biased)
    bound = biased["summary"]["bias_bound"]
    budget = (10 * math.exp(-0.03) - 0.01 * math.exp(0.03)) / bound**2
    assert f"below a budget of {budget:.0f} estimates of a, biased has the lower error in spite of its bias" in text


def test_a_bias_that_costs_more_than_the_variance_saved_is_not_praised():
    text = say(moments("a", "o", 1.0, verdict=OPEN), moments("biased", "o", 0.9, bias=3.0, unbiased=False))
    assert "biased" not in text.replace("unbiased", "")


def test_an_exact_method_is_weighed_by_its_cost():
    a = moments("a", "o", 1.0, verdict=OPEN, f_evals=2)
    assert (
        "use enumeration: exact, and no more expensive than one random estimate; of the random ones, a: the only"
        in say(a, deterministic("enumeration", "o", f_evals=2))
    )
    assert "enumeration is exact at the cost of 510 estimates of a; on a smaller budget, a: the only" in say(
        a, deterministic("enumeration", "o", f_evals=1024)
    )
    assert (
        say(deterministic("enumeration", "o", f_evals=1024)) == "enumeration is exact (1,024 evaluations an estimate)"
    )


def test_without_an_unbiased_estimator_the_error_of_one_estimate_decides():
    biased = [moments(n, "o", v, bias=0.5, unbiased=False) for n, v in (("a", 1.0), ("b", 30.0))]
    assert say(*biased).endswith("lowest mean squared error of one estimate: a")
    assert say(heavy("a", "o", 1.0)) == "no unbiased estimator with a variance to trust was measured"


def test_costs_are_seconds_only_where_every_run_of_the_problem_was_timed():
    timed, untimed = moments("a", "o", 2.0, f_evals=3, grad_evals=1), moments("b", "o", 2.0, f_evals=5)
    both = priced(frame([timed, timing(timed, 1e-6), untimed]))
    assert list(both["unit"]) == ["evaluations", "evaluations"]
    assert list(both["variance_times_cost"]) == [8.0, 10.0]
    alone = priced(frame([timed, timing(timed, 1e-6)]))
    assert list(alone["unit"]) == ["seconds"]
    assert alone["variance_times_cost"].iloc[0] == 2e-6
    asked = priced(frame([timed, timing(timed, 1e-6)]), "evaluations")
    assert (asked["unit"].iloc[0], asked["variance_times_cost"].iloc[0]) == ("evaluations", 8.0)
    assert alone["variance_times_cost_low"].iloc[0] < 2e-6 < alone["variance_times_cost_high"].iloc[0]


def test_efficiency_is_relative_to_the_best_unbiased_and_to_no_other():
    records = [
        moments("a", "o", 2.0, verdict="INCONCLUSIVE"),
        moments("b", "o", 8.0, verdict="INCONCLUSIVE"),
        moments("biased", "o", 0.1, bias=0.5, unbiased=False),
        heavy("heavy", "o", 0.2),
        deterministic("enumeration", "o"),
    ]
    efficiency = priced(frame(records)).set_index("estimator")["efficiency"]
    assert efficiency["a"] == 1
    assert efficiency["b"] == 0.25
    assert efficiency[["biased", "heavy", "enumeration"]].isna().all()


def test_an_exact_method_that_is_biased_accuses_the_objective_and_no_estimator():
    text = say(moments("a", "o", 1.0, bias=0.5), deterministic("enumeration", "o", bias=0.5, unbiased=True))
    assert text.startswith(
        "enumeration is exact, and differs from the exact gradient: the objective is at fault, and no"
    )
    text = say(moments("a", "o", 1.0, verdict=OPEN), deterministic("mine", "o", bias=0.5, unbiased=True))
    assert "the objective is at fault, or mine if it is your own" in text
    text = say(moments("a", "o", 1.0, verdict=OPEN), deterministic("b", "o", bias=0.5))
    assert "at fault" not in text
