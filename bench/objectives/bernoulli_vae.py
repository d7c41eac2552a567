"""A variational autoencoder with binary latents."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Generator, Tensor
from torch.distributions import Bernoulli, Distribution, Independent
from torch.nn.functional import logsigmoid

from bench.objectives._autoencoder import check, copies, initial, network, pixels
from bench.objectives._images import images
from bench.objectives._log_sigmoid import sum_log_sigmoid
from bench.objectives._protocol import Objective, Problem, Theta
from bench.objectives._training import SAMPLES, pictures, plane, trainable
from bench.objectives._weights import check as check_weights
from bench.objectives._weights import contents, restore
from estimators import Bound, DisARM, Estimator

ENUMERABLE = 12
"""Most latents whose 2^dim states are summed."""


@dataclass(frozen=True)
class BernoulliVAE(Objective):
    """Evidence lower bound of a variational autoencoder with binary latents, on small images: a mean over images.

    ``f(b) = log p(x | b) + log p(b) - log q(b | x)``,  ``b_j ~ Bernoulli(sigmoid(encoder(x)_j))``,  p(b) uniform
    ``p(x | b) = prod_i Bernoulli(x_i; sigmoid(decoder(b)_i))``
    ``E f = sum_b q(b | x) log p(x | b) - KL(q || p)``

    Both networks have one hidden layer of leaky rectifiers (slope 0.3). Pixels are 1 where they exceed half of their
    range. theta is the encoder, four tensors; ``extra`` is the decoder: constants, unless one asks them for gradients.
    At first weights and biases are uniform within 1/sqrt(inputs); ``at`` names other points. The objective is to
    be maximised. f makes sense for every real b. Exact value: the sum over all 2^dim states, for at most 12 latents;
    beyond, a Monte Carlo reference.

    Args:
        dim: latent bits, at least 1.
        hidden: hidden units of the encoder and of the decoder, at least 1.
        batch: images: the first of the data, at least 1; in training the size of a minibatch.
        seed: seed of the initial weights, and of the order of minibatches, at least 0.
        at: the weights at which to measure: "initial", "trained" (with the other parameters as they come), or the
            path of a file that ``bench train --keep-weights`` has written.
        data: "digits", 1797 images of 8 x 8 that come with scikit-learn; or, of 28 x 28 from files (``--data-dir``),
            "mnist", "fashion-mnist" or "omniglot".
        particles: K of the importance-weighted bound ``f(b_1 ... b_K) = log (1/K) sum_k p(x, b_k) / q(b_k | x)``,
            at least 1, by a Monte Carlo reference; None for the evidence lower bound.

    Raises:
        ValueError: an argument is out of its range, or data or weights cannot be read.

    Reference: the network of Yin & Zhou 2019 (ARM) and Dong, Mnih & Tucker 2020 (DisARM), made small. Data: Alpaydin &
    Kaynak 1998, as bundled with scikit-learn.
    """

    dim: int = 8
    hidden: int = 200
    batch: int = 32
    seed: int = 0
    at: str = "initial"
    data: str = "digits"
    particles: int | None = None

    bound = True
    family: ClassVar[type[Distribution]] = Bernoulli
    reference: ClassVar[str] = "Dong et al. 2020"

    def __post_init__(self) -> None:
        check(self, "dim", "hidden", "batch")
        check_weights(self)

    @property
    def has_exact(self) -> bool:  # type: ignore[override]
        """Whether the states are few enough to be summed, and the bound that of one particle."""
        return self.dim <= ENUMERABLE and self.particles is None

    @property
    def reference_estimator(self) -> Estimator:  # type: ignore[override]
        """Of the estimators that are unbiased here, the one of least variance for its cost."""
        return DisARM(n=8)

    @property
    def row_elements(self) -> int:
        """Elements of one row's largest tensor: the decoder's hidden units, or its pixels, for every image."""
        return self.batch * (self.particles or 1) * max(self.hidden, pixels(self), self.dim)

    @property
    def contents(self) -> dict[str, str]:
        """Digests of what ``at`` and ``data`` name."""
        return contents(self)

    def restarted(self, seed: int) -> Self:
        """Return the same autoencoder with other initial weights, and its minibatches in another order."""
        return replace(self, seed=self.seed + seed)

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Make the problem in a dtype, on a device."""
        held, axes = images(self.data).to(device), 1 if self.particles is None else 2
        generator = Generator().manual_seed(self.seed)
        theta = initial(pixels(self), self.hidden, self.dim, generator, dtype, device)
        extra = initial(self.dim, self.hidden, pixels(self), generator, dtype, device)
        for t in theta.values():
            t.requires_grad_()

        def seen(which: slice | Tensor) -> Tensor:
            return held.bits(which).to(dtype)

        def on(x: Tensor) -> Problem:
            seen_by_each = copies(x, self.particles)

            def q(theta: Theta) -> Distribution:
                logits = copies(network(x, theta), self.particles)
                return Independent(Bernoulli(logits=logits, validate_args=False), axes, validate_args=False)

            def log_joint(b: Tensor) -> Tensor:
                likelihood = sum_log_sigmoid(network(b, extra).mul_(2 * seen_by_each - 1))
                return likelihood - self.dim * math.log(2)

            def exact(theta: Theta) -> Tensor:
                return _bounds(x, network(x, theta), extra).mean()

            return Problem(
                theta,
                q,
                functools.partial(Bound, log_joint, particles=self.particles),
                exact if self.has_exact else None,
                extra,
            )

        drawn = pictures(
            lambda: seen(slice(held.trained, None)),
            code=lambda x: (network(x, theta) > 0).to(x),
            decoded=lambda b: network(b, extra).sigmoid(),
            prior=lambda g: torch.rand(SAMPLES, self.dim, generator=g, dtype=dtype, device=device).round(),
            walk=lambda codes: plane(codes, codes[0], 0, 1),
        )
        return restore(self, replace(trainable(on, held, seen, self.batch, self.seed), pictures=drawn))


def _bounds(x: Tensor, logits: Tensor, decoder: Theta) -> Tensor:
    """Return the lower bound of each image, ``[batch]``, from images ``[batch, pixels]``, logits ``[batch, dim]``."""
    dim = logits.shape[-1]
    states = torch.tensor(list(itertools.product((0.0, 1.0), repeat=dim)), dtype=x.dtype, device=x.device)
    pixels = network(states, decoder)
    likelihood = x @ pixels.T + logsigmoid(-pixels).sum(-1)  # [batch, states]: log sigmoid(-a) + a = log sigmoid(a)
    log_q = logits @ states.T + logsigmoid(-logits).sum(-1, keepdim=True)
    negative_entropy = (logits.sigmoid() * logits + logsigmoid(-logits)).sum(-1)
    return (log_q.exp() * likelihood).sum(-1) - negative_entropy - dim * math.log(2)
