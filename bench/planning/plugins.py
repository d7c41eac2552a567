"""Loading of a user's files. Files of different folders are kept apart, so that each imports the helpers beside it.

Every folder becomes a package with a name of its own, such as ``_bench_user_1a2b3c``. In its files, ``import utils``
means ``_bench_user_1a2b3c.utils`` if the folder has a module ``utils``, whenever the statement is executed. Under its
bare name, Python would find the helper of the folder that was loaded first, for all later folders too.
"""

import builtins
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

PREFIX = "_bench_user_"
"""Start of the name of every folder's package."""
ALLOWED = ContextVar("ALLOWED", default=True)
"""Whether files and modules of users may be imported."""
OURS = ("bench", "estimators")
"""Packages that are imported even if a file beside the user's file has the same name."""


class _Folder(MetaPathFinder):
    """A folder of user's files, as a package.

    Args:
        root: the folder; absolute imports in its files start here.
    """

    def __init__(self, root: Path) -> None:
        self.package = f"{PREFIX}{hashlib.sha256(str(root).encode()).hexdigest()[:12]}"
        self.path = [str(root)]
        self.named: dict[str, Path] = {}
        self.builtins = {**vars(builtins), "__import__": self._import}
        self._outside: list[str] | None = None
        self._importlib = ModuleType("importlib")

    def load(self, name: str, file: Path | None = None) -> ModuleType:
        """Return the module with this name in the folder, imported once; ``file`` names its file beyond doubt."""
        full = f"{self.package}.{name}"
        if file is not None:
            self.named[full] = file
        self._outside, known = [*sys.path], {*sys.modules}
        sys.meta_path.append(self)
        try:
            return importlib.import_module(full)
        finally:
            sys.path[:] = self._outside  # what a file has added holds for its own folder alone
            self._outside = None
            sys.meta_path.remove(self)
            new = {*sys.modules} - known
            bare = {name for name in new if getattr(sys.modules[name], "__name__", "") == f"{self.package}.{name}"}
            for name in new:
                if name.partition(".")[0] in bare:
                    del sys.modules[name]

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the import spec of a module that only this folder has, as for ``importlib.import_module("utils")``.

        It holds while the folder's files are loaded: at other times nothing tells whose helper is meant.
        """
        return ModuleSpec(fullname, _Alias(f"{self.package}.{fullname}")) if self.has(fullname.split(".")[0]) else None

    def spec(self, full: str, path: Sequence[str] | None) -> ModuleSpec | None:
        """Return the import spec of a module of the folder; None if there is no such module."""
        if full == self.package:
            spec = ModuleSpec(full, None, is_package=True)
            spec.submodule_search_locations = self.path
            return spec
        file = self.named.get(full)
        found = importlib.util.spec_from_file_location(full, file) if file else PathFinder.find_spec(full, path)
        if found and isinstance(found.loader, SourceFileLoader):
            found.loader = _Loader(found.loader.name, found.loader.path, self.builtins)
        return found

    def has(self, name: str) -> bool:
        """Return whether the folder's files mean a module of the folder by this name."""
        found = None if name in OURS else self.spec(f"{self.package}.{name}", self.path)
        if found is None or found.origin is not None:
            return found is not None
        return (
            name not in sys.modules and PathFinder.find_spec(name, self._outside) is None
        )  # a folder without a file __init__.py

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """Import as the statement ``import`` does, and look into the folder first."""
        top, importer = name.partition(".")[0], globals or {}
        self._extend_path()
        place = None if level else self._place(top, str(importer.get("__package__") or ""))
        is_package = "__path__" in importer  # it may import itself; a file may have the name of a package it imports
        if place is None or (importer.get("__name__") == f"{place}.{top}" and not is_package):
            found = builtins.__import__(name, globals, locals, fromlist or (), level)
            if found is importlib:  # a stand-in, whose import_module knows the folder whenever it is called
                vars(self._importlib).update(vars(importlib), import_module=self._import_module)
                return self._importlib
            return found
        found = builtins.__import__(f"{place}.{name}", globals, locals, fromlist or ())
        return found if fromlist else sys.modules[f"{place}.{top}"]

    def _import_module(self, name: str, package: str | None = None) -> ModuleType:
        """Import as ``importlib.import_module`` does, and look into the folder first."""
        self._extend_path()
        return importlib.import_module(f"{self.package}.{name}" if self.has(name.partition(".")[0]) else name, package)

    def _extend_path(self) -> None:
        """Look for modules also where a file of the folder has told Python to look, while it is loaded."""
        if self._outside is not None:
            self.path += [entry for entry in sys.path if entry not in self._outside and entry not in self.path]

    def _place(self, top: str, package: str) -> str | None:
        """Return the package in which an import finds a module: the folder, or the importer's own package in it.

        A file of a package may import the files beside it as a file of the folder may, unless Python or an installed
        package has their name.
        """
        if self.has(top):
            return self.package
        if top in OURS or top in sys.stdlib_module_names or not package.startswith(f"{self.package}."):
            return None
        beside = self.spec(f"{package}.{top}", sys.modules[package].__path__)
        installed = PathFinder.find_spec(top)
        known = installed is not None and "site-packages" in Path(installed.origin or "").parts
        return package if beside is not None and beside.origin is not None and not known else None


class _Alias(Loader):
    """A loader that gives a folder's module under its bare name."""

    def __init__(self, full: str) -> None:
        self.full = full

    def create_module(self, _spec: ModuleSpec) -> ModuleType:
        """Return the folder's module."""
        self.module = importlib.import_module(self.full)
        self.spec = self.module.__spec__
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module as it is."""
        module.__spec__ = self.spec


class _Loader(SourceFileLoader):
    """A loader of a source file as it is now. Its import statements are executed by its folder.

    Python's cache of compiled files is not used. It tells two versions of a file apart by time and size alone, so code
    that was edited in between could be measured as it was before, under the digest of the new code.
    """

    def __init__(self, fullname: str, path: str, own_builtins: dict[str, Any]) -> None:
        super().__init__(fullname, path)
        self._builtins = own_builtins

    def get_code(self, fullname: str) -> CodeType:
        """Return the compiled file."""
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the file in the module."""
        vars(module)["__builtins__"] = self._builtins
        super().exec_module(module)


class _Finder(MetaPathFinder):
    """Finds the modules of all folders."""

    def __init__(self) -> None:
        self.folders: dict[str, _Folder] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the import spec of a folder's module; None for any other module."""
        folder = self.folders.get(fullname.partition(".")[0])
        return folder.spec(fullname, path) if folder else None

    def folder(self, root: Path) -> _Folder:
        """Return the folder at an absolute path."""
        new = _Folder(root)
        return self.folders.setdefault(new.package, new)


_finder = _Finder()
sys.meta_path.insert(0, _finder)


def from_file(path: Path) -> ModuleType:
    """Return the module of a Python file; the file is executed only once, however often its module is asked for.

    If the file lies in a package, its absolute imports are resolved from the folder that holds the package.

    Raises:
        Exception: whatever the file raises.
    """
    path = path.resolve()
    root = next(folder for folder in path.parents if not (folder / "__init__.py").is_file())
    parts = [*path.relative_to(root).parent.parts, path.stem.replace(".", "_")]
    return _finder.folder(root).load(".".join(part for part in parts if part != "__init__"), path)


def from_name(name: str) -> ModuleType:
    """Return the module with a dotted name; it is executed only once, however often it is asked for.

    The module is looked for in the working folder first, then in the Python path.

    Raises:
        Exception: whatever the module raises.
    """
    top, here = name.partition(".")[0], Path.cwd()
    folder = _finder.folder(here)
    importlib.import_module(folder.package)  # Python looks for folders without a file __init__.py in a loaded package
    if top in sys.modules or not folder.has(top) or _is_importable(top, here):
        return importlib.import_module(name)
    return folder.load(name)


def _is_importable(name: str, folder: Path) -> bool:
    """Return whether Python's own import finds this module of a folder, as after an editable installation."""
    spec = importlib.util.find_spec(name)
    places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or ())]
    return any(Path(place).is_relative_to(folder) for place in places if place)
