"""A digest of the code behind a class: a cell whose code has changed is measured again, not looked up.

Docstrings, comments, formatting and the version of Python do not count. These do:

- the class and every definition of ``estimators`` and ``bench.objectives`` that it reaches, in any module;
- for a user's class, its module and every module of its folder or package that is imported from there;
- the files that a text in one of these modules names, as ``folder / "data" / "table.csv"`` does. They are looked for in
  the folder of the module, in its parent, in the working folder, and in folders that other texts name;
- the files that a field of a user's instance names;
- the name of anything else that is imported.

The code is read, never run. A name counts as used wherever it appears, even if a local variable hides it.
"""

import ast
import contextlib
import functools
import hashlib
import itertools
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NamedTuple

from bench.records.identity import digest

NOISE = 3
"""Version of the assignment of noise to replicates. After a change of version, every cell is measured again."""
ROOT = Path(__file__).parents[2]
"""Folder that holds the packages ``bench`` and ``estimators``."""
OURS, COUNTED = ("bench", "estimators"), ("bench.objectives", "estimators")
"""This project's packages; those whose definitions count. Of the project's other modules, only imported names count."""
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def code_digest(*instances: object) -> str:
    """Return a digest, 16 hexadecimal digits, of all the code that a measurement with these instances depends on.

    The instances are an estimator, an objective or both. The digest changes in three cases:

    - the code of the classes, or code that they use, has changed;
    - a user's instance has a field that names a file, as in ``table="values.csv"``, and the content of the file has
      changed;
    - this project has changed how it derives the seeds of draws (batches of replicates).
    """
    files = [content for each in instances if not _is_ours(type(each).__module__) for content in _field_files(each)]
    classes = [class_digest(type(each)) for each in instances]  # type: ignore[arg-type]
    return _joined(*classes, NOISE, *files)


@functools.cache
def _joined(*parts: str | int) -> str:
    return digest(parts)


def _field_files(instance: object) -> list[str]:
    """Return digests of the files that an instance's fields name, in the folder of its class or the working folder."""
    file = getattr(sys.modules.get(type(instance).__module__), "__file__", None)
    folders = [Path.cwd(), *([Path(file).parent] if file else [])]
    texts = (
        [value for value in vars(instance).values() if isinstance(value, str)] if hasattr(instance, "__dict__") else []
    )
    return [content for text in texts for folder in folders if (content := _content(folder, text))]


@functools.cache
def class_digest(cls: type) -> str:
    """Return a digest of the code that a class depends on; empty if no file holds the class, as in a console.

    This code is the class itself and the code that it uses, in this project and in the user's files. The digest is
    computed once in a process. Ask for it as soon as the class is loaded, because the file may be edited while the
    program runs.
    """
    module = sys.modules.get(cls.__module__)
    file = getattr(module, "__file__", None)
    if module is None or file is None:
        return ""  # defined in a console, where there is no file
    name = getattr(module.__spec__, "name", cls.__module__)  # a module that runs as a script is called __main__
    folder, name = re.fullmatch(r"(?s)(_bench_user_\w+)?\.?(.*)", name).groups("")  # type: ignore[union-attr]
    code = _Code(name, Path(file), folder)
    return code.digest(_Ref(name, cls.__qualname__.partition(".")[0] if _is_ours(name) else ""))


class _Ref(NamedTuple):
    """A name of a module, or the whole module if ``name`` is empty."""

    module: str
    name: str = ""


_Link = tuple[str, _Ref | str]
"""What something is called where it is used; what it is: code that counts, or else a text."""


class _Unit(NamedTuple):
    """A top-level statement: a digest of its code, and the names it uses."""

    code: str
    used: set[str]


class _File(NamedTuple):
    """A source file: its statements, which of them are about a name, what is imported under a name, and its texts."""

    units: list[_Unit]
    names: dict[str, list[_Unit]]
    imports: dict[str, set[_Ref]]
    texts: set[str]


class _Code:
    """The definitions and modules behind a class, as a graph of references.

    Args:
        module: name of the module of the class.
        path: file of that module.
        folder: name of the package that holds a user's folder (``bench.planning.plugins``); empty without one.
    """

    def __init__(self, module: str, path: Path, folder: str = "") -> None:
        self.module, self.path, self.folder = module, path, folder
        self.files: dict[str, _File | None] = {}
        self.paths: dict[str, Path] = {}
        self.root = [*path.parents][: module.count(".") + (path.name == "__init__.py") + 1][-1]
        self.installed = not {"site-packages", "dist-packages"}.isdisjoint(path.parts)

    def digest(self, start: _Ref) -> str:
        """Return the digest of all that the start reaches.

        Each reference is numbered by its code, then by its number and the numbers of what it uses, and so on until
        no two references with one number differ.
        """
        numbers: dict[_Ref, str] = {}
        links: dict[_Ref, set[_Link]] = {}
        pending = [start]
        while pending:
            if (node := pending.pop()) not in numbers:
                file = self.file(node.module) or _File([], {}, {}, set())
                units = file.names.get(node.name, []) if node.name else file.units
                numbers[node] = digest([unit.code for unit in units])
                links[node] = set(self.links(node, file, units) if node.name else self.module_links(node.module, file))
                pending += [target for _, target in links[node] if isinstance(target, _Ref)]
        while True:
            finer = {
                node: digest(
                    [numbers[node], sorted([name, numbers[to] if isinstance(to, _Ref) else to] for name, to in uses)]
                )
                for node, uses in links.items()
            }
            if len({*finer.values()}) == len({*numbers.values()}):
                return digest([finer[start], sorted({*finer.values()})])
            numbers = finer

    def links(self, node: _Ref, file: _File, units: Iterable[_Unit]) -> Iterator[_Link]:
        """Yield what the statements about a name of ours use."""
        for local in {name for unit in units for name in unit.used}:
            for binding in file.imports.get(local, ()):
                yield from ((local, target) for target in self.resolved(binding))
            if local in file.names:
                yield local, _Ref(node.module, local)

    def module_links(self, module: str, file: _File) -> Iterator[_Link]:
        """Yield what a user's module imports, and the files that it names."""
        used = {name for unit in file.units for name in unit.used}
        packages = {_Ref(module.rpartition(".")[0])} if "." in module else set()  # loaded before the module
        for binding in packages.union(*file.imports.values()):
            for name in used if binding.name == "*" and _is_ours(binding.module) else {binding.name}:
                yield from ((_join(*binding), target) for target in self.resolved(_Ref(binding.module, name)))
        package = module if self.paths[module].name == "__init__.py" else module.rpartition(".")[0]
        for text in file.texts:
            name = _join(package, text.lstrip(".")) if text.startswith(".") else text
            if name and all(part.isidentifier() for part in name.split(".")):
                yield from ((text, target) for target in self.resolved(_Ref(name)) if isinstance(target, _Ref))
        folder = self.paths[module].parent
        folders = [folder, folder.parent, Path.cwd()]
        folders += [
            inside for text in sorted(file.texts) for inside in (folder / text, Path(text)) if _is_folder(inside)
        ]
        for text in file.texts:
            for number, place in enumerate(folders):
                if content := _content(place, text):
                    yield f"{number} {text}", content

    def file(self, module: str) -> _File | None:
        """Return what the file of a module that is ours or the user's holds; None for any other module."""
        if module not in self.files:
            path = (
                self.path if module == self.module else _find(module, ROOT) if _is_ours(module) else self.found(module)
            )
            if path is not None:
                self.paths[module] = path
            self.files[module] = _read(path, module) if path else None
        return self.files[module]

    def found(self, module: str) -> Path | None:
        """Return the file of a user's module; None if it is in another place, as an installed package is."""
        if self.installed and module.partition(".")[0] != self.module.partition(".")[0]:
            return None
        spec = PathFinder.find_spec(module, self.folders(module.rpartition(".")[0]))
        return Path(spec.origin) if spec and spec.has_location and spec.origin else None

    def folders(self, package: str) -> list[str]:
        """Return the folders that hold a package's modules; without a name, those in which the user's imports start."""
        loaded = sys.modules.get(_join(self.folder, package))
        found = None
        if loaded and (not package or self.module.startswith(f"{package}.")):
            found = [*loaded.__path__]  # perhaps folders of other names, or several
        if not package:
            return [*(found or [str(self.root)]), str(self.path.parent)]
        if found:
            return found
        spec = PathFinder.find_spec(package, self.folders(package.rpartition(".")[0]))
        return [*((spec and spec.submodule_search_locations) or ())]

    def resolved(self, binding: _Ref) -> Iterator[_Ref | str]:
        """Yield what an import binds: where it is defined, and its name if that counts too."""
        module, name = binding
        if not _is_ours(module):
            prefixes = itertools.accumulate(_join(module, name).split("."), _join)
            own = [_Ref(prefix) for prefix in prefixes if prefix and self.file(prefix)]
            yield from own
            yield name if own else _join(module, name)
            return
        file = self.file(module) if any(f"{module}.".startswith(f"{package}.") for package in COUNTED) else None
        if file is None or not name:
            yield name or module.rpartition(".")[2]
        elif name in file.names:
            yield binding
        elif name in file.imports:
            for further in file.imports[name] - {binding}:
                yield from self.resolved(further)
        else:
            yield name


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in OURS


def _join(module: str, name: str) -> str:
    return f"{module}.{name}".strip(".")


def _find(module: str, root: Path) -> Path | None:
    path = root.joinpath(*module.split("."))
    files = (path / "__init__.py", path.with_name(f"{path.name}.py"))
    return next((file for file in files if module and file.is_file()), None)


def _is_folder(path: Path) -> bool:
    """Return whether a text that may be anything names a folder, and not the folder that it is looked up in."""
    try:
        return path.name not in ("", "..") and path.is_dir()
    except (OSError, ValueError):
        return False


def _content(folder: Path, name: str) -> str:
    """Return a digest of a file, or nothing if there is none of this name in the folder."""
    try:
        with (folder / name).open("rb") if (folder / name).is_file() else contextlib.nullcontext() as file:
            return hashlib.file_digest(file, "sha256").hexdigest() if file else ""
    except (OSError, ValueError):
        return ""


def _read(path: Path, module: str) -> _File | None:
    try:
        source = path.read_bytes()
    except OSError:
        return None
    return _parsed(source, module if path.name == "__init__.py" else module.rpartition(".")[0], _is_ours(module), ROOT)


@functools.cache
def _parsed(source: bytes, package: str, ours: bool, root: Path) -> _File:
    """Return what a source file holds; a file that cannot be parsed is one statement."""
    units, names = [], defaultdict[str, list[_Unit]](list)
    try:
        tree = ast.parse(source)
        imports = _imports(tree, package)
        texts = {
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        top = {node.name for node in tree.body if isinstance(node, Definition)}
        for statement in tree.body:
            about, reader = _about(statement, top), _Reader(imports, ours, root)
            if (stripped := reader.visit(statement)) is not None:
                units.append(_Unit(digest(_plain(stripped)), reader.used))
                for name in about:
                    names[name].append(units[-1])
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _File([_Unit(digest(source.hex()), set())], {}, {}, set())
    return _File(units, names, imports, texts)


def _about(statement: ast.stmt, top: set[str]) -> set[str]:
    """Return the names that a top-level statement defines or changes.

    A definition is also about the functions of its module that decorate it: they may keep it in a table.
    """
    nodes: Iterable[ast.AST] = [statement]
    if isinstance(statement, Definition):
        decorators = {
            node.id for one in statement.decorator_list for node in ast.walk(one) if isinstance(node, ast.Name)
        }
        return {statement.name} | (decorators & top)
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        nodes = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    inner = [node for one in nodes for node in ast.walk(one)]
    return {node.id for node in inner if isinstance(node, ast.Name)} | {
        n.name for n in inner if isinstance(n, Definition)
    }


def _imports(tree: ast.Module, package: str) -> dict[str, set[_Ref]]:
    """Return what a module imports, at any depth: local name -> what is imported under it."""
    found = defaultdict[str, set[_Ref]](set)
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
    """Take out of a statement what does not count, and note the names that it uses.

    In our modules, the module that holds a name does not count: imports go, and ``module.name`` becomes ``ours.name``.
    In a user's module, imports stay: their order and conditions decide what a name stands for.
    """

    def __init__(self, imports: dict[str, set[_Ref]], ours: bool, root: Path) -> None:
        self.imports, self.ours, self.root = imports, ours, root
        self.used: set[str] = set()

    def visit(self, node: ast.AST) -> ast.AST | None:
        """Return what is left of a node; None for a docstring, ``pass`` or an import that does not count."""
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if docstring or isinstance(node, ast.Pass):
            return None
        if isinstance(node, ast.Import | ast.ImportFrom):
            node.names.sort(key=lambda alias: alias.asname or alias.name)
            return None if self.ours else node
        if isinstance(node, ast.Attribute) and (module := self.module(node.value)) and not self.module(node):
            name = f"ours.{node.attr}"
            self.imports.setdefault(name, set()).add(_Ref(module, node.attr))
            self.used.add(name)
            if self.ours:
                return ast.Name(name, node.ctx)
        if isinstance(node, ast.Name):
            self.used.add(node.id)
        return self.generic_visit(node)

    def module(self, node: ast.expr) -> str:
        """Return the name of our module that an expression stands for, or nothing."""
        if isinstance(node, ast.Name):
            names = [_join(*binding) for binding in self.imports.get(node.id, ())]
        elif isinstance(node, ast.Attribute) and (owner := self.module(node.value)):
            names = [_join(owner, node.attr)]
        else:
            return ""
        return next((name for name in sorted(names) if _is_ours(name) and _find(name, self.root)), "")


def _plain(node: object) -> object:
    """Return a syntax tree as nested lists, equal for every version of Python."""
    if isinstance(node, ast.AST):
        fields = [[name, _plain(value)] for name, value in ast.iter_fields(node) if name != "kind"]
        return [type(node).__name__, [[name, value] for name, value in fields if value not in ("", [])]]
    if isinstance(node, list):
        return [_plain(one) for one in node]
    return "" if node is None else [type(node).__name__, node if isinstance(node, str) else repr(node)]
