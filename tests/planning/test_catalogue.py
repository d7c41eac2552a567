"""The generated catalogue: current, consistent, and readable without torch."""

import json

import pytest

from bench.planning import catalogue as names


def test_the_generated_file_is_current():
    text = names.FILE.read_text(encoding="utf-8")
    assert text == names.generate(), "the catalogue has changed: run `python -m bench.planning.catalogue`"


@pytest.mark.parametrize("kind", ["estimator", "objective"])
def test_names_and_aliases_are_distinct(kind):
    words = [*names.catalogue(kind)] + [alias for facts in names.catalogue(kind).values() for alias in facts["aliases"]]
    assert len(words) == len(set(words))


@pytest.mark.parametrize("kind", ["estimator", "objective"])
def test_every_entry_says_what_it_is_and_where_it_is_from(kind):
    for name, facts in names.catalogue(kind).items():
        assert facts["description"].endswith("."), name
        assert facts["reference"], name


def test_facts_of_a_known_entry():
    facts = names.catalogue("estimator")["gumbel-softmax"]
    assert facts["unbiased"] is False
    assert facts["families"] == ["Bernoulli", "OneHotCategorical"]
    assert facts["needs"] == ["df/dx", "relaxed f"]
    assert facts["fields"]["temperature"] == {
        "type": "float",
        "default": 1.0,
        "meaning": "temperature of the relaxation, positive",
        "choices": [],
    }
    assert names.aliases("estimator")["reinforce"] == "score-function"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("disarm", ["Bernoulli"]),
        ("gumbel-softmax", ["Bernoulli", "OneHotCategorical"]),
        ("doubly-reparameterized", ["reparameterized"]),
        ("vimco", ["any"]),
    ],
)
def test_the_families_that_an_estimator_serves_in_words(name, words):
    assert names.served(names.catalogue("estimator")[name]) == words


def test_the_file_is_strict_json():
    json.loads(names.FILE.read_text(encoding="utf-8"), parse_constant=pytest.fail)


@pytest.mark.parametrize(
    ("word", "hint"),
    [("rlo", " Did you mean 'rloo'?"), ("Score_Function", " Did you mean 'score-function'?"), ("zzz", "")],
)
def test_did_you_mean(word, hint):
    assert names.did_you_mean(word, ["rloo", "score-function"]) == hint
