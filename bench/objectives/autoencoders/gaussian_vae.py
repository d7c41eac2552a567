"""A variational autoencoder with Gaussian latents."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution, Normal
from torch.nn.functional import linear

from bench.objectives._checks import one_of
from bench.objectives._protocol import Theta
from bench.objectives.autoencoders.autoencoder import Autoencoder
from bench.objectives.autoencoders.images import Images
from bench.objectives.autoencoders.networks import copies
from bench.objectives.autoencoders.training import SAMPLES, plane
from estimators import Reparameterization

NOISE = 0.3
"""Standard deviation of a pixel under the linear decoder."""


@dataclass(frozen=True)
class GaussianVAE(Autoencoder):
    """Evidence lower bound of a variational autoencoder with Gaussian latents, averaged over small images.

    ``f(z) = log p(x | z) + log p(z) - log q(z | x)``
    ``p(z) = N(0, I)``
    ``q(z | x) = N(mean, diag exp(log_variance))``
    ``(mean, log_variance) = encoder(x)``
    ``network: p(x | z) = prod_i Bernoulli(x_i; sigmoid(decoder(z)_i))``
    ``linear: p(x | z) = N(x; W z + b, 0.3^2 I)``
    ``linear: E f = log N(x; W mean + b, 0.3^2 I) - sum_ij [W_ij^2 exp(log_variance_j)] / (2 0.3^2) - KL(q || p)``

    The encoder and the decoder ``network`` have one hidden layer of leaky rectifiers (slope 0.3). For the linear
    decoder, with weights W and bias b, pixels are grey levels from 0 to 1. For the network, a pixel is 1 if it exceeds
    half of its range, else 0. The gradient is taken in theta, the encoder's four tensors. ``extra`` holds the decoder's
    tensors, which are constants unless they are set to require gradients. Initial weights and biases are uniform within
    1/sqrt(inputs) of 0; ``at`` selects other weights. The objective is maximised. Exact value: closed form for the
    linear decoder, a Monte Carlo reference (the mean of a long run) for the network. Bad arguments and unreadable data
    or weights raise ``ValueError``.

    Args:
        dim: number of latent variables, at least 1.
        hidden: number of hidden units in the encoder, and in the decoder network, at least 1.
        batch: number of images, at least 1: the first images of the data or, in training, a minibatch.
        seed: seed of the initial weights and of the order of minibatches, at least 0.
        decoder: "network" or "linear".
        at: the weights at which the gradient is measured: "initial", "trained" (weights that come with the package, for
            ``data=digits`` and networks of the default sizes) or the path of a file from
            ``bench train --keep-weights``.
        data: "digits" (1797 images of 8 x 8, scikit-learn) or "mnist", "fashion-mnist", "omniglot" (28 x 28; from your
            own files, in the folder that ``--data-dir`` names).
        particles: number K of particles, at least 1, of the importance-weighted bound
            ``f(z_1 ... z_K) = log((1/K) sum_k [p(x, z_k) / q(z_k | x)])``, with a Monte Carlo reference; None for the
            evidence lower bound.

    Reference: a small version of Kingma & Welling 2014; with a linear encoder and decoder it would be probabilistic
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

    family = Normal
    reference_estimator = Reparameterization(n=8)  # unbiased, with the least variance for its cost
    reference = "Kingma & Welling 2014"

    def __post_init__(self) -> None:
        one_of(self, "decoder", "network", "linear")
        super().__post_init__()

    @property
    def has_exact(self) -> bool:  # type: ignore[override]
        """Whether the exact value is known: only if f is the evidence lower bound and the decoder is linear."""
        return self.decoder == "linear" and self.particles is None

    @property
    def _encoder_outputs(self) -> int:
        return 2 * self.dim

    @property
    def _decoder_widths(self) -> tuple[int, ...]:
        return (self.dim, self.pixels) if self.decoder == "linear" else super()._decoder_widths

    def _observed(self, held: Images, which: slice | Tensor) -> Tensor:
        return held.greys(which) if self.decoder == "linear" else super()._observed(held, which)

    def _mean_image(self, z: Tensor, decoder: Theta) -> Tensor:
        return self._decode(z, decoder) if self.decoder == "linear" else super()._mean_image(z, decoder)

    def _log_likelihood(self, x: Tensor, z: Tensor, decoder: Theta) -> Tensor:
        if self.decoder == "linear":
            return _log_normal(x, self._decode(z, decoder))
        return super()._log_likelihood(x, z, decoder)

    def _posterior(self, output: Tensor) -> Distribution:
        mean, log_variance = output.chunk(2, -1)
        loc, scale = (copies(t, self.particles) for t in (mean, (log_variance / 2).exp()))
        return Normal(loc, scale, validate_args=False)

    def _log_prior(self, z: Tensor) -> Tensor:
        return -z.square().sum(-1) / 2 - self.dim / 2 * math.log(2 * math.pi)

    def bounds(self, x: Tensor, output: Tensor, decoder: Theta) -> Tensor:
        """Return the evidence lower bound of every image, ``[batch]``, in closed form, for the linear decoder.

        Args:
            x: images, ``[batch, pixels]``.
            output: the encoder's output for the images, means and log-variances of the latents, ``[batch, 2 dim]``.
            decoder: the decoder's weights.
        """
        mean, log_variance = output.chunk(2, -1)
        variance = log_variance.exp()
        likelihood = _log_normal(x, linear(mean, **decoder))
        likelihood = likelihood - linear(variance, decoder["weight"].square()).sum(-1) / (2 * NOISE**2)
        return likelihood - (mean.square() + variance - 1 - log_variance).sum(-1) / 2

    def _most_likely(self, output: Tensor) -> Tensor:
        return output.chunk(2, -1)[0]

    def _prior_samples(self, generator: Generator, dtype: torch.dtype, device: torch.device | str) -> Tensor:
        return torch.randn(SAMPLES, self.dim, generator=generator, dtype=dtype, device=device)

    def _walk(self, codes: Tensor) -> Tensor:
        return plane(codes, torch.zeros_like(codes[0]), -2, 2)


def _log_normal(x: Tensor, mean: Tensor) -> Tensor:
    """Return log N(x; mean, NOISE^2 I), ``[...]`` from ``[..., pixels]``."""
    return -(x - mean).square().sum(-1) / (2 * NOISE**2) - x.shape[-1] / 2 * math.log(2 * math.pi * NOISE**2)
