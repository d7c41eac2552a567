import json

import pytest

from bench.planning import catalogue as names


@pytest.mark.parametrize("kind", ["estimator", "objective"])
def test_one_line_each(call, kind):
    lines = call("list", f"{kind}s").out.splitlines()
    assert [line.split()[0] for line in lines] == list(names.catalogue(kind))


def test_without_a_word_both_are_listed(call):
    assert call("list").out == call("list", "estimators").out + call("list", "objectives").out


def test_lines_say_the_facts(call):
    lines = {line.split()[0]: line for line in call("list").out.splitlines()}
    assert "biased, Bernoulli/OneHotCategorical, needs df/dx and relaxed f" in lines["gumbel-softmax"]
    assert "n=1,temperature=1.0" in lines["gumbel-softmax"]
    assert "unbiased, any family" in lines["score-function"]
    for name in ("reparameterization", "sticking-the-landing", "doubly-reparameterized"):
        assert "unbiased, reparameterized family, needs df/dx" in lines[name]
    assert "Also: reinforce." in lines["score-function"]
    assert " exact, " in lines["enumeration"]
    assert "Normal, dim 10 " in lines["gaussian-quadratic"]


def test_json_is_the_catalogue(call):
    assert json.loads(call("list", "--json").out) == json.loads(names.FILE.read_text(encoding="utf-8"))
    assert json.loads(call("list", "objectives", "--json").out) == {"objectives": names.catalogue("objective")}


def test_a_wrong_kind_is_a_usage_error(call):
    result = call("list", "estimator")
    assert (result.code, result.out) == (2, "")
    assert "estimators" in result.err
