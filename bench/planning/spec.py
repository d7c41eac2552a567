"""Spec: what a study measures, from TOML or flags. Unknown keys are refused; one message reports all errors."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from bench.planning.catalogue import KINDS, Kind, did_you_mean
from bench.planning.instances import expand, has_parameter
from bench.planning.labelling import labels_of
from bench.planning.selectors import Selector, UsageError, check_name, from_table, label, parse
from bench.planning.settings import ADAPT_STEPS, MOST, Settings
from bench.stats import PrecisionTarget

if TYPE_CHECKING:
    from bench.objectives import Objective
    from estimators import Estimator

T = TypeVar("T")
U = TypeVar("U")
Params = dict[str, tuple[str, ...]]
DEFAULT = Path(__file__).parents[1] / "default.toml"
"""The default study."""
FILE = "spec.toml"
"""Name of the spec inside a study folder."""


def _collect(function: Callable[[T], U], items: Iterable[T], place: Callable[[int], str]) -> list[U]:
    """Return the function's value for every item, or raise one ``UsageError`` that reports all errors."""
    found, errors = [], []
    for position, item in enumerate(items):
        try:
            found.append(function(item))
        except UsageError as error:
            errors.append(f"{place(position)}{error}")
    if errors:
        raise UsageError(" ".join(errors))
    return found


def _selector(item: Any, kind: Kind) -> Selector:
    if not isinstance(item, str | dict | Selector):
        raise UsageError(f"a selector is a string or a table with a name (got {item!r}).")
    selector = parse(item) if isinstance(item, str) else from_table(item) if isinstance(item, dict) else item
    return check_name(selector, kind)


def _selectors(kind: Kind) -> BeforeValidator:
    """Return the validator of a list of selectors, each a string, a table or a ``Selector``."""

    def read(items: Any) -> tuple[Selector, ...]:
        if not isinstance(items, list | tuple):
            raise UsageError(f"{kind}s: give a list of selectors (got {items!r}).")
        if not items:
            raise UsageError(f"{kind}s: give at least one {kind}, or there is nothing to measure.")
        return tuple(_collect(partial(_selector, kind=kind), items, lambda i: f"{kind}s[{i}]: "))

    return BeforeValidator(read)


def _labels(table: Any) -> dict[str, dict[str, str]] | None:
    return None if table is None else labels_of(table, "labels")


class Spec(BaseModel):
    """A study: every estimator on every objective, and how to measure them. A cell is one estimator on one objective.

    Args:
        name: name of the study and of its folder under ``results``.
        seed: root seed of all noise, from 0 to 2^63 - 1.
        replicates: number of independent calls of the estimator in each cell, rounded up to whole draws (batches).
        precision: relative half-width that the variance's interval has to reach, such as 0.05 for ±5 %; the number of
            replicates then follows, and ``replicates`` is not used. None for a fixed number.
        max_replicates: number of replicates at which a cell stops even if the precision is not reached.
        dtype: "float32" or "float64", of samples and gradients; sums are always float64.
        device: "cpu", "cuda", or "auto": the GPU if there is one.
        timing: whether to time all cells at the end.
        common_noise: whether all estimators of an objective share their noise.
        adapt_steps: largest number of steps in which the state of an estimator learns before the measurement.
        estimators: selectors, such as ``rloo:n=4``, of the estimators to measure.
        objectives: selectors of the objectives on which the estimators are measured.
        labels: display names, by selector, in figures and in tables for a paper, such as
            ``{"estimators": {"rloo:n=4": "RLOO"}}``; None for no such names.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Annotated[str, Field(pattern=r"^[\w+-][\w.+-]*$")] = "study"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    replicates: Annotated[int, Field(ge=1, le=MOST)] = 10_000
    precision: Annotated[float | None, Field(gt=0, lt=1)] = None
    max_replicates: Annotated[int, Field(ge=1, le=MOST)] = 1_000_000
    dtype: Literal["float32", "float64"] = "float32"
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    timing: bool = True
    common_noise: bool = True
    adapt_steps: Annotated[int, Field(ge=1, le=MOST)] = ADAPT_STEPS
    estimators: Annotated[tuple[Selector, ...], _selectors("estimator")]
    objectives: Annotated[tuple[Selector, ...], _selectors("objective")]
    labels: Annotated[dict[str, dict[str, str]] | None, BeforeValidator(_labels)] = None

    @model_validator(mode="after")
    def _labels_are_known(self) -> Self:
        """Refuse a label of an unknown name, unless the spec has classes of the user's own, whose names are unknown."""
        for key, names in (self.labels or {}).items():
            if not any(selector.is_own for selector in getattr(self, key)):
                _collect(partial(_selector, kind=KINDS[key]), names, lambda _: "labels: ")
        return self

    @classmethod
    def read(cls, path: Path, **overrides: Any) -> Spec:
        """Read a spec from a TOML file. Paths of users' files in the spec are relative to the folder of the TOML file.

        Args:
            path: the file; its stem is the default name of the study.
            overrides: values that replace the values in the file, by key.

        Raises:
            UsageError: the file is missing, is not TOML, or is not a spec. The message reports all errors.
        """
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            advice = "Give the path of a spec, which is a TOML file, or of a study folder."
            raise UsageError(f"{path} cannot be read: {error.strerror}. {advice}") from None
        except UnicodeDecodeError:
            raise UsageError(f"{path} is not text in UTF-8. Save it with this encoding.") from None
        except (ValueError, RecursionError) as error:  # also of numbers with thousands of digits
            said = error if isinstance(error, tomllib.TOMLDecodeError) else "its numbers or its nesting are too large"
            raise UsageError(f"{path} is not TOML: {said}.") from None
        return cls.placed({"name": path.stem, **table, **overrides}, path.parent, source=f"{path}: ")

    @classmethod
    def placed(cls, table: dict[str, Any], folder: Path, source: str = "") -> Spec:
        """Return the spec whose fields have the values in a table: ``{"seed": 1, "estimators": ["rloo"], ...}``.

        The table must have the estimators and the objectives; any other field that it leaves out has its default. Paths
        of users' files in the table are relative to ``folder``. The text ``source`` says where the table comes from.

        Raises:
            UsageError: the table is not a spec. The message begins with ``source`` and reports all errors.
        """
        spec = cls.of(table, source)
        return spec._each(lambda selector: selector.anchored(folder), *KINDS)

    @classmethod
    def of(cls, table: dict[str, Any], source: str = "") -> Spec:
        """Return the spec whose fields have the values in a table: ``{"seed": 1, "estimators": ["rloo"], ...}``.

        The table must have the estimators and the objectives; any other field that it leaves out has its default. The
        text ``source`` says where the table comes from.

        Raises:
            UsageError: the table is not a spec. The message begins with ``source`` and reports all errors.
        """
        try:
            return cls(**table)
        except ValidationError as error:
            raise UsageError(source + " ".join(_sentence(e) for e in error.errors())) from None

    @property
    def precision_target(self) -> PrecisionTarget | None:
        """The precision to reach and the limit of replicates; None if the number of replicates is fixed."""
        return None if self.precision is None else PrecisionTarget(self.precision, self.max_replicates)

    def settings(self) -> Settings:
        """Return the settings of each measurement. The spec's device must not be "auto"; ``on_device`` replaces it."""
        shared = type(self).model_fields.keys() & Settings.__dataclass_fields__.keys()
        return Settings(**{name: getattr(self, name) for name in shared})

    def with_samples(self, samples: tuple[int, ...]) -> Spec:
        """Return the spec with values of n for every estimator that has a parameter n and does not set n.

        ``samples`` are the values: with (2, 4), ``rloo`` becomes ``rloo:n=2,4``.
        """
        texts = tuple(map(str, samples))
        return self._completed("estimators", "n", lambda params: {"n": texts, **params})

    def with_point(self, at: str) -> Spec:
        """Return the spec with ``at`` set for every objective that has this parameter, unless the spec sets it already.

        ``at`` says at which weights to measure: "initial", "trained", a file of weights, or several of these joined by
        commas.

        Raises:
            UsageError: no objective has the parameter ``at``.
        """
        if not any(has_parameter(selector, "objective", "at") for selector in self.objectives):
            raise UsageError(
                f"--at {at} sets the field at, the weights at which to measure, and none of the objectives has it. Add "
                "-o gaussian-vae, or leave --at out. docs/training.md says how an objective of your own gets the field."
            )
        return self._completed("objectives", "at", lambda params: {**params, "at": tuple(at.split(","))})

    def extending(self, older: Spec) -> Spec:
        """Return this spec with the estimators and objectives of an older spec put before those of this spec.

        An estimator or objective of both specs comes only once. All other settings are those of this spec.
        """

        def joined(key: str) -> tuple[Selector, ...]:
            both = [selector.anchored(Path.cwd()) for spec in (older, self) for selector in getattr(spec, key)]
            return tuple({str(selector): selector for selector in both}.values())

        return self.model_copy(update={key: joined(key) for key in KINDS})

    def on_device(self) -> Spec:
        """Return the spec with the device "auto" replaced by "cuda" or "cpu".

        Raises:
            UsageError: the spec asks for CUDA, and there is no CUDA device.
        """
        if self.device == "cpu":
            return self
        import torch

        if torch.cuda.is_available():
            return self.model_copy(update={"device": "cuda"})
        if self.device == "cuda":
            raise UsageError("There is no CUDA device for --device cuda. Use --device cpu or auto; see `bench doctor`.")
        return self.model_copy(update={"device": "cpu"})

    def instances(self) -> tuple[list[Estimator], list[Objective]]:
        """Return the estimators and the objectives of the study, in the order of the selectors that name them.

        An instance that several selectors name comes only once.

        Raises:
            UsageError: unknown name, parameter or value. The message reports all errors.
        """
        return _instances(self.estimators, "estimator"), _instances(self.objectives, "objective")

    def to_toml(self, folder: Path | None = None) -> str:
        """Return the spec as TOML; keys that are None are left out.

        Paths of users' files become relative to ``folder``; if ``folder`` is None, the paths stay as they are.
        """
        lines = []
        for key in type(self).model_fields:
            value = getattr(self, key)
            if isinstance(value, tuple):
                texts = [str(selector.relative_to(folder) if folder else selector) for selector in value]
                lines += [f"{key} = [", *(f"  {_quoted(text)}," for text in texts), "]"]
            elif isinstance(value, dict):
                for kind, names in value.items():
                    lines += [
                        "",
                        f"[{key}.{kind}]",
                        *(f"{_quoted(text)} = {_quoted(name)}" for text, name in names.items()),
                    ]
            elif value is not None:
                lines.append(f"{key} = {json.dumps(value)}")
        return "\n".join(lines) + "\n"

    def to_table(self, folder: Path) -> dict[str, Any]:
        """Return the spec as a table of JSON, with selectors as texts; keys that are None are left out.

        Paths of users' files become relative to ``folder``.
        """
        table = {key: value for key in type(self).model_fields if (value := getattr(self, key)) is not None}
        return table | {key: [str(selector.relative_to(folder)) for selector in table[key]] for key in KINDS}

    def wrote(self, text: str, folder: Path) -> bool:
        """Return whether ``to_toml`` has written the TOML file with this spec; if not, a person has.

        ``text`` is the content of the file, and ``folder`` the folder of the file. The result is True if every line of
        the file is also a line of ``to_toml(folder)``. The file may lack lines of ``to_toml(folder)``, because earlier
        versions have written fewer keys.
        """
        return set(text.splitlines()) <= set(self.to_toml(folder).splitlines())

    def _each(self, change: Callable[[Selector], Selector], *keys: str) -> Spec:
        return self.model_copy(update={key: tuple(map(change, getattr(self, key))) for key in keys})

    def _completed(self, key: str, name: str, complete: Callable[[Params], Params]) -> Spec:
        """Return the spec with more parameters for all selectors under a key that have, but do not set, this one."""

        def completed(selector: Selector) -> Selector:
            wants = name not in selector.params and has_parameter(selector, KINDS[key], name)
            return replace(selector, params=complete(selector.params)) if wants else selector

        return self._each(completed, key)


def chosen(
    path: Path | None = None, estimators: Sequence[str] = (), objectives: Sequence[str] = (), **overrides: Any
) -> dict[str, Any]:
    """Return the values that the options of a command line set in place of the spec's own, by key.

    Args:
        path: the spec that the command line names. If it is None and selectors are given, the result also has a new
            name for the study, made of the selectors.
        estimators: selectors, such as ``rloo:n=4``, that replace the spec's estimators.
        objectives: selectors that replace the spec's objectives.
        overrides: values that replace the values in the spec, by key.

    Raises:
        UsageError: a selector has an unknown name.
    """
    named: dict[str, Any] = {}
    for (key, kind), texts in zip(KINDS.items(), (estimators, objectives), strict=True):
        if texts:
            found = _collect(partial(_selector, kind=kind), texts, lambda _: "")
            named[key] = [selector.anchored(Path()) for selector in found]
    name = {"name": _name(**named)} if path is None and named else {}
    return {**name, **named, **overrides}


def study(
    path: Path | None = None,
    estimators: Sequence[str] = (),
    objectives: Sequence[str] = (),
    samples: tuple[int, ...] | None = None,
    out: Path | None = None,
    **overrides: Any,
) -> tuple[Spec, Path]:
    """Return the spec and the study folder that a command line asks for.

    Args:
        path: a spec or a study folder; None for the default study.
        estimators: selectors, such as ``rloo:n=4``, that replace the spec's estimators.
        objectives: selectors that replace the spec's objectives.
        samples: values of n for every estimator that has a parameter n and does not set n; None for no change.
        out: the study folder; None for ``path`` if that is a folder, and for the folder of ``path`` if that is a
            ``spec.toml``. In all other cases, None stands for results/NAME, with the name of the spec.
        overrides: values that replace the values in the spec, by key.

    Raises:
        UsageError: the spec cannot be read, or a name or value is wrong.
    """
    path = path / FILE if path is not None and path.is_dir() else path
    spec = Spec.read(path or DEFAULT, **chosen(path, estimators, objectives, **overrides))
    home = path.parent if path is not None and path.name == FILE else Path("results") / spec.name
    return spec.with_samples(samples) if samples else spec, out or home


def _name(estimators: Sequence[Selector] = (), objectives: Sequence[Selector] = ()) -> str:
    """Return the name of a study chosen by selectors, such as ``rloo+disarm-on-default``."""

    def half(selectors: Sequence[Selector], noun: str) -> str:
        words = dict.fromkeys(re.split(r"[:./]", selector.name.removesuffix(".py"))[-1] for selector in selectors)
        return "+".join(words) if 0 < len(words) <= 3 else f"{len(words)}-{noun}" if words else "default"

    return f"{half(estimators, 'estimators')}-on-{half(objectives, 'objectives')}"


def _instances(selectors: tuple[Selector, ...], kind: Kind) -> list[Any]:
    grids = _collect(lambda selector: expand(selector, kind), selectors, lambda _: "")
    found: dict[str, Any] = {}
    for instance in chain(*grids):
        twin = found.setdefault(label(instance), instance)
        if type(twin) is not type(instance):
            why = "and records would mix them up. Rename one class."
            raise UsageError(f"Two {kind}s are called {label(instance)!r}, {why}")
    return list(found.values())


def _quoted(text: str) -> str:
    """Return a text as a string of TOML, which does not allow DEL, unlike JSON."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _sentence(error: Any) -> str:
    """Return one of pydantic's errors as ``path: what was expected (what came)``."""
    path = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"{path}: there is no such key.{did_you_mean(path, Spec.model_fields)}"
    if error["type"] == "missing":
        return f"{path}: give a list of selectors."
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    return f"{path}: {error['msg']} (got {error['input']!r})."
