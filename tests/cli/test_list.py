import json
import re

import pytest

from bench.planning import catalogue as names


def entries(text):
    """Return the two lines of every entry by name."""
    lines = text.splitlines()
    heads = [i for i, line in enumerate(lines) if line.startswith("  ") and not line.startswith("   ")]
    return {re.split(r"[:\s]", lines[i].strip())[0]: f"{lines[i]}\n{lines[i + 1]}" for i in heads}


@pytest.mark.parametrize("kind", ["estimator", "objective"])
def test_two_lines_each_in_groups_sorted_by_name(call, kind):
    text = call("list", f"{kind}s").out
    assert set(entries(text)) == set(names.catalogue(kind))
    groups = re.split(r"(?m)^(?=\S)", text)[1:]
    assert len(groups) > 1
    for group in groups:
        found = list(entries(group))
        assert found == sorted(found)
    assert call("list", kind).out == text, "one of them is enough"


def test_without_a_word_both_are_listed(call):
    assert call("list").out == call("list", "estimators").out + call("list", "objectives").out


def test_lines_say_the_facts(call):
    lines = entries(call("list").out)
    assert "gumbel-softmax:n=1,temperature=1  Bernoulli/OneHotCategorical, needs df/dx" in lines["gumbel-softmax"]
    assert "any family" in lines["score-function"]
    for name in ("reparameterization", "sticking-the-landing", "doubly-reparameterized"):
        assert "reparameterized family, needs df/dx" in lines[name]
    assert "Also: reinforce." in lines["score-function"]
    assert ", exact" in lines["enumeration"]
    assert "  gaussian-quadratic:dim=10," in lines["gaussian-quadratic"]


def test_a_family_selects_what_serves_it(call):
    found = entries(call("list", "--for", "categorical").out)
    assert {"arsm", "enumeration", "rloo", "score-function"} < set(found)
    assert not {"disarm", "reparameterization", "gaussian-quadratic", "gumbel-softmax"} & set(found)
    wrong = call("list", "--for", "Bernouli")
    assert (wrong.code, "Did you mean 'Bernoulli'?" in wrong.err) == (2, True)


@pytest.mark.parametrize("name", ["rloo", "RLOO", "rloo:n=4"])
def test_one_name_is_explained(call, name):
    text = call("list", name).out
    formula, facts = "g = (1/n) sum_k", ("n: number of samples", "Cost: n evaluations", "Reference:")
    for part in (formula, *facts, "from estimators import RLOO"):
        assert part in text


def test_every_entry_can_be_explained_and_ones_own_too(call, tmp_path):
    for kind in ("estimator", "objective"):
        for name in names.catalogue(kind):
            assert f" {name}\n" in call("list", name).out
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\nfrom bench.objectives import GaussianQuadratic\n"
        "@dataclass(frozen=True)\nclass Mine(GaussianQuadratic):\n    '''My own words.'''\n"
    )
    assert "My own words." in call("list", "mine.py").out


def test_json_is_the_catalogue(call):
    assert json.loads(call("list", "--json").out) == json.loads(names.FILE.read_text(encoding="utf-8"))
    assert json.loads(call("list", "objectives", "--json").out) == {"objectives": names.catalogue("objective")}


def test_a_wrong_name_is_a_usage_error(call):
    result = call("list", "rlo")
    assert (result.code, result.out) == (2, "")
    assert "Did you mean 'rloo'?" in result.err
