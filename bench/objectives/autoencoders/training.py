"""Minibatches, held-out images and pictures of an autoencoder."""

import functools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Generator, Tensor

from bench.objectives._protocol import Problem, Theta
from bench.objectives.autoencoders.images import Images

ACROSS, SHOWN, SAMPLES, WALK = 8, 16, 32, 7
"""Numbers in the pictures: images in a row, reconstructions, samples, and steps of a walk in each direction."""

Code = Callable[[Tensor], Tensor]
Seen = Callable[[slice | Tensor], Tensor]
"""A function from a selection to the selected images, ``[images, pixels]``, in the form that the decoder models."""


def trainable(on: Callable[[Tensor], Problem], images: Images, seen: Seen, batch: int, seed: int) -> Problem:
    """Return the problem on the first ``batch`` images, with its minibatches and its held-out images.

    A minibatch has ``batch`` images, or all images to train on if there are fewer. Every epoch has a random order of
    its own. Images at the end of an epoch are left out if they do not fill a minibatch.

    Args:
        on: maps images ``[batch, pixels]`` to the problem on them; all these problems share theta (the encoder's
            weights) and extra (the decoder's).
        images: the images to train on and the held-out images.
        seen: maps a selection (a slice or a tensor of indices) to the selected images, ``[images, pixels]``, as bits or
            grey levels.
        batch: number of images at the point of measurement and in a minibatch.
        seed: seed of the order of the images in every epoch.
    """
    count = min(batch, images.trained)
    each = images.trained // count

    @functools.lru_cache(maxsize=1)
    def order(epoch: int) -> Tensor:
        mixed = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])  # torch uses only 32 bits of a seed
        return torch.randperm(images.trained, generator=Generator().manual_seed(mixed))

    def minibatch(i: int) -> Problem:
        start = i % each * count
        return on(seen(order(i // each)[start : start + count].to(images.levels.device)))

    return replace(on(seen(slice(batch))), minibatch=minibatch, held_out=on(seen(slice(images.trained, None))))


def pictures(
    held_out: Callable[[], Tensor], code: Code, decoded: Code, prior: Callable[[Generator], Tensor], walk: Code
) -> Callable[[Generator], Theta]:
    """Return a function from a generator to three stacks of pictures by name, ``[rows, columns, side, side]`` each.

    - ``reconstructions``: rows of held-out images, each above a row of their reconstructions.
    - ``samples``: mean images of latents that are drawn from the prior.
    - ``walk``: mean images on a square grid of latents; one latent changes along the rows, another along the columns.

    Args:
        held_out: returns the held-out images, ``[images, pixels]``.
        code: maps images to their most likely latents, ``[images, *latents]``.
        decoded: maps latents ``[..., *latents]`` to mean images, ``[..., pixels]``.
        prior: draws latents from the prior, ``[32, *latents]``.
        walk: maps the held-out images' most likely latents to the grid of latents, ``[steps, steps, *latents]``.
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
    """Return the indices of the two latents with the largest entries in ``spread``, ``[dim]``, the largest first.

    If dim is 1, both indices are 0.
    """
    order = spread.argsort(descending=True, stable=True).tolist()
    return order[0], order[min(1, len(order) - 1)]


def plane(codes: Tensor, at: Tensor, low: float, high: float) -> Tensor:
    """Return 7 x 7 copies of one point, ``[7, 7, dim]``. Along each axis, one latent goes from ``low`` to ``high``.

    Args:
        codes: latents of images, ``[images, dim]``. The two latents that vary most in ``codes`` are changed.
        at: the point that is copied, ``[dim]``.
        low: first value of the two latents.
        high: last value of the two latents.
    """
    right, down = liveliest(codes.var(0))
    points, steps = at.repeat(WALK, WALK, 1), torch.linspace(low, high, WALK, dtype=at.dtype, device=at.device)
    points[..., right], points[..., down] = steps, steps[:, None]
    return points
