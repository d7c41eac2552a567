"""User's files: which helper an import statement means, in every place where it may stand."""

import os
import pickle
import py_compile
import subprocess
import sys
import textwrap

import pytest

from bench.planning.loading import load
from bench.planning.selectors import parse
from bench.records.code import code_digest

PLUGIN = """
from dataclasses import dataclass
from estimators import Estimator, ScoreFunction
{imports}

@dataclass(frozen=True)
class {name}(Estimator):
    def __call__(self, f, q, generator=None, state=None):
        return scale() * ScoreFunction()(f, q, generator)
"""
IMPORTS = [
    "import utils\ndef scale(): return utils.SCALE",
    "import utils as u\ndef scale(): return u.SCALE",
    "from utils import SCALE\ndef scale(): return SCALE",
    "from utils import *\ndef scale(): return SCALE",
    "from .utils import SCALE\ndef scale(): return SCALE",
    "from . import utils\ndef scale(): return utils.SCALE",
    "import tools.numbers\ndef scale(): return tools.numbers.SCALE",
    "import tools.numbers as t\ndef scale(): return t.SCALE",
    "from tools import numbers\ndef scale(): return numbers.SCALE",
    "import second\ndef scale(): return second.SCALE",
    "import data.numbers\ndef scale(): return data.numbers.SCALE",
    "import statistics\ndef scale(): return statistics.SCALE",
    "def scale():\n    import utils\n    return utils.SCALE",
    "def scale():\n    from tools.numbers import SCALE\n    return SCALE",
    "def scale(): return __import__('utils').SCALE",
    "import importlib\nm = importlib.import_module('utils')\ndef scale(): return m.SCALE",
    "import importlib, utils\nm = importlib.import_module('utils')\ndef scale(): return m.SCALE * (m is utils)",
    "import importlib\nm = importlib.import_module('tools.numbers')\ndef scale(): return m.SCALE",
    "import importlib\ndef scale(): return importlib.import_module('utils').SCALE",
    "from importlib import import_module\ndef scale(): return import_module('tools.numbers').SCALE",
    "import importlib.util\ndef scale():\n    assert importlib.util and importlib.import_module('json')\n"
    "    return importlib.import_module('.utils', __package__).SCALE",
    "import os, sys\nsys.path.insert(0, os.path.dirname(__file__) + '/lib')\nimport far\ndef scale(): return far.SCALE",
]


def write(folder, imports, scale, name):
    files = {
        "est.py": PLUGIN.format(imports=imports, name=name),
        "utils.py": f"SCALE = {scale}",
        "statistics.py": f"SCALE = {scale}",
        "second.py": "from utils import SCALE",
        "tools/__init__.py": "",
        "tools/numbers.py": f"SCALE = {scale}",
        "data/numbers.py": f"SCALE = {scale}",
        "lib/far.py": f"SCALE = {scale}",
    }
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(textwrap.dedent(text))


def scale(cls):
    return sys.modules[cls.__module__].scale()


@pytest.mark.parametrize("imports", IMPORTS)
def test_every_plugin_has_the_helpers_of_its_own_folder(tmp_path, imports):
    before, names = list(sys.path), set(sys.modules)
    write(tmp_path / "one", imports, 1, "First")
    write(tmp_path / "two", imports, 3, "Second")
    first, second = (
        load(parse(f"{tmp_path}/{place}"), "estimator") for place in ("one/est.py::First", "two/est.py::Second")
    )
    assert (scale(first), scale(second), scale(first)) == (1, 3, 1)
    assert sys.path == before
    assert not {"utils", "second", "tools", "data", "far"} & (set(sys.modules) - names)


def test_files_of_one_folder_share_their_modules(tmp_path):
    write(tmp_path, "import utils\ndef scale(): return utils", 1, "First")
    (tmp_path / "other.py").write_text("import est, utils\nfrom est import First\nassert First is est.First\n")
    first, again = (load(parse(f"{tmp_path}/{name}.py::First"), "estimator") for name in ("est", "other"))
    assert first is again
    assert pickle.loads(pickle.dumps(first())) == first()


def test_a_file_of_a_package_has_its_relatives_and_its_package(tmp_path):
    package = tmp_path / "pkg" / "deep"
    write(
        package, "from ..base import SCALE\nfrom pkg.base import SCALE as S\ndef scale(): return SCALE * S", 1, "Mine"
    )
    (tmp_path / "pkg" / "__init__.py").write_text("READY = True")
    (package / "__init__.py").write_text("from pkg import READY\n")
    (tmp_path / "pkg" / "base.py").write_text("SCALE = 3")
    assert scale(load(parse(f"{package}/est.py::Mine"), "estimator")) == 9


def test_a_file_of_a_package_may_import_the_files_beside_it(tmp_path):
    """A folder of scripts often has an empty ``__init__.py``. Its files hide nothing that is installed."""
    package = tmp_path / "scripts"
    write(package, "import random, torch, utils\ndef scale(): return utils.SCALE", 3, "Mine")
    for name in ("__init__", "random", "torch"):
        (package / f"{name}.py").write_text("")
    cls = load(parse(f"{package}/est.py::Mine"), "estimator")
    assert scale(cls) == 3
    assert sys.modules[cls.__module__].torch.tensor(1.0) == 1
    assert 0 <= sys.modules[cls.__module__].random.random() < 1
    before = code_digest(cls())
    (package / "utils.py").write_text("SCALE = 4")
    assert code_digest(type(cls.__name__, (cls,), {"__module__": cls.__module__})()) != before


@pytest.mark.parametrize("init", ["from pkg.base import setup\nsetup(3)", "import pkg.base as base\nbase.SCALE = 3"])
def test_a_package_that_imports_itself_has_its_modules_once(tmp_path, init):
    write(tmp_path / "pkg", "from pkg.base import get\ndef scale(): return get()", 1, "Mine")
    (tmp_path / "pkg" / "__init__.py").write_text(init)
    base = "SCALE = 1\ndef setup(s):\n    global SCALE\n    SCALE = s\ndef get(): return SCALE"
    (tmp_path / "pkg" / "base.py").write_text(base)
    assert scale(load(parse(f"{tmp_path}/pkg/est.py::Mine"), "estimator")) == 3


def test_a_name_of_a_file_may_be_that_of_a_package_it_imports(tmp_path):
    write(tmp_path, "def scale(): return 5", 1, "Mine")
    text = (tmp_path / "est.py").read_text()
    for name in ("estimators.py", "torch.py", "my-est.v2.py"):
        (tmp_path / name).write_text("import torch\nfrom bench import objectives\n" + text)
        assert scale(load(parse(f"{tmp_path}/{name}::Mine"), "estimator")) == 5


def test_the_standard_library_is_not_hidden_by_a_folder_without_modules(tmp_path):
    write(tmp_path, "import json, torch\ndef scale(): return json.loads('2') * torch.ones(())", 1, "Mine")
    (tmp_path / "torch").mkdir()
    (tmp_path / "json").mkdir()
    assert scale(load(parse(f"{tmp_path}/est.py::Mine"), "estimator")) == 2


def test_a_changed_helper_is_changed_code(tmp_path):
    """All are loaded in a process of their own after every change, as by another command."""
    selectors = ["est.py::Mine", "est:Mine", "pkg.est:Mine", "pkg/est.py::Mine"]

    def digests():
        code = (
            "from bench.planning.instances import expand; from bench.planning.selectors import parse;"
            "from bench.records.code import code_digest;"
            f"[print(code_digest(*expand(parse(selector), 'estimator'))) for selector in {selectors}]"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.split()

    write(tmp_path, "import utils\ndef scale(): return utils.SCALE", 1, "Mine")
    write(tmp_path / "pkg", "from pkg import utils\ndef scale(): return utils.SCALE", 1, "Mine")
    (tmp_path / "pkg" / "__init__.py").write_text("")
    before = digests()
    (tmp_path / "pkg" / "utils.py").write_text("SCALE = 3")
    now = digests()
    assert [a == b for a, b in zip(before, now, strict=True)] == [True, True, False, False]
    (tmp_path / "utils.py").write_text("SCALE = 3")
    (tmp_path / "pkg" / "utils.py").write_text("SCALE = 1")
    now = digests()
    assert [a == b for a, b in zip(before, now, strict=True)] == [False, False, True, True]


def test_the_digest_reads_the_file_of_the_class(tmp_path):
    digests = []
    for number in (1, 2):
        write(tmp_path / str(number), f"def scale(): return {number}", 1, "Mine")
        digests.append(code_digest(load(parse(f"{tmp_path}/{number}/est.py::Mine"), "estimator")()))
    assert len(set(digests)) == 2


def test_the_digest_is_of_the_code_that_was_loaded(tmp_path):
    """Another class of the file may be measured an hour later, when the file has been edited."""
    for folder in ("edited", "kept"):
        write(tmp_path / folder, "def scale(): return 1", 1, "Mine")
    edited, kept = (load(parse(f"{tmp_path}/{folder}/est.py::Mine"), "estimator") for folder in ("edited", "kept"))
    write(tmp_path / "edited", "def scale(): return 2", 1, "Mine")
    assert code_digest(edited()) == code_digest(kept())


@pytest.mark.parametrize("name", ["est", "utils"])
def test_a_compiled_file_of_other_code_with_the_same_time_and_size_is_not_used(tmp_path, name):
    write(tmp_path, "import utils\ndef scale(): return 1 * utils.SCALE", 1, "Mine")
    path = tmp_path / f"{name}.py"
    before, text = path.stat(), path.read_text()
    py_compile.compile(str(path))
    path.write_text(text.replace("1", "3", 1))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    found = load(parse(f"{path.parent}/est.py::Mine"), "estimator")
    assert sys.modules[found.__module__].scale() == 3
