"""What estimators and objectives are called in tables for a paper and in figures, and their order.

Both come from ``labels.toml`` and from the specs.

Imports no torch.
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.planning.catalogue import KINDS
from bench.planning.labelling import Labels, labels_of
from bench.planning.plans import specs_of
from bench.planning.selectors import Selector, UsageError, parse, selects
from bench.planning.spec import Spec
from bench.records import files
from bench.records.labels import labelled, value_text
from bench.records.lines import Damaged

FILE = "labels.toml"
"""Name of the file of labels inside a study folder."""
Records = Iterable[Mapping[str, Any]]


def read_labels(path: Path) -> dict[str, dict[str, str]]:
    """Return the display names in a file of labels, by selector: ``{"estimators": {"rloo:n=4": "RLOO"}, ...}``.

    Raises:
        UsageError: the file cannot be read, or is no file of labels.
    """
    try:
        table = tomllib.loads(files.read(path).decode("utf-8-sig"))
    except FileNotFoundError:
        raise UsageError(f"There is no file {str(path)!r}. Give the path of a file of labels.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        said = error if isinstance(error, tomllib.TOMLDecodeError) else "it is not text in UTF-8"
        raise UsageError(f"{path} is not TOML: {said}.") from None
    return labels_of(table, str(path))


def specs_of_all(folders: Iterable[Path]) -> list[Spec]:
    """Return the specs of several study folders; a folder without a spec that can be read adds none."""
    found = list[Spec]()
    for folder in folders:
        with suppress(UsageError, Damaged, OSError):
            found += specs_of(folder)
    return found


def labels_in(folders: Iterable[Path], specs: Iterable[Spec], place: Path | None = None) -> dict[str, dict[str, str]]:
    """Return the display names of a study, by selector: ``{"estimators": {"rloo:n=4": "RLOO"}, "objectives": {}}``.

    Args:
        folders: the folders of the study. The first ``labels.toml`` in them counts, unless ``place`` is given.
        specs: the specs of the study. Their display names count if there is no file. A name in a later spec replaces
            that in an earlier one.
        place: the file of labels to read; None to look in the folders.

    Raises:
        UsageError: a file cannot be read, or is no file of labels.
    """
    file = place or next((folder / FILE for folder in folders if (folder / FILE).is_file()), None)
    given: dict[str, dict[str, str]] = {key: {} for key in KINDS}
    for found in [read_labels(file)] if file else [spec.labels or {} for spec in specs]:
        for key, names in found.items():
            given[key] |= names
    return given


def check(labels: Labels, records: Records) -> None:
    """Check that every selector in ``labels`` covers an estimator or an objective in the records of a study.

    ``labels`` are display names by selector, as ``read_labels`` returns them.

    Raises:
        UsageError: a selector covers nothing.
    """
    records = list(records)
    for key, kind in KINDS.items():
        mine = [record for record in records if f"{kind}_params" in record]
        for text in labels.get(key, {}):
            if not any(selects(text, record, kind) for record in mine):
                known = ", ".join(dict.fromkeys(record[f"{kind}_name"] for record in mine))
                raise UsageError(f"The labels name {text!r}, which was not measured in this study. It has {known}.")


def called(records: Records, specs: Sequence[Spec] = (), labels: Labels | None = None) -> dict[str, str]:
    """Return the names that figures give to all estimators and objectives of a study.

    A key names an estimator or an objective with its settings, such as ``rloo:n=4``. Estimators come before objectives.
    Of either kind, those that ``labels`` names come first; the others follow in the order of ``specs``. If ``labels``
    has a selector without fields, such as ``rloo``, the result also has its display name, under the key ``rloo``.

    Args:
        records: the records of the study.
        specs: the specs of the study.
        labels: display names by selector, as ``read_labels`` returns them; None for no such names.
    """
    records = labelled(list(records))
    found = {label: name for names in named(records, specs, labels) for label, name in names.items()}
    for key, kind in KINDS.items():
        plain = {text: name for text, name in (labels or {}).get(key, {}).items() if not parse(text).params}
        for text, record in itertools.product(plain, records):
            if f"{kind}_params" in record and selects(text, record, kind):
                found.setdefault(record[f"{kind}_name"], plain[text])
    return found


def named(records: Records, specs: Sequence[Spec] = (), labels: Labels | None = None) -> tuple[dict[str, str], ...]:
    """Return the display names in two dictionaries: those of the estimators, and those of the objectives.

    A key names an estimator or an objective with its settings, such as ``rloo:n=4``. Estimators and objectives that
    ``labels`` names come first, in the order of ``labels``. All others follow in the order of ``specs``; the display
    name of each is its key. If one selector of ``labels`` covers several estimators, the fields that differ are added
    to the name: ``RLOO (n=4)``.

    Args:
        records: the records of the study.
        specs: the specs of the study.
        labels: display names by selector, as ``read_labels`` returns them; None for no such names.
    """
    found = labelled(list(records))
    return tuple(_named(found, key, specs, (labels or {}).get(key, {})) for key in KINDS)


def _named(
    records: Sequence[Mapping[str, Any]], key: str, specs: Sequence[Spec], given: Mapping[str, str]
) -> dict[str, str]:
    kind = KINDS[key]
    first = dict[str, Mapping[str, Any]]()
    for record in records:
        if f"{kind}_params" in record:
            first.setdefault(record[kind], record)
    labels = list(first)
    owner = {label: text for label in labels if (text := _owner(first[label], kind, given))}
    selectors = [selector for spec in specs for selector in getattr(spec, key)]
    places = {text: place for place, text in enumerate(given)}

    def place(label: str) -> tuple[int, ...]:
        mine = places[owner[label]] if label in owner else len(given)
        return mine, *_place(first[label], kind, selectors)

    return {label: _shown(label, owner, given) for label in sorted(labels, key=place)}


def _owner(record: Mapping[str, Any], kind: Any, given: Mapping[str, str]) -> str:
    """Return the selector that names a record's estimator or objective: the one with the most fields."""
    covering = [text for text in given if selects(text, record, kind)]
    return max(covering, key=lambda text: len(parse(text).params), default="")


def _shown(label: str, owner: Mapping[str, str], given: Mapping[str, str]) -> str:
    if label not in owner:
        return label
    beside = [other for other, text in owner.items() if text == owner[label]]
    common = set.intersection(*(set(_fields(other)) for other in beside))
    differing = ", ".join(field for field in _fields(label) if field not in common)
    return given[owner[label]] + (f" ({differing})" if differing else "")


def _fields(label: str) -> list[str]:
    return label.partition(":")[2].split(",")


def _place(record: Mapping[str, Any], kind: Any, selectors: Sequence[Selector]) -> tuple[int, ...]:
    """Return where a record's estimator or objective comes in the selectors of a study, and in the grid of one."""
    for place, selector in enumerate(selectors):
        if selects(str(selector), record, kind):
            params = record[f"{kind}_params"]
            grid = ((value_text(params[name]), values) for name, values in selector.params.items())
            return place, *(values.index(text) if text in values else len(values) for text, values in grid)
    return (len(selectors),)
