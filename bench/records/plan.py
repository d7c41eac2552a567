"""The plan of a study folder: ``plan.jsonl`` has a line for each command that was given for the folder. No torch.

The file only ever grows. A line holds the spec of the command and the ids of the runs that it asks for. So a folder of
several specs never becomes the product of all their estimators, objectives and settings. A run is a measurement or, in
a line of ``bench train``, a training run.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from bench.records import files, shapes
from bench.records.environment import version
from bench.records.lines import Damaged, Newer, dumps
from bench.records.text import printable

FILE = "plan.jsonl"
"""Name of the plan inside a study folder."""
SCHEMA = 2
"""Newest version of the keys of a line. A reader refuses lines of a newer version.

A line of measurements has version 1, and a line of training 2: a reader of version 1 would measure what it asks for.
"""
REPAIR = "Restore the file, or move that line aside with `bench verify --repair`."


@with_config(shapes.Config)
class SpecTable(TypedDict):
    """A spec as a table of JSON: what a command measures, and how.

    Each selector is a text, such as ``rloo:n=2``. Keys that this class lacks are not checked.
    """

    estimators: list[str]
    objectives: list[str]


@with_config(shapes.Config)
class TrainingTable(TypedDict):
    """The settings of a command that trains, and whether it keeps the final weights of each run.

    ``bench.training.settings.Training`` explains and checks the settings. Keys that this class lacks are not checked.
    """

    steps: shapes.Count
    seeds: shapes.Count
    optimizer: str
    rate: float
    measure_every: shapes.Count | None
    replicates: shapes.Whole
    dtype: str
    device: str
    keep_weights: bool


@with_config(shapes.Config)
class Line(TypedDict):
    """One line of a plan, the file that lists the commands given for a study folder. A line is one command.

    ``spec`` is what the command measures or trains. ``by_hand`` says whether a person has written this spec, in the
    file ``spec.toml`` of the folder. ``runs`` are the ids of the runs that the command asks for. A run is one
    measurement, one training run, or one pilot, which finds how many replicates a wanted precision needs. ``runs`` is
    empty if the runs are not known, as in a folder that an older version wrote. ``training`` has the settings of a
    command that trains; the key is missing if the command measures.
    """

    schema: Annotated[int, Field(ge=1)]
    spec: SpecTable
    runs: list[Annotated[str, Field(pattern="^[0-9a-f]{16}$")]]
    by_hand: bool
    training: NotRequired[TrainingTable]
    stochgrad_bench: str | None
    written: str


def line_of(
    spec: Mapping[str, Any],
    runs: Sequence[str] = (),
    *,
    by_hand: bool = False,
    training: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a new line for the plan of a study folder, the file that lists the commands given for the folder.

    The line is one command, with the present time.

    Args:
        spec: what the command measures or trains, as a table of JSON.
        runs: the ids of the runs of the spec, if they are known.
        by_hand: whether a person has written the spec to the ``spec.toml`` of the folder.
        training: a ``TrainingTable`` if the command trains; None if it measures.
    """
    how = {} if training is None else {"training": dict(training)}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    made = {"stochgrad_bench": version("stochgrad-bench"), "written": now}
    return {"schema": 2 if how else 1, "spec": dict(spec), "runs": list(runs), "by_hand": by_hand, **how, **made}


def trains(line: Mapping[str, Any]) -> bool:
    """Return whether a line of the plan is of a command that trains, not of one that measures."""
    return "training" in line


def read(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a folder's plan, in their order; none if the folder has no plan.

    Lines with equal specs and equal settings of training differ in their run ids if the code has changed in between.
    Only the last of such lines is returned. A last line that a crash has cut short is left out.

    Raises:
        Damaged: a line is broken, or has a newer schema.
        Unreadable: the file cannot be read.
    """
    found = (parsed(text, folder, number) for number, text in raw_lines(folder))
    return latest(line for line in found if line is not None)


def latest(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the lines of a plan that count: of lines with equal specs and equal settings of training, the last."""
    return list({_key(line): line for line in lines}.values())


def raw_lines(folder: Path) -> list[tuple[int, bytes]]:
    """Return the number and the bytes of each line of a folder's plan, without line feeds; the first number is 1.

    If the last line has no line feed and is not JSON, a crash has cut it short, and it is left out.

    Raises:
        Unreadable: the file cannot be read.
    """
    try:
        lines = files.read(folder / FILE, follow=False).split(b"\n")
    except FileNotFoundError:
        return []
    try:
        json.loads(lines[-1])
    except (ValueError, RecursionError):
        lines.pop()
    return list(enumerate(lines, 1))


def parsed(text: bytes, folder: Path, number: int) -> dict[str, Any] | None:
    """Return the content of a line of the plan, as a dictionary; None if the line is empty.

    ``folder`` and ``number``, the number of the line, are for the error message.

    Raises:
        Damaged: the text is not a line of a plan, or has a newer schema.
    """
    place = f"{folder / FILE}, line {number},"
    if not text.strip():
        return None
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        raise Damaged(f"{place} is not JSON. {REPAIR}") from None
    schema = line.get("schema") if isinstance(line, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        writer = printable(str(line.get("stochgrad_bench")))[:30]
        newer = f"has schema {str(schema)[:30]} (written by stochgrad-bench {writer}), and this version reads up to"
        raise Newer(f"{place} {newer} {SCHEMA}. Install a newer stochgrad-bench.")
    try:
        _adapter().validate_python(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = printable(".".join(map(str, first["loc"])))[:100] or "its start"
        raise Damaged(f"{place} is damaged at {where}: {first['msg']}. {REPAIR}") from None
    return dict(line)


@cache
def _adapter() -> TypeAdapter[Line]:
    return TypeAdapter(Line)


def extend(folder: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Add lines to a folder's plan, completely or not at all. Lines that the plan holds already are not added.

    A new line is compared with one line of the plan: the last of those with the same spec and the same settings of
    training. If both name the same runs, the plan holds the new line already. The lines before the added ones keep
    their bytes.

    Raises:
        Damaged: the plan cannot be read.
        OSError: the plan cannot be written.
    """
    held = {_key(line): line["runs"] for line in read(folder)}
    new = list[str]()
    for line in lines:
        if held.get(_key(line)) != line["runs"]:
            held[_key(line)] = line["runs"]
            new.append(f"{dumps(dict(line))}\n")
    if new:
        before = b"".join(text + b"\n" for _, text in raw_lines(folder))
        files.write(folder / FILE, before + "".join(new).encode())


def _key(line: Mapping[str, Any]) -> str:
    """Return what tells two commands apart: the settings of the training, and the spec without the study's name."""
    spec = {key: value for key, value in line["spec"].items() if key != "name"}
    return json.dumps([spec, line.get("training")], sort_keys=True)
