"""A variational autoencoder with binary latents."""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.distributions import Bernoulli, Distribution
from torch.nn.functional import logsigmoid

from bench.objectives._protocol import Theta
from bench.objectives.autoencoders.autoencoder import Autoencoder
from bench.objectives.autoencoders.networks import copies, network
from bench.objectives.autoencoders.training import SAMPLES, plane
from estimators import DisARM

ENUMERABLE = 12
"""Largest number of latents for which the exact value is computed, as a sum over all 2^dim states."""


@dataclass(frozen=True)
class BernoulliVAE(Autoencoder):
    """Evidence lower bound of a variational autoencoder with binary latents, averaged over small images.

    ``f(b) = log p(x | b) + log p(b) - log q(b | x)``
    ``b_j ~ Bernoulli(sigmoid(encoder(x)_j))``
    ``p(x | b) = prod_i Bernoulli(x_i; sigmoid(decoder(b)_i))``
    ``E f = sum_b [q(b | x) log p(x | b)] - KL(q || p)``

    p(b) is uniform. Both networks have one hidden layer of leaky rectifiers (slope 0.3). A pixel is 1 if it exceeds
    half of its range, else 0. The gradient is taken in theta, the encoder's four tensors. ``extra`` holds the decoder's
    tensors, which are constants unless they are set to require gradients. Initial weights and biases are uniform within
    1/sqrt(inputs) of 0; ``at`` selects other weights. The objective is maximised. f is defined for every real b. Exact
    value: the sum over all 2^dim states if dim is at most 12, else a Monte Carlo reference, the mean of a long run. Bad
    arguments and unreadable data or weights raise ``ValueError``.

    Args:
        dim: number of latent bits, at least 1.
        hidden: number of hidden units in the encoder, and in the decoder, at least 1.
        batch: number of images, at least 1: the first images of the data or, in training, a minibatch.
        seed: seed of the initial weights and of the order of minibatches, at least 0.
        at: the weights at which the gradient is measured: "initial", "trained" (weights that come with the package, for
            ``data=digits`` and networks of the default sizes) or the path of a file from
            ``bench train --keep-weights``.
        data: "digits" (1797 images of 8 x 8, scikit-learn) or "mnist", "fashion-mnist", "omniglot" (28 x 28; from your
            own files, in the folder that ``--data-dir`` names).
        particles: number K of particles, at least 1, of the importance-weighted bound
            ``f(b_1 ... b_K) = log((1/K) sum_k [p(x, b_k) / q(b_k | x)])``, with a Monte Carlo reference; None for the
            evidence lower bound.

    Reference: a small version of the network of Yin & Zhou 2019 (ARM) and Dong, Mnih & Tucker 2020 (DisARM). Data:
    Alpaydin & Kaynak 1998, as bundled with scikit-learn.
    """

    dim: int = 8
    hidden: int = 200
    batch: int = 32
    seed: int = 0
    at: str = "initial"
    data: str = "digits"
    particles: int | None = None

    family = Bernoulli
    reference_estimator = DisARM(n=8)  # unbiased, with the least variance for its cost
    reference = "Dong et al. 2020"

    @property
    def has_exact(self) -> bool:  # type: ignore[override]
        """Whether the exact value is known.

        The value is known if f is the evidence lower bound, and q has few enough states (2^dim) to sum over all of
        them.
        """
        return self.dim <= ENUMERABLE and self.particles is None

    def _posterior(self, output: Tensor) -> Distribution:
        return Bernoulli(logits=copies(output, self.particles), validate_args=False)

    def _log_prior(self, z: Tensor) -> float:
        return -self.dim * math.log(2)

    def bounds(self, x: Tensor, output: Tensor, decoder: Theta) -> Tensor:
        """Return the evidence lower bound of every image, ``[batch]``, as a sum over all states of the latent bits.

        Args:
            x: images, ``[batch, pixels]``.
            output: the encoder's output for the images, the logits of the latent bits, ``[batch, dim]``.
            decoder: the decoder's weights.
        """
        states = torch.tensor(list(itertools.product((0.0, 1.0), repeat=self.dim)), dtype=x.dtype, device=x.device)
        pixels = network(states, decoder)
        likelihood = x @ pixels.T + logsigmoid(-pixels).sum(-1)  # [batch, states]: log sigmoid(-a) + a = log sigmoid(a)
        log_q = output @ states.T + logsigmoid(-output).sum(-1, keepdim=True)
        negative_entropy = (output.sigmoid() * output + logsigmoid(-output)).sum(-1)
        return (log_q.exp() * likelihood).sum(-1) - negative_entropy - self.dim * math.log(2)

    def _most_likely(self, output: Tensor) -> Tensor:
        return (output > 0).to(output)

    def _prior_samples(self, generator: Generator, dtype: torch.dtype, device: torch.device | str) -> Tensor:
        return torch.rand(SAMPLES, self.dim, generator=generator, dtype=dtype, device=device).round()

    def _walk(self, codes: Tensor) -> Tensor:
        return plane(codes, codes[0], 0, 1)
