"""The digest of code: what changes it, and what does not."""

import importlib
import itertools
import sys
import types

import pytest

import estimators
from bench import objectives
from bench.planning.loading import expand
from bench.planning.selectors import parse
from bench.records.code import NOISE, code_digest

HELPERS = """
'''Helpers.'''
import math

LIMIT = 3

def draw(x):
    '''Draw.'''
    return math.sqrt(noise(x))  # a comment

def noise(x):
    return LIMIT * x

def unused(x):
    return x
"""
MINE = """
'''Mine.'''
from dataclasses import dataclass
import torch
from estimators._helpers import draw

@dataclass(frozen=True)
class Mine:
    '''An estimator.'''

    n: int = 1

    def __call__(self, x):
        return torch.sin(draw(x) + self.n)
"""
USER = """
import math
from dataclasses import dataclass
from estimators import RLOO, Estimator
from helper import factor

@dataclass(frozen=True)
class Mine(Estimator):
    '''Mine.'''
    n: int = 2
    def __call__(self, f, q, generator=None, state=None):
        return factor() * RLOO(n=self.n)(f, q, generator)
"""
HELPER = "def factor():\n    return 1\n\ndef other():\n    return 2\n"


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@pytest.fixture
def ours(tmp_path, monkeypatch):
    """Return the digest of ``Mine`` in a package ``estimators`` with these private modules."""
    numbers = itertools.count()

    def digest(mine=MINE, module="mine", **files):
        root = tmp_path / f"root{next(numbers)}"
        files = {"__init__": "", "_helpers": HELPERS, **files, module: mine}
        write(root / "estimators", {f"{name}.py": text for name, text in files.items()})
        monkeypatch.setattr("bench.records.code.ROOT", root)
        name = f"estimators.{module}"
        loaded = types.ModuleType(name)
        loaded.__file__ = str(root / "estimators" / f"{module}.py")
        monkeypatch.setitem(sys.modules, name, loaded)
        return code_digest(type("Mine", (), {"__module__": name})())

    return digest


@pytest.fixture
def users(tmp_path, monkeypatch):
    """Return the digest of a class in a folder with these files, beside ``mine.py`` and ``helper.py``."""
    numbers = itertools.count()

    def digest(mine=USER, files=(), where="mine.py::Mine"):
        folder = tmp_path / f"user{next(numbers)}"
        write(folder, {"mine.py": mine, "helper.py": HELPER} | dict(files))
        monkeypatch.chdir(folder)
        importlib.invalidate_caches()
        before = set(sys.modules)
        try:
            (instance,) = expand(parse(where), "estimator")
            return code_digest(instance)
        finally:
            for name in set(sys.modules) - before:
                del sys.modules[name]

    return digest


def test_docstrings_comments_and_formatting_do_not_count(ours, users):
    assert ours() == ours(MINE.replace("An estimator.", "Other words.").replace("'''Mine.'''", "# nothing"))
    assert ours() == ours(MINE.replace("torch.sin(draw(x) + self.n)", "(torch . sin(\n  (draw(x) + self.n), ))"))
    assert ours() == ours(_helpers=HELPERS.replace("'''Draw.'''", "").replace("# a comment", ""))
    assert ours() == ours(MINE.replace("import torch\n", "").replace("'''Mine.'''", "'''Mine.'''\nimport torch"))
    assert users() == users(
        USER.replace("    '''Mine.'''\n", "    # Mine\n\n"), {"helper.py": f"'''Helps.'''\n{HELPER}"}
    )
    assert users() == users(USER.replace("RLOO, Estimator", "Estimator, RLOO"))


def test_code_of_ours_counts_wherever_the_class_reaches_it(ours):
    assert ours() != ours(MINE.replace("torch.sin", "torch.cos"))
    assert ours() != ours(MINE.replace("n: int = 1", "n: int = 2"))
    assert ours() != ours(MINE.replace("frozen=True", "frozen=False"))
    assert ours() != ours(_helpers=HELPERS.replace("math.sqrt", "math.exp"))
    assert ours() != ours(_helpers=HELPERS.replace("LIMIT * x", "LIMIT + x")), "a helper's helper"
    assert ours() != ours(_helpers=HELPERS.replace("LIMIT = 3", "LIMIT = 4")), "a helper's constant"
    assert ours() != ours(_helpers=f"{HELPERS}\nLIMIT += 1"), "a second statement of a constant"
    assert ours() != ours(_helpers=f"{HELPERS}\ndraw.fast = True"), "a statement about a helper"
    assert ours() == ours(_helpers=HELPERS.replace("return x\n", "return 2 * x\n")), "unused"


def test_a_name_may_move_between_our_modules(ours):
    start = HELPERS.index("LIMIT = 3")
    moved = {
        "_draws": f"import math\nfrom estimators._noise import noise\n{HELPERS[start : HELPERS.index('def noise')]}",
        "_noise": f"LIMIT = 3\n{HELPERS[HELPERS.index('def noise') :]}",
    }
    assert ours() == ours(MINE.replace("_helpers", "_draws"), **moved)
    assert ours() == ours(_helpers="from estimators._draws import draw", **moved), "through another module"
    assert ours() == ours(_helpers="from ._draws import *", **moved)
    assert ours() == ours(module="other")
    qualified = MINE.replace("from estimators._helpers import draw", "{}").replace("draw(x)", "{}.draw(x)")
    assert (
        ours(qualified.format("from estimators import _helpers", "_helpers"))
        == ours(qualified.format("import estimators._draws", "estimators._draws"), **moved)
        == ours(qualified.format("import estimators._draws as d", "d"), **moved)
    )


def test_another_helper_of_the_same_name_counts(ours):
    other = {"_others": HELPERS.replace("math.sqrt", "math.exp")}
    assert ours(**other) == ours()
    assert ours(MINE.replace("_helpers", "_others"), **other) != ours()
    assert ours(MINE.replace("import draw", "import unused as draw")) != ours()
    renamed = "from estimators.{} import draw as one\nfrom estimators.{} import draw as draw"
    swapped = [renamed.format(*names) for names in (("_others", "_helpers"), ("_helpers", "_others"))]
    one, two = (MINE.replace("from estimators._helpers import draw", text) + "        one(x)\n" for text in swapped)
    assert ours(one, **other) != ours(two, **other)


@pytest.mark.parametrize("where", ["mine.py::Mine", "mine:Mine"])
def test_every_module_loaded_from_the_users_folder_counts(users, where):
    def digest(mine=USER, **files):
        return users(mine, {f"{name}.py": text for name, text in files.items()}, where)

    base = digest()
    assert digest(helper=HELPER.replace("return 1", "return 3")) != base
    assert digest(helper=HELPER.replace("return 2", "return 3")) != base, "all of the module"
    assert digest(unrelated="x = 1") == base
    assert digest(USER.replace("import factor", "import other as factor")) != base
    assert digest(USER.replace("import RLOO", "import ScoreFunction as RLOO")) != base
    assert digest(USER.replace("import math", "import cmath as math")) != base
    assert digest(USER.replace("helper", "second"), second=HELPER) == base
    assert digest(helper="from second import factor", second=HELPER) != digest(
        helper="from second import factor", second=f"{HELPER}\nx = 1"
    )


def test_relative_imports_are_followed_through_a_package(users):
    def digest(changed="", text=""):
        files = {
            "pkg/__init__.py": "",
            "pkg/estimator.py": USER.replace("from helper", "from .sub.helper"),
            "pkg/sub/__init__.py": "",
            "pkg/sub/helper.py": f"from .. import constants\n{HELPER}",
            "pkg/constants.py": "LIMIT = 3",
            "pkg/unrelated.py": "",
        }
        return users(files=files | {changed: files.get(changed, "") + text}, where="pkg.estimator:Mine")

    base = digest("pkg/unrelated.py", "x = 1")
    assert base == digest("helper.py", HELPER), "outside of the package"
    changed = [digest(f"pkg/{name}.py", "\nx = 1") for name in ("constants", "sub/helper", "sub/__init__", "__init__")]
    assert len({base, *changed}) == 5


def test_every_form_of_import_is_followed(users):
    forms = [
        "from helper import *",
        "import helper\nfactor = helper.factor",
        "import helper as h\nfactor = h.factor",
        "try:\n    from helper import factor\nexcept ImportError:\n    factor = None",
        "if True:\n    from helper import factor",
        "def factor():\n    import helper\n    return helper.factor()",
    ]
    for form in forms:
        text = USER.replace("from helper import factor", form)
        one, two = users(text), users(text, {"helper.py": HELPER.replace("return 1", "return 3")})
        assert one == users(text) != two, form


def test_modules_may_import_each_other(users):
    one, again, two = (
        users(files={"helper.py": f"import second\n{HELPER}", "second.py": f"import helper\nx = {x}"})
        for x in (1, 1, 2)
    )
    assert one == again != two


def test_code_that_cannot_be_read_never_raises(ours, users):
    broken = "try:\n    import broken\nexcept SyntaxError:\n    pass\n" + USER
    assert users(broken, {"broken.py": "1 +"}) != users(broken, {"broken.py": "2 +"})
    assert ours(_helpers="1 +") != ours()
    assert ours("x = 1") != ours()
    assert code_digest(type("Mine", (), {"__module__": "estimators.absent"})())
    console = code_digest(type("Mine", (), {"__module__": "not_loaded"})())
    assert console == code_digest(type("Mine", (), {"__module__": "builtins"})())


def test_a_digest_depends_on_the_classes_and_on_the_noise(monkeypatch):
    one = code_digest(estimators.RLOO(n=2), objectives.GaussianCosine())
    assert one == code_digest(estimators.RLOO(n=4), objectives.GaussianCosine()) != code_digest(estimators.RLOO())
    monkeypatch.setattr("bench.records.code.NOISE", NOISE + 1)
    assert one != code_digest(estimators.RLOO(n=2), objectives.GaussianCosine())


def test_no_two_classes_of_the_catalogue_share_a_digest():
    found = [code_digest(cls()) for one in (estimators, objectives) for cls in one.catalogue().values()]
    assert len(set(found)) == len(found)
