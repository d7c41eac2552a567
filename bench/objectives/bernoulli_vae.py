"""A variational autoencoder with binary latents."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor
from torch.distributions import Bernoulli, Distribution, Independent
from torch.nn.functional import leaky_relu, linear, logsigmoid

from bench.objectives._checks import whole
from bench.objectives._protocol import Objective, Problem, Theta
from estimators import Bound, DisARM, Estimator

IMAGES, PIXELS = 1797, 64
ENUMERABLE = 12
"""Most latents whose 2^dim states are summed."""


@dataclass(frozen=True)
class BernoulliVAE(Objective):
    """Evidence lower bound of a variational autoencoder with binary latents, on the 8 x 8 digits: a mean over images.

    ``f(b) = log p(x | b) + log p(b) - log q(b | x)``,  ``b_j ~ Bernoulli(sigmoid(encoder(x)_j))``,  p(b) uniform
    ``p(x | b) = prod_i Bernoulli(x_i; sigmoid(decoder(b)_i))``
    ``E f = sum_b q(b | x) log p(x | b) - KL(q || p)``

    Both networks have one hidden layer of leaky rectifiers (slope 0.3). Pixels are 1 where they exceed half of their
    range. theta is the encoder, four tensors; ``extra`` is the decoder: constants, unless one asks them for gradients.
    The point of measurement is the initial one: weights and biases uniform within 1/sqrt(inputs). The objective is to
    be maximised. f makes sense for every real b. Exact value: the sum over all 2^dim states, for at most 12 latents;
    beyond, a Monte Carlo reference.

    Args:
        dim: latent bits, at least 1.
        hidden: hidden units of the encoder and of the decoder, at least 1.
        batch: images: the first of the data, from 1 to 1797 of them.
        seed: seed of the initial weights, at least 0.

    Raises:
        ValueError: an argument is out of its range.

    Reference: the network of Yin & Zhou 2019 (ARM) and Dong, Mnih & Tucker 2020 (DisARM), made small. Data: Alpaydin &
    Kaynak 1998, as bundled with scikit-learn.
    """

    dim: int = 8
    hidden: int = 200
    batch: int = 32
    seed: int = 0

    bound = True
    family: ClassVar[type[Distribution]] = Bernoulli
    reference: ClassVar[str] = "Dong et al. 2020"

    def __post_init__(self) -> None:
        whole(self, "dim", 1)
        whole(self, "hidden", 1)
        whole(self, "batch", 1)
        whole(self, "seed", 0)
        if self.batch > IMAGES:
            raise ValueError(
                f"BernoulliVAE needs batch <= {IMAGES}, the number of images (got batch={self.batch}). Use batch=32."
            )

    @property
    def has_exact(self) -> bool:  # type: ignore[override]
        """Whether the states are few enough to be summed."""
        return self.dim <= ENUMERABLE

    @property
    def reference_estimator(self) -> Estimator:  # type: ignore[override]
        """Of the estimators that are unbiased here, the one of least variance for its cost."""
        return DisARM(n=8)

    @property
    def row_elements(self) -> int:
        """Elements of one row's largest tensor: the decoder's hidden units, or its pixels, for every image."""
        return self.batch * max(self.hidden, PIXELS, self.dim)

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Make the problem in a dtype, on a device."""
        x = _digits()[: self.batch].to(device, dtype)
        generator = Generator().manual_seed(self.seed)
        theta = _initial(PIXELS, self.hidden, self.dim, generator, dtype, device)
        extra = _initial(self.dim, self.hidden, PIXELS, generator, dtype, device)
        for t in theta.values():
            t.requires_grad_()

        def q(theta: Theta) -> Distribution:
            logits = _network(x, theta)
            return Independent(Bernoulli(logits=logits, validate_args=False), 1, validate_args=False)

        def log_joint(b: Tensor) -> Tensor:
            likelihood = logsigmoid((2 * x - 1) * _network(b, extra)).sum(-1)
            return likelihood - self.dim * math.log(2)

        def exact(theta: Theta) -> Tensor:
            return _bounds(x, _network(x, theta), extra).mean()

        return Problem(theta, q, functools.partial(Bound, log_joint), exact if self.has_exact else None, extra)


def _network(x: Tensor, weights: Theta) -> Tensor:
    """Return the outputs of one hidden layer, ``[..., outputs]`` from ``[..., inputs]``."""
    hidden_weight, hidden_bias, weight, bias = weights.values()
    return linear(leaky_relu(linear(x, hidden_weight, hidden_bias), 0.3), weight, bias)


def _initial(
    inputs: int, hidden: int, outputs: int, generator: Generator, dtype: torch.dtype, device: torch.device | str
) -> Theta:
    """Return the weights of a network, uniform within 1/sqrt(inputs) of each layer.

    Drawn in float64 on the CPU and rounded to float32 before they are converted: every dtype and device has the same
    point, the decoder's too.
    """
    shapes = {
        "hidden_weight": (hidden, inputs),
        "hidden_bias": (hidden,),
        "weight": (outputs, hidden),
        "bias": (outputs,),
    }

    def tensor(name: str, shape: tuple[int, ...]) -> Tensor:
        limit = 1 / math.sqrt(inputs if name.startswith("hidden") else hidden)
        u = torch.rand(shape, generator=generator, dtype=torch.float64)
        return (limit * (2 * u - 1)).float().to(device, dtype)

    return {name: tensor(name, shape) for name, shape in shapes.items()}


def _bounds(x: Tensor, logits: Tensor, decoder: Theta) -> Tensor:
    """Return the lower bound of every image, ``[batch]``, from images ``[batch, 64]`` and logits ``[batch, dim]``."""
    dim = logits.shape[-1]
    states = torch.tensor(list(itertools.product((0.0, 1.0), repeat=dim)), dtype=x.dtype, device=x.device)
    pixels = _network(states, decoder)
    likelihood = x @ pixels.T + logsigmoid(-pixels).sum(-1)  # [batch, states]: log sigmoid(-a) + a = log sigmoid(a)
    log_q = logits @ states.T + logsigmoid(-logits).sum(-1, keepdim=True)
    negative_entropy = (logits.sigmoid() * logits + logsigmoid(-logits)).sum(-1)
    return (log_q.exp() * likelihood).sum(-1) - negative_entropy - dim * math.log(2)


@functools.cache
def _digits() -> Tensor:
    """Return all images as bits, ``[1797, 64]``, float64."""
    from sklearn.datasets import load_digits  # more than a second to import, and only needed here

    return torch.from_numpy(load_digits().data > 8).double()
