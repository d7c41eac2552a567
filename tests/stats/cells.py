"""Sums and summaries of given gradients."""

import numpy as np
import torch

from bench.measurement.reduction.blocks import block_partial
from bench.stats import Accumulator, summarise


def sums_of(g, *, exact=None, groups=None, rows=64, truncate_at=None):
    g = torch.as_tensor(g)
    groups = groups or {"theta": g.shape[1]}
    centre = np.zeros(g.shape[1]) if exact is None else np.asarray(exact, dtype=float)
    acc = Accumulator(groups, replicates=len(g), centre=centre, exact=None if exact is None else centre)
    for i, block in enumerate(g.split(rows)):
        acc.add(
            block_partial(
                block,
                index=i,
                groups=groups,
                centre=torch.as_tensor(centre),
                exact=None if exact is None else torch.as_tensor(centre),
                replicates=len(g),
                truncate_at=truncate_at,
            )
        )
    return acc.sums()


def summary(g, *, exact=None, dtype="float64", rows=64, **more):
    sums = sums_of(g, exact=exact, rows=rows)
    return summarise(sums, exact=None if exact is None else np.asarray(exact, dtype=float), dtype=dtype, **more)


def noise(rows, size, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, size))
