"""What training an autoencoder needs beside the point of measurement: minibatches, held-out images, pictures."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Generator, Tensor

from bench.objectives._images import Images
from bench.objectives._protocol import Problem, Theta

ACROSS, SHOWN, SAMPLES, WALK = 8, 16, 32, 7
"""Images in a row; reconstructions; samples; steps of a walk."""

Code = Callable[[Tensor], Tensor]
Seen = Callable[[slice | Tensor], Tensor]
"""Which images, to the images as the problem takes them, ``[images, pixels]``."""


def trainable(on: Callable[[Tensor], Problem], images: Images, seen: Seen, batch: int, seed: int) -> Problem:
    """Return the problem on the first ``batch`` images, with minibatches of as many, at most all that are trained on.

    Every epoch has an order of its own, by the seed; images that would not fill a minibatch are left out of it.

    Args:
        on: images ``[batch, pixels]`` to the problem on them; all problems share theta and extra.
        images: those to train on, and those that are held out.
        seen: how the problem takes them.
        batch: images of the point of measurement, and of a minibatch.
        seed: seed of the order.
    """
    count = min(batch, images.trained)
    each = images.trained // count

    @functools.lru_cache(maxsize=1)
    def order(epoch: int) -> Tensor:
        mixed = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])  # torch reads 32 bits of a seed
        return torch.randperm(images.trained, generator=Generator().manual_seed(mixed))

    def minibatch(i: int) -> Problem:
        start = i % each * count
        return on(seen(order(i // each)[start : start + count].to(images.levels.device)))

    return replace(on(seen(slice(batch))), minibatch=minibatch, held_out=on(seen(slice(images.trained, None))))


def pictures(
    held_out: Callable[[], Tensor], code: Code, decoded: Code, prior: Callable[[Generator], Tensor], walk: Code
) -> Callable[[Generator], Theta]:
    """Return what draws the pictures of an autoencoder.

    Args:
        held_out: returns the held-out images, ``[images, pixels]``.
        code: images to the most likely latents, ``[images, *latents]``.
        decoded: latents ``[..., *latents]`` to ``[..., pixels]``.
        prior: draws of the latents, ``[32, *latents]``.
        walk: codes of the held-out images to latents along two directions, ``[steps, steps, *latents]``.

    Returns:
        A function of a generator: ``reconstructions``, rows of held-out images each above what became of them;
        ``samples`` from the prior; and the ``walk``. ``[rows, columns, side, side]`` each.
    """

    def drawn(generator: Generator) -> Theta:
        x = held_out()
        codes, pixels = code(x), x.shape[-1]
        pairs = torch.stack([some.view(-1, ACROSS, pixels) for some in (x[:SHOWN], decoded(codes[:SHOWN]))], 1)
        found = {
            "reconstructions": pairs.flatten(0, 1),
            "samples": decoded(prior(generator)).view(-1, ACROSS, pixels),
            "walk": decoded(walk(codes)),
        }
        side = math.isqrt(pixels)
        return {name: x.detach().float().cpu().clamp(0, 1).view(*x.shape[:-1], side, side) for name, x in found.items()}

    return drawn


def liveliest(spread: Tensor) -> tuple[int, int]:
    """Return the two latents of the largest spread, ``[dim]``; of one, it twice."""
    order = spread.argsort(descending=True, stable=True).tolist()
    return order[0], order[min(1, len(order) - 1)]


def plane(codes: Tensor, at: Tensor, low: float, high: float) -> Tensor:
    """Return latents ``[7, 7, dim]`` that are those ``at``, but for the two that vary most: from low to high."""
    right, down = liveliest(codes.var(0))
    points = at.repeat(WALK, WALK, 1)
    t = torch.linspace(low, high, WALK, dtype=at.dtype, device=at.device)
    points[..., right] = t
    points[..., down] = t[:, None]
    return points
