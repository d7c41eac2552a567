"""The house rules that no linter knows: private names stay at home, in the tests too."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("bench", "estimators", "tests", "docs")


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def trespasses(tree: ast.AST, module: str) -> Iterator[str]:
    """Yield the imports of a private name of another module, and of a private module of another package."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom | ast.Import):
            continue
        source = getattr(node, "module", None) or ""
        for alias in node.names:
            full = f"{source}.{alias.name}".strip(".")
            if full.partition(".")[0] not in ("bench", "estimators", "tests"):
                continue
            *folders, last = full.split(".")
            private = next((i for i, part in enumerate([*folders, last]) if is_private(part)), None)
            if private is None:
                continue
            home = ".".join([*folders, last][:private])
            is_module = ROOT.joinpath(*home.split("."), f"{[*folders, last][private]}.py").exists()
            if not (is_module and f"{module}.".startswith(f"{home}.")):
                yield full


@pytest.mark.parametrize(
    ("source", "module", "found"),
    [
        ("from estimators._rows import one", "estimators.rloo", []),
        ("from estimators._rows import one", "bench.api", ["estimators._rows.one"]),
        ("from estimators import _rows", "tests.test_docs", ["estimators._rows"]),
        ("import estimators._rows", "bench.api", ["estimators._rows"]),
        ("from bench.stats.bias import _hall", "bench.stats.against", ["bench.stats.bias._hall"]),
        ("def f():\n    from bench.stats.bias import _hall", "bench.stats.total", ["bench.stats.bias._hall"]),
        ("from numpy import _core", "bench.api", []),
        ("from bench.stats.bias import verdict, __doc__", "bench.api", []),
    ],
)
def test_a_trespass_is_seen(source, module, found):
    assert list(trespasses(ast.parse(source), module)) == found


def test_private_names_stay_at_home():
    found = {}
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            names = list(trespasses(ast.parse(path.read_text(encoding="utf-8")), module_of(path)))
            if names:
                found[str(path.relative_to(ROOT))] = names
    assert found == {}


def test_commands_print_through_one_module():
    calls = re.compile(r"\bclick\.(secho|echo)\(|\bConsole\(|(?<!\.)\bprint\(")
    found = [
        f"{path.name}: {line.strip()}"
        for path in (ROOT / "bench" / "cli").glob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if calls.search(line) and path.name != "terminal.py" and "on_terminals" not in line
    ]
    assert found == [], "bench.cli.terminal keeps control characters of others from the terminal: use echo or console"


def test_the_contract_names_every_private_module():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (protected,) = (c["protected_modules"] for c in contracts if c["type"] == "protected")
    assert sorted(protected) == sorted(
        f"estimators.{path.stem}" for path in (ROOT / "estimators").glob("_*.py") if path.stem != "__init__"
    )
