"""The Python interface: ``measure(estimator, objective) -> Measurement``."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from html import escape
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from bench.measurement import reference
from bench.measurement.engine import Engine
from bench.measurement.given import Given, measure_given, read
from bench.measurement.moments import measure_moments
from bench.measurement.objective_checks import check_own
from bench.measurement.pilot import run_pilot, with_precision
from bench.measurement.threads import single_thread
from bench.measurement.timing import measure_timing
from bench.objectives import Objective
from bench.planning.cells import Cell, mismatch
from bench.planning.settings import ADAPT_STEPS, Settings
from bench.planning.user_code import set_apart
from bench.records.lines import Record
from bench.report.frame import shared_note
from bench.stats import PrecisionTarget, Summary
from bench.stats.printing import format_bias, format_direction, format_estimate, format_variance
from bench.stats.quantiles import t_quantile
from bench.stats.summary import FOUND, HEAVY, BiasVerdict
from bench.stats.variance import rounded_up
from estimators import Estimator, Refusal

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Measurement:
    """The result of ``measure``: the statistics of one estimator on one objective.

    ``print`` shows a measurement as one line; a notebook shows it as a table. ``frame`` returns the numbers.

    Args:
        cell: the estimator and the objective; None if the gradients were made elsewhere, such as in JAX.
        record: the record of the gradients' mean, variance and bias.
        timing: the record of the seconds; None if nothing was timed.
    """

    cell: Cell | None
    record: Record
    timing: Record | None = None

    @functools.cached_property
    def summary(self) -> Summary:
        """All statistics of the measured estimator on its objective, computed from the gradient estimates."""
        return Summary.from_json(self.record["summary"])

    @property
    def replicates(self) -> int:
        """Number R of independent calls of the estimator."""
        return int(self.record["replicates"])

    @property
    def variance(self) -> float | None:
        """Total variance of one estimate: the trace of its covariance; None if ``status`` says that the tail is heavy.

        For a heavy tail only a lower limit is known: the first number in ``variance_interval``.
        """
        return self.summary.variance

    @property
    def variance_interval(self) -> tuple[float, float | None]:
        """Lower and upper 95 % limit of the variance. The upper limit is None if ``status`` says that none is known."""
        return self.summary.variance_low, self.summary.variance_high

    @property
    def mean(self) -> dict[str, Tensor]:
        """Mean of the gradient estimates, as float64 tensors with the names and shapes of theta."""
        return self._shaped(self.record["mean"])

    @property
    def exact(self) -> dict[str, Tensor] | None:
        """Exact gradient, as float64 tensors with the names and shapes of theta; None if it is not known."""
        return None if self.record["exact"] is None else self._shaped(self.record["exact"])

    @property
    def bias_bound(self) -> float | None:
        """95 % upper bound on the Euclidean norm of the bias; None if the bias cannot be bounded.

        There are three reasons for None:

        - there is neither an exact gradient nor a long run of another estimator to compare with;
        - the variance seems infinite;
        - all estimates were equal although the estimator is not deterministic.
        """
        return self.summary.bias_bound

    @property
    def verdict(self) -> str:
        """What is known about the bias, as a word such as ``BIASED``, ``UNBIASED_WITHIN_TOL`` or ``INCONCLUSIVE``."""
        return self.summary.verdict

    @property
    def scale(self) -> float | None:
        """Component of the mean gradient along the exact one, divided by the norm of the exact one: 1 without a bias.

        The result is None if the exact gradient is 0, or if there is nothing to compare the mean gradient with.
        """
        return self.summary.scale

    @property
    def scale_interval(self) -> tuple[float, float] | None:
        """Lower and upper 95 % limit of ``scale``; None if ``scale`` is None, or if nothing varied."""
        low, high = self.summary.scale_low, self.summary.scale_high
        return None if low is None or high is None else (low, high)

    @property
    def angle(self) -> float | None:
        """Angle between the mean gradient and the exact one in degrees, corrected for noise.

        The result is None if theta has only one coordinate, if the exact gradient is 0, or if there is nothing to
        compare the mean gradient with.
        """
        return self.summary.angle

    @property
    def angle_interval(self) -> tuple[float, float] | None:
        """Lower and upper 95 % limit of ``angle``, in degrees; None if there are none.

        The lower limit is 0 unless a wrong direction was found. There are no limits if ``angle`` is None, if nothing
        varied, or if the variance seems infinite.
        """
        low, high = self.summary.angle_low, self.summary.angle_high
        return None if low is None or high is None else (low, high)

    @property
    def direction(self) -> str | None:
        """Whether the mean gradient has the scale and the direction of the exact gradient, in a word.

        The word is ``unbiased``, ``scaled`` (only the scale is wrong), ``turned``, ``points away`` or ``undecided``.
        The result is None if ``bias_bound`` is None, or if the exact gradient is 0.
        """
        return self.summary.direction

    @property
    def status(self) -> str:
        """Whether the variance can be trusted, in a word such as ``OK`` or ``HEAVY_TAIL``."""
        return self.summary.status

    @property
    def f_evals(self) -> float:
        """Number of evaluations of f per estimate."""
        return float(self.record["f_evals"])

    @property
    def grad_evals(self) -> float:
        """Number of evaluations of df/dx per estimate."""
        return float(self.record["grad_evals"])

    @property
    def seconds(self) -> float | None:
        """Seconds per estimate when estimates are computed in batches; None if nothing was timed."""
        return None if self.timing is None else float(self.timing["seconds"])

    def frame(self, by: Literal["tensor", "coordinate"] = "tensor") -> pd.DataFrame:
        """Return the numbers as a pandas frame. A number that is unknown is NaN.

        With ``by="tensor"`` there is one row ``all`` and, if theta has several tensors, one row for each tensor. The
        columns are ``size``, the number of coordinates; the total ``variance`` of one estimate; its 95 % interval,
        ``variance_low`` and ``variance_high``; and ``status``, which says whether the variance can be trusted.

        With ``by="coordinate"`` there is one row for each coordinate of theta, by tensor and position. The columns are
        the ``mean`` gradient; its 95 % interval for this coordinate alone, ``mean_low`` and ``mean_high``; the
        ``exact`` gradient; and the ``variance`` of one estimate.

        Args:
            by: what a row is, "tensor" or "coordinate".

        Raises:
            ValueError: ``by`` is neither "tensor" nor "coordinate".
        """
        import pandas as pd  # slow to import, and only needed here

        if by == "tensor":
            keys = ("size", "variance", "variance_low", "variance_high", "status")
            rows = [[group[key] for key in keys] for group in self._groups.values()]
            found = pd.DataFrame(rows, index=pd.Index(self._groups, name="tensor"), columns=list(keys))
            return found.astype({key: float for key in keys if key.startswith("variance")})
        if by == "coordinate":
            places = pd.MultiIndex.from_tuples(self._places(), names=["tensor", "position"])
            return pd.DataFrame(self._coordinates(), index=places)
        raise ValueError(f"by is 'tensor' or 'coordinate' (got {by!r}).")

    @property
    def _groups(self) -> dict[str, dict[str, Any]]:
        """Return the variance of all and of every tensor."""
        keys = ("size", "variance", "variance_low", "variance_high", "status")
        total = {key: getattr(self.summary, key) for key in keys}
        return {"all": total} | (self.summary.groups if len(self.summary.groups) > 1 else {})

    def _places(self) -> list[tuple[str, str]]:
        """Return tensor and position of every coordinate."""
        shapes = self.record["shapes"].items()
        return [(name, ",".join(map(str, at))) for name, shape in shapes for at in np.ndindex(*shape)]

    def _coordinates(self) -> dict[str, Any]:
        count, mean = self.replicates, np.asarray(self.record["mean"], dtype=np.float64)
        variance = np.asarray(self.record["sums"]["coordinate"]["M2"], dtype=np.float64) / (count - 1)
        if self.status in HEAVY:
            variance = np.full_like(mean, np.nan)
        half = t_quantile(0.975, count - 1) * np.sqrt(variance / count)
        exact = self.record["exact"]
        return {
            "mean": mean,
            "mean_low": mean - half,
            "mean_high": mean + half,
            "exact": np.full_like(mean, np.nan) if exact is None else np.asarray(exact, dtype=np.float64),
            "variance": variance,
        }

    def __repr__(self) -> str:
        facts = "; ".join(f"{key} {value}" for key, value in self._facts().items())
        return f"Measurement({self._label}: {facts})"

    @property
    def _label(self) -> str:
        return self.cell.label if self.cell is not None else f"{self.record['estimator']} on {self.record['objective']}"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the facts, and the variance by tensor if theta has several."""
        rows = list(self._facts().items())
        for name, group in list(self._groups.items())[1:]:
            size = format_estimate(*(group[f"variance{end}"] for end in ("", "_low", "_high")))
            rows.append((f"variance of {name}, {group['size']:,} coordinates", f"{size}, {group['status']}"))
        cells = "".join(
            f'<tr><th style="text-align: left">{escape(key)}</th><td style="text-align: left">{escape(value)}</td></tr>'
            for key, value in rows
        )
        return f"<table><caption>{escape(self._label)}</caption><tbody>{cells}</tbody></table>"

    def _facts(self) -> dict[str, str]:
        """Return what a person wants to know first, in words."""
        noise = f"{format_variance(self.summary)}, {self.status}"
        found = {
            "variance": "0, deterministic" if self.record["deterministic"] else noise,
            "bias": f"{self.verdict}, {format_bias(self.summary)}",
        }
        if self.cell is not None:
            evaluations = f"{self.f_evals:g} of f" + (f", {self.grad_evals:g} of df/dx" if self.grad_evals else "")
            found["evaluations"] = evaluations
        if self.verdict == BiasVerdict.INCONCLUSIVE and (needed := self.summary.replicates_needed):
            found["bias"] += f", about {rounded_up(needed):,} replicates would settle it"
        if self.verdict in FOUND and (said := format_direction(self.summary)):
            found["direction"] = said
        if self.cell is not None and self.cell.estimator.unbiased and self.verdict == BiasVerdict.DETERMINISTIC_BIASED:
            found["bias"] += "; the estimator is exact, so its objective is at fault (see bench check-objective)"
        if note := shared_note(self.record):
            found["note"] = note
        if self.timing is not None:
            found["seconds"] = format_estimate(*(self.timing[f"seconds{end}"] for end in ("", "_low", "_high")))
        return found | {"replicates": f"{self.replicates:,} in {self.record['dtype']}"}

    def _shaped(self, flat: Any) -> dict[str, Tensor]:
        vector, out, at = torch.as_tensor(np.asarray(flat, dtype=np.float64)), {}, 0
        for name, shape in self.record["shapes"].items():
            size = math.prod(shape)
            out[name] = vector[at : at + size].reshape(shape)
            at += size
        return out


def measure(
    estimator: Estimator,
    objective: Objective,
    *,
    replicates: int = 10_000,
    precision: float | None = None,
    max_replicates: int = 1_000_000,
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "float32",
    common_noise: bool = True,
    timing: bool = False,
    adapt_steps: int = ADAPT_STEPS,
) -> Measurement:
    """Measure the bias, the variance and, if ``timing`` is True, the seconds of one estimator on one objective.

    Args:
        estimator: from the catalogue, or your own.
        objective: from the catalogue, or your own.
        replicates: number R of independent calls, which are made in draws (batches); R is rounded up to whole draws.
        precision: wanted half-width of the variance's 95 % interval, divided by the variance, such as 0.05. If it is
            given, ``replicates`` is not used: a pilot run chooses R, and its gradients are thrown away.
            ``record["precision_reached"]`` says whether R was enough.
        max_replicates: largest R that the pilot run may choose.
        seed: root of all noise; the same seed gives the same bits.
        device: "cpu" or "cuda".
        dtype: "float32" or "float64", of samples and gradients.
        common_noise: whether all estimators of an objective share their noise, so that they can be compared in pairs.
        timing: whether to measure seconds too; nothing else may run on the machine meanwhile.
        adapt_steps: largest number of steps in which an estimator that learns is trained, at the objective's theta,
            before it is frozen and measured. Learning stops earlier if further steps no longer pay;
            ``record["adapt_steps"]`` has the number of steps.

    Raises:
        TypeError: an argument is no estimator or no objective.
        Refusal: the estimator does not fit the objective.
        ValueError: a setting is invalid, or the objective is at fault.
        Lost: gradients were not finite.
        Ended: the code of the estimator or the objective tried to end the program.
    """
    _check_kinds(estimator, objective)
    settings = Settings(replicates, seed, dtype, device, common_noise, timing, adapt_steps=adapt_steps)
    cell = Cell(estimator, objective)
    settings.check_device()
    check_own(objective)
    if reason := mismatch(estimator, objective):
        raise Refusal(reason)
    with single_thread(), set_apart(stdout=True):
        found = None
        if precision is not None:
            found = run_pilot(cell, settings, PrecisionTarget(precision, max_replicates))
            settings = replace(settings, replicates=found["planned_replicates"])
        stand_in = reference.in_process(objective, reference.settings_of(settings))
        line = measure_moments(Engine(cell, settings), reference=stand_in)
        line = line if found is None else with_precision(line, found)
        return Measurement(cell, line, measure_timing(cell, settings) if timing else None)


def measure_gradients(
    gradients: Any,
    exact: Any = None,
    *,
    name: str = "gradients",
    problem: str = "given",
    replicates: int = 10_000,
    seed: int = 0,
    evaluations: float = 1.0,
    unbiased: bool = False,
) -> Measurement:
    """Measure the bias and the variance of gradients that were made elsewhere, such as in JAX or in a training run.

    The statistics are those of every other measurement. If an estimator of this package made the gradients, the numbers
    are those that ``measure`` gives for this estimator.

    Args:
        gradients: independent gradients at one point, ``[replicates, size]``, as an array, a list or the path of a file
            of ``numpy.save``. Such a file is not read into memory as a whole. In place of gradients, a function can be
            given that makes them, ``gradients(rows, seed) -> [rows, size]``. Every call gets a different seed, a whole
            number below 2^32.
        exact: the exact gradient, ``[size]``, as an array or the path of a file. None if it is unknown; bias, scale and
            direction are then unknown, too.
        name: name of the gradients in tables.
        problem: name of the problem in tables.
        replicates: number of gradients that a function is asked for, rounded up to whole draws (batches); not used if
            the gradients are given.
        seed: root of the seeds that a function gets.
        evaluations: evaluations of f that one gradient took; they count where variance times cost is compared.
        unbiased: whether the gradients are declared unbiased, so that a bias is called a fault.

    Raises:
        ValueError: the gradients or the exact gradient have the wrong shape or dtype, or are not finite; or the
            gradients are too few, or vary too little to be squared in float64.
    """
    given, target = (_array(value) for value in (gradients, exact))
    settings = Settings(replicates, seed)
    found = Given(
        name, given, target, problem, settings.replicates, settings.seed, evaluations=evaluations, unbiased=unbiased
    )
    with single_thread():
        return Measurement(None, measure_given(found))


def _array(value: Any) -> Any:
    """Return the array in a file, if ``value`` is the path of one, else ``value``."""
    return read(Path(value)) if isinstance(value, str | PathLike) else value


def _check_kinds(estimator: Any, objective: Any) -> None:
    """Raise ``TypeError`` unless the arguments of ``measure`` are an estimator and an objective."""
    if isinstance(estimator, Objective) and isinstance(objective, Estimator):
        raise TypeError("measure takes the estimator first and then the objective: swap them.")
    for what, value, kind in (("an estimator", estimator, Estimator), ("an objective", objective, Objective)):
        if isinstance(value, type) and issubclass(value, kind):
            raise TypeError(f"measure needs {what} and got the class {value.__name__}. Write {value.__name__}().")
        if not isinstance(value, kind):
            example = "estimators.RLOO(n=4)" if kind is Estimator else "bench.objectives.GaussianCosine()"
            got = repr(value) if isinstance(value, str) else type(value).__name__
            raise TypeError(f"measure needs {what}, such as {example} (got {got}).")
