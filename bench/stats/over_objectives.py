"""Methods compared over many objectives at once: performance profiles, and intervals by a bootstrap of two levels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class OverObjectives:
    """Results of methods over all objectives of a study, each with its 95 % interval.

    A method is an estimator with its settings, such as ``rloo:n=4``. Work is variance times cost. ``profile`` is
    ``[3, methods, factors]``, the other arrays are ``[3, methods]``. The first axis has the value, the lower limit and
    the upper limit.

    Args:
        efficiency: lowest work of any method on an objective divided by the method's work, averaged over the objectives
            on which the method was measured.
        improvement: probability that the method needs less work than a rival, which is drawn at random. The objective
            is drawn at random, too, from those on which both were measured. NaN if there is no such objective.
        profile: share of all objectives on which the method's work is at most a factor times the lowest work.
    """

    efficiency: Array
    improvement: Array
    profile: Array


def over_objectives(log_work: Array, se: Array, factors: Array, shown: NDArray[np.intp], draws: int) -> OverObjectives:
    r"""Summarise the work (variance times cost) of methods over objectives.

    A method is an estimator with its settings, such as ``rloo:n=4``. Let w_mo be the work of method m on objective o.
    The efficiency of method m on objective o is

    .. math:: e_{mo} = \min_k w_{ko} / w_{mo}.

    The limits of the intervals are percentiles of ``draws`` replications. In each replication, the objectives are drawn
    anew with replacement, and every work is drawn from a log-normal distribution about its estimate. The random numbers
    are fixed, so equal arguments give equal results.

    The profile of a method at a factor is the share of the objectives on which its work is at most this factor times
    the lowest work. Where the method was not measured, its work counts as infinite.

    Source: Agarwal et al. 2021 (NeurIPS) for the intervals; Dolan & Moré 2002 for the profile.

    Args:
        log_work: ln of the work, ``[methods, objectives]``; NaN where a method was not measured.
        se: standard errors of ``log_work``, ``[methods, objectives]``.
        factors: the factors at which the profile is computed, each at least 1, ``[factors]``.
        shown: indices of the methods to summarise; the lowest work is over all methods.
        draws: number of replications.
    """
    rng = np.random.default_rng(0)
    value = _summary(log_work, factors, shown)
    replications = []
    for _ in range(draws):
        chosen = rng.integers(0, log_work.shape[1], log_work.shape[1])
        noisy = log_work + se * rng.standard_normal(log_work.shape)
        replications.append(_summary(noisy[:, chosen], factors, shown))
    tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    with np.errstate(invalid="ignore"):
        ends = [np.nanquantile(np.array(each), tails, axis=0) for each in zip(*replications, strict=True)]
    return OverObjectives(*(np.stack([middle, *pair]) for middle, pair in zip(value, ends, strict=True)))


def _summary(log_work: Array, factors: Array, shown: NDArray[np.intp]) -> tuple[Array, Array, Array]:
    """Return efficiency, improvement and profile of the shown methods."""
    own = log_work[shown]
    there = np.isfinite(own)
    best = np.where(np.isnan(log_work), np.inf, log_work).min(axis=0)
    excess = np.where(there, own, np.inf) - best  # 0 for the best, infinite where there is no result
    efficiency = np.where(there, np.exp(-excess), 0.0).sum(1) / np.maximum(there.sum(1), 1)
    efficiency = np.where(there.any(1), efficiency, np.nan)
    limits = np.log(factors) + 1e-12
    within = np.array([np.searchsorted(each, limits, side="right") for each in np.sort(excess, axis=1)])
    profile = within / excess.shape[1]
    known = there.astype(float) @ there.T.astype(float)  # the objectives of each pair, [methods, methods]
    np.fill_diagonal(known, 0)
    less = np.count_nonzero(own[:, None] < own, axis=2)
    wins = (known + less - less.T) / 2  # where two are equal, each has half a win
    with np.errstate(invalid="ignore", divide="ignore"):
        by_rival = np.where(known > 0, wins / known, 0.0)
        improvement = by_rival.sum(1) / (known > 0).sum(1)  # every rival counts as much as another
    return efficiency, improvement, profile
