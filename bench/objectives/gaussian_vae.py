"""A variational autoencoder with Gaussian latents."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution, Independent, Normal
from torch.nn.functional import linear

from bench.objectives._autoencoder import check, copies, initial, layer, network, pixels
from bench.objectives._images import images
from bench.objectives._log_sigmoid import sum_log_sigmoid
from bench.objectives._protocol import Objective, Problem, Theta
from bench.objectives._training import SAMPLES, pictures, plane, trainable
from bench.objectives._weights import check as check_weights
from bench.objectives._weights import contents, restore
from estimators import Bound, Estimator, Reparameterization

NOISE = 0.3
"""Standard deviation of a pixel under the linear decoder."""


@dataclass(frozen=True)
class GaussianVAE(Objective):
    """Evidence lower bound of a variational autoencoder with Gaussian latents, on small images: a mean over images.

    ``f(z) = log p(x | z) + log p(z) - log q(z | x)``,  ``p(z) = N(0, I)``
    ``q(z | x) = N(mean, diag exp(log_variance))``,  ``(mean, log_variance) = encoder(x)``
    ``network: p(x | z) = prod_i Bernoulli(x_i; sigmoid(decoder(z)_i))``
    ``linear: p(x | z) = N(x; W z + b, 0.3^2 I)``
    ``linear: E f = log N(x; W mean + b, 0.3^2 I) - sum_ij W_ij^2 exp(log_variance_j) / (2 0.3^2) - KL(q || p)``

    The encoder, and the decoder ``network``, have one hidden layer of leaky rectifiers (slope 0.3). Pixels are grey
    levels from 0 to 1 for the linear decoder, and for the network bits, 1 where they exceed half of their range. theta
    is the encoder, four tensors; ``extra`` is the decoder: constants, unless one asks them for gradients. At first
    weights and biases are uniform within 1/sqrt(inputs); ``at`` names other points. The objective is to be maximised.
    Exact value: closed form for the linear decoder; for the network a Monte Carlo reference.

    Args:
        dim: latent variables, at least 1.
        hidden: hidden units of the encoder and of the decoder network, at least 1.
        batch: images: the first of the data, at least 1; in training the size of a minibatch.
        seed: seed of the initial weights, and of the order of minibatches, at least 0.
        decoder: "network" or "linear".
        at: the weights at which to measure: "initial", "trained" (with the other parameters as they come), or the
            path of a file that ``bench train --keep-weights`` has written.
        data: "digits", 1797 images of 8 x 8 that come with scikit-learn; or, of 28 x 28 from files (``--data-dir``),
            "mnist", "fashion-mnist" or "omniglot".
        particles: K of the importance-weighted bound ``f(z_1 ... z_K) = log (1/K) sum_k p(x, z_k) / q(z_k | x)``,
            at least 1, by a Monte Carlo reference; None for the evidence lower bound.

    Raises:
        ValueError: an argument is out of its range, or data or weights cannot be read.

    Reference: Kingma & Welling 2014, made small; with the linear decoder and a linear encoder it would be probabilistic
    principal component analysis (Tipping & Bishop 1999). Data: Alpaydin & Kaynak 1998, as bundled with scikit-learn.
    """

    dim: int = 8
    hidden: int = 200
    batch: int = 32
    seed: int = 0
    decoder: str = "network"
    at: str = "initial"
    data: str = "digits"
    particles: int | None = None

    bound = True
    family: ClassVar[type[Distribution]] = Normal
    reference: ClassVar[str] = "Kingma & Welling 2014"

    def __post_init__(self) -> None:
        check(self, "dim", "hidden", "batch")
        if self.decoder not in ("network", "linear"):
            raise ValueError(
                f"GaussianVAE knows the decoders network and linear (got decoder={self.decoder!r}). "
                "Use decoder='network'."
            )
        check_weights(self)

    @property
    def has_exact(self) -> bool:  # type: ignore[override]
        """Whether the decoder is linear, and the bound that of one particle."""
        return self.decoder == "linear" and self.particles is None

    @property
    def reference_estimator(self) -> Estimator:  # type: ignore[override]
        """Of the estimators that are unbiased here, the one of least variance for its cost."""
        return Reparameterization(n=8)

    @property
    def row_elements(self) -> int:
        """Elements of one row's largest tensor: the decoder's hidden units, or its pixels, for every image."""
        return (
            self.batch
            * (self.particles or 1)
            * max(self.hidden if self.decoder == "network" else 0, pixels(self), self.dim)
        )

    @property
    def contents(self) -> dict[str, str]:
        """Digests of what ``at`` and ``data`` name."""
        return contents(self)

    def restarted(self, seed: int) -> Self:
        """Return the same autoencoder with other initial weights, and its minibatches in another order."""
        return replace(self, seed=self.seed + seed)

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Make the problem in a dtype, on a device."""
        network_decoder = self.decoder == "network"
        held, axes = images(self.data).to(device), 1 if self.particles is None else 2
        generator = Generator().manual_seed(self.seed)
        theta = initial(pixels(self), self.hidden, 2 * self.dim, generator, dtype, device)
        if network_decoder:
            extra = initial(self.dim, self.hidden, pixels(self), generator, dtype, device)
        else:
            extra = layer(self.dim, pixels(self), generator, dtype, device)
        for t in theta.values():
            t.requires_grad_()

        def seen(which: slice | Tensor) -> Tensor:
            return (held.bits(which) if network_decoder else held.greys(which)).to(dtype)

        def on(x: Tensor) -> Problem:
            seen_by_each = copies(x, self.particles)

            def q(theta: Theta) -> Distribution:
                mean, log_variance = network(x, theta).chunk(2, -1)
                loc, scale = (copies(t, self.particles) for t in (mean, (log_variance / 2).exp()))
                return Independent(Normal(loc, scale, validate_args=False), axes, validate_args=False)

            def log_joint(z: Tensor) -> Tensor:
                prior = -z.square().sum(-1) / 2 - self.dim / 2 * math.log(2 * math.pi)
                if network_decoder:
                    return sum_log_sigmoid(network(z, extra).mul_(2 * seen_by_each - 1)) + prior
                return _log_normal(seen_by_each, linear(z, **extra)) + prior

            def exact(theta: Theta) -> Tensor:
                mean, log_variance = network(x, theta).chunk(2, -1)
                variance = log_variance.exp()
                likelihood = _log_normal(x, linear(mean, **extra))
                likelihood = likelihood - linear(variance, extra["weight"].square()).sum(-1) / (2 * NOISE**2)
                divergence = (mean.square() + variance - 1 - log_variance).sum(-1) / 2
                return (likelihood - divergence).mean()

            return Problem(
                theta,
                q,
                functools.partial(Bound, log_joint, particles=self.particles),
                exact if self.has_exact else None,
                extra,
            )

        drawn = pictures(
            lambda: seen(slice(held.trained, None)),
            code=lambda x: network(x, theta).chunk(2, -1)[0],
            decoded=lambda z: network(z, extra).sigmoid() if network_decoder else linear(z, **extra),
            prior=lambda generator: torch.randn(SAMPLES, self.dim, generator=generator, dtype=dtype, device=device),
            walk=lambda codes: plane(codes, torch.zeros_like(codes[0]), -2, 2),
        )
        return restore(self, replace(trainable(on, held, seen, self.batch, self.seed), pictures=drawn))


def _log_normal(x: Tensor, mean: Tensor) -> Tensor:
    """Return log N(x; mean, NOISE^2 I), ``[...]`` from ``[..., pixels]``."""
    return -(x - mean).square().sum(-1) / (2 * NOISE**2) - x.shape[-1] / 2 * math.log(2 * math.pi * NOISE**2)
