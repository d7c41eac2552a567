"""A variational autoencoder with categorical latents."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution, Independent, OneHotCategorical
from torch.nn.functional import logsigmoid, one_hot

from bench.objectives._autoencoder import check, copies, initial, network, pixels
from bench.objectives._checks import whole
from bench.objectives._images import images
from bench.objectives._log_sigmoid import sum_log_sigmoid
from bench.objectives._protocol import Objective, Problem, Theta
from bench.objectives._training import SAMPLES, liveliest, pictures, trainable
from bench.objectives._weights import check as check_weights
from bench.objectives._weights import contents, restore
from estimators import RLOO, Bound, Estimator

ENUMERABLE = 4096
"""Most states that are summed."""


@dataclass(frozen=True)
class CategoricalVAE(Objective):
    """Evidence lower bound of a variational autoencoder with one-hot latents, on small images: a mean over images.

    ``f(z) = log p(x | z) + log p(z) - log q(z | x)``,  p(z) uniform
    ``z_j ~ OneHotCategorical(softmax(encoder(x)_j))``
    ``p(x | z) = prod_i Bernoulli(x_i; sigmoid(decoder(z)_i))``
    ``E f = sum_z q(z | x) log p(x | z) - KL(q || p)``

    Both networks have one hidden layer of leaky rectifiers (slope 0.3). Pixels are 1 where they exceed half of their
    range. theta is the encoder, four tensors; ``extra`` is the decoder: constants, unless one asks them for gradients.
    At first weights and biases are uniform within 1/sqrt(inputs); ``at`` names other points. The objective is to
    be maximised. f makes sense for every real z. Exact value: the sum over all classes^dim states, for at most 4096 of
    them; beyond, a Monte Carlo reference.

    Args:
        dim: latent variables, at least 1.
        classes: categories of each, at least 2.
        hidden: hidden units of the encoder and of the decoder, at least 1.
        batch: images: the first of the data, at least 1; in training the size of a minibatch.
        seed: seed of the initial weights, and of the order of minibatches, at least 0.
        at: the weights at which to measure: "initial", "trained" (with the other parameters as they come), or the
            path of a file that ``bench train --keep-weights`` has written.
        data: "digits", 1797 images of 8 x 8 that come with scikit-learn; or, of 28 x 28 from files (``--data-dir``),
            "mnist", "fashion-mnist" or "omniglot".
        particles: K of the importance-weighted bound ``f(z_1 ... z_K) = log (1/K) sum_k p(x, z_k) / q(z_k | x)``,
            at least 1, by a Monte Carlo reference; None for the evidence lower bound.

    Raises:
        ValueError: an argument is out of its range, or data or weights cannot be read.

    Reference: Jang, Gu & Poole 2017, section 4.2, made small; 4 latents of 8 classes are the smallest of Liu, Dong,
    Liu, Yu & Gao 2023 (ReinMax). Data: Alpaydin & Kaynak 1998, as bundled with scikit-learn.
    """

    dim: int = 4
    classes: int = 8
    hidden: int = 200
    batch: int = 32
    seed: int = 0
    at: str = "initial"
    data: str = "digits"
    particles: int | None = None

    bound = True
    family: ClassVar[type[Distribution]] = OneHotCategorical
    reference: ClassVar[str] = "Jang et al. 2017"

    def __post_init__(self) -> None:
        check(self, "dim", "hidden", "batch")
        whole(self, "classes", 2)
        check_weights(self)

    @property
    def has_exact(self) -> bool:  # type: ignore[override]
        """Whether the states are few enough to be summed, and the bound that of one particle."""
        return self.dim * math.log(self.classes) <= math.log(ENUMERABLE) * (1 + 1e-12) and self.particles is None

    @property
    def reference_estimator(self) -> Estimator:  # type: ignore[override]
        """An estimator that is unbiased here, of little variance for its cost."""
        return RLOO(n=8)

    @property
    def row_elements(self) -> int:
        """Elements of one row's largest tensor: hidden units, pixels or classes, for every image."""
        return self.batch * (self.particles or 1) * max(self.hidden, pixels(self), self.dim * self.classes)

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
        theta = initial(pixels(self), self.hidden, self.dim * self.classes, generator, dtype, device)
        extra = initial(self.dim * self.classes, self.hidden, pixels(self), generator, dtype, device)
        for t in theta.values():
            t.requires_grad_()

        def seen(which: slice | Tensor) -> Tensor:
            return held.bits(which).to(dtype)

        def logits(x: Tensor, theta: Theta) -> Tensor:
            return network(x, theta).view(-1, self.dim, self.classes)

        def on(x: Tensor) -> Problem:
            seen_by_each = copies(x, self.particles)

            def q(theta: Theta) -> Distribution:
                own = OneHotCategorical(logits=copies(logits(x, theta), self.particles, event=2), validate_args=False)
                return Independent(own, axes, validate_args=False)

            def log_joint(z: Tensor) -> Tensor:
                likelihood = sum_log_sigmoid(network(z.flatten(-2), extra).mul_(2 * seen_by_each - 1))
                return likelihood - self.dim * math.log(self.classes)

            def exact(theta: Theta) -> Tensor:
                return _bounds(x, logits(x, theta).log_softmax(-1), extra).mean()

            return Problem(
                theta,
                q,
                functools.partial(Bound, log_joint, particles=self.particles),
                exact if self.has_exact else None,
                extra,
            )

        def hot(classes: Tensor) -> Tensor:
            return one_hot(classes, self.classes).to(dtype)

        def prior(generator: Generator) -> Tensor:
            return hot(torch.randint(self.classes, (SAMPLES, self.dim), generator=generator, device=device))

        drawn = pictures(
            lambda: seen(slice(held.trained, None)),
            code=lambda x: hot(logits(x, theta).argmax(-1)),
            decoded=lambda z: network(z.flatten(-2), extra).sigmoid(),
            prior=prior,
            walk=lambda codes: hot(_every(codes.argmax(-1), self.classes)),
        )
        return restore(self, replace(trainable(on, held, seen, self.batch, self.seed), pictures=drawn))


def _every(codes: Tensor, classes: int) -> Tensor:
    """Return the first of ``[images, dim]`` with every class of the two latents that vary most, ``[C, C, dim]``."""
    right, down = liveliest(one_hot(codes, classes).double().var(0).sum(-1))
    points = codes[0].repeat(classes, classes, 1)
    points[..., right] = torch.arange(classes, device=codes.device)
    points[..., down] = torch.arange(classes, device=codes.device)[:, None]
    return points


def _bounds(x: Tensor, log_p: Tensor, decoder: Theta) -> Tensor:
    """Return the lower bound of each image, ``[batch]``, from images ``[batch, pixels]``, log p ``[batch, dim, C]``."""
    dim, classes = log_p.shape[-2:]
    each = [torch.arange(classes, device=x.device)] * dim
    states = one_hot(torch.cartesian_prod(*each).reshape(-1, dim), classes).to(x).flatten(-2)
    pixels = network(states, decoder)
    likelihood = x @ pixels.T + logsigmoid(-pixels).sum(-1)  # [batch, states]: log sigmoid(-a) + a = log sigmoid(a)
    q = (log_p.flatten(-2) @ states.T).exp()
    negative_entropy = (log_p.exp() * log_p).sum((-1, -2))
    return (q * likelihood).sum(-1) - negative_entropy - dim * math.log(classes)
