"""The digest of code: what changes it, and what does not."""

import ast
import importlib
import itertools
import subprocess
import sys
import types
from collections import defaultdict
from pathlib import Path

import pytest

import estimators
from bench import objectives
from bench.planning.instances import expand
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
    assert users(f"{USER}def nothing():\n    '''Words.'''\n") == users(f"{USER}def nothing():\n    pass\n")


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
    assert ours() == ours(_helpers="from ._draws import draw", **moved)
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


FORMS = [
    "{}\n{}",
    "if __debug__:\n    {}\nelse:\n    {}",
    "try:\n    {}\nexcept ImportError:\n    {}",
    "def g():\n    {}\n    return f\ndef h():\n    {}\n    return f",
]


@pytest.mark.parametrize("form", [*FORMS, *(form.replace("{}", "{}  # all") for form in FORMS[:3])])
@pytest.mark.parametrize("own", [True, False])
def test_which_of_two_imports_binds_a_name_counts(users, form, own):
    def digest(names, one=1, two=2):
        text = form.format(*(f"from {name} import {'*' if '# all' in form else 'f'}" for name in names))
        files = {"one.py": f"f = {one}", "two.py": f"f = {two}"}
        if own:
            return users(f"{text}\n{USER}", files)
        return users(files=files | {"helper.py": f"{text}\n{HELPER}"})

    assert len({digest(("one", "two")), digest(("two", "one")), digest(("one", "two"), one=2, two=1)}) == 3


def test_an_import_before_a_definition_of_its_name_differs_from_one_after_it(users):
    files = {"one.py": "def factor():\n    return 3"}
    before, after = f"from one import factor\n{HELPER}", f"{HELPER}from one import factor\n"
    assert users(files={"helper.py": before} | files) != users(files={"helper.py": after} | files)


def test_twin_modules_with_other_neighbours_are_told_apart(users):
    def digest(left, right):
        twin = "from .limit import LIMIT\ndef f():\n    return LIMIT"
        files = {f"pkg/{side}/{name}.py": "" for side in ("left", "right") for name in ("__init__",)}
        files |= {f"pkg/{side}/twin.py": twin for side in ("left", "right")}
        files |= {"pkg/left/limit.py": f"LIMIT = {left}", "pkg/right/limit.py": f"LIMIT = {right}"}
        mine = (
            f"from .left.twin import f\nfrom .right.twin import f as g\n{USER.replace('from helper', 'from .helper')}"
        )
        return users(
            files=files | {"pkg/__init__.py": "", "pkg/mine.py": mine, "pkg/helper.py": HELPER}, where="pkg.mine:Mine"
        )

    assert len({digest(1, 2), digest(2, 1), digest(1, 1), digest(2, 2)}) == 4


def test_a_package_may_lie_in_a_folder_of_another_name(users):
    def digest(text="", helper=HELPER):
        extended = "from pathlib import Path\n__path__.append(str(Path(__file__).parents[1] / 'src'))\n"
        mine = USER.replace("from helper", "from .other")
        files = {"pkg/__init__.py": extended, "src/est.py": mine + text, "src/other.py": helper}
        return users(files=files, where="pkg.est:Mine")

    assert len({digest(), digest("x = 1\n"), digest(helper=HELPER.replace("return 1", "return 3"))}) == 3


def test_of_installed_packages_only_the_one_of_the_class_counts(users, monkeypatch, tmp_path):
    def digest(where, other, module="other"):
        folder = tmp_path / "site-packages"
        mine = USER.replace("from helper", f"from {module}")
        write(
            folder,
            {"pkg/__init__.py": "", "pkg/mine.py": mine, "pkg/other.py": other, "lone.py": mine, "other.py": other},
        )
        name, loaded = where.replace("/", "."), types.ModuleType(where)
        loaded.__file__ = str(folder / f"{where}.py")
        monkeypatch.setitem(sys.modules, name, loaded)
        return code_digest(type("Mine", (), {"__module__": name})())

    changed = HELPER.replace("return 1", "return 3")
    assert digest("lone", HELPER) == digest("lone", changed)
    assert digest("pkg/mine", HELPER) == digest("pkg/mine", changed)
    assert digest("pkg/mine", HELPER, ".other") != digest("pkg/mine", changed, ".other")


def test_a_module_that_runs_as_a_script_keeps_its_package(tmp_path):
    mine = USER.replace("from helper", "from .helper") + (
        "if __name__ == '__main__':\n"
        "    from bench.records.code import code_digest\n"
        "    from pkg.mine import Mine as Imported\n"
        "    assert Mine is not Imported\n"
        "    print(code_digest(Mine()) == code_digest(Imported()))\n"
    )
    write(tmp_path, {"pkg/__init__.py": "", "pkg/mine.py": mine, "pkg/helper.py": HELPER})
    done = subprocess.run([sys.executable, "-m", "pkg.mine"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_the_packages_of_a_module_count(users):
    def digest(text):
        mine = USER.replace("from helper import factor", "factor = int")
        return users(files={"pkg/__init__.py": text, "pkg/mine.py": mine}, where="pkg.mine:Mine")

    assert digest("x = 1") != digest("x = 2")


def test_modules_and_files_that_a_text_names_count(users):
    dynamic = USER.replace(
        "from helper import factor", "import importlib\nfactor = importlib.import_module('helper').factor"
    )
    assert users(dynamic) != users(dynamic, {"helper.py": HELPER.replace("return 1", "return 3")})
    reading = f"from pathlib import Path\nTABLE = Path(__file__).parent / 'data/table.csv'\n{USER}"
    found = [users(reading, {"data/table.csv": text} if text else {}) for text in ("1,2", "1,3", "")]
    assert len(set(found)) == 3
    parts = reading.replace("'data/table.csv'", "'data' / 'table.csv'")
    assert users(parts, {"data/table.csv": "1,2"}) != users(parts, {"data/table.csv": "1,3"})
    dotted = USER.replace("from helper", "from .helper").replace("import math", "import importlib\nimport math")
    dotted += "\nimportlib.import_module('.other', __package__)\n"
    package = {"pkg/__init__.py": "", "pkg/mine.py": dotted, "pkg/helper.py": HELPER}
    one, two = (users(files=package | {"pkg/other.py": f"x = {x}"}, where="pkg.mine:Mine") for x in (1, 2))
    assert one != two
    assert found[0] == users(reading, {"data/table.csv": "1,2", "data/other.csv": "5"})
    odd = f"ODD = '', '.', 'data', '/dev/zero', 'a\\0b', '{'x' * 5000}', 'no.such', 'estimators'\n{USER}"
    assert users(odd) == users(odd)


def test_twins_among_our_modules_are_told_apart(ours):
    def digest(first, second):
        files = {"_a": f"LIMIT = {first}", "_b": f"LIMIT = {second}"}
        files |= {f"_twin{one}": f"from estimators.{one} import LIMIT\ndef f():\n    return LIMIT" for one in files}
        imports = "from estimators._twin_a import f\nfrom estimators._twin_b import f as g\n"
        return ours(imports + MINE.replace("draw(x)", "draw(x) + f() + g()"), **files)

    assert len({digest(1, 2), digest(2, 1), digest(1, 1), digest(2, 2)}) == 4


def test_what_a_star_takes_from_our_packages_counts(users, monkeypatch, tmp_path):
    def digest(value):
        text = f"def RLOO():\n    return {value}\ndef unused():\n    return 1"
        write(tmp_path / "root/estimators", {"__init__.py": text})
        monkeypatch.setattr("bench.records.code.ROOT", tmp_path / "root")
        return users("from estimators import *\n" + USER.replace("RLOO, ", ""))

    assert digest(1) != digest(2)


def test_a_file_that_a_field_names_counts(users):
    field = USER.replace("    n: int = 2\n", "    n: int = 2\n    table: str = 'none'\n")
    where = "mine.py::Mine:table=values.txt"
    one, two, again = (users(field, {"values.txt": text}, where) for text in ("1", "2", "1"))
    assert one == again != two


def test_a_statement_that_fills_a_table_of_ours_counts(ours):
    keep = "def keep(f):\n    TABLE[f.__name__] = f\n    return f"
    table = f"TABLE = {{{{}}}}\n{keep}\n{{}}\ndef draw(x):\n    return TABLE, keep"
    forms = [
        "for i in range({}):\n    TABLE[i] = i",
        "TABLE['one'] = {}",
        "TABLE.update(one={})",
        "@keep\ndef one():\n    return {}",
        "if True:\n    TABLE['one'] = {}",
        "if True:\n    def keep():\n        return {}",
    ]
    for form in forms:
        one, two = (ours(_helpers=table.format(form.format(value))) for value in (1, 2))
        assert one != two, form


def test_our_modules_import_each_name_from_one_place():
    for package in (estimators, objectives):
        folder = Path(package.__file__).parent
        for path in folder.rglob("*.py"):
            found = defaultdict(set)
            for node in ast.walk(ast.parse(path.read_bytes())):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    for alias in node.names:
                        found[alias.asname or alias.name].add((getattr(node, "module", ""), alias.name))
            ambiguous = [name for name, origins in found.items() if len(origins) > 1 or name == "*"]
            assert not ambiguous, f"{path} imports {ambiguous} from several places: the digest of code takes no order"


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


def test_a_folder_that_the_users_file_adds_to_the_path_counts(users):
    mine = "import sys\nfrom pathlib import Path\nsys.path.append(str(Path(__file__).parent / 'lib'))\n"
    mine += USER.replace("from helper", "from inside")
    one, two = (users(mine, {"lib/inside.py": HELPER.replace("return 1", f"return {x}")}) for x in (1, 3))
    assert one != two
