"""Selectors to instances: grids, values of every type, and users' own classes."""

import itertools
import sys
import textwrap

import pytest

from bench.objectives import GaussianQuadratic
from bench.planning.catalogue import catalogue
from bench.planning.instances import expand
from bench.planning.selectors import UsageError, check_name, label, parse
from estimators import ScoreFunction
from tests.planning.instances import one

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


def test_a_selector_is_a_grid_whose_first_parameter_varies_slowest():
    assert expand(parse("gaussian-quadratic:dim=1,2,target=0,0.5"), "objective") == [
        GaussianQuadratic(dim=1),
        GaussianQuadratic(dim=1, target=0.5),
        GaussianQuadratic(dim=2),
        GaussianQuadratic(dim=2, target=0.5),
    ]


@pytest.mark.parametrize("name", ["reinforce", "score_function", "ScoreFunction", "Score-Function"])
def test_an_alias_or_the_name_of_a_class_is_its_class(name):
    assert one(f"{name}:n=3") == ScoreFunction(n=3)


def test_every_class_of_the_catalogue_can_be_typed_by_its_name():
    for kind in ("estimator", "objective"):
        for name, facts in catalogue(kind).items():
            for typed in (facts["class"].partition(":")[2], name.replace("-", "_"), *facts["aliases"]):
                assert check_name(parse(typed), kind) == parse(name)


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
def test_a_wrong_value_is_reported_with_the_expected_type(code, params, expected):
    with pytest.raises(UsageError, match=expected) as caught:
        one(f"{code(MINE)}Mine:{params}")
    assert f"got {params.partition('=')[2]!r}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("rlo", "estimator", "Unknown estimator 'rlo'. Did you mean 'rloo'?"),
        (
            "rloo,disarm",
            "estimator",
            "'rloo,disarm' is not one estimator. Repeat -e: -e rloo -e disarm.",
        ),
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
def test_an_unknown_name_or_parameter_is_one_sentence_with_a_hint(text, kind, message):
    with pytest.raises(UsageError) as caught:
        expand(parse(text), kind)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_label_of_every_type_of_field_reads_back(code):
    mine = code(MINE) + "Mine"
    params = "n=3,scale=0.1,on=true,word=b,mode=slow,sizes=3/4,pair=2/0.5,limit=7,baseline=moving"
    assert label(one(f"{mine}:{params}")) == f"mine:{params}"


# a user's own code


def test_a_users_class_can_be_named_by_module_and_import_files_beside_it(tmp_path, monkeypatch):
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
        (MINE, "Min", "it has no estimator 'Min'. Did you mean 'Mine'?"),
        (MINE.replace("frozen=True", ""), "Mine", "is not a frozen dataclass: put `@dataclass(frozen=True)` above"),
        ("class Mine(ScoreFunction): pass", "Mine", "is not a frozen dataclass: put"),
        (
            "@dataclass(frozen=True)\nclass Mine: pass",
            "Mine",
            "is not derived from estimators.Estimator: write `class Mine(Estimator):`. It does not define "
            "__call__, which returns the value: add `def __call__(self, f, q, generator=None, state=None):`. `bench",
        ),
        ("@dataclass(frozen=True)\nclass Mine(Estimator): pass", "Mine", "does not define __call__"),
        (MINE.replace("Mine", "RLOO"), "RLOO", "has the name of the catalogue's RLOO"),
        (MINE.replace("sizes: tuple[int, ...] = ()", "sizes: object = print"), "Mine", "needs plain values"),
        (MINE.replace("sizes: tuple[int, ...] = ()", "word: str = 'a\\x1b[31m'"), "Mine", "printable text"),
        ("1 +", "Mine", "cannot be loaded: SyntaxError: invalid syntax"),
        ("x = 1\ny = undefined", "Mine", "cannot be loaded: NameError: name 'undefined' is not defined (line 7)."),
    ],
)
def test_an_unusable_class_is_reported_in_one_sentence(code, text, cls, message):
    with pytest.raises(UsageError) as caught:
        one(code(text) + cls)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_and_modules_are_reported():
    with pytest.raises(UsageError, match=r"There is no file 'absent\.py'"):
        one("absent.py::Mine")
    with pytest.raises(UsageError, match="absent_module cannot be loaded: ModuleNotFoundError"):
        one("absent_module:Mine")


def test_a_users_objective_must_be_an_objective(code):
    with pytest.raises(UsageError, match=r"is an estimator, not an objective: give it with --estimator"):
        expand(parse(code(MINE) + "Mine"), "objective")


def test_all_that_is_wrong_with_the_class_of_an_objective_is_one_message(code):
    text = """
from bench.objectives import Objective
class Mine(Objective):
    reference_estimator = "reparameterization"
    has_exact = None
"""
    with pytest.raises(UsageError) as caught:
        expand(parse(code(text) + "Mine"), "objective")
    for fault in (
        "Mine is not a frozen dataclass: put `@dataclass(frozen=True)` above class Mine. It does not define build, "
        'which returns Problem(theta, q, integrand, exact): add `def build(self, dtype=torch.float32, device="cpu"):`.',
        "It does not declare family, a class of distributions: add `family = Bernoulli`. It does not declare dim, a "
        "whole number of at least 1: add `dim = 1`.",
        "It declares reference_estimator = 'reparameterization', which must be None or an instance of an estimator",
        "It declares has_exact = None, which must be True or False.",
    ):
        assert fault in str(caught.value)
    assert str(caught.value).endswith("`bench new objective FILE` writes a whole one.")


def test_a_class_that_is_no_objective_yet_gets_every_line_at_once(code):
    text = """
class Mine:
    family: type = None
    def build(self): pass
"""
    with pytest.raises(UsageError) as caught:
        expand(parse(code(text) + "Mine"), "objective")
    for line in (
        "class Mine(Objective):",
        "@dataclass(frozen=True)",
        "family = ...",
        'def build(self, dtype=torch.float32, device="cpu"):',
        "dim = 1",
    ):
        assert f"`{line}`" in str(caught.value)


def test_facts_that_only_an_instance_knows_are_no_fault_of_the_class(code):
    text = """
from dataclasses import dataclass
from bench.objectives import GaussianQuadratic
@dataclass(frozen=True)
class Mine(GaussianQuadratic):
    dim: int
    @property
    def family(self):
        return GaussianQuadratic.family
    def build(self, dtype=None, device="cpu"): ...
"""
    (instance,) = expand(parse(code(text) + "Mine:dim=3"), "objective")
    assert instance.dim == 3


def test_the_only_class_of_a_file_need_not_be_named(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(HEAD + MINE)
    for text in (f"{path}", f"{path}::", f"{path}:n=3", f"{path}::n=3", f"{path}:Mine:n=3", f"{path}::Mine:n=3"):
        selector = parse(text)
        assert parse(str(selector)) == selector
        assert one(text).n == (3 if "n=3" in text else 1)
    path = tmp_path / "two.py"
    path.write_text(HEAD + MINE + MINE.replace("Mine", "Other"))
    with pytest.raises(
        UsageError, match=r"two\.py defines the estimators Mine, Other\. Name one, as in .*two\.py::Mine"
    ):
        one(f"{path}")
    with pytest.raises(UsageError, match=r"two\.py defines no objective"):
        expand(parse(f"{path}"), "objective")
