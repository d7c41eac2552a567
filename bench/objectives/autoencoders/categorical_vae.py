"""A variational autoencoder with categorical latents."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution, OneHotCategorical
from torch.nn.functional import logsigmoid, one_hot

from bench.objectives._checks import at_least
from bench.objectives._protocol import Theta
from bench.objectives.autoencoders.autoencoder import Autoencoder
from bench.objectives.autoencoders.networks import copies, network
from bench.objectives.autoencoders.training import SAMPLES, liveliest
from estimators import RLOO

ENUMERABLE = 4096
"""Largest number of states for which the exact value is computed, as a sum over all of them."""


@dataclass(frozen=True)
class CategoricalVAE(Autoencoder):
    """Evidence lower bound of a variational autoencoder with one-hot latents, averaged over small images.

    ``f(z) = log p(x | z) + log p(z) - log q(z | x)``
    ``z_j ~ OneHotCategorical(softmax(encoder(x)_j))``
    ``p(x | z) = prod_i Bernoulli(x_i; sigmoid(decoder(z)_i))``
    ``E f = sum_z [q(z | x) log p(x | z)] - KL(q || p)``

    p(z) is uniform. Both networks have one hidden layer of leaky rectifiers (slope 0.3). A pixel is 1 if it exceeds
    half of its range, else 0. The gradient is taken in theta, the encoder's four tensors. ``extra`` holds the decoder's
    tensors, which are constants unless they are set to require gradients. Initial weights and biases are uniform within
    1/sqrt(inputs) of 0; ``at`` selects other weights. The objective is maximised. f is defined for every real z. Exact
    value: the sum over all classes^dim states if there are at most 4096, else a Monte Carlo reference, the mean of a
    long run. Bad arguments and unreadable data or weights raise ``ValueError``.

    Args:
        dim: number of latent variables, at least 1.
        classes: number of categories of each latent variable, at least 2.
        hidden: number of hidden units in the encoder, and in the decoder, at least 1.
        batch: number of images, at least 1: the first images of the data or, in training, a minibatch.
        seed: seed of the initial weights and of the order of minibatches, at least 0.
        at: the weights at which the gradient is measured: "initial", "trained" (weights that come with the package, for
            ``data=digits`` and networks of the default sizes) or the path of a file from
            ``bench train --keep-weights``.
        data: "digits" (1797 images of 8 x 8, scikit-learn) or "mnist", "fashion-mnist", "omniglot" (28 x 28; from your
            own files, in the folder that ``--data-dir`` names).
        particles: number K of particles, at least 1, of the importance-weighted bound
            ``f(z_1 ... z_K) = log((1/K) sum_k [p(x, z_k) / q(z_k | x)])``, with a Monte Carlo reference; None for the
            evidence lower bound.

    Reference: a small version of Jang, Gu & Poole 2017, section 4.2; 4 latents of 8 classes are the smallest model of
    Liu, Dong, Liu, Yu & Gao 2023 (ReinMax). Data: Alpaydin & Kaynak 1998, as bundled with scikit-learn.
    """

    dim: int = 4
    classes: int = 8
    hidden: int = 200
    batch: int = 32
    seed: int = 0
    at: str = "initial"
    data: str = "digits"
    particles: int | None = None

    family = OneHotCategorical
    reference_estimator = RLOO(n=8)  # unbiased, with little variance for its cost
    reference = "Jang et al. 2017"

    def __post_init__(self) -> None:
        at_least(self, classes=2)
        super().__post_init__()

    @property
    def has_exact(self) -> bool:  # type: ignore[override]
        """Whether the exact value is known.

        The value is known if f is the evidence lower bound, and q has few enough states (classes^dim) to sum over all
        of them.
        """
        return self.dim * math.log(self.classes) <= math.log(ENUMERABLE) * (1 + 1e-12) and self.particles is None

    @property
    def _decoder_widths(self) -> tuple[int, ...]:
        return self.dim * self.classes, self.hidden, self.pixels

    def _decode(self, z: Tensor, decoder: Theta) -> Tensor:
        return network(z.flatten(-2), decoder)

    def _posterior(self, output: Tensor) -> Distribution:
        return OneHotCategorical(logits=copies(self._logits(output), self.particles, event=2), validate_args=False)

    def _log_prior(self, z: Tensor) -> float:
        return -self.dim * math.log(self.classes)

    def bounds(self, x: Tensor, output: Tensor, decoder: Theta) -> Tensor:
        """Return the evidence lower bound of every image, ``[batch]``, as a sum over all states of the latents.

        Args:
            x: images, ``[batch, pixels]``.
            output: the encoder's output for the images, the logits of the latents, ``[batch, dim * classes]``.
            decoder: the decoder's weights.
        """
        log_p = self._logits(output).log_softmax(-1)
        each = [torch.arange(self.classes, device=x.device)] * self.dim
        states = one_hot(torch.cartesian_prod(*each).reshape(-1, self.dim), self.classes).to(x).flatten(-2)
        pixels = network(states, decoder)
        likelihood = x @ pixels.T + logsigmoid(-pixels).sum(-1)  # [batch, states]: log sigmoid(-a) + a = log sigmoid(a)
        q = (log_p.flatten(-2) @ states.T).exp()
        negative_entropy = (log_p.exp() * log_p).sum((-1, -2))
        return (q * likelihood).sum(-1) - negative_entropy - self.dim * math.log(self.classes)

    def _most_likely(self, output: Tensor) -> Tensor:
        return one_hot(self._logits(output).argmax(-1), self.classes).to(output)

    def _prior_samples(self, generator: Generator, dtype: torch.dtype, device: torch.device | str) -> Tensor:
        drawn = torch.randint(self.classes, (SAMPLES, self.dim), generator=generator, device=device)
        return one_hot(drawn, self.classes).to(dtype)

    def _walk(self, codes: Tensor) -> Tensor:
        numbers = codes.argmax(-1)
        right, down = liveliest(one_hot(numbers, self.classes).double().var(0).sum(-1))
        points, steps = (
            numbers[0].repeat(self.classes, self.classes, 1),
            torch.arange(self.classes, device=codes.device),
        )
        points[..., right], points[..., down] = steps, steps[:, None]
        return one_hot(points, self.classes).to(codes)

    def _logits(self, output: Tensor) -> Tensor:
        return output.view(-1, self.dim, self.classes)
