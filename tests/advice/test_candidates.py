"""The candidates: which values are tried, in which order, and why an estimator is not."""

from bench import objectives
from bench.advice.candidates import VARIED, by_importance, counts, grid, of_catalogue, of_selectors, screened, variant
from bench.planning.selectors import full_label, parse
from estimators import (
    ARM,
    NVIL,
    RLOO,
    DisARM,
    Enumeration,
    GumbelSoftmax,
    Reparameterization,
    ScoreFunction,
    catalogue,
)


def test_n_is_tried_at_powers_of_two():
    assert counts(16) == [1, 2, 4, 8, 16]
    assert counts(15) == [1, 2, 4, 8]
    assert counts(1) == [1]


def test_values_that_a_class_refuses_are_left_out():
    assert [e.n for e in grid(RLOO, 8, {"credit": "whole"})] == [2, 4, 8]
    assert [e.n for e in grid(ARM, 8, {})] == [2, 4, 8]


def test_every_field_in_the_list_is_varied():
    assert {(e.n, e.temperature) for e in grid(GumbelSoftmax, 2, {})} == {
        (n, t) for n in (1, 2) for t in VARIED["temperature"]
    }
    assert {e.baseline for e in grid(ScoreFunction, 1, {})} == {0.0, "moving-average"}
    assert Reparameterization(n=2, noise="antithetic") in list(grid(Reparameterization, 2, {}))


def test_the_catalogue_has_every_class():
    assert {type(e) for e in of_catalogue(16)} == set(catalogue().values())


def test_a_selector_without_parameters_stands_for_every_n():
    found = of_selectors([parse("rloo"), parse("disarm:n=4"), parse("rloo:n=2"), parse("enumeration")], 8)
    found = [full_label(e) for e in found if getattr(e, "credit", "whole") == "whole"]
    assert found == ["rloo:n=2", "rloo:n=4", "rloo:n=8", "disarm:n=4", "enumeration"]


def test_downstream_credit_is_a_candidate_where_f_shows_its_costs():
    credit = RLOO(n=2, credit="downstream")
    for objective, expected in ((objectives.Corridor(), True), (objectives.BernoulliQuadratic(), False)):
        fitting, reasons = screened(of_catalogue(2), [objective])
        assert (credit in fitting) == expected
        assert "rloo" not in reasons


def test_variants_differ_in_n_alone():
    assert variant(RLOO(n=2)) == variant(RLOO(n=8))
    assert variant(GumbelSoftmax(n=1, temperature=0.5)) != variant(GumbelSoftmax(n=1))
    assert variant(DisARM(n=2)) != variant(ARM(n=2))


def test_every_class_is_made_ready_once_before_any_twice_and_what_learns_comes_last():
    found = by_importance([*grid(NVIL, 8, {}), *grid(RLOO, 8, {}), *grid(GumbelSoftmax, 4, {})])
    assert found[:3] == [RLOO(n=2), GumbelSoftmax(n=1), NVIL(n=1)]
    assert found.index(RLOO(n=4)) < found.index(RLOO(n=8))  # about the largest n that a slope leaves room for
    assert len(found) == len(set(found))


def test_what_does_not_fit_has_its_reason():
    problem = objectives.GaussianQuadratic(dim=2)
    fitting, reasons = screened([Enumeration(), DisARM(), Reparameterization(), RLOO()], [problem])
    assert fitting == [Reparameterization(), RLOO()]
    assert set(reasons) == {"enumeration", "disarm"}
    assert "Normal" in reasons["disarm"]
