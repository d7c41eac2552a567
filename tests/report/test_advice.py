"""The sentence of advice, from records."""

import math

from bench.report.advice import candidates, decisions, method_of, sentence
from bench.report.cost import priced
from bench.report.frame import each, frame
from bench.stats.decision import decide
from tests.report.records import deterministic, heavy, moments, timing

OPEN = "INCONCLUSIVE"


def say(*records, cost="evaluations"):
    return sentence(decide(candidates(each(priced(frame(records)))), cost))


def test_a_clear_winner_is_named_alone_with_the_factor_to_the_next():
    text = say(moments("a", "o", 1.0, verdict=OPEN), moments("b", "o", 4.0, verdict=OPEN))
    low, high = 4 * math.exp(-0.06), 4 * math.exp(0.06)
    assert text == (
        "use a: lowest variance × evaluations of 2 unbiased methods; "
        f"b needs {low:.1f}–{high:.1f} times as many evaluations for the same precision"
    )


def test_few_ties_are_named_and_many_are_counted():
    text = say(moments("a", "o", 1.0, verdict=OPEN, half=0.1), moments("b", "o", 1.1, verdict=OPEN, half=0.1))
    assert text == (
        "use a or b: tied for the lowest variance × evaluations of 2 unbiased methods; more replicates would tell"
    )
    many = [moments(name, "o", 1.0 + i / 100, verdict=OPEN, half=0.2) for i, name in enumerate("abcdefg")]
    assert say(*many) == "all 7 unbiased methods tied for the lowest variance × evaluations: more replicates would tell"
    text = say(*many, moments("h", "o", 9.0, verdict=OPEN))
    assert text.startswith("7 of 8 unbiased methods tied")


def test_the_number_of_samples_is_told_apart_from_the_method():
    rloo = [
        moments(f"rloo:n={n}", "o", v, n=n, f_evals=n, verdict=OPEN, half=0.01) for n, v in ((2, 4), (4, 1), (8, 0.5))
    ]
    text = say(*rloo, moments("a", "o", 9.0, verdict=OPEN))
    assert text.startswith("use rloo:n=4: lowest variance × evaluations of 2 unbiased methods; a needs 2.2–2.3 times")
    assert text.endswith("; rloo:n=8 does as well per evaluation; rloo:n=2 needs 2.0 times as much")


def test_an_open_upper_end_is_no_clear_loser_and_no_first_choice():
    text = say(moments("a", "o", 1.0, verdict=OPEN, high=None), moments("b", "o", 1.5, verdict=OPEN))
    assert text.startswith("use b or a: tied")


def test_noisy_seconds_decide_nothing():
    cheap, dear = moments("cheap", "o", 2.0, verdict=OPEN), moments("dear", "o", 1.0, verdict=OPEN)
    quiet = [cheap, timing(cheap, 1e-6), dear, timing(dear, 9e-6)]
    assert say(*quiet, cost="seconds").startswith(
        "use cheap: lowest variance × seconds of 2 unbiased methods; dear needs"
    )
    assert say(*quiet).startswith("use dear: lowest variance × evaluations")
    assert say(*quiet).endswith("; by seconds on this machine, cheap is ahead")
    for cost in ("seconds", "evaluations"):
        text = say(cheap, timing(cheap, 1e-6, noisy=True), dear, timing(dear, 9e-6), cost=cost)
        assert text.startswith("use dear: lowest variance × evaluations")
        assert "seconds" not in text


def test_a_heavy_tail_is_never_recommended():
    text = say(heavy("wild", "o", 1e-9), moments("tame", "o", 5.0, verdict=OPEN))
    assert text == "tame: the only unbiased estimator here with a variance to trust"


def test_a_biased_estimator_wins_only_up_to_a_budget():
    biased = moments("biased", "o", 0.01, bias=0.5, unbiased=False)
    text = say(moments("a", "o", 10.0, verdict=OPEN), biased)
    bound = biased["summary"]["bias_bound"]
    budget = (10 * math.exp(-0.03) - 0.01 * math.exp(0.03)) / bound**2
    assert f"below a budget of {budget:.0f} estimates of a, biased has the lower error in spite of its bias" in text
    text = say(moments("a", "o", 1.0, verdict=OPEN), moments("biased", "o", 0.9, bias=3.0, unbiased=False))
    assert "biased" not in text.replace("unbiased", "")


def test_an_exact_method_is_weighed_by_its_cost():
    a, exact = moments("a", "o", 1.0, verdict=OPEN, f_evals=2), deterministic("enumeration", "o", f_evals=2)
    assert say(a, exact) == (
        "use enumeration: exact, and no more expensive than one random estimate; of the random ones, "
        "a: the only unbiased estimator here with a variance to trust"
    )
    dear = deterministic("enumeration", "o", f_evals=1024)
    assert say(a, dear).startswith(
        "enumeration is exact, with 1,024 evaluations an estimate; on a smaller budget, a: the"
    )
    assert say(dear) == "enumeration is exact (1,024 evaluations an estimate)"


def test_what_was_learned_and_frozen_is_said_only_of_what_is_recommended():
    def learned(name, value):
        return moments(name, "o", value, verdict=OPEN) | {"adapt_steps": 150, "adapt_f_evals": 9600}

    end = "nvil learned and was frozen at this point, which never happens in training"
    assert say(learned("nvil", 1.0), moments("a", "o", 9.0, verdict=OPEN)).endswith(end)
    assert "frozen" not in say(learned("nvil", 9.0), moments("a", "o", 1.0, verdict=OPEN))
    text = say(learned("nvil", 1.0), learned("rebar", 1.0), moments("a", "o", 9.0, verdict=OPEN))
    assert "nvil and rebar learned and were frozen" in text


def test_without_an_unbiased_estimator_the_error_of_one_estimate_decides():
    biased = [moments(n, "o", v, bias=0.5, unbiased=False) for n, v in (("a", 1.0), ("b", 30.0))]
    assert say(*biased).endswith("lowest mean squared error of one estimate: a")
    assert say(heavy("a", "o", 1.0)) == "no unbiased estimator with a variance to trust was measured"


def test_an_exact_method_that_is_biased_accuses_the_objective_and_no_estimator():
    text = say(moments("a", "o", 1.0, bias=0.5), deterministic("enumeration", "o", bias=0.5, unbiased=True))
    assert text.startswith(
        "enumeration is exact, and differs from the exact gradient: the objective is at fault, and no"
    )
    text = say(moments("a", "o", 1.0, verdict=OPEN), deterministic("mine", "o", bias=0.5, unbiased=True))
    assert "the objective is at fault, or mine if it is your own" in text
    text = say(moments("a", "o", 1.0, verdict=OPEN), deterministic("b", "o", bias=0.5))
    assert "at fault" not in text


def test_a_method_is_a_label_without_n():
    assert [method_of(x) for x in ("rloo:n=4", "a", "g:n=1,temperature=0.5", "g:temperature=1,n=2", "g:nu=3")] == [
        "rloo", "a", "g:temperature=0.5", "g:temperature=1", "g:nu=3",
    ]  # fmt: skip


def test_every_problem_of_a_study_has_a_decision():
    found = decisions([moments("a", "o", 1.0), moments("a", "p", 1.0), heavy("b", "p", 0.1)])
    assert {problem: decision.best[0].label for problem, decision in found.items()} == {"o": "a", "p": "a"}
