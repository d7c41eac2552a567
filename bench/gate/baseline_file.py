"""The file of a baseline: its path, reading and writing, and the paths of users' files in it. Imports no torch."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.gate.baseline import SCHEMA, Baseline, Entry
from bench.planning.catalogue import did_you_mean
from bench.planning.selectors import Selector, UsageError, parse
from bench.records import files
from bench.records.lines import Damaged
from bench.records.text import printable
from bench.stats.summary import renamed

FOLDER = Path("results") / "baselines"
"""The folder of the baselines, relative to the root of a repository."""
RESTORE = "Restore it from version control."


def path_of(name: str, root: Path = Path()) -> Path:
    """Return the path of the baseline called ``name`` in the repository at ``root``: results/baselines/NAME.json.

    A baseline is the gate's file of accepted statistics. A name that ends in ``.json`` is taken as a path, relative to
    ``root``.

    Raises:
        UsageError: the name is not usable as a file name.
    """
    if name.endswith(".json"):
        return root / name
    if not name or name != Path(name).name or name.startswith("."):
        raise UsageError(f"{name!r} is not the name of a baseline. Use a word such as ci, or the path of a .json file.")
    return root / FOLDER / f"{name}.json"


def names(root: Path = Path()) -> list[str]:
    """Return the sorted names of the baselines in the repository at ``root``.

    A baseline is the gate's file of accepted statistics.
    """
    return sorted(path.stem for path in (root / FOLDER).glob("*.json"))


def read(name: str, root: Path = Path()) -> Baseline:
    """Return a baseline, the file of accepted statistics, by its name or its path.

    ``name`` is a path if it ends in ``.json``. ``root`` is the folder of the repository.

    Raises:
        UsageError: the file does not exist or cannot be opened.
        Damaged: the file is broken, or its schema is newer than this version reads.
    """
    path = path_of(name, root)
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        hint = did_you_mean(name, names(root))
        raise UsageError(f"There is no baseline {path}.{hint} Make it with `bench baseline save {name}`.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise Damaged(f"{path} is not text. {RESTORE}") from None
    except json.JSONDecodeError as error:
        raise Damaged(f"{path} is not JSON (line {error.lineno}: {error.msg}). {RESTORE}") from None
    except (ValueError, RecursionError):
        raise Damaged(f"{path} is no baseline: its numbers or its nesting are too large. {RESTORE}") from None
    return _checked(data, path)


def _checked(data: Any, path: Path) -> Baseline:
    schema = data.pop("schema", None) if isinstance(data, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool):
        raise Damaged(f"{path} is not a baseline: it has no schema number. {RESTORE}")
    if schema > SCHEMA:
        known = f"this version reads schemas up to {SCHEMA}. Install a newer stochgrad-bench."
        raise Damaged(f"{path} has schema {schema}, but {known}")
    if isinstance(data.get("cells"), list):
        data["cells"] = [renamed(cell) if isinstance(cell, dict) else cell for cell in data["cells"]]
    try:  # strictly, as JSON: there a tuple is written as a list
        found = Baseline.model_validate_json(json.dumps(data))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))[:100] or "its start"
        said = str(first.get("ctx", {}).get("error", first["msg"])).rstrip(".")
        raise Damaged(f"{path} is damaged at {place}: {said}. {RESTORE}") from None
    ids = [entry.cell for entry in found.cells]
    if not ids or len(set(ids)) < len(ids):
        raise Damaged(f"{path} {'names a cell twice' if ids else 'holds no cell'}. {RESTORE}")
    return found


def write(found: Baseline, path: Path) -> None:
    """Write a baseline to a file, completely or not at all. Raise ``OSError`` if the file cannot be written.

    A baseline is the gate's file of accepted statistics.
    """
    files.sweep(path.parent)
    files.write(path, found.text())


def as_seen_here(baseline: Baseline, folder: Path) -> Baseline:
    """Return a copy of a baseline for display: the paths of users' files are relative to the working folder.

    A baseline is a file of accepted statistics. The paths in it are relative to ``folder``, where the file lies.
    """

    def seen(entry: Entry) -> Entry:
        names = (printable(str(selector.relative_to(Path()))) for selector in selectors(entry, folder))
        return entry.model_copy(update=dict(zip(("estimator", "objective"), names, strict=True)))

    return baseline.model_copy(update={"cells": tuple(seen(entry) for entry in baseline.cells)})


def selectors(entry: Entry, folder: Path) -> tuple[Selector, Selector]:
    """Return the selectors of an entry's estimator and objective, with absolute paths of users' files.

    A selector is a text such as ``rloo:n=4``. Paths in the entry are relative to ``folder``, where the baseline's file
    lies.
    """
    return parse(entry.estimator).anchored(folder), parse(entry.objective).anchored(folder)
