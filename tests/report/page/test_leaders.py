"""The first screen of a page: who leads, in each unit of cost, and what was checked."""

import pytest

from bench.report import by_objective
from bench.report.curves import problems
from bench.report.page import leaders
from bench.report.prepared import prepared
from tests.report import training_records
from tests.report.records import heavy, moments, timing


def said(*records, unit="evaluations"):
    """The words on the one objective of some records: before the names, the names, the verb, and after it."""
    (objective,) = leaders.objectives(by_objective.sections(prepared(records)))
    lead = objective["leads"][unit]
    return lead["before"], [member["label"] for member in lead["group"]], lead["verb"], [lead["after"], *lead["more"]]


def timed(label, variance, seconds, *, noisy=False, **facts):
    record = moments(label, "o", variance, **facts)
    return record, timing(record, seconds, noisy=noisy)


def test_each_unit_of_cost_has_its_own_leader():
    records = [
        *timed("a", 1.0, 9e-6, n=4, f_evals=8.0),
        *timed("b", 4.0, 1e-6, n=2, f_evals=9.0),
        *timed("c", 20.0, 8e-6, n=1, f_evals=0.2),
    ]
    assert {unit: said(*records, unit=unit)[1] for unit in leaders.UNITS} == {
        "evaluations": ["c"],
        "seconds": ["b"],
        "samples": ["a"],
    }
    _, _, verb, (after, *_) = said(*records, unit="samples")
    assert verb == "leads:"
    assert after.startswith("lowest variance × samples of 3 unbiased methods; b needs")
    assert "times as many samples" in after


def test_the_numbers_of_samples_are_compared_in_the_unit_that_was_chosen():
    records = [r for n in (1, 2) for r in timed(f"rloo:n={n}", 4 / n + (n == 2) / 100, n * 1e-6, n=n, f_evals=float(n))]
    per = {unit: said(*records, unit=unit)[3][-1] for unit in leaders.UNITS}
    assert per == {unit: f"rloo:n=2 does as well per {unit[:-1]}" for unit in leaders.UNITS}


def test_why_nothing_is_ranked_by_a_unit():
    a, b = timed("a", 1.0, 1e-6), timed("b", 2.0, 1e-6, noisy=True)
    assert said(*a, b[0], unit="seconds")[3] == ["Not ranked by seconds: not every estimator was timed"]
    assert said(*a, *b, unit="seconds")[3] == ["Not ranked by seconds: the machine was noisy"]
    without = moments("c", "o", 1.0, n=None)
    assert said(*a, without, unit="samples")[3] == ["Not ranked by samples: c has no number of samples"]
    found = leaders.objectives(by_objective.sections(prepared([*a, without])))
    assert [each["used"] for each in leaders.units(found).values()] == [True, False, False]
    table = leaders.overviews(by_objective.sections(prepared([*a, *b])))
    assert table["seconds"][1][0][:2] == ["o", "not ranked by seconds"]
    assert table["evaluations"][1][0][:2] == ["o", "a"]


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        ("evaluations", "cheapest of them: b and d, 1 evaluation an estimate"),
        ("seconds", "cheapest of them: a and b, 1.0 µs an estimate"),
        ("samples", "one estimate of each costs 2 samples"),
    ],
)
def test_the_cheapest_of_a_tie_is_the_cheapest_in_the_unit_that_was_chosen(unit, words):
    wide = {"half": 1.5, "n": 2}
    records = [
        *timed("a", 1.0, 1e-6, f_evals=2.0, **wide),
        *timed("b", 1.0, 1.01e-6, **wide),
        *timed("d", 1.0, 3e-6, **wide),
    ]
    assert said(*records, unit=unit)[3][1] == words


def test_the_number_beside_a_name_is_its_variance_times_cost():
    (objective,) = leaders.objectives(by_objective.sections(prepared([moments("a", "o", 2.0, f_evals=3.0)])))
    assert objective["leads"]["evaluations"]["group"][0]["work"] == "6.00 ± 0.18"


def test_conditions_are_added_up_over_objectives():
    records = [heavy("a", "o1", 1.0), heavy("b", "o1", 1.0), heavy("a", "o2", 1.0), moments("a", "o3", 1.0)]
    found = [each["checks"] for each in leaders.objectives(by_objective.sections(prepared(records)))]
    texts = {check.about: (check.state, check.text) for check in leaders.summed(found)}
    assert texts["tails"] == ("broken", "on 2 of 3 objectives: 3 too heavy: only a lower limit of the variance")
    assert texts["cells"] == ("holds", "none failed")
    short = [moments(name, o, 1.0, status="SMALL_R") for o in ("o1", "o2") for name in ("a", "b")]
    found = [each["checks"] for each in leaders.objectives(by_objective.sections(prepared(short)))]
    texts = {check.about: (check.state, check.text) for check in leaders.summed(found)}
    few = "on 2 of 2 objectives: 4 from fewer than 1,000 replicates: they may be too narrow"
    assert texts["intervals"] == ("broken", few)
    wrong = [moments(name, o, 1.0, bias=0.5) for o in ("o1", "o2") for name in ("a", "b", "c", "d")]
    found = [each["checks"] for each in leaders.objectives(by_objective.sections(prepared(wrong)))]
    texts = {check.about: check.text for check in leaders.summed(found)}
    assert texts["declarations"] == "on 2 of 2 objectives: a bias was found where none is declared: a, b, c and 1 more"


def ends(seeds, **finals):
    runs = [
        training_records.run(name, [0.0, 1.0, 2.0, final + gap * seed], seed)
        for name, (final, gap) in finals.items()
        for seed in range(seeds)
    ]
    (problem,) = problems(runs)
    return leaders.trained(problem)


def test_training_says_who_ends_best_and_who_is_not_told_apart_from_it():
    assert ends(6, a=(3.0, 0.0), b=(2.0, 0.0)).endswith("; every other estimator ends behind it, seed by seed.")
    assert ends(6, a=(3.0, 0.0), b=(2.9, 0.03)).endswith("; not told apart from it, seed by seed: b.")
    assert "too few to tell it from others" in ends(3, a=(3.0, 0.0), b=(2.0, 0.0))
    assert ends(6, a=(3.0, 0.1)).startswith("a alone was trained")
