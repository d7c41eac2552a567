"""A digest of the code behind a class: a cell whose code has changed is measured again, not looked up.

Docstrings, comments and formatting do not count. These do:

- the class and every definition of ``estimators`` and ``bench.objectives`` that it reaches, in any module;
- for a user's class, every module that its module loads from its folder or package, and what these modules import
  from ``estimators`` and ``bench.objectives``;
- the name of anything else that is imported.

The code is read, never run. A name counts as used wherever it appears, even if a local variable hides it.
"""

import ast
import functools
import itertools
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from bench.records.identity import canonical, digest

NOISE = 3
"""Version of the assignment of noise to replicates. After a change of version, every cell is measured again."""
ROOT = Path(__file__).parents[2]
"""Folder that holds the packages ``bench`` and ``estimators``."""
OURS, COUNTED = ("bench", "estimators"), ("bench.objectives", "estimators")
"""This project's packages; those whose definitions count. Of the project's other modules, only imported names count."""
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def code_digest(*instances: object) -> str:
    """Return a digest, 16 hexadecimal digits, of the version ``NOISE`` and the code behind the instances' classes."""
    return digest([*(_class_digest(type(instance)) for instance in instances), NOISE])  # type: ignore[arg-type]


@functools.cache
def _class_digest(cls: type) -> str:
    module = sys.modules.get(cls.__module__)
    file = getattr(module, "__file__", None)
    if module is None or file is None:
        return ""  # defined in a console, where there is no file
    name = getattr(module.__spec__, "name", cls.__module__)  # a module that runs as a script is called __main__
    name = re.sub(r"^_bench_user_\w+\.", "", name)  # the package that a user's folder becomes (bench.planning.plugins)
    return _Code(name, Path(file)).digest(_Ref(name, cls.__qualname__.partition(".")[0] if _is_ours(name) else ""))


class _Ref(NamedTuple):
    """A name of a module, or the whole module if ``name`` is empty."""

    module: str
    name: str = ""


_Imports = dict[str, set[_Ref]]
"""Local name -> what is imported under it; ``*`` -> the modules that are imported with a star."""


class _Unit(NamedTuple):
    """A top-level statement: a digest of its code, and the names it uses."""

    code: str
    used: set[str]


class _File(NamedTuple):
    """A source file: its statements, which of them define a name, and its imports."""

    units: list[_Unit]
    names: dict[str, list[_Unit]]
    imports: _Imports


class _Code:
    """The definitions and modules behind a class, as a graph of references.

    Args:
        module: name of the module of the class.
        path: file of that module.
    """

    def __init__(self, module: str, path: Path) -> None:
        self.module, self.path = module, path
        self.files: dict[str, _File | None] = {}
        depth = module.count(".") + (path.name == "__init__.py")
        self.root = [*path.parents][: depth + 1][-1]
        alone = not depth and not {"site-packages", "dist-packages"}.isdisjoint(path.parts)
        self.scope = path if alone else self.root / module.partition(".")[0] if depth else self.root

    def digest(self, start: _Ref) -> str:
        """Return the digest of all that the start reaches."""
        codes: dict[_Ref, str] = {}
        links: dict[_Ref, set[tuple[str, _Ref | str]]] = {}
        todo = [start]
        while todo:
            if (node := todo.pop()) not in codes:
                file = self.file(node.module) or _File([], {}, {})
                units = file.names.get(node.name, []) if node.name else file.units
                codes[node] = digest([unit.code for unit in units])
                links[node] = set(self.links(node, file, units))
                todo += [target for _, target in links[node] if isinstance(target, _Ref)]
        rows = (
            [codes[node], sorted([local, codes[to] if isinstance(to, _Ref) else to] for local, to in links[node])]
            for node in codes
        )
        return digest([codes[start], sorted({canonical(row) for row in rows})])

    def file(self, module: str) -> _File | None:
        """Return what the file of a module that is ours or the user's holds; None for any other module."""
        if module not in self.files:
            root, scope = (ROOT, ROOT) if _is_ours(module) else (self.root, self.scope)
            path = self.path if module == self.module else _find(module, root)
            self.files[module] = _read(path, module) if path and path.is_relative_to(scope) else None
        return self.files[module]

    def links(self, node: _Ref, file: _File, units: Iterable[_Unit]) -> Iterator[tuple[str, _Ref | str]]:
        """Yield the local names that the statements of a reference use, each with what it stands for."""
        for local in {name for unit in units for name in unit.used}.union(() if node.name else file.imports):
            for binding in file.imports.get(local, ()):
                yield from ((local, target) for target in self.resolved(binding))
            if local in file.names:
                if node.name:
                    yield local, _Ref(node.module, local)
            elif local not in file.imports:
                for star in file.imports.get("*", ()):
                    yield from ((local, to) for to in self.resolved(_Ref(star.module, local)) if isinstance(to, _Ref))

    def resolved(self, binding: _Ref, seen: frozenset[_Ref] = frozenset()) -> Iterator[_Ref | str]:
        """Yield what an import binds: where it is defined, and its name if that counts too."""
        module, name = binding
        if not _is_ours(module):
            prefixes = itertools.accumulate(_join(module, name).split("."), _join)
            own = [_Ref(prefix) for prefix in prefixes if self.file(prefix)]
            yield from own
            yield name if own else _join(module, name)
            return
        file = self.file(module) if any(f"{module}.".startswith(f"{package}.") for package in COUNTED) else None
        if file is None or not name:
            yield name or module.rpartition(".")[2]
        elif name in file.names:
            yield binding
        else:
            stars = {_Ref(star.module, name) for star in file.imports.get("*", ())}
            through = (file.imports.get(name, set()) or stars) - seen
            for further in through:
                yield from self.resolved(further, seen | through)
            if not through:
                yield name


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in OURS


def _join(module: str, name: str) -> str:
    return f"{module}.{name}".strip(".")


def _find(module: str, root: Path) -> Path | None:
    path = root.joinpath(*module.split("."))
    files = (path / "__init__.py", path.with_name(f"{path.name}.py"))
    return next((file for file in files if module and file.is_file()), None)


def _read(path: Path, module: str) -> _File | None:
    try:
        return _parsed(path.read_bytes(), module if path.name == "__init__.py" else module.rpartition(".")[0], ROOT)
    except OSError:
        return None


@functools.cache
def _parsed(source: bytes, package: str, root: Path) -> _File:
    """Return what a source file holds; a file that cannot be parsed is one statement."""
    units, names = [], defaultdict[str, list[_Unit]](list)
    try:
        tree = ast.parse(source)
        imports = _imports(tree, package)
        for statement in tree.body:
            binds, reader = _binds(statement), _Reader(imports, root)
            if (stripped := reader.visit(statement)) is not None:
                units.append(_Unit(digest(ast.unparse(stripped)), reader.used))
                for name in binds:
                    names[name].append(units[-1])
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _File([_Unit(digest(source.hex()), set())], {}, {})
    return _File(units, names, imports)


def _binds(statement: ast.stmt) -> set[str]:
    """Return the names that a top-level statement defines; all that it mentions if it defines none."""
    if isinstance(statement, Definition):
        return {statement.name}
    names = [node for node in ast.walk(statement) if isinstance(node, ast.Name)]
    stored = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    defined = {node.name for node in ast.walk(statement) if isinstance(node, Definition)} | stored
    return {node.id for node in names} if isinstance(statement, ast.Expr) or not defined else defined


def _imports(tree: ast.Module, package: str) -> _Imports:
    """Return what a module imports, at any depth."""
    found: _Imports = defaultdict(set)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                found[alias.asname or top] |= {_Ref(alias.name)} if alias.asname else {_Ref(top), _Ref(alias.name)}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")
            base = ".".join(above[: len(above) + 1 - node.level]) if node.level else ""
            for alias in node.names:
                found[alias.asname or alias.name].add(_Ref(_join(base, node.module or ""), alias.name))
    return found


class _Reader(ast.NodeTransformer):
    """Take imports and docstrings out of a statement, and note the names that it uses.

    If a module is ours, ``module.name`` becomes ``ours.name``, imported under that name: its module does not count.
    """

    def __init__(self, imports: _Imports, root: Path) -> None:
        self.imports, self.root = imports, root
        self.used: set[str] = set()

    def visit(self, node: ast.AST) -> ast.AST | None:
        """Return what is left of a node; None for an import or a docstring."""
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if docstring or isinstance(node, ast.Import | ast.ImportFrom):
            return None
        if isinstance(node, ast.Attribute) and (module := self.module(node.value)) and not self.module(node):
            name = f"ours.{node.attr}"
            self.imports.setdefault(name, set()).add(_Ref(module, node.attr))
            node = ast.Name(name, node.ctx)
        if isinstance(node, ast.Name):
            self.used.add(node.id)
        self.generic_visit(node)
        if getattr(node, "body", None) == []:
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
        return node

    def module(self, node: ast.expr) -> str:
        """Return the name of our module that an expression stands for, or nothing."""
        if isinstance(node, ast.Name):
            names = [_join(*binding) for binding in self.imports.get(node.id, ())]
        elif isinstance(node, ast.Attribute) and (owner := self.module(node.value)):
            names = [_join(owner, node.attr)]
        else:
            return ""
        return next((name for name in sorted(names) if _is_ours(name) and _find(name, self.root)), "")
