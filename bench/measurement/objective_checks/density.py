"""The check that a density of one's own is that of its samples, and not a multiple of its logarithm."""

import math

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution

from bench.measurement.objective_checks.comparisons import column_apart
from bench.measurement.objective_checks.trial import Fault, NotJudged, ObjectiveTrial
from estimators import Chain, inner, log_prob, log_probs

KNOWN = ("torch", "estimators")
"""Packages whose densities need no check."""
SAMPLES, FEW = 2**15, 256
"""Most samples of the comparison; samples from which the length of a step follows."""
DIRECTIONS = 3
"""Number of directions in which theta is moved."""
FIRST, MOVED, LARGEST = 1e-3, 0.1, 0.05
"""Relative step that is tried first; deviation of the change of log q after a step; largest relative step."""


def ratios_of_densities(trial: ObjectiveTrial) -> None:
    """Check that a small step of theta changes the density of samples by a factor with the mean 1.

    ``E_q[q'(x) / q(x)] = 1``

    q is the distribution before the step, and q' the one after it. Two faults break this equation: a ``log_prob`` that
    is a multiple of the true one, and a ``Chain`` that counts a choice twice. A ``Chain`` is a distribution of choices
    in a row. Neither fault changes the mean of the score. For a ``Chain``, the equation is also checked for each
    choice. Every step is taken in both directions. In the mean of both ratios, noise that is proportional to the step
    cancels.

    Raises:
        Fault: the objective is at fault.
        NotJudged: q is a distribution of torch or of this package, a step takes theta out of its range, or the density
            does not depend on theta.
    """
    base = inner(trial.q)
    if type(base).__module__.partition(".")[0] in KNOWN:
        raise NotJudged("the density of q is not one's own")
    count = max(FEW, min(SAMPLES, trial.affordable(1)))
    x, generator, found = trial.draw(trial.q, count, seed=3), Generator().manual_seed(2), list[Tensor]()
    theta = {name: t.detach() for name, t in trial.theta().items()}
    before = _columns(trial, trial.q, x)
    for _ in range(DIRECTIONS):  # of relative changes, which keep probabilities and scales in their ranges
        v = {
            name: torch.randn(t.shape, generator=generator, dtype=t.dtype) * (t.abs() + (t == 0))
            for name, t in theta.items()
        }

        def change(step: float, x: Tensor, before: Tensor, v: dict[str, Tensor] = v) -> Tensor:
            """Return the change of each log-probability, ``[R, *batch, columns]``, if theta moves along v."""
            moved = {name: t + step * v[name] for name, t in theta.items()}
            with trial.calling("q"):
                q = trial.problem.q(moved)
            return _columns(trial, q, x) - before

        try:
            first = change(FIRST, x[:FEW], before[:FEW])[..., -1]
            deviation = (first - first.mean(0)).square().mean(0).max().sqrt().item()
            if not 0 < deviation < math.inf:
                continue
            step = min(LARGEST, FIRST * MOVED / deviation)
            both = change(step, x, before).expm1() + change(-step, x, before).expm1()
        except Fault as reason:
            raise NotJudged(f"a step of theta leaves its range: {reason}") from None
        found.append(both.reshape(count, -1, both.shape[-1]).mean(1))
    if not found:
        raise NotJudged("log q does not depend on theta")
    columns, width = torch.cat(found, 1), found[0].shape[1]
    apart = column_apart(columns, torch.zeros(columns.shape[1], dtype=torch.float64), 0.0)
    if apart is not None:
        mean, error = (each.item() / 2 for each in (columns[:, apart].mean(), columns[:, apart].std() / count**0.5))
        choice = f"choice {apart % width} (counted from 0) of " if apart % width < width - 1 else ""
        raise trial.fault(
            f"the log_prob of q is not the density of its samples: after a small step of theta, the density of {choice}"
            f"a sample is on average {1 + mean:.6g} times the one before, with standard error {error:.2g}, and not 1 "
            "times. Perhaps a choice is counted twice or left out, or log_prob is a multiple of the true one"
        )


def _columns(trial: ObjectiveTrial, q: Distribution, x: Tensor) -> Tensor:
    """Return log q at the samples, ``[R, *batch, columns]``; before it, that of each choice, if q is a ``Chain``."""
    with trial.calling("log_prob of q"), torch.no_grad():
        whole = log_prob(q, x).double().unsqueeze(-1)
        return torch.cat([log_probs(q, x).double(), whole], -1) if isinstance(inner(q), Chain) else whole
