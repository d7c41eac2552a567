"""The specs of a study folder: those of all commands that were given for it, from its plan and its ``spec.toml``.

``spec.toml`` is the spec of a measurement. The specs of training are in the plan alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.planning.catalogue import KINDS
from bench.planning.selectors import UsageError
from bench.planning.spec import FILE, Spec, chosen, study
from bench.records import files, plan
from bench.records.text import printable


def studies(
    path: Path | None = None,
    estimators: Sequence[str] = (),
    objectives: Sequence[str] = (),
    samples: tuple[int, ...] | None = None,
    out: Path | None = None,
    **overrides: Any,
) -> tuple[list[Spec], Path]:
    """Return the specs and the study folder that a command line asks for.

    There is one spec, unless ``path`` is a study folder to which several commands have written. Then there is one for
    each of these commands, and the options of the command line hold for all.

    Args:
        path: a spec or a study folder; None for the default study.
        estimators: selectors, such as ``rloo:n=4``, that replace the specs' estimators.
        objectives: selectors that replace the specs' objectives.
        samples: values of n for every estimator that has a parameter n and does not set n; None for no change.
        out: the study folder; None for ``path`` if that is a folder, and for the folder of ``path`` if that is a
            ``spec.toml``. In all other cases, None stands for results/NAME, with the name of the spec.
        overrides: values that replace the values in the specs, by key.

    Raises:
        UsageError: a spec cannot be read, or a name or value is wrong.
        Damaged: the plan of the folder cannot be read.
    """
    if path is None or not path.is_dir():
        spec, home = study(path, estimators, objectives, samples, out, **overrides)
        return [spec], home
    specs = specs_of(path, **chosen(path, estimators, objectives, **overrides))
    whole = [spec.with_samples(samples) if samples else spec for spec in specs]
    return [spec for position, spec in enumerate(whole) if spec not in whole[:position]], out or path


def specs_of(folder: Path, **overrides: Any) -> list[Spec]:
    """Return the specs of a study folder: one for each command that measures, the oldest first.

    The commands are listed in the folder's plan, a file with one line for each. But in two cases, the result is the
    spec in ``spec.toml`` alone: a person has written or edited this file, or the folder has no plan, because an older
    version made it.

    Args:
        folder: the study folder.
        overrides: values that replace the values in every spec, by key.

    Raises:
        UsageError: the folder has no spec of a measurement, or a spec cannot be read.
        Damaged: the plan cannot be read.
    """
    every = plan.read(folder)
    lines = [line for line in every if not plan.trains(line)]
    if every and not lines and not _text(folder):
        raise UsageError(f"{folder} holds training alone, and `bench train {folder}` goes on with it.")
    if not lines or _own(folder, lines):
        return [Spec.read(folder / FILE, **overrides)]
    return _specs(folder, lines, **overrides)


def trainings(folder: Path, **overrides: Any) -> list[tuple[Spec, dict[str, Any]]]:
    """Return what a study folder is to train: for each command, its spec and the table of its settings.

    The commands are those in the folder's plan, a file with one line for each command; the oldest comes first. A spec
    has the estimators, the objectives and the device of the training.

    Args:
        folder: the study folder.
        overrides: values that replace the values in every spec, by key.

    Raises:
        UsageError: the folder has no plan of training, or a spec cannot be read.
        Damaged: the plan cannot be read.
    """
    lines = [line for line in plan.read(folder) if plan.trains(line)]
    if not lines:
        advice = f"repeat the command that made it, with its -o and -e and --out {folder}"
        raise UsageError(f"{folder} has no plan of training, as older versions wrote none: {advice}.")
    placed = [{**line, "spec": {**line["spec"], "device": line["training"]["device"]}} for line in lines]
    return [(spec, line["training"]) for spec, line in zip(_specs(folder, placed, **overrides), lines, strict=True)]


def keep_training(folder: Path, spec: Spec, runs: Sequence[str], training: Mapping[str, Any]) -> None:
    """Add a command that trains to the plan of a study folder.

    The plan is a file with one line for each command.

    Args:
        folder: the study folder, which is open for writing.
        spec: has the estimators and objectives; nothing else in the spec is used.
        runs: the ids of the training runs.
        training: the settings, as ``bench.records.plan.TrainingTable``.

    Raises:
        Damaged: the plan cannot be read.
        OSError: the plan cannot be written.
    """
    plan.extend(folder, [plan.line_of(_table(spec, folder, training=True), runs, training=training)])


def keep(folder: Path, given: Sequence[tuple[Spec, Sequence[str]]]) -> list[dict[str, Any]]:
    """Add the specs of a command to the plan of a study folder, and return the new lines of the plan.

    The plan is a file with one line for each command that wrote to the folder. The last spec is also written to
    ``spec.toml``, unless a person has written that file or one of the specs is in it already. If the folder has no
    plan, the spec that an older version has left in ``spec.toml`` becomes the first line of the plan.

    Args:
        folder: the study folder, which is open for writing.
        given: each spec of the command, with the ids of its runs.

    Raises:
        Damaged: the plan cannot be read.
        OSError: a file cannot be written.
    """
    held, before = _text(folder), [line for line in plan.read(folder) if not plan.trains(line)]
    own = _own(folder, before)
    older = [Spec.read(folder / FILE)] if held and not before and not own else []
    lines = [plan.line_of(spec.to_table(folder), runs, by_hand=spec == own) for spec, runs in given]
    plan.extend(
        folder,
        [*(plan.line_of(spec.to_table(folder)) for spec in older if spec not in [each for each, _ in given]), *lines],
    )
    texts = [spec.to_toml(folder) for spec, _ in given]
    if not own and held not in texts:
        files.write(folder / FILE, texts[-1])
    return lines


def unite(folders: Iterable[Path], target: Path) -> None:
    """Add the plans of several study folders to the plan of the folder ``target``.

    A plan is a file with one line for each command that wrote to a folder. If a folder has no plan, its ``spec.toml``,
    if there is one, is taken for a plan of one line. If ``target`` has no ``spec.toml``, one is written: the last added
    spec of a command that measured estimators, not of one that trained.

    Raises:
        UsageError: a spec cannot be read.
        Damaged: a plan cannot be read.
        OSError: a file cannot be written.
    """
    found = list[tuple[Spec, dict[str, Any]]]()
    for folder in folders:
        lines = plan.read(folder)
        if not lines and _text(folder):
            lines = [plan.line_of(Spec.read(folder / FILE).to_table(folder))]
        found += zip(_specs(folder, lines), lines, strict=True)
    plan.extend(target, [{**line, "spec": _table(spec, target, training=plan.trains(line))} for spec, line in found])
    measured = [spec for spec, line in found if not plan.trains(line)]
    if measured and not _text(target):
        files.write(target / FILE, measured[-1].to_toml(target))


def _table(spec: Spec, folder: Path, *, training: bool) -> dict[str, Any]:
    """Return a spec as a line of the plan in ``folder`` has it: of training, only what is trained with what."""
    table = spec.to_table(folder)
    return {key: table[key] for key in ("name", *KINDS)} if training else table


def _specs(folder: Path, lines: Sequence[dict[str, Any]], **overrides: Any) -> list[Spec]:
    """Return the specs of the lines of a plan."""
    sources = [f"{folder / plan.FILE}, the line written at {printable(line['written'])}: " for line in lines]
    pairs = zip(lines, sources, strict=True)
    return [Spec.placed({**line["spec"], **overrides}, folder, source) for line, source in pairs]


def _text(folder: Path) -> str:
    """Return the text of a folder's ``spec.toml``; empty if there is none, or if a crash has left only zeros."""
    try:
        text = files.read(folder / FILE).decode("utf-8-sig", errors="replace")
    except FileNotFoundError:
        return ""
    return text if text.strip("\0 \r\n") else ""


def _own(folder: Path, lines: Sequence[dict[str, Any]]) -> Spec | bool:
    """Return the spec in the ``spec.toml`` that a person has written or edited; True if it is no spec.

    The result is False if there is no such file, or if it is as a command has left it. ``lines`` are those of the plan.
    """
    text = _text(folder)
    if not text:
        return False
    try:
        spec = Spec.read(folder / FILE)
    except UsageError:
        return True
    table = spec.to_table(folder)
    written = [line["spec"] for line in lines if not line["by_hand"]]
    is_one = any(all(table.get(key) == value for key, value in each.items()) for each in written)
    return spec if not spec.wrote(text, folder) or (lines and not is_one) else False
