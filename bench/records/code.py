"""A digest of the code behind a class: a cell whose code has changed is measured again, not looked up.

Docstrings, comments and formatting do not count. These do:

- the class and every definition of ``estimators`` and ``bench.objectives`` that it reaches, in whatever module;
- for a user's class, every module that its module loads from its folder or package, and what these modules import
  from ``estimators`` and ``bench.objectives``;
- the name of anything else that is imported.

The code is read, never run. A name counts as used wherever it appears, even if a local variable hides it.
"""

import ast
import functools
import itertools
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from bench.records.identity import canonical, digest

NOISE = 3
"""Version of the assignment of noise to replicates; a new one has every cell measured again."""
ROOT = Path(__file__).parents[2]
"""Folder that holds the packages ``bench`` and ``estimators``."""
OURS = ("bench", "estimators")
COUNTED = ("bench.objectives", "estimators")
"""Packages whose definitions count. The rest of ``bench`` measures cells; only the names imported from it count."""
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def code_digest(*instances: object) -> str:
    """Return a digest of the code of the instances' classes and of ``NOISE``, 16 hexadecimal digits."""
    return digest([*(_class_digest(type(instance)) for instance in instances), NOISE])  # type: ignore[arg-type]


@functools.cache
def _class_digest(cls: type) -> str:
    module = sys.modules.get(cls.__module__)
    file = getattr(module, "__file__", None)
    if module is None or file is None:
        return ""  # defined in a console, where there is no file
    if _is_ours(cls.__module__):
        return _Code().digest(_Ref(cls.__module__, cls.__qualname__.partition(".")[0]))
    name = getattr(module.__spec__, "name", cls.__module__)  # a module that runs as a script is called __main__
    return _Code(name, Path(file)).digest(_Ref(name))


class _Ref(NamedTuple):
    """A name of a module, or the whole module if ``name`` is empty."""

    module: str
    name: str = ""


_Imports = dict[str, set[_Ref]]
"""Local name -> what is imported under it; ``*`` -> the modules that are imported with a star."""


class _Unit(NamedTuple):
    """A top-level statement: a digest of its code, the names it uses, and the imports inside it."""

    code: str
    used: set[str]
    imports: _Imports


class _File(NamedTuple):
    """A source file: its statements, which of them define a name, and its imports."""

    units: list[_Unit]
    names: dict[str, list[_Unit]]
    imports: _Imports


class _Code:
    """The definitions and modules behind a class, as a graph of references.

    Args:
        module: name of the module of a user's class.
        path: file of that module.
    """

    def __init__(self, module: str = "", path: Path | None = None) -> None:
        self.paths: dict[str, Path | None] = {}
        self.root = self.scope = None
        if path is not None:
            depth = module.count(".") + (path.name == "__init__.py")
            self.paths[module] = path
            self.root = [*path.parents][: depth + 1][-1]
            alone = not depth and not {"site-packages", "dist-packages"}.isdisjoint(path.parts)
            self.scope = path if alone else self.root / module.partition(".")[0] if depth else self.root

    def digest(self, start: _Ref) -> str:
        """Return the digest of all that the start reaches."""
        codes: dict[_Ref, str] = {}
        links: dict[_Ref, set[tuple[str, _Ref | str]]] = {}
        todo = [start]
        while todo:
            node = todo.pop()
            if node not in codes:
                units = self.units(node)
                codes[node] = digest([unit.code for unit in units])
                links[node] = set(self.links(node, units))
                todo += [target for _, target in links[node] if isinstance(target, _Ref)]
        rows = (
            [codes[node], sorted([local, codes[to] if isinstance(to, _Ref) else to] for local, to in links[node])]
            for node in codes
        )
        return digest([codes[start], sorted({canonical(row) for row in rows})])

    def path(self, module: str) -> Path | None:
        """Return the file of a module that is ours or the user's; None for any other."""
        if module not in self.paths:
            ours = _is_ours(module)
            root = ROOT if ours else self.root
            path = _find(module, root) if root else None
            inside = path is not None and (ours or (self.scope is not None and path.is_relative_to(self.scope)))
            self.paths[module] = path if inside else None
        return self.paths[module]

    def file(self, module: str) -> _File | None:
        """Return what the file of a module that is ours or the user's holds; None for any other module."""
        if (path := self.path(module)) is None:
            return None
        try:
            state = path.stat()
        except OSError:
            return None
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        return _read(path, package, state.st_mtime_ns, state.st_size)

    def units(self, node: _Ref) -> list[_Unit]:
        """Return the statements of a reference."""
        file = self.file(node.module)
        return [] if file is None else file.names.get(node.name, []) if node.name else file.units

    def links(self, node: _Ref, units: Iterable[_Unit]) -> Iterator[tuple[str, _Ref | str]]:
        """Yield the local names that a reference uses, each with what it stands for."""
        file = self.file(node.module)
        if file is None:
            return
        imports = _merged([file.imports, *(unit.imports for unit in units)])
        for local in {name for unit in units for name in unit.used}.union(() if node.name else imports):
            for binding in imports.get(local, ()):
                for target in self.resolved(binding):
                    yield local, target
            if local in file.names:
                if node.name:
                    yield local, _Ref(node.module, local)
            elif local not in imports:
                for star in imports.get("*", ()):
                    yield from ((local, to) for to in self.resolved(_Ref(star.module, local)) if isinstance(to, _Ref))

    def resolved(self, binding: _Ref, seen: frozenset[_Ref] = frozenset()) -> Iterator[_Ref | str]:
        """Yield what an import binds: where it is defined, and its name if that counts too."""
        module, name = binding
        if not _is_ours(module):
            prefixes = itertools.accumulate(_join(module, name).split("."), _join)
            own = [_Ref(prefix) for prefix in prefixes if self.path(prefix)]
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


def _merged(parts: Iterable[_Imports]) -> _Imports:
    found: _Imports = defaultdict(set)
    for part in parts:
        for local, bindings in part.items():
            found[local] |= bindings
    return dict(found)


def _find(module: str, root: Path) -> Path | None:
    path = root.joinpath(*module.split("."))
    files = (path / "__init__.py", path.with_name(f"{path.name}.py"))
    return next((file for file in files if module and file.is_file()), None)


@functools.cache
def _read(path: Path, package: str, _changed: int, _size: int) -> _File:
    """Return what a source file holds; a file that cannot be parsed is one statement."""
    try:
        source = path.read_bytes()
    except OSError:
        source = b""
    try:
        return _parsed(ast.parse(source).body, package)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _File([_Unit(digest(source.hex()), set(), {})], {}, {})


def _parsed(body: list[ast.stmt], package: str) -> _File:
    inner = [_imports(statement, package) for statement in body]
    imports = _merged(
        found for statement, found in zip(body, inner, strict=True) if not isinstance(statement, Definition)
    )
    units, names = [], defaultdict[str, list[_Unit]](list)
    for statement, found in zip(body, inner, strict=True):
        binds = _binds(statement)
        reader = _Reader(_merged([imports, found]))
        if (stripped := reader.visit(statement)) is not None:
            local = found if isinstance(statement, Definition) else {}
            units.append(_Unit(digest(ast.unparse(stripped)), reader.used, _merged([local, reader.found])))
            for name in binds:
                names[name].append(units[-1])
    return _File(units, dict(names), imports)


def _binds(statement: ast.stmt) -> set[str]:
    """Return the names that a top-level statement defines; all that it mentions if it defines none."""
    if isinstance(statement, Definition):
        return {statement.name}
    names = [node for node in ast.walk(statement) if isinstance(node, ast.Name)]
    stored = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    defined = {node.name for node in ast.walk(statement) if isinstance(node, Definition)} | stored
    return {node.id for node in names} if isinstance(statement, ast.Expr) or not defined else defined


def _imports(statement: ast.stmt, package: str) -> _Imports:
    """Return what a statement imports, at any depth."""
    found: _Imports = defaultdict(set)
    for node in ast.walk(statement):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                found[alias.asname or top] |= {_Ref(alias.name)} if alias.asname else {_Ref(top), _Ref(alias.name)}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")
            base = ".".join(above[: len(above) + 1 - node.level]) if node.level else ""
            for alias in node.names:
                found[alias.asname or alias.name].add(_Ref(_join(base, node.module or ""), alias.name))
    return dict(found)


class _Reader(ast.NodeTransformer):
    """Take imports and docstrings out of a statement, and note the names that it uses.

    ``module.name`` becomes ``ours.name`` if the module is ours: it does not count where a name stands.
    """

    def __init__(self, imports: _Imports) -> None:
        self.imports = imports
        self.used: set[str] = set()
        self.found: _Imports = defaultdict(set)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if getattr(node, "body", None) == []:
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
        return node

    def visit_Import(self, _: ast.Import) -> None:
        return None

    def visit_ImportFrom(self, _: ast.ImportFrom) -> None:
        return None

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        self.used.add(node.id)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        module = self.module(node.value)
        if not module or self.module(node):
            return self.generic_visit(node)
        name = f"ours.{node.attr}"
        self.used.add(name)
        self.found[name].add(_Ref(module, node.attr))
        return ast.Name(name, node.ctx)

    def module(self, node: ast.expr) -> str:
        """Return the name of our module that an expression stands for, or nothing."""
        if isinstance(node, ast.Name):
            names = [_join(*binding) for binding in self.imports.get(node.id, ())]
        elif isinstance(node, ast.Attribute) and (owner := self.module(node.value)):
            names = [_join(owner, node.attr)]
        else:
            return ""
        return next((name for name in sorted(names) if _is_ours(name) and _find(name, ROOT)), "")
