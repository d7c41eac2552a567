from bench.report.cost import priced
from bench.report.frame import frame
from tests.report.records import deterministic, heavy, moments, timing


def test_costs_are_seconds_only_where_every_run_of_the_problem_was_timed():
    timed, untimed = moments("a", "o", 2.0, f_evals=3, grad_evals=1), moments("b", "o", 2.0, f_evals=5)
    both = priced(frame([timed, timing(timed, 1e-6), untimed]), "seconds")
    assert list(both["unit"]) == ["evaluations", "evaluations"]
    assert list(both["variance_times_cost"]) == [8.0, 10.0]
    alone = priced(frame([timed, timing(timed, 1e-6)]), "seconds")
    assert list(alone["unit"]) == ["seconds"]
    assert alone["variance_times_cost"].iloc[0] == 2e-6
    asked = priced(frame([timed, timing(timed, 1e-6)]))
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
