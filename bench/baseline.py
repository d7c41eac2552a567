"""Baselines: what a cell's statistics were when they were last accepted, in a small file that is committed.

One line per cell, sorted, every float with all of its digits: a diff shows which cells changed. Nothing here
imports torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench import record
from bench.names import did_you_mean
from bench.record import Damaged, Record
from bench.selectors import Selector, UsageError, parse
from bench.stats.gate import GateCell, is_heavy

SCHEMA = 1
"""Version of the file; a reader refuses a newer one."""
FOLDER = Path("results") / "baselines"
"""Where baselines lie, as seen from the root of a repository."""
LEAST = 64
"""Fewest replicates of a cell: the smallest draw."""
ENVIRONMENT = ("commit", "stochgrad_bench", "torch", "numpy", "python", "platform", "cpu", "cpu_capability")
AGREEMENT = 1e-6
"""Relative difference up to which two statistics of the same samples are equal."""

Count = Annotated[int, Field(ge=LEAST)]
Positive = Annotated[float, Field(ge=0)]


class _Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Entry(_Plain):
    """One cell of a baseline: its selectors, its declared facts, its statistics.

    ``estimator`` and ``objective`` are selectors of one instance each; the path of a user's file is as seen from the
    baseline's folder. ``fingerprint`` is that of the raw gradients of the first 8 draws. ``truncated_at`` is c0, the
    99 % quantile of the squared norms w; ``truncated_mean`` and ``truncated_cv2`` are of min(w, c0). Of a heavy tail w
    are half the squared distances of pairs (``bench.gate.pairs``), and the cv² is twice theirs. ``bias_norm`` is
    ‖ḡ − g*‖, ``bias_squared`` is T. ``speed`` has the logarithm of the cost unit in each of a few fresh processes.
    """

    estimator: str
    objective: str
    cell: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
    unbiased: bool
    deterministic: bool
    fingerprint: str
    replicates: Count
    size: Annotated[int, Field(ge=1)]
    status: str
    variance: Positive
    variance_low: Positive
    variance_high: Positive | None
    cv2: Positive
    skewness: float
    kurtosis: Positive
    rho: Positive
    khat: float | None
    float_floor: Positive
    truncated_at: Positive | None
    truncated_mean: Positive | None
    truncated_cv2: Positive | None
    bias_norm: Positive | None
    bias_squared: float | None
    bias_bound: Positive | None
    p_bias: float | None
    speed: tuple[float, ...] | None = None

    @property
    def label(self) -> str:
        """Selectors of both, for people."""
        return f"{self.estimator} on {self.objective}"

    @property
    def gate(self) -> GateCell:
        """What the tests need; a deterministic cell that varies by rounding alone does not vary."""
        shared = GateCell.__dataclass_fields__.keys() & Entry.model_fields.keys()
        found = GateCell(**{name: getattr(self, name) for name in shared})
        rounding = self.deterministic and self.variance <= self.float_floor
        return replace(found, variance=0.0) if rounding else found

    @property
    def is_heavy(self) -> bool:
        """Whether the tail leaves no variance to compare, but the truncated one."""
        return is_heavy(self.khat)

    @property
    def sees_bias(self) -> bool:
        """Whether a bias can be told from noise: there is a gradient to compare with, and a variance."""
        return self.p_bias is not None and (self.khat is None or self.khat < 1)

    def untruncated(self) -> Entry:
        """Return the entry without a truncated variance, as where that was not measured."""
        return self.model_copy(update=dict.fromkeys(("truncated_at", "truncated_mean", "truncated_cv2")))

    @property
    def said(self) -> str:
        """The variance for people; of a heavy tail its lower limit."""
        return f"≥ {self.variance_low:.3g}" if self.is_heavy else f"{self.variance:.4g}"

    @property
    def log_cost(self) -> float | None:
        """Median of the logarithms of the cost unit."""
        return median(self.speed) if self.speed else None


class Setting(_Plain):
    """How the cells of a baseline were measured; ``replicates`` as asked for."""

    replicates: Count
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    dtype: Literal["float32", "float64"]
    device: Literal["cpu", "cuda"]
    common_noise: bool


class Baseline(_Plain):
    """A baseline: how it was measured, with what, and its cells in the order of their labels."""

    setting: Setting
    environment: dict[str, str | None]
    cells: tuple[Entry, ...]

    def entry(self, cell: str) -> Entry | None:
        """Return the entry of a cell's id, or None."""
        return next((entry for entry in self.cells if entry.cell == cell), None)

    def text(self) -> str:
        """Return the file's text."""
        head = {"schema": SCHEMA, "setting": self.setting.model_dump(), "environment": self.environment}
        lines = [f'  "{key}": {json.dumps(value, ensure_ascii=False)},\n' for key, value in head.items()]
        cells = ",\n".join(f"    {json.dumps(c.model_dump(), ensure_ascii=False, allow_nan=False)}" for c in self.cells)
        return f'{{\n{"".join(lines)}  "cells": [\n{cells}\n  ]\n}}\n'


def assemble(setting: Setting, entries: Iterable[Entry]) -> Baseline:
    """Return the baseline of these entries, made here and now."""
    here = record.environment()
    return Baseline(
        setting=setting,
        environment={key: here[key] for key in ENVIRONMENT},
        cells=tuple(sorted(entries, key=lambda entry: (entry.objective, entry.estimator))),
    )


def entry_of(line: Record, estimator: str, objective: str, speed: Sequence[float] | None = None) -> Entry:
    """Return the entry of a moments record.

    Args:
        line: the record, with outcome "measured".
        estimator: selector of the one instance; paths as seen from the baseline's folder.
        objective: likewise.
        speed: logarithms of the cost unit, one per process.
    """
    facts = {name: line[name] for name in ("cell", "unbiased", "deterministic", "fingerprint", "size")}
    summary = record.plain(line["summary"])
    statistics = {name: summary[name] for name in Entry.model_fields if name in summary and name not in facts}
    return Entry(
        estimator=estimator,
        objective=objective,
        speed=tuple(speed) if speed else None,
        **(facts | statistics),
    )


# files


def path_of(name: str, root: Path = Path()) -> Path:
    """Return where the baseline of this name lies; a path that ends in ``.json`` is taken as it is.

    Raises:
        UsageError: the name is not the name of a file.
    """
    if name.endswith(".json"):
        return root / name
    if not name or name != Path(name).name or name.startswith("."):
        raise UsageError(f"{name!r} is not the name of a baseline. Use a word such as ci, or the path of a .json file.")
    return root / FOLDER / f"{name}.json"


def names(root: Path = Path()) -> list[str]:
    """Return the names of all baselines under a root."""
    return sorted(path.stem for path in (root / FOLDER).glob("*.json"))


def read(name: str, root: Path = Path()) -> Baseline:
    """Return a baseline by its name or its path.

    Raises:
        UsageError: there is none.
        Damaged: the file is broken, or of a newer schema.
    """
    path = path_of(name, root)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        hint = did_you_mean(name, names(root))
        raise UsageError(f"There is no baseline {path}.{hint} Make it with `bench baseline save {name}`.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise Damaged(f"{path} is not text. Restore it from version control.") from None
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise Damaged(
            f"{path} is not JSON (line {error.lineno}: {error.msg}). Restore it from version control."
        ) from None
    return _checked(data, path)


def _checked(data: Any, path: Path) -> Baseline:
    schema = data.pop("schema", None) if isinstance(data, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool):
        raise Damaged(f"{path} is not a baseline: it has no schema number. Restore it from version control.")
    if schema > SCHEMA:
        raise Damaged(
            f"{path} has schema {schema}, and this version reads up to {SCHEMA}. Install a newer stochgrad-bench."
        )
    try:  # strictly, as JSON: there a tuple is written as a list
        found = Baseline.model_validate_json(json.dumps(data))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise Damaged(f"{path} is damaged at {place}: {first['msg']}. Restore it from version control.") from None
    ids = [entry.cell for entry in found.cells]
    if not ids or len(set(ids)) < len(ids):
        what = "names a cell twice" if ids else "holds no cell"
        raise Damaged(f"{path} {what}. Restore it from version control.")
    return found


def write(found: Baseline, path: Path) -> None:
    """Write a baseline, all of it or nothing.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(found.text(), encoding="utf-8")
    temporary.replace(path)


def selectors(entry: Entry, folder: Path) -> tuple[Selector, Selector]:
    """Return the selectors of an entry, with paths of users' files read from the baseline's folder."""
    return parse(entry.estimator).anchored(folder), parse(entry.objective).anchored(folder)


# differences


def same_statistics(entry: Entry, other: Entry) -> bool:
    """Tell whether two measurements of the same samples say the same; they may differ in their last digits."""
    pairs = [(getattr(entry, n), getattr(other, n)) for n in ("variance", "cv2", "kurtosis", "bias_norm")]
    return entry.replicates == other.replicates and all(_close(a, b) for a, b in pairs)


def _close(a: float | None, b: float | None) -> bool:
    return a is b is None or (a is not None and b is not None and math.isclose(a, b, rel_tol=AGREEMENT, abs_tol=1e-30))


def changes(old: Baseline | None, new: Baseline) -> list[str]:
    """Return what one baseline says that the other did not, one line per cell that is new, gone or changed."""
    before = {entry.cell: entry for entry in old.cells} if old else {}
    after = {entry.cell: entry for entry in new.cells}
    lines = [f"new      {entry.label}" for cell, entry in after.items() if cell not in before]
    lines += [f"gone     {entry.label}" for cell, entry in before.items() if cell not in after]
    for cell, entry in after.items():
        if cell in before and before[cell] != entry:
            lines.append(f"changed  {entry.label}: {_difference(before[cell], entry)}")
    return lines


def _difference(old: Entry, new: Entry) -> str:
    said = []
    if old.variance != new.variance:
        comparable = old.variance and not (old.is_heavy or new.is_heavy)
        ratio = f" (times {new.variance / old.variance:.3g})" if comparable else ""
        said.append(f"variance {old.said} to {new.said}{ratio}")
    for name in ("replicates", "status", "unbiased", "deterministic"):
        if getattr(old, name) != getattr(new, name):
            said.append(f"{name} {getattr(old, name)} to {getattr(new, name)}")
    if old.fingerprint != new.fingerprint:
        said.append("other samples")
    return ", ".join(said) or "other figures in the last digits, or another speed"


def count(cells: int | Sequence[Entry]) -> str:
    """Return ``1 cell`` or ``12 cells``."""
    number = cells if isinstance(cells, int) else len(cells)
    return f"{number} cell{'' if number == 1 else 's'}"


def table(found: Baseline) -> str:
    """Return a baseline for a terminal: how it was measured, and a line per cell."""
    setting = found.setting
    lines = [
        f"{count(found.cells)}, {setting.replicates} replicates, seed {setting.seed}, "
        f"{setting.dtype} on {setting.device}",
        f"made with {', '.join(f'{key} {value}' for key, value in found.environment.items() if value)}",
        "",
    ]
    rows = [("estimator", "objective", "variance", "R", "status", "guarded against")]
    for e in found.cells:
        rows.append((e.estimator, e.objective, e.said, str(e.replicates), e.status, ", ".join(_guards(e)) or "nothing"))
    return "\n".join([*lines, *_columns(rows)])


def _guards(entry: Entry) -> list[str]:
    """Return what a check of a cell can find."""
    growth = "growth" if not entry.is_heavy else "growth of the truncated variance" if entry.truncated_mean else ""
    found = [growth if entry.variance else "randomness"]
    found += ["bias"] * (entry.unbiased and entry.sees_bias) + ["speed"] * bool(entry.speed)
    return [word for word in found if word]


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]
