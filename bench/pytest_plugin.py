"""The pytest fixture ``gradient_check``, for tests of a user's own estimators and losses.

It writes nothing and times nothing. If the package is installed, every run of pytest loads this module, so slow imports
are inside the methods.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from bench.audit import Audit
    from bench.objectives import Objective
    from bench.stats import Summary
    from estimators import Estimator

ROUNDING = 1e-3
"""Relative rounding error allowed in a gradient without noise."""


class GradientCheck:
    """Assertions on estimators and losses. All noise comes from seeds, so a test always passes or always fails.

    Args:
        root: the folder whose ``results/baselines`` holds the baselines, the files of accepted statistics.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def assert_unbiased(
        self,
        estimator: Estimator,
        objective: Objective,
        *,
        tolerance: float | None = None,
        replicates: int = 10_000,
        seed: int = 0,
        dtype: str = "float32",
    ) -> None:
        """Fail if the mean of the gradient estimates differs from the exact gradient.

        If ``tolerance`` is None, this is a test of significance. An estimator that looks biased (p ≤ 0.01) is measured
        again on fresh noise, with four times the replicates, and fails if p ≤ 4e-4. If a tolerance is given, this is a
        test of equivalence. The estimator fails if the 95 % upper bound on its bias exceeds ``tolerance`` times the
        norm of the exact gradient.

        Args:
            estimator: the estimator to test.
            objective: an objective with an exact gradient, or with a reference, a measured gradient, in its place.
            tolerance: largest bias that passes, relative to the exact gradient; None for a test of significance.
            replicates: number of independent calls of the estimator in the first measurement.
            seed: root of all noise.
            dtype: "float32" or "float64".

        Raises:
            AssertionError: the estimator is biased, or was not shown to be within the tolerance.
            ValueError: the objective has no gradient to compare with, or its gradient is 0 and a tolerance is given; or
                the tolerance is not between 0 and 1.
            Refusal: the estimator does not fit the objective.
            Lost: gradients were not finite.
        """
        __tracebackhide__ = True
        from bench.api import measure
        from bench.gate.decide import off_text, p_text
        from bench.planning.cells import Cell
        from bench.records.seeds import draw_seed
        from bench.stats.gate import ALPHA_BIAS, STAGE_ONE_BIAS, STAGE_TWO_FACTOR
        from bench.stats.summary import BiasVerdict

        if tolerance is not None:
            _check_tolerance(tolerance)
        cell = Cell(estimator, objective)
        first = measure(estimator, objective, replicates=replicates, seed=seed, dtype=dtype).summary
        if first.verdict == BiasVerdict.NO_REFERENCE:
            raise ValueError(f"{objective!r} has no gradient to compare with. Use an objective with an exact gradient.")
        if first.verdict == BiasVerdict.UNRELIABLE:
            raise AssertionError(
                f"{cell.label}: the variance may be infinite (tail index {first.khat:.2f}), and then no bias can be "
                "told from noise. Test it on an objective with lighter tails."
            )
        if first.variance == 0 or first.verdict in (BiasVerdict.EXACT, BiasVerdict.DETERMINISTIC_BIASED):
            _assert_exact(cell.label, first, ROUNDING if tolerance is None else tolerance)
        elif tolerance is not None:
            _assert_within(cell.label, first, tolerance)
        elif first.p_bias is not None and first.p_bias <= STAGE_ONE_BIAS:
            fresh, more = draw_seed(seed, "confirm", cell.id, 0), STAGE_TWO_FACTOR * replicates
            second = measure(estimator, objective, replicates=more, seed=fresh, dtype=dtype).summary
            if second.p_bias is not None and second.p_bias <= ALPHA_BIAS:
                raise AssertionError(
                    f"{cell.label} is biased: {off_text(second)}, {p_text(second.p_bias)} over {second.replicates} "
                    f"replicates (seed {fresh}), after {p_text(first.p_bias)} over {first.replicates} (seed {seed}). "
                    "Fix it, or declare unbiased = False."
                )

    def assert_variance_not_worse(
        self,
        estimator: Estimator,
        objective: Objective,
        *,
        baseline: str,
        replicates: int | None = None,
        margin: float | None = None,
        strict: bool = False,
    ) -> None:
        """Fail if ``bench check`` would fail for the estimator: it has become noisier, biased or costlier.

        Args:
            estimator: the estimator to test.
            objective: the objective to test it on.
            baseline: a baseline, which is a file of accepted statistics: its path, or its name in ``results/baselines``
                under the root folder of pytest.
            replicates: number of replicates of the first measurement; if None, a tenth of the baseline's number. A
                suspicious estimator is measured again, with four times as many.
            margin: relative growth of the variance that passes; if None, 5 or 10 %, depending on estimator and
                objective.
            strict: whether to fail also if the comparison could not have detected a doubled variance.

        Raises:
            AssertionError: the estimator is worse, is not in the baseline, or cannot be compared with it.
            UsageError: the baseline does not exist.
            Damaged: the baseline's file cannot be read.
        """
        __tracebackhide__ = True
        from bench.execution.progress import Silent
        from bench.gate.baseline_file import read
        from bench.gate.findings import Verdict
        from bench.gate.select import Picked, Selection
        from bench.gate.stages import Options, check
        from bench.gate.words import Printer
        from bench.planning.cells import Cell
        from bench.planning.selectors import parse

        cell = Cell(estimator, objective)
        found = read(baseline, self.root)
        if (entry := found.entry(cell.id)) is None:
            left, _, right = cell.label.partition(" on ")
            raise AssertionError(
                f"{cell.label} is not in the baseline {baseline}. Take it in with `bench baseline promote {baseline} "
                f"-e {left} -o {right}`."
            )
        picked = Picked(cell, parse(entry.estimator), parse(entry.objective))
        report = check(found, Selection([(entry, picked)], [], []), Options(replicates, margin=margin), Silent())
        (finding,) = report.findings
        passing = {Verdict.IDENTICAL, Verdict.UNCHANGED, Verdict.IMPROVED, *[Verdict.INCONCLUSIVE] * (not strict)}
        if finding.verdict not in passing:
            evidence = Printer(baseline, found, report).explain(finding)
            raise AssertionError(f"{cell.label}: {finding.verdict}: {finding.reason}\n{evidence}")

    def assert_policy_gradient(
        self,
        loss: Callable[..., Any],
        *,
        target: str = "reward",
        up_to_scale: bool = False,
        tolerance: float = 0.01,
        **options: Any,
    ) -> None:
        """Fail if a policy-gradient loss does not, on average, follow the gradient of its target.

        The loss is audited on nine small policies, as by ``bench audit``. On each of them, the mean gradient of the
        loss has to agree with the gradient of the target in scale and angle.

        Args:
            loss: a function that returns one number, which is minimised. Its arguments are any of ``logp``,
                ``old_logp``, ``ref_logp``, ``mask``, ``rewards`` and ``tokens``, by name.
            target: "reward", "penalised-reward", "off-policy", "reverse-kl", "forward-kl", "token-kl",
                "token-forward-kl", "arcsine", "log" or "pass@k".
            up_to_scale: whether any positive multiple of the gradient passes.
            tolerance: largest relative error of the scale, and largest tangent of the angle, that passes. If scale and
                angle are estimated from sampled batches, both 95 % limits of the scale, and the upper limit of the
                angle, have to pass.
            options: further arguments of ``bench.audit.audit``, such as ``group`` and ``beta``.

        Raises:
            AssertionError: the loss has another direction or, unless ``up_to_scale`` is True, another scale; or it
                reads what is behind the end of a sequence.
            ValueError: the loss is at fault, or has no such target.
        """
        __tracebackhide__ = True
        from bench.audit import audit

        _assert_follows(audit(loss, **options), target, tolerance, up_to_scale=up_to_scale)


def _check_tolerance(tolerance: object) -> None:
    __tracebackhide__ = True
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not 0 < tolerance < 1:
        raise ValueError(f"A gradient needs a tolerance above 0 and below 1 (got {tolerance!r}).")


def _assert_follows(audit: Audit, target: str, tolerance: float, *, up_to_scale: bool) -> None:
    __tracebackhide__ = True
    from math import atan, degrees

    from bench.audit.signs import SIGNS
    from bench.audit.words import in_degrees, scales

    if target not in audit.targets:
        if target == "penalised-reward" and "reverse-kl" in audit.targets and "reward" in audit.targets:
            raise ValueError(
                f"No positive weight of KL(pi||ref) fits the penalty of {audit.loss}: give one, as beta=0.1."
            )
        known = ", ".join(audit.targets)
        raise ValueError(f"{audit.loss} has no target {target!r}: it takes {', '.join(audit.takes)}. It has {known}.")
    _check_tolerance(tolerance)
    if "padding" in audit.signs:
        raise AssertionError(f"{audit.loss} would follow another gradient in a trainer. {SIGNS['padding']}")
    most = degrees(atan(tolerance))
    for point, found in zip(audit.points, audit.targets[target], strict=True):
        low, high = (found.scale if end is None else end for end in (found.scale_low, found.scale_high))
        angle = found.angle if found.angle_high is None else found.angle_high
        off = found.scale <= 0 or angle > most or not (up_to_scale or 1 - tolerance <= low <= high <= 1 + tolerance)
        if off:
            where = f"seed {point.seed}, distance {point.distance:g}"
            raise AssertionError(
                f"{audit.loss} does not follow the gradient of {target!r} on the policy with {where}: scale "
                f"{scales((found,))}, angle {in_degrees((found,))}. {audit.sentence}"
            )


def _assert_exact(label: str, summary: Summary, tolerance: float) -> None:
    __tracebackhide__ = True
    from bench.stats.summary import BiasVerdict

    allowed, off = tolerance * (summary.exact_norm or 0.0), summary.bias_norm or 0.0
    if summary.verdict != BiasVerdict.EXACT and off > allowed:
        raise AssertionError(
            f"{label} is biased: its gradient has no noise and is off by {off:.3g} from an exact gradient of norm "
            f"{summary.exact_norm:.3g}; {allowed:.3g} is allowed."
        )


def _assert_within(label: str, summary: Summary, tolerance: float) -> None:
    __tracebackhide__ = True
    from bench.stats.bias import replicates_needed
    from bench.stats.summary import BiasVerdict

    norm, bound = summary.exact_norm, summary.bias_bound
    if not norm or bound is None:
        raise ValueError(f"{label}: the exact gradient is 0, so no bias is relative to it. Leave the tolerance out.")
    if bound > tolerance * norm:
        needed = replicates_needed(bound, tolerance * norm, summary.replicates)
        biased = summary.verdict == BiasVerdict.BIASED and (summary.bias_low or 0.0) > tolerance * norm
        advice = (
            "The bias is beyond the tolerance."
            if biased
            else f"If it has no bias, about {needed:.0e} replicates show this: give replicates={needed:.0f}."
        )
        raise AssertionError(
            f"{label} was not shown to be unbiased within {tolerance:.2%}: the bias is at most {bound / norm:.2%} of "
            f"the exact gradient (95 %, {summary.replicates} replicates). {advice}"
        )


@pytest.fixture(scope="session")
def gradient_check(request: pytest.FixtureRequest) -> GradientCheck:
    """Return assertions for a user's tests, such as ``assert_unbiased`` and ``assert_variance_not_worse``.

    The function is a fixture: pytest calls it, and passes ``request``.
    """
    return GradientCheck(request.config.rootpath)
