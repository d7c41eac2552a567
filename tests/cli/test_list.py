import json
import re
import textwrap

import pytest

from bench.planning import catalogue as names
from bench.planning.cells import mismatch
from bench.planning.instances import expand
from bench.planning.selectors import parse
from estimators import Bound


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
    assert "gumbel-softmax:n=1,temperature=1  Bernoulli, OneHotCategorical; needs df/dx" in lines["gumbel-softmax"]
    assert "any family" in lines["score-function"]
    for name in ("reparameterization", "sticking-the-landing", "doubly-reparameterized"):
        assert "reparameterized family; needs df/dx" in lines[name]
    assert "Also: reinforce." in lines["score-function"]
    assert "; exact" in lines["enumeration"]
    assert "  gaussian-quadratic:dim=10," in lines["gaussian-quadratic"]


def test_a_family_selects_what_serves_it(call):
    found = entries(call("list", "--for", "categorical").out)
    assert {"arsm", "enumeration", "rloo", "score-function"} < set(found)
    assert not {"disarm", "reparameterization", "gaussian-quadratic", "gumbel-softmax"} & set(found)
    wrong = call("list", "--for", "Bernouli")
    assert (wrong.code, "Did you mean 'Bernoulli'?" in wrong.err) == (2, True)


def test_a_family_selects_the_objectives_of_its_subclasses(call):
    assert {"corridor", "random-walk", "sigmoid-belief-network"} < set(entries(call("list", "--for", "Chain").out))


def test_parameters_that_are_given_are_checked_and_their_facts_are_said(call):
    said = call("list", "grpo:n=4,normalise=false,true").out
    assert "As given: grpo:n=4,normalise=false: its expected gradient is 0.75 times the exact one\n" in said
    assert "As given: grpo:n=4\n" in said
    wrong = call("list", "grpo:m=3")
    assert (wrong.code, "grpo has no parameter 'm'" in wrong.err) == (2, True)


def test_groups_are_kinds_of_method(call):
    groups = dict(re.findall(r"(?m)^(\S.*)\n((?:  .*\n)+)", call("list", "estimators").out))
    titles = {title: set(entries(text)) for title, text in groups.items()}
    assert titles["Estimators. Exact, without noise"] == {"enumeration"}
    assert "rloo" in titles["Estimators. Unbiased, and f may be a black box"]
    assert "reparameterization" in titles["Estimators. Unbiased, with the gradient of f"]
    assert "gumbel-softmax" in titles["Estimators. Biased, with the gradient of f"]
    assert titles["Estimators. Biased, and f may be a black box"] == {"spsa", "evolution-strategies", "grpo"}


def test_facts_select(call):
    known = names.catalogue("estimator")
    unbiased = {name for name, facts in known.items() if facts["unbiased"]}
    black_box = {name for name, facts in known.items() if "df/dx" not in facts["needs"]}
    assert set(entries(call("list", "--unbiased").out)) == unbiased
    assert set(entries(call("list", "estimators", "--black-box").out)) == black_box
    both = call("list", "--unbiased", "--black-box", "--family", "one_hot-categorical").out
    assert both == call("list", "estimators", "--black-box", "--unbiased", "--for", "OneHotCategorical").out
    assert {"rloo", "carms"} < set(entries(both)) < unbiased & black_box
    assert call("list", "objectives", "--for", "Weibull").out == "Nothing fits.\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["rloo", "--unbiased"], "--unbiased narrows a list of estimators"),
        (["objectives", "--black-box"], "--black-box narrows a list of estimators"),
        (["rloo", "--for", "Normal"], "--for narrows a list"),
    ],
)
def test_what_cannot_be_narrowed_is_said(call, words, says):
    done = call("list", *words)
    assert (done.code, done.out, says in done.err) == (2, "", True)


@pytest.mark.parametrize("width", [20, 40, 79, 200])
def test_no_word_is_cut_off_at_any_width(call, monkeypatch, width):
    whole = call("list").out.split()
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("bench.cli.list.sys.stdout.isatty", lambda: True, raising=False)
    lines = call("list").out.splitlines()
    assert " ".join(lines).split() == whole
    assert all(len(line) <= width or len(line.split()) == 1 for line in lines if line.startswith(" "))


@pytest.mark.parametrize("name", ["rloo", "RLOO", "rloo:n=4"])
def test_one_name_is_explained(call, name):
    text = call("list", name).out
    formula, facts = "g = (1/n) sum_k", ("\n  n = 2   number of samples", "Cost: n evaluations", "Reference:")
    for part in (formula, *facts, "from estimators import RLOO"):
        assert part in text


def test_parameters_aliases_and_sources_are_told(call):
    text = call("list", "Gumbel_Softmax").out
    assert "\n  temperature = 1   temperature of the relaxation, positive\n" in text
    assert "\nAlso called: concrete\n" in text
    assert "\nReference: Jang" in text
    assert text.startswith(
        "  gumbel-softmax:n=1,temperature=1  Bernoulli, OneHotCategorical; needs df/dx and relaxed f\n"
    )
    assert json.loads(call("list", "concrete", "--json").out) == {
        "estimators": {"gumbel-softmax": names.catalogue("estimator")["gumbel-softmax"]}
    }


@pytest.mark.parametrize("name", sorted(names.catalogue("estimator")))
def test_the_code_to_paste_runs(call, name):
    """The command names an objective that the estimator fits, and the lines of Python make a loss and its gradient."""
    text = call("list", name).out
    found = re.search(rf"\n  bench run -e {name} -o (\S+)\n", text)
    (objective,), (estimator,) = expand(parse(found[1]), "objective"), expand(parse(name), "estimator")
    assert mismatch(estimator, objective) is None
    problem = objective.build()
    q = problem.q(problem.theta)
    f = problem.integrand(q)
    code = textwrap.dedent(text.partition("In Python:\n")[2])
    space = {"q": q, "f": f}
    exec(re.sub(r"Bound\(log_joint, q\)", "f", code) if isinstance(f, Bound) else code, space)
    assert space["value"].shape == q.batch_shape


def test_the_code_to_paste_for_an_objective_measures_it(call):
    text = call("list", "random_walk").out
    assert "\n  bench run -o random-walk -e rloo:n=4\n" in text
    *imports, last = textwrap.dedent(text.partition("In Python:\n")[2]).strip().splitlines()
    space = {}
    exec("\n".join(imports), space)
    assert eval(last.removeprefix("measure(RLOO(n=4), ").removesuffix(")"), space) == space["objectives"].RandomWalk()


def test_every_entry_can_be_explained_and_ones_own_too(call, tmp_path):
    for kind in ("estimator", "objective"):
        for name in names.catalogue(kind):
            assert f" {name} " in call("list", name).out
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\nfrom bench.objectives import GaussianQuadratic\n"
        "@dataclass(frozen=True)\nclass Mine(GaussianQuadratic):\n    '''My own words.'''\n"
    )
    for text in ("mine.py", "./mine.py::Mine"):
        out = call("list", text).out
        assert "My own words." in out
        assert f"bench run -o {text} -e rloo:n=4" in out


def test_json_is_the_catalogue(call):
    assert json.loads(call("list", "--json").out) == json.loads(names.FILE.read_text(encoding="utf-8"))
    assert json.loads(call("list", "objectives", "--json").out) == {"objectives": names.catalogue("objective")}


def test_a_wrong_name_is_a_usage_error(call):
    result = call("list", "rlo")
    assert (result.code, result.out) == (2, "")
    assert "Did you mean 'rloo'?" in result.err
