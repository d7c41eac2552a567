"""Labels for people: n always, and every field in which the records differ."""

from bench.records.labels import labelled, spelled, value_text


def record(estimator, params, objective="gaussian-quadratic", **dim):
    name = estimator.partition(":")[0]
    return {
        "estimator": estimator,
        "estimator_name": name,
        "estimator_params": params,
        "objective": objective,
        "objective_name": objective.partition(":")[0],
        "objective_params": {"dim": 10, "scale": 1.0} | dim,
    }


def labels(*records):
    return [(shown["estimator"], shown["objective"]) for shown in labelled(records)]


def test_n_is_always_shown_and_other_defaults_are_not():
    assert labels(record("score-function", {"n": 1, "baseline": 0.0})) == [("score-function:n=1", "gaussian-quadratic")]
    assert labels(record("score-function:baseline=0.5", {"n": 1, "baseline": 0.5})) == [
        ("score-function:n=1,baseline=0.5", "gaussian-quadratic")
    ]
    assert labels(record("enumeration", {})) == [("enumeration", "gaussian-quadratic")]


def test_a_field_that_varies_is_shown_where_it_has_its_default_too():
    one = record("gumbel-softmax", {"temperature": 1.0})
    two = record("gumbel-softmax:temperature=0.5", {"temperature": 0.5}, "gaussian-quadratic:dim=1", dim=1)
    assert labels(one, two) == [
        ("gumbel-softmax:temperature=1", "gaussian-quadratic:dim=10"),
        ("gumbel-softmax:temperature=0.5", "gaussian-quadratic:dim=1"),
    ]
    assert labels(one) == [("gumbel-softmax", "gaussian-quadratic")]


def test_labels_of_labelled_records_are_the_same():
    records = [record("rloo", {"n": 2}), record("rloo:n=8", {"n": 8})]
    assert labelled(labelled(records)) == labelled(records)
    assert records[0]["estimator"] == "rloo", "the records are not changed"


def test_a_record_of_an_objective_alone_has_no_estimator():
    alone = {k: v for k, v in record("rloo", {"n": 2}).items() if not k.startswith("estimator")}
    first, second = labelled([alone, record("rloo", {"n": 2})])
    assert "estimator" not in first
    assert second["estimator"] == "rloo:n=2"


def test_values_as_text():
    assert spelled("x", {"a": 2.0, "b": True, "c": (1, 2), "d": None, "e": 0.1}) == "x:a=2,b=true,c=1/2,d=none,e=0.1"
    assert value_text("y") == "y"
