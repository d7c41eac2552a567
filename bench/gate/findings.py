"""What a check knows of a cell, and what it finds: verdicts, and the evidence for them."""

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from bench.gate.baseline import Entry
from bench.stats.gate import default_margin


class Verdict(StrEnum):
    """The verdict of a check on one cell, such as REGRESSED or UNCHANGED. The members go from the worst to the best.

    A cell is an estimator on an objective.
    """

    REGRESSED = "regressed"
    BIASED = "biased"
    BECAME_RANDOM = "deterministic became random"
    COSTLIER = "costlier"
    MISSING = "missing"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    NOT_GATEABLE = "not gateable"
    IMPROVED = "improved"
    NEW = "new"
    UNCHANGED = "unchanged"
    IDENTICAL = "identical"


FAILING = frozenset({Verdict.REGRESSED, Verdict.BIASED, Verdict.BECAME_RANDOM, Verdict.COSTLIER, Verdict.MISSING})
"""Verdicts that fail the build."""
UNCOMPARED = frozenset({Verdict.NOT_GATEABLE, Verdict.NEW, Verdict.MISSING, Verdict.FAILED})
"""Verdicts on cells whose variance was not compared with a baseline."""


@dataclass(frozen=True)
class Sample:
    """One measurement of a cell (an estimator on an objective) in a check.

    ``statistics`` has the results of the measurement in the form of a baseline entry. ``seed`` is the seed, and
    ``bias`` the verdict on the bias, such as ``BIASED``.
    """

    statistics: Entry
    seed: int
    bias: str

    @property
    def is_reliable(self) -> bool:
        """Whether the variance seems finite, as a test of the bias requires.

        The variance seems finite if the tail index of the squared norms is below 1, or if the norms have too few
        distinct values for an index.
        """
        khat = self.statistics.khat
        return khat is None or khat < 1


@dataclass(frozen=True)
class Evaluations:
    """The numbers of evaluations of f and of df/dx per estimate.

    ``constant`` tells whether all calls of the estimator have these numbers.
    """

    f: float
    df: float
    constant: bool = True


@dataclass(frozen=True)
class Case:
    """What a check knows about a cell (an estimator on an objective) before its verdict.

    The first stage of a check measures the cell. If it flags the cell, the second stage measures it again.

    Args:
        cell: id of the cell.
        label: the cell's readable name, such as ``rloo:n=4 on gaussian-quadratic``.
        entry: the cell's entry in the baseline, the file of accepted statistics; None for a new cell, which is not in
            the baseline.
        margin: largest relative growth of the variance that passes, 0.1 for 10 %; None for the default of the cell,
            0.05 or 0.1.
        fate: a verdict that needs no statistics, such as MISSING; None if the statistics decide.
        reason: the reason for ``fate``.
        first: the measurement of the first stage; None if that stage did not measure the cell.
        second: the measurement of the second stage; None if the first stage did not flag the cell.
        evaluations: the evaluations of f and of df/dx per estimate, counted by this check. None if they were not
            counted, or if ``entry`` has none to compare them with.
    """

    cell: str
    label: str
    entry: Entry | None
    margin: float | None = None
    fate: Verdict | None = None
    reason: str = ""
    first: Sample | None = None
    second: Sample | None = None
    evaluations: Evaluations | None = None

    @property
    def allowed(self) -> float:
        """Largest relative growth of the variance that passes: ``margin``, or a default if ``margin`` is None.

        The default is 0.05, or 0.1 if the squared norms of centred gradients have a variance above 3 times their
        squared mean. For a cell that is not in the baseline, the default is 0.
        """
        if self.margin is not None:
            return self.margin
        return default_margin(self.entry.cv2) if self.entry else 0.0


@dataclass(frozen=True)
class Finding:
    """The verdict on a cell (an estimator on an objective), and the evidence for it.

    The baseline is the file of accepted statistics. The first stage of a check measures the cell; if it looks
    suspicious, the second stage measures it again.

    A p-value for the variance tests whether the variance is larger than in the baseline. In the first stage any growth
    counts, in the second only a growth beyond ``margin``. A p-value for the bias tests whether there is a bias.

    A field is None if its value was not measured or not tested. If the squared norms of centred gradients have a heavy
    tail in the baseline, ``change`` and ``smallest_change`` describe the truncated variance.

    Args:
        cell: id of the cell.
        label: the cell's readable name, such as ``rloo:n=4 on gaussian-quadratic``.
        verdict: the verdict.
        reason: the reason for the verdict, in words.
        margin: largest relative growth of the variance that passes.
        change: the last measured variance divided by the variance in the baseline.
        baseline_variance: the variance in the baseline; None if the tail is heavy.
        variance: the last measured variance; None if the tail is heavy.
        baseline_replicates: number of replicates behind the baseline's statistics.
        screen_replicates: number of replicates of the first stage, whose seed is ``screen_seed``.
        confirm_replicates: number of replicates of the second stage, whose seed is ``confirm_seed``.
        p_screen: p-value for the variance in the first stage.
        p_variance: p-value for the variance in the second stage, from the plain variance.
        p_truncated: p-value for the variance in the second stage, from the truncated variance.
        p: p-value for the variance in the second stage, combined from ``p_variance`` and ``p_truncated``.
        p_adjusted: ``p`` after Holm's correction over all cells of the baseline.
        p_bias_screen: p-value for the bias in the first stage.
        p_bias: p-value for the bias in the second stage.
        p_bias_adjusted: ``p_bias`` after Holm's correction over all cells of the baseline.
        smallest_change: the smallest relative growth of the variance that the check finds with probability 0.9.
        smallest_bias: the smallest relative error along the exact gradient that the check finds with probability 0.9;
            0.03 for a mean gradient of 1.03 times the exact one.
        evaluations: evaluations of f and of df/dx per estimate, measured now.
        baseline_evaluations: evaluations of f and of df/dx per estimate in the baseline.
        notes: remarks for the reader of the report.
        speed: the verdict on the speed: "unchanged", "slower" or "not gateable"; ``speed_note`` gives the reason. None
            if the cell was not timed.
    """

    cell: str
    label: str
    verdict: Verdict
    reason: str
    margin: float | None = None
    change: float | None = None
    baseline_variance: float | None = None
    variance: float | None = None
    baseline_replicates: int | None = None
    screen_replicates: int | None = None
    screen_seed: int | None = None
    confirm_replicates: int | None = None
    confirm_seed: int | None = None
    p_screen: float | None = None
    p_variance: float | None = None
    p_truncated: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    p_bias_screen: float | None = None
    p_bias: float | None = None
    p_bias_adjusted: float | None = None
    smallest_change: float | None = None
    smallest_bias: float | None = None
    evaluations: tuple[float, float] | None = None
    baseline_evaluations: tuple[float, float] | None = None
    notes: list[str] = field(default_factory=list)
    speed: str | None = None
    speed_note: str = ""

    @property
    def fails(self) -> bool:
        """Whether the verdict fails the build."""
        return self.verdict in FAILING

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary of the fields, as plain values."""
        return asdict(self)
