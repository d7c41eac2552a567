import itertools
import sys
import textwrap

import pytest

from bench.objectives import GaussianQuadratic
from bench.planning import catalogue as names
from bench.planning.loading import expand
from bench.planning.selectors import Selector, UsageError, from_table, label, parse
from estimators import RLOO, GumbelSoftmax, ScoreFunction

HEAD = """
from __future__ import annotations
from dataclasses import dataclass
from typing import Literal
from estimators import Estimator, ScoreFunction
"""

MINE = """
@dataclass(frozen=True)
class Mine(Estimator):
    n: int = 1
    scale: float = 1.0
    on: bool = False
    word: str = "a"
    mode: Literal["fast", "slow"] = "fast"
    sizes: tuple[int, ...] = ()
    pair: tuple[int, float] = (1, 1.0)
    limit: int | None = None
    baseline: float | str = 0.0

    def __call__(self, f, q, generator=None, state=None):
        return ScoreFunction(n=self.n)(f, q, generator)
"""


@pytest.fixture
def code(tmp_path):
    """Write a user's file and return the beginning of a selector for it."""
    numbers = itertools.count()

    def write(text):
        path = tmp_path / f"mine{next(numbers)}.py"
        path.write_text(HEAD + textwrap.dedent(text))
        return f"{path}::"

    return write


def one(text, kind="estimator"):
    (instance,) = expand(parse(text), kind)
    return instance


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
    ],
)
def test_parse_reads_every_form_and_str_writes_it_back(text, name, params):
    selector = parse(text)
    assert selector == Selector(name, params)
    assert str(selector) == text


def test_parse_forgives_spaces():
    assert parse(" rloo: n = 2, 4 ") == parse("rloo:n=2,4")


@pytest.mark.parametrize("text", ["rloo:", "rloo:n", "rloo:n=", "rloo:4", "rloo:n=2,,4", "rloo:=2", "reinforce:n"])
def test_parse_refuses_what_is_no_selector_and_shows_one(text):
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
def test_a_table_that_is_no_selector_is_refused(table, message):
    with pytest.raises(UsageError, match=message):
        from_table(table)


# selector to instances


def test_a_selector_is_a_grid_whose_first_parameter_varies_slowest():
    assert expand(parse("gaussian-quadratic:dim=1,2,target=0,0.5"), "objective") == [
        GaussianQuadratic(dim=1),
        GaussianQuadratic(dim=1, target=0.5),
        GaussianQuadratic(dim=2),
        GaussianQuadratic(dim=2, target=0.5),
    ]


def test_an_alias_is_its_class():
    assert one("reinforce:n=3") == ScoreFunction(n=3)


def test_values_are_read_by_the_types_of_the_fields(code):
    mine = code(MINE) + "Mine"
    fields = vars(one(f"{mine}:n=3,scale=2,on=true,word=b,mode=slow,sizes=3/4,pair=2/0.5,limit=none,baseline=moving"))
    assert fields == {
        "n": 3,
        "scale": 2.0,
        "on": True,
        "word": "b",
        "mode": "slow",
        "sizes": (3, 4),
        "pair": (2, 0.5),
        "limit": None,
        "baseline": "moving",
    }
    assert type(fields["scale"]) is float
    assert type(one(f"{mine}:baseline=4").baseline) is float
    assert one(f"{mine}:limit=4").limit == 4


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ("n=two", "n needs a whole number"),
        ("n=2.0", "n needs a whole number"),
        ("scale=nan", "scale needs a finite number"),
        ("scale=inf", "scale needs a finite number"),
        ("scale=x", "scale needs a finite number"),
        ("on=1", "on needs true or false"),
        ("mode=medium", "mode needs fast or slow"),
        ("sizes=3/x", "sizes needs values joined by '/', each a whole number"),
        ("pair=1", "pair needs values joined by '/'"),
        ("limit=some", "limit needs a whole number or none"),
    ],
)
def test_a_value_of_the_wrong_type_is_told_with_what_was_expected_and_what_came(code, params, expected):
    with pytest.raises(UsageError, match=expected) as caught:
        one(f"{code(MINE)}Mine:{params}")
    assert f"got {params.partition('=')[2]!r}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("rlo", "estimator", "Unknown estimator 'rlo'. Did you mean 'rloo'?"),
        ("RLOO", "estimator", "Unknown estimator 'RLOO'. Did you mean 'rloo'?"),
        ("score_function", "estimator", "Unknown estimator 'score_function'. Did you mean 'score-function'?"),
        ("reinforc", "estimator", "Unknown estimator 'reinforc'. Did you mean 'reinforce'?"),
        ("xyz", "objective", "Unknown objective 'xyz'. See `bench list objectives`."),
        ("rloo", "objective", "'rloo' is an estimator, not an objective: give it with --estimator."),
        (
            "gaussian-cosine",
            "estimator",
            "'gaussian-cosine' is an objective, not an estimator: give it with --objective.",
        ),
        (
            "gaussian-quadratic:dm=2",
            "objective",
            "gaussian-quadratic has no parameter 'dm' (it has dim, target, mean, scale).",
        ),
        ("rloo:n=1", "estimator", "rloo: RLOO needs n >= 2"),
        ("gumbel-softmax:temperature=-1", "estimator", "gumbel-softmax: GumbelSoftmax needs temperature > 0"),
    ],
)
def test_what_does_not_exist_is_one_sentence_with_a_way_on(text, kind, message):
    with pytest.raises(UsageError) as caught:
        expand(parse(text), kind)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


# labels


@pytest.mark.parametrize(
    ("instance", "expected"),
    [
        (RLOO(), "rloo"),
        (RLOO(n=4), "rloo:n=4"),
        (ScoreFunction(baseline="moving-average"), "score-function:baseline=moving-average"),
        (GumbelSoftmax(n=2, temperature=0.5), "gumbel-softmax:n=2,temperature=0.5"),
        (GaussianQuadratic(target=2.0), "gaussian-quadratic:target=2"),
        (GaussianQuadratic(target=1e-7, scale=1e20), "gaussian-quadratic:target=1e-07,scale=1e+20"),
    ],
)
def test_a_label_is_the_name_and_what_differs_from_the_defaults_and_reads_back(instance, expected):
    kind = "objective" if isinstance(instance, GaussianQuadratic) else "estimator"
    assert label(instance) == expected
    assert one(expected, kind) == instance


@pytest.mark.parametrize("kind", ["estimator", "objective"])
def test_the_label_of_every_default_instance_is_its_catalogue_name(kind):
    assert [label(one(name, kind)) for name in names.catalogue(kind)] == list(names.catalogue(kind))


def test_a_label_of_every_type_of_field_reads_back(code):
    mine = code(MINE) + "Mine"
    params = "n=3,scale=0.1,on=true,word=b,mode=slow,sizes=3/4,pair=2/0.5,limit=7,baseline=moving"
    assert label(one(f"{mine}:{params}")) == f"mine:{params}"


# a user's own code


def test_a_users_class_can_be_named_by_module_and_use_what_lies_beside_it(tmp_path, monkeypatch):
    (tmp_path / "own_helper.py").write_text("N = 3\n")
    (tmp_path / "own_module.py").write_text(
        HEAD + "from own_helper import N\n" + MINE.replace("n: int = 1", "n: int = N")
    )
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    try:
        assert one("own_module:Mine").n == 3
        assert one("own_module.py::Mine:scale=2") == one(f"{tmp_path}/own_module.py::Mine:scale=2")
    finally:
        sys.modules.pop("own_module", None)
        sys.modules.pop("own_helper", None)
    assert sys.path == before


@pytest.mark.parametrize(
    ("text", "cls", "message"),
    [
        (MINE, "Min", "there is no class 'Min'. Did you mean 'Mine'?"),
        (MINE.replace("frozen=True", ""), "Mine", "is not a frozen dataclass. Put @dataclass(frozen=True) above Mine."),
        ("class Mine(ScoreFunction): pass", "Mine", "is not a frozen dataclass."),
        (
            "@dataclass(frozen=True)\nclass Mine: pass",
            "Mine",
            "is not an estimator. Derive Mine from estimators.Estimator.",
        ),
        ("@dataclass(frozen=True)\nclass Mine(Estimator): pass", "Mine", "does not define __call__"),
        (MINE.replace("Mine", "RLOO"), "RLOO", "has the name of the catalogue's RLOO"),
        (MINE.replace("sizes: tuple[int, ...] = ()", "sizes: object = print"), "Mine", "needs plain values"),
        ("1 +", "Mine", "cannot be loaded: SyntaxError: invalid syntax"),
        ("x = 1\ny = undefined", "Mine", "cannot be loaded: NameError: name 'undefined' is not defined (line 7)."),
    ],
)
def test_a_users_class_that_cannot_be_used_is_told_in_one_sentence(code, text, cls, message):
    with pytest.raises(UsageError) as caught:
        one(code(text) + cls)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_and_modules_that_do_not_exist_are_told():
    with pytest.raises(UsageError, match=r"There is no file 'absent\.py'"):
        one("absent.py::Mine")
    with pytest.raises(UsageError, match="absent_module cannot be loaded: ModuleNotFoundError"):
        one("absent_module:Mine")


def test_a_users_objective_must_be_an_objective(code):
    with pytest.raises(UsageError, match=r"is not an objective\. Derive Mine from bench\.objectives\.Objective"):
        expand(parse(code(MINE) + "Mine"), "objective")
