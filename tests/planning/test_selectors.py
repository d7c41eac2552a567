"""Selectors: read from texts and tables, and written as labels."""

import pytest

from bench.objectives import GaussianQuadratic
from bench.planning import catalogue as names
from bench.planning.selectors import Selector, UsageError, covering, from_table, label, parse, selects
from estimators import RLOO, GumbelSoftmax, Nested, ScoreFunction
from tests.planning.instances import one

# text to selector


@pytest.mark.parametrize(
    ("text", "name", "params"),
    [
        ("rloo", "rloo", {}),
        ("rloo:n=4", "rloo", {"n": ("4",)}),
        ("rloo:n=2,4,8", "rloo", {"n": ("2", "4", "8")}),
        ("gaussian-quadratic:dim=1,10,target=0.5", "gaussian-quadratic", {"dim": ("1", "10"), "target": ("0.5",)}),
        ("a/mine.py::Mine", "a/mine.py::Mine", {}),
        ("a/mine.py::Mine:n=1,2", "a/mine.py::Mine", {"n": ("1", "2")}),
        ("package.module:Mine", "package.module:Mine", {}),
        ("package.module:Mine:scale=0.5", "package.module:Mine", {"scale": ("0.5",)}),
        ("nested:outer=rloo:n=4,inner=disarm", "nested", {"outer": ("rloo:n=4",), "inner": ("disarm",)}),
        (
            "nested:outer=arm,rloo:n=4,inner=score-function:n=2:baseline=0.5",
            "nested",
            {"outer": ("arm", "rloo:n=4"), "inner": ("score-function:n=2:baseline=0.5",)},
        ),
    ],
)
def test_parse_reads_every_form_and_str_writes_it_back(text, name, params):
    selector = parse(text)
    assert selector == Selector(name, params)
    assert str(selector) == text


def test_a_table_holds_estimators_with_fields():
    table = {"name": "nested", "outer": ["rloo:n=4", "arm"]}
    assert str(from_table(table)) == "nested:outer=rloo:n=4,arm"


def test_parse_forgives_spaces():
    assert parse(" rloo: n = 2, 4 ") == parse("rloo:n=2,4")


@pytest.mark.parametrize("text", ["rloo:", "rloo:n", "rloo:n=", "rloo:4", "rloo:n=2,,4", "rloo:=2", "reinforce:n"])
def test_parse_refuses_a_malformed_selector_and_shows_a_good_one(text):
    with pytest.raises(UsageError, match="rloo:n=2,4"):
        parse(text)


def test_parse_refuses_an_empty_text_and_a_parameter_given_twice():
    with pytest.raises(UsageError, match="needs a name"):
        parse(":n=2")
    with pytest.raises(UsageError, match="gives n twice"):
        parse("rloo:n=2,n=4")


def test_a_table_is_a_selector_and_its_inner_lists_are_tuples():
    assert from_table({"name": "rloo", "n": [2, 4]}) == parse("rloo:n=2,4")
    assert from_table({"name": "x", "on": True, "power": 2.0}) == parse("x:on=true,power=2")
    assert from_table({"name": "x", "sizes": [[64, 32], [8]]}) == parse("x:sizes=64/32,8")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"n": 2}, "needs a name"),
        ({"name": "rloo:n=2", "n": 4}, "gives n twice"),
        ({"name": "rloo", "n": []}, "plain values for n"),
        ({"name": "rloo", "n": "1,2"}, "without commas"),
    ],
)
def test_a_malformed_table_is_refused(table, message):
    with pytest.raises(UsageError, match=message):
        from_table(table)


# labels


@pytest.mark.parametrize(
    ("instance", "expected"),
    [
        (RLOO(), "rloo"),
        (RLOO(n=4), "rloo:n=4"),
        (Nested(RLOO(n=4), ScoreFunction()), "nested:outer=rloo:n=4,inner=score-function"),
        (ScoreFunction(baseline="moving-average"), "score-function:baseline=moving-average"),
        (GumbelSoftmax(n=2, temperature=0.5), "gumbel-softmax:n=2,temperature=0.5"),
        (GaussianQuadratic(target=2.0), "gaussian-quadratic:target=2"),
        (GaussianQuadratic(target=1e-7, scale=1e20), "gaussian-quadratic:target=1e-07,scale=1e+20"),
    ],
)
def test_a_label_is_the_name_and_the_changed_fields_and_reads_back(instance, expected):
    kind = "objective" if isinstance(instance, GaussianQuadratic) else "estimator"
    assert label(instance) == expected
    assert one(expected, kind) == instance


@pytest.mark.parametrize("kind", ["estimator", "objective"])
def test_the_label_of_every_default_instance_is_its_catalogue_name(kind):
    assert [label(one(name, kind)) for name in names.catalogue(kind)] == list(names.catalogue(kind))


def test_many_selectors_cover_what_each_of_them_selects():
    params = ({}, {"n": 2}, {"n": 4}, {"n": 2, "mode": True}, {"n": 2.0, "mode": "TRUE"}, {"mode": (1, 2)}, {"n": None})
    records = [
        {"estimator": f"{name}-{i}", "estimator_name": name, "estimator_params": each}
        for name in ("rloo", "my-own")
        for i, each in enumerate(params)
    ]
    texts = ("rloo", "RLOO:n=2", "rloo:n=2.0", "rloo:n=2,mode=true", "rloo:mode=1/2", "m.py::MyOwn:n=none", "rloo:k=1")
    found = covering(texts, records, "estimator")
    for record in records:
        wanted = {text for text in texts if selects(text, record, "estimator")}
        assert set(found[record["estimator"]]) == wanted
        assert len(found[record["estimator"]]) == len(wanted)
    assert set().union(*found.values()) == {*texts} - {"rloo:k=1"}
