"""Baselines: the accepted statistics of every cell, in a small file that is committed. Imports no torch.

The file has one line per cell, sorted, with all digits of every float, so a diff shows which cells changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator

from bench.planning.selectors import parse
from bench.planning.settings import MOST, SMALLEST_DRAW, Settings
from bench.records.environment import commit_of, environment
from bench.records.lines import Record, plain
from bench.records.text import printable
from bench.stats.gate import ALPHA_BIAS, GateCell, is_heavy, smallest_bias
from bench.stats.quantiles import normal_quantile

SCHEMA = 4
"""Version of the file's format; a newer version is refused. Version 3 lacks given gradients, version 2
calls the scale ``gain``, version 1 lacks it, and the numbers of evaluations, too."""
BIASED = 1e-6
"""A bias is beyond doubt if the p-value of its test is below this."""
SETTING = ("replicates", "seed", "dtype", "device", "common_noise")
"""The settings that a baseline keeps, in the order of the file."""
ENVIRONMENT = ("commit", "stochgrad_bench", "torch", "numpy", "python", "platform", "cpu", "cpu_capability")
FACTS = ("cell", "unbiased", "deterministic", "fingerprint", "size", "f_evals", "grad_evals")
"""The keys of a record that an entry holds, besides those of its summary."""
Count = Annotated[int, Field(ge=SMALLEST_DRAW, le=MOST)]
Positive = Annotated[float, Field(ge=0)]


def _parsed(text: str) -> str:
    """Return the text of a selector unchanged, or raise ``UsageError``."""
    parse(text)
    return text


Spelled = Annotated[str, AfterValidator(_parsed)]
Text = Annotated[str, AfterValidator(printable)]


class _Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Entry(_Plain):
    """One cell (an estimator on an objective) of a baseline: its selectors, its declared facts and its statistics.

    A baseline is the gate's file of accepted statistics. Let g* be the exact gradient, Σ the covariance of one
    gradient, and w the squared distance of one gradient from the mean gradient. The variance is the mean of w. A field
    is None if its value is unknown.

    Args:
        estimator: selector of one estimator, such as ``rloo:n=4``, with paths of users' files relative to the
            baseline's folder.
        objective: selector of one objective, with paths relative to the baseline's folder.
        cell: id of the cell, 16 hexadecimal digits.
        unbiased: whether the estimator is declared unbiased.
        deterministic: whether the estimator is declared to have no noise.
        fingerprint: digest that identifies the gradients of the first 8 draws (batches of replicates).
        replicates: number of replicates.
        size: number of coordinates of a gradient.
        status: how far the variance can be trusted, in a word such as ``OK``.
        variance: the variance, with its 95 % limits ``variance_low`` and ``variance_high``.
        cv2: variance/mean² of w; ``skewness`` and ``kurtosis`` are also those of w.
        rho: tr Σ²/(tr Σ)².
        khat: tail index of w; None if the largest w have too few distinct values to estimate it.
        float_floor: a variance below this may be rounding alone.
        truncated_at: c0, the 99 % quantile of w. If w has a heavy tail, half the squared distance of two gradients
            takes the place of w, here and in the next two fields (``bench.gate.pairs``).
        truncated_mean: mean of min(w, c0).
        truncated_cv2: variance/mean² of min(w, c0); doubled if w has a heavy tail.
        bias_norm: distance of the mean gradient from g* or, if g* is unknown, from a measured gradient in its place.
        bias_squared: unbiased estimate of the squared bias; it may be negative.
        bias_bound: upper bound of the norm of the bias.
        p_bias: p-value of "no bias".
        speed: log(cost) in each of several fresh processes; cost is the time of the estimator, divided by the time of
            one sample and one evaluation of f.
        f_evals: evaluations of f per estimate.
        grad_evals: evaluations of df/dx per estimate.
        exact_norm: norm of g*.
        scale: component of the mean gradient along g*, divided by the norm of g*: 1.03 if it is 3 % too long. Its 95 %
            limits are ``scale_low`` and ``scale_high``.
    """

    estimator: Spelled
    objective: Spelled
    cell: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
    unbiased: bool
    deterministic: bool
    fingerprint: Text
    replicates: Count
    size: Annotated[int, Field(ge=1)]
    status: Text
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
    f_evals: Positive | None = None
    grad_evals: Positive | None = None
    exact_norm: Positive | None = None
    scale: float | None = None
    scale_low: float | None = None
    scale_high: float | None = None

    @property
    def label(self) -> str:
        """Label such as ``rloo:n=4 on gaussian-quadratic``."""
        return f"{self.estimator} on {self.objective}"

    @property
    def gate(self) -> GateCell:
        """The statistics that the gate tests.

        The variance is 0 if the estimator is declared deterministic and varies by rounding alone.
        """
        shared = GateCell.__dataclass_fields__.keys() & Entry.model_fields.keys()
        found = GateCell(**{name: getattr(self, name) for name in shared})
        rounding = self.deterministic and self.variance <= self.float_floor
        return replace(found, variance=0.0) if rounding else found

    @property
    def is_heavy(self) -> bool:
        """Whether only the truncated variance can be compared.

        The reason is a heavy tail in the distribution of the squared norms of centred gradients.
        """
        return is_heavy(self.khat)

    @property
    def sees_bias(self) -> bool:
        """Whether a bias could be detected: there is a gradient to compare with, and the variance seems finite."""
        return self.p_bias is not None and (self.khat is None or self.khat < 1)

    @property
    def is_surely_biased(self) -> bool:
        """Whether the estimator is declared unbiased although its bias is beyond doubt (p-value below 1e-6)."""
        return self.unbiased and self.p_bias is not None and self.p_bias < BIASED

    @property
    def evaluations(self) -> tuple[float, float] | None:
        """Evaluations of f and of df/dx per estimate; None if the baseline does not hold these numbers."""
        return None if self.f_evals is None or self.grad_evals is None else (self.f_evals, self.grad_evals)

    def smallest_bias(self, *, screening: int, confirming: int, cells: int) -> float | None:
        """Return the smallest relative error along the exact gradient that a check finds with probability 0.9.

        A mean gradient of 1.03 times the exact gradient has the relative error 0.03. A check measures a cell in a first
        stage and, if it looks suspicious, again in a second stage. The result is None if the bias is not tested, or if
        the entry lacks ``scale_low`` or ``scale_high``.

        Args:
            screening: replicates of the first stage of a check.
            confirming: replicates of the second stage.
            cells: number of entries in the whole baseline file.
        """
        if (
            not (self.unbiased and self.sees_bias and self.exact_norm)
            or self.scale_low is None
            or self.scale_high is None
        ):
            return None
        error = (self.scale_high - self.scale_low) / (2 * normal_quantile(0.975))
        return smallest_bias(
            error,
            self.replicates,
            cv2=self.cv2,
            size=self.size,
            screening=screening,
            confirming=confirming,
            cells=cells,
            alpha=ALPHA_BIAS,
        )

    def untruncated(self) -> Entry:
        """Return a copy without the statistics of the truncated variance.

        ``truncated_at``, ``truncated_mean`` and ``truncated_cv2`` are None in the copy.
        """
        return self.model_copy(update=dict.fromkeys(("truncated_at", "truncated_mean", "truncated_cv2")))

    @property
    def said(self) -> str:
        """The variance as text, such as ``2.31``, or its lower limit, such as ``≥ 1.7``.

        The limit is given if the squared norms of centred gradients have a heavy tail.
        """
        return f"≥ {self.variance_low:.3g}" if self.is_heavy else f"{self.variance:.4g}"

    @property
    def log_cost(self) -> float | None:
        """Median of log(cost) over the timed processes; None if there are none.

        The cost is the time of the estimator, divided by the time of one sample and one evaluation of f.
        """
        return median(self.speed) if self.speed else None


def _stored(given: Any) -> Settings:
    """Return the settings that a baseline keeps, from the table in its file or from a measurement's settings."""
    table = {key: getattr(given, key) for key in SETTING} if isinstance(given, Settings) else given
    if not isinstance(table, dict) or set(table) != set(SETTING):
        raise ValueError(f"give {', '.join(SETTING)} and nothing else (got {table!r}).")
    settings = Settings(**table)
    if settings.replicates < SMALLEST_DRAW:
        raise ValueError(f"replicates is at least {SMALLEST_DRAW} in a baseline (got {settings.replicates}).")
    if settings.seed >= 2**63:
        raise ValueError(f"seed is below 2^63 (got {settings.seed}).")
    if not isinstance(settings.common_noise, bool):
        raise ValueError(f"common_noise is true or false (got {settings.common_noise!r}).")
    return settings


class Baseline(_Plain):
    """The gate's file of accepted statistics: settings, the environment of the measurement, and one entry per cell.

    A cell is an estimator on an objective. Entries are sorted by objective and estimator. ``setting.replicates`` is the
    requested number of replicates; each entry has the number that was measured. ``given`` tells whether the gradients
    were made elsewhere, such as in JAX. If so, an entry names its estimator and its objective by any text. Otherwise it
    names them by selectors, such as ``rloo:n=4``.
    """

    setting: Annotated[Settings, PlainValidator(_stored)]
    environment: dict[Text, Text | None]
    cells: tuple[Entry, ...]
    given: bool = False

    def entry(self, cell: str) -> Entry | None:
        """Return the entry of the cell with the id ``cell``; None if the baseline has no such entry.

        A cell is an estimator on an objective.
        """
        return next((entry for entry in self.cells if entry.cell == cell), None)

    def text(self) -> str:
        """Return the baseline (the accepted statistics) in the format of its file: JSON with one line per cell.

        A file of an older version lacks newer fields, such as ``f_evals``. The text of a baseline that was read from
        such a file lacks the same fields.
        """
        setting = {key: getattr(self.setting, key) for key in SETTING}
        head = {"schema": SCHEMA, "setting": setting, "environment": self.environment}
        head |= {"given": True} if self.given else {}
        lines = [f'  "{key}": {json.dumps(value, ensure_ascii=False)},\n' for key, value in head.items()]
        kept = (cell.model_dump(exclude_unset=True) for cell in self.cells)
        cells = ",\n".join(f"    {json.dumps(cell, ensure_ascii=False, allow_nan=False)}" for cell in kept)
        return f'{{\n{"".join(lines)}  "cells": [\n{cells}\n  ]\n}}\n'


def assemble(setting: Settings, entries: Iterable[Entry], *, given: bool = False) -> Baseline:
    """Return a baseline, the file of accepted statistics, that consists of ``entries``, one for each cell.

    The entries are sorted by objective and estimator. ``setting`` has the settings with which they were measured. The
    baseline also gets the present environment and the commit of the user's code. ``given`` tells whether the gradients
    were made elsewhere, such as in JAX.
    """
    made_with = {key: environment()[key] for key in ENVIRONMENT} | {"commit": commit_of(Path())}
    cells = tuple(sorted(entries, key=lambda entry: (entry.objective, entry.estimator)))
    return Baseline(setting=setting, environment=made_with, cells=cells, given=given)


def entry_of(line: Record, estimator: str, objective: str, speed: Sequence[float] | None = None) -> Entry:
    """Return the baseline entry made from a moments record with outcome "measured".

    A baseline is the gate's file of accepted statistics, one entry per cell (an estimator on an objective).

    Args:
        line: the moments record, which holds the bias, the variance and the other statistics of one cell.
        estimator: selector of the estimator, such as ``rloo:n=4``, with the path of a user's file relative to the
            baseline's folder.
        objective: selector of the objective, with the path of a user's file relative to the baseline's folder.
        speed: log(cost), one value for each process that timed the cell; None if it was not timed. The cost is the time
            of the estimator, divided by the time of one sample and one evaluation of f.
    """
    facts = {name: line[name] for name in FACTS}
    summary = plain(line["summary"])
    statistics = {name: summary[name] for name in Entry.model_fields if name in summary and name not in facts}
    if statistics["variance"] is None:  # a heavy tail: the sample variance tells at least that something varied
        squares = np.asarray(line["sums"]["coordinate"]["M2"], dtype=np.float64)
        statistics["variance"] = float(squares.sum()) / (summary["replicates"] - 1)
    return Entry(
        estimator=estimator, objective=objective, speed=tuple(speed) if speed else None, **(facts | statistics)
    )
