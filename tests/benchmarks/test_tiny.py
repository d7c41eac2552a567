"""The steps written by hand are the estimators': the means of their gradients are equal, and so are the variances."""

import pytest
import torch
from torch import Generator

from tests.benchmarks.tiny import CALLS, TINY, square
from tests.tolerances import z_limit

CALLED = 1_000
"""Number of gradients of each side."""


def gradients(step, own):
    generator = Generator().manual_seed(0)
    each = (torch.autograd.grad(step(own, generator), own) for _ in range(CALLED))
    return torch.stack([torch.cat(g) for g in each]).double()


@pytest.mark.parametrize("tiny", TINY, ids=lambda tiny: tiny.name)
def test_the_step_by_hand_has_the_moments_of_the_estimator(tiny):
    by_hand = gradients(tiny.by_hand, tiny.leaves())
    own = gradients(lambda own, generator: tiny.estimator(square, tiny.build(*own), generator), tiny.leaves())
    for power in (lambda g: g, lambda g: (g - own.mean(0)).square()):
        a, b = power(by_hand), power(own)
        z = (a.mean(0) - b.mean(0)) / ((a.var(0) + b.var(0)) / CALLED).sqrt()
        assert z.abs().max() < z_limit(2 * len(z))


def test_both_jobs_make_as_many_gradients():
    assert all(job.estimates == CALLS for tiny in TINY for job in tiny.jobs().values())
