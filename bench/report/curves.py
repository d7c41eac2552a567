"""Records of training as curves: the value of the objective under each estimator, by step, evaluation and second."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.records.labels import labelled
from bench.records.lines import LineKind, Outcome
from bench.report.frame import files
from bench.stats.seeds import SeedSummary, across_seeds
from bench.stats.summary import HEAVY

Array = NDArray[np.float64]
Record = Mapping[str, Any]

SETTINGS = ("dtype", "device", "steps", "optimizer", "learning_rate", "replicates", "looks")
"""Keys of a training record; runs are compared only if they agree in all of these."""
SETTING_TEXTS = {
    "steps": "{:,} steps",
    "learning_rate": "learning rate {:g}",
    "replicates": "R={:,}",
    "looks": "{} checkpoints",
}


@dataclass(frozen=True, eq=False)
class Curves:
    """The training runs of one estimator on one objective. Arrays are ``[seeds, checkpoints]`` unless stated otherwise.

    Args:
        estimator: the estimator's label.
        name: the estimator's command-line name.
        seeds: the seed of each run.
        step: the optimizer's step at each checkpoint, ``[checkpoints]``.
        evaluations: evaluations of f up to each checkpoint, ``[checkpoints]``. With minibatches, they are those for one
            element of the minibatch. Evaluations that train the estimator's own state are included.
        seconds: seconds of training up to each checkpoint, the median over runs that have not diverged,
            ``[checkpoints]``.
        value: value of the objective. After a run has diverged, the value is +∞ at all further checkpoints if the
            objective is minimised, and −∞ if it is maximised.
        training_value: mean of the estimator's own values of the objective since the previous checkpoint; NaN at the
            first checkpoint.
        variance: variance of the gradient; its lower limit if the tail is heavy, NaN if it is unknown.
        heavy: whether the number in ``variance`` is a lower limit.
        lines: the record of each run, in the order of ``seeds``.
    """

    estimator: str
    name: str
    seeds: list[int]
    step: Array
    evaluations: Array
    seconds: Array
    value: Array
    training_value: Array
    variance: Array
    heavy: NDArray[np.bool_]
    lines: list[Record]

    @property
    def final(self) -> SeedSummary:
        """Value of the objective at the end of training, summarised over the seeds."""
        return across_seeds(self.value[:, -1])

    @property
    def diverged(self) -> int:
        """Number of training runs that have diverged."""
        return sum(line["outcome"] == Outcome.DIVERGED for line in self.lines)

    def at(self, evaluations: float) -> Array:
        """Return the value of the objective in each run after a number of evaluations of f, ``[seeds]``.

        ``evaluations`` is this number; with minibatches, it is the number for one element of the minibatch. It includes
        evaluations that train the estimator's own state. Between two checkpoints the value is interpolated linearly.
        """
        place = float(np.interp(evaluations, self.evaluations, np.arange(self.evaluations.size)))
        before, after, part = self.value[:, int(place)], self.value[:, -int(-place // 1)], place % 1
        return before if part == 0 else np.where(np.isfinite(after), before + part * (after - before), after)


@dataclass(frozen=True, eq=False)
class Problem:
    """One objective with one choice of training settings, and the results of every estimator that was trained on it.

    Args:
        title: the objective's label. If a study trained the objective with several settings, the settings that differ
            follow in brackets.
        maximise: whether a larger value of the objective is better.
        curves: the results of each estimator, in the order of the records.
        line: one of the training records, for the keys that all of them share.
    """

    title: str
    maximise: bool
    curves: list[Curves]
    line: Record

    @property
    def budget(self) -> float:
        """The smallest number of evaluations of f that the training with one of the estimators took.

        With minibatches, the evaluations for one element of the minibatch are counted.
        """
        return min(float(c.evaluations[-1]) for c in self.curves)

    @property
    def ranked(self) -> list[Curves]:
        """The curves, the best estimator first: sorted by the median over seeds of the objective's final value."""
        return sorted(self.curves, key=lambda c: -c.final.median if self.maximise else c.final.median)


def problems(records: Sequence[Record]) -> list[Problem]:
    """Return a ``Problem`` for each objective and choice of training settings in a study's training records.

    The problems are in the order of the records.
    """
    groups: dict[Any, list[Record]] = {}
    line: Record
    for line in labelled(records):
        if line["kind"] != LineKind.TRAINING or line["outcome"] not in (Outcome.MEASURED, Outcome.DIVERGED):
            continue
        own = (files(line), *map(_plain, (line[key] for key in SETTINGS)))
        groups.setdefault((line["objective"], *own), []).append(line)
    found = []
    for (objective, *own), group in groups.items():
        others = [settings for (name, *settings) in groups if name == objective]
        varying = [i for i in range(len(own)) if len({o[i] for o in others}) > 1]
        shown = [_setting(("files", *SETTINGS)[i], own[i]) for i in varying]
        title = f"{objective} ({', '.join(shown)})" if shown else objective
        each: dict[str, list[Record]] = {}
        for line in sorted(group, key=lambda r: r["seed"]):
            each.setdefault(line["estimator"], []).append(line)
        order = dict.fromkeys(line["estimator"] for line in group)
        maximise = bool(group[0]["maximise"])
        found.append(Problem(title, maximise, [_curves(each[name], maximise) for name in order], group[0]))
    return found


def _setting(key: str, value: Any) -> str:
    return SETTING_TEXTS.get(key, "{}").format(len(value) if key == "looks" else value)


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | np.ndarray) else value


def _curves(lines: list[Record], maximise: bool) -> Curves:
    first, length = lines[0], len(lines[0]["looks"])
    worst = -np.inf if maximise else np.inf

    def grid(key: str, missing: float) -> Array:
        rows = np.full((len(lines), length), missing)
        for row, line in zip(rows, lines, strict=True):
            seen = np.array([np.nan if v is None else v for v in line["curves"].get(key, ())], dtype=np.float64)
            row[: seen.size] = seen
        return rows

    value = grid("value", worst)
    for row, line in zip(value, lines, strict=True):
        if line["outcome"] == Outcome.DIVERGED:
            row[min(len(line["curves"]["value"]), length - 1) :] = worst
    heavy = np.zeros((len(lines), length), dtype=bool)
    for marks, line in zip(heavy, lines, strict=True):
        statuses = line["curves"].get("variance_status", ())
        marks[: len(statuses)] = [status in HEAVY for status in statuses]
    step, seconds = np.array(first["looks"], dtype=np.float64), grid("training_seconds", np.nan)
    return Curves(
        estimator=first["estimator"],
        name=first["estimator_name"],
        seeds=[line["seed"] for line in lines],
        step=step,
        evaluations=step * (first["f_evals"] + first["adapt_f_evals"]),
        seconds=np.array([np.median(v[~np.isnan(v)]) if not np.isnan(v).all() else np.nan for v in seconds.T]),
        value=value,
        training_value=grid("training_value", np.nan),
        variance=np.where(heavy, grid("variance_low", np.nan), grid("variance", np.nan)),
        heavy=heavy,
        lines=lines,
    )


def picture(held: Mapping[str, Any]) -> Array:
    """Return a stack of grey images, ``[..., h, w]``, with values from 0 to 1.

    ``held`` is the entry of a record that stores them: under "grey", the bytes of all pixels in base64; under "shape",
    the shape of the stack.
    """
    grey = np.frombuffer(base64.b64decode(held["grey"]), dtype=np.uint8)
    return np.asarray(grey.reshape(held["shape"]) / 255, dtype=np.float64)
