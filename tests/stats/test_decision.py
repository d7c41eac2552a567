"""The decision which estimator to use, from candidates whose products of variance and cost are known numbers."""

import itertools
import math

import pytest

from bench.stats.decision import Candidate, crossing, decide


def candidate(label, value, half=0.1, *, open_end=False, n=None, evaluations=1.0, seconds=None, **facts):
    """A candidate with the variance ``value``, from ``value - half`` to ``value + half``, or without an upper limit."""
    method = label if n is None else label.partition(":")[0]
    variance = None if value is None else (value, value - half, math.inf if open_end else value + half)
    timed = None if seconds is None else (seconds, 0.99 * seconds, 1.01 * seconds)
    return Candidate(label, method, n, evaluations, variance, seconds=timed, **facts)


def labels(found):
    return [c.label for c in found]


def test_the_lowest_product_of_variance_and_evaluations_is_best_alone_if_its_interval_is():
    cheap, dear, far = candidate("cheap", 3.0), candidate("dear", 2.0, evaluations=2), candidate("far", 9.0)
    found = decide([far, dear, cheap])
    assert labels(found.best) == ["cheap"]
    assert found.methods == 3
    assert found.runner_up.candidate is dear
    assert (found.runner_up.low, found.runner_up.high) == pytest.approx((3.8 / 3.1, 4.2 / 2.9))


@pytest.mark.parametrize(("value", "tied"), [(1.19, True), (1.21, False)])
def test_two_are_tied_if_their_intervals_meet(value, tied):
    found = decide([candidate("a", 1.0), candidate("b", value)])
    assert labels(found.best) == (["a", "b"] if tied else ["a"])
    assert (found.runner_up is None) == tied


def test_of_the_tied_those_with_an_upper_limit_come_first_and_then_those_that_did_not_learn():
    kinds = [
        candidate("learned", 1.00, learned=True),
        candidate("open", 0.99, open_end=True),
        candidate("plain", 1.05),
        candidate("both", 0.98, open_end=True, learned=True),
    ]
    for order in itertools.permutations(kinds):
        assert labels(decide(order).best) == ["plain", "learned", "open", "both"]


def test_a_variance_without_an_upper_limit_does_not_tie_what_is_certainly_worse():
    wild, good, bad = candidate("wild", 1.0, 0.5, open_end=True), candidate("good", 10.0), candidate("bad", 20.0)
    found = decide([wild, good, bad])
    assert labels(found.best) == ["good", "wild"]
    assert labels(decide([wild]).best) == ["wild"]


def test_methods_are_compared_at_their_best_n_and_n_is_told_apart():
    rloo = [candidate(f"rloo:n={n}", v, 0.01, n=n, evaluations=n) for n, v in ((2, 4.0), (4, 1.0), (8, 0.5))]
    found = decide([*rloo, candidate("other", 5.0, 0.01)])
    assert found.methods == 2
    assert labels(found.best) == ["rloo:n=4"]
    assert [(f.candidate.n, f.low > 1) for f in found.samples] == [(2, True), (8, False)]
    assert found.samples[0].low == pytest.approx(2 * 3.99 / (4 * 1.01))
    assert found.runner_up.candidate.label == "other"


def test_seconds_decide_only_if_they_are_wanted_and_every_candidate_was_timed_on_a_quiet_machine():
    few, fast = candidate("few", 1.0, seconds=9.0), candidate("fast", 2.0, seconds=1.0)
    assert labels(decide([few, fast]).best) == ["few"]
    assert (labels(decide([few, fast], "seconds").best), decide([few, fast], "seconds").cost) == (["fast"], "seconds")
    noisy = candidate("noisy", 7.0, seconds=5.0, noisy=True)
    for spoiler in (noisy, candidate("untimed", 7.0)):
        found = decide([few, fast, spoiler], "seconds")
        assert (labels(found.best), found.cost, found.faster) == (["few"], "evaluations", None)
    biased = candidate("biased", 7.0, seconds=5.0, noisy=True, unbiased=False, biased=True)
    assert decide([few, fast, biased], "seconds").cost == "seconds", "a biased one does not compete"


def test_a_faster_method_is_named_beside_the_best_by_evaluations():
    few, fast, same = (
        candidate(k, v, seconds=s) for k, v, s in (("few", 1.0, 9.0), ("fast", 2.0, 1.0), ("x", 1.0, 4.0))
    )
    assert decide([few, fast]).faster is fast
    assert decide([few, fast], "seconds").faster is None
    assert decide([few, candidate("y", 9.0, seconds=4.0)]).faster is None, "the same method is ahead by both"
    assert decide([few, same, fast]).faster is fast


def test_what_is_heavy_biased_or_exact_does_not_compete():
    found = decide(
        [
            candidate("heavy", None),
            candidate("biased", 0.1, unbiased=False, biased=True),
            candidate("exact", 1e-15, 0.0, exact=True, evaluations=8.0),
            candidate("dearer", 0.0, 0.0, exact=True, evaluations=9.0),
            candidate("tame", 5.0),
        ]
    )
    assert (found.methods, labels(found.best), found.exact.label) == (1, ["tame"], "exact")


def test_a_biased_candidate_is_named_with_the_largest_budget_at_which_it_certainly_errs_less():
    best = candidate("best", 10.0, 1.0, evaluations=2)
    biased = candidate("biased", 1.0, 0.5, evaluations=2, unbiased=False, biased=True, bias_bound=0.5)
    found = decide([best, biased, candidate("vague", 1.0, 0.5, evaluations=2, biased=True, unbiased=False)])
    assert found.biased is biased
    assert found.budget == crossing(biased, best, "evaluations") == pytest.approx((18.0 - 3.0) / (0.25 * 2))
    errors = {c.label: lambda n, c=c: c.bias_bound**2 + c.variance[2] * c.evaluations / (2 * n) for c in (biased,)}
    assert errors["biased"](found.budget) == pytest.approx(best.variance[1] / found.budget)
    rough = candidate("rough", 1.0, 0.5, evaluations=2, unbiased=False, biased=True, bias_bound=9.0)
    assert decide([best, rough]).biased is None


def test_a_method_without_noise_may_be_biased():
    constant = candidate("constant", 0.0, 0.0, unbiased=False, biased=True, bias_bound=1.0)
    found = decide([candidate("best", 10.0, 1.0), constant])
    assert (found.biased.label, found.budget) == ("constant", pytest.approx(9.0))


def test_an_exact_method_that_contradicts_the_exact_gradient_ends_the_decision():
    fault = candidate("enumeration", 0.0, 0.0, refutes=True, biased=True, unbiased=False)
    found = decide([candidate("a", 1.0), fault])
    assert (found.fault, found.best, found.exact) == (fault, (), None)


def test_without_rivals_the_lowest_error_of_one_estimate_is_told():
    def biased(label, error):
        return candidate(label, 1.0, unbiased=False, biased=True, error=(error, 0.9 * error, 1.1 * error))

    assert labels(decide([biased("c", 1.3), biased("b", 1.1), biased("a", 1.0)]).least_error) == ["a", "b"]
    assert decide([candidate("heavy", None)]).least_error == ()
    assert decide([]).best == ()


def test_the_cost_in_samples_is_n():
    few, many = candidate("few:n=1", 3.0, n=1, evaluations=9), candidate("many:n=8", 0.5, n=8)
    found = decide([few, many], "samples")
    assert (found.cost, labels(found.best)) == ("samples", ["few:n=1"])
    assert labels(decide([few, many]).best) == ["many:n=8"]


def test_without_an_n_there_is_no_decision_by_samples():
    whole, none = candidate("whole:n=1", 3.0, n=1), candidate("none", 1.0)
    assert decide([whole, none], "samples").cost == "evaluations"
    exact = candidate("exact", 0.0, exact=True)
    assert decide([whole, exact], "samples").cost == "samples"
    assert math.isinf(exact.price("samples")[0])
    biased = candidate("biased", 0.01, unbiased=False, biased=True, bias_bound=1e-3)
    assert decide([whole, biased], "samples").biased is None
    assert decide([whole, biased]).biased is biased
