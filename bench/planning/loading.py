"""From selectors to classes and functions, in the catalogue or in files of a user. Loading imports torch."""

import importlib
import inspect
import sys
import traceback
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.planning import plugins
from bench.planning.catalogue import Kind, catalogue, did_you_mean
from bench.planning.selectors import Forbidden, Selector, Unloadable, UsageError, check_name
from bench.planning.user_code import Ended, printing_to_stderr, set_apart
from bench.records.code import class_digest
from bench.records.text import message


def load(selector: Selector, kind: Kind) -> type:
    """Return the class that a selector (such as ``rloo:n=4``) names: an estimator or an objective, as ``kind`` says.

    Raises:
        UsageError: there is no such class, or it is not a frozen dataclass derived from ``Estimator`` or ``Objective``.
            The message lists every fault of the class.
        Forbidden: the class is in a file of a user, and the user has forbidden to import such files.
    """
    selector = check_name(selector, kind)
    name = selector.name
    if ":" not in name and not selector.file:
        facts = catalogue(kind)[name]
        module, _, cls = facts["class"].partition(":")
        return typing.cast(type, getattr(importlib.import_module(module), cls))
    source, cls = selector.file or name.rsplit(":", 1)
    if not plugins.ALLOWED.get():
        raise Forbidden(f"{name} is code of a user, which --no-plugins forbids. If you trust {source}, leave that out.")
    module = _module(source, is_file=selector.file is not None)
    found = _checked(module, cls or _only(module, source, kind), name, kind)
    class_digest(found)  # of the code that was loaded, whatever is edited from now on
    return found


def load_function(text: str) -> Callable[..., Any]:
    """Return the function that a text such as ``mine.py::loss`` names: a path and a name in the file.

    Raises:
        UsageError: the text has another form, there is no such file, or the file has no function of that name.
        Forbidden: the user has forbidden to import such files.
    """
    path, _, name = text.partition("::")
    if not path.endswith(".py") or not name:
        raise UsageError(f"{text!r} names no function. Give a file and a function in it, as in mine.py::loss.")
    if not plugins.ALLOWED.get():
        raise Forbidden(f"{text} is code of a user, which --no-plugins forbids. If you trust {path}, leave that out.")
    module = _module(path, is_file=True)
    found = getattr(module, name, None)
    if not callable(found):
        own = [key for key, value in vars(module).items() if inspect.isfunction(value) and not key.startswith("_")]
        holds = f" The file has {', '.join(own)}." if own else " The file has no function."
        raise UsageError(f"{path} has no function {name!r}.{did_you_mean(name, own) or holds}")
    return typing.cast(Callable[..., Any], found)


def _module(source: str, *, is_file: bool) -> types.ModuleType:
    if is_file and (not Path(source).is_file() or Path(source).suffix != ".py"):
        problem = f"{source!r} is not a Python file" if Path(source).exists() else f"There is no file {source!r}"
        package = ", or a package, as in package.module:Mine" if Path(source).name.isidentifier() else ""
        raise UsageError(f"{problem}. Give the path of a file that ends in .py, as in mine.py::Mine{package}.")
    words, sys.argv = sys.argv, [source]  # the user's code may parse arguments, and ours are not for it
    try:
        with set_apart(), printing_to_stderr():
            return plugins.from_file(Path(source)) if is_file else plugins.from_name(source)
    except UsageError:
        raise
    except Ended as error:
        raise Unloadable(f'{source} cannot be loaded: {error}. Put it below `if __name__ == "__main__":`.') from error
    except Exception as error:  # a user's module may raise anything
        absent = isinstance(error, ModuleNotFoundError) and f"{source}.".startswith(f"{error.name}.")
        kind = UsageError if absent and not is_file else Unloadable
        raise kind(f"{source} cannot be loaded: {_reported(error, source)}") from error
    finally:
        sys.argv = words


def _reported(error: Exception, source: str) -> str:
    """Return an error's type and message, and the line of the user's file that raised it."""
    path = str(Path(source).resolve())
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return f"{type(error).__name__}: {message(str(error))}{f' (line {lines[-1]})' if lines else ''}."


def _own(module: types.ModuleType, kind: Kind) -> list[str]:
    """Return the names of the objectives, if these are wanted, and of the classes of a kind that a module defines."""
    base, found = _base(kind), vars(module).items()
    made = [key for key, value in found if kind == "objective" and isinstance(value, base)]
    classes = [(key, value) for key, value in found if inspect.isclass(value) and not key.startswith("_")]
    return made + [key for key, cls in classes if issubclass(cls, base) and cls.__module__ == module.__name__]


def _only(module: types.ModuleType, source: str, kind: Kind) -> str:
    """Return the name of the only class of a kind in a user's file."""
    own = _own(module, kind)
    if not own:
        instance = ", and no instance of one at the top of the file" if kind == "objective" else ""
        raise UsageError(f"{source} defines no {kind}: no class derived from {_base(kind).__name__}{instance}.")
    if len(own) > 1:
        raise UsageError(f"{source} defines the {kind}s {', '.join(own)}. Name one, as in {source}::{own[0]}.")
    return own[0]


def _base(kind: Kind) -> type:
    from bench.objectives import Objective
    from estimators import Estimator

    return Estimator if kind == "estimator" else Objective


def _checked(module: types.ModuleType, cls: str, name: str, kind: Kind) -> type:
    from bench.objectives import wrong_class
    from bench.planning.problems import Made, class_of
    from estimators import command_line_name

    found = getattr(module, cls, None)
    if not inspect.isclass(found) and kind == "objective":
        found = class_of(module, cls)
    if not inspect.isclass(found):
        own = _own(module, kind)
        holds = f" The file has {', '.join(own)}." if own else ""
        held = vars(module).get(cls)
        problem = (
            f"{cls!r} is of type {type(held).__name__}, not an {kind}"
            if cls in vars(module)
            else f"it has no {kind} {cls!r}"
        )
        raise UsageError(f"{name}: {problem}.{did_you_mean(cls, own) or holds}")
    other: Kind = "objective" if kind == "estimator" else "estimator"
    if issubclass(found, _base(other)):
        raise UsageError(f"{name} is an {other}, not an {kind}: give it with --{other}.")
    wrong = _wrong_estimator(found) if kind == "estimator" else [] if issubclass(found, Made) else wrong_class(found)
    if wrong:
        raise UsageError(f"{name} {' It '.join(wrong)} `bench new {kind} FILE` writes a whole one.")
    known = catalogue(kind).get(command_line_name(found))
    if known and getattr(importlib.import_module(known["class"].partition(":")[0]), cls, None) is not found:
        why = "and records would mix them up. Rename your class."
        raise UsageError(f"{name} has the name of the catalogue's {cls}, {why}")
    return found


def _wrong_estimator(cls: type) -> list[str]:
    """Return everything that is wrong with the class of an estimator, each with the line to write."""
    from estimators import Estimator

    wrong = list[str]()
    if not issubclass(cls, Estimator):
        wrong.append(f"is not derived from estimators.Estimator: write `class {cls.__name__}(Estimator):`.")
    parameters = vars(cls).get("__dataclass_params__")
    if parameters is None or not parameters.frozen:
        wrong.append(f"is not a frozen dataclass: put `@dataclass(frozen=True)` above class {cls.__name__}.")
    if not any("__call__" in vars(each) for each in cls.__mro__ if each is not Estimator):
        line = "def __call__(self, f, q, generator=None, state=None):"
        wrong.append(f"does not define __call__, which returns the value: add `{line}`.")
    return wrong


def family_named(name: str) -> type:
    """Return the class of distributions with this name, of torch or of ``estimators``.

    Capitals, hyphens and underscores do not matter: ``one-hot-categorical`` is ``OneHotCategorical``.

    Raises:
        UsageError: there is no such class.
    """
    from torch import distributions

    import estimators

    known = {
        key: value
        for module in (distributions, estimators)
        for key, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, distributions.Distribution)
    }
    plain = name.lower().replace("-", "").replace("_", "")
    wanted = next((key for key in known if key.lower() == plain), None)
    if wanted is None:
        raise UsageError(f"There is no family of distributions {name!r}.{did_you_mean(name, known)}")
    return known[wanted]
