"""What the variational autoencoders share: the images, and networks of one hidden layer."""

from __future__ import annotations

import functools
import math

import torch
from torch import Generator, Tensor
from torch.nn.functional import leaky_relu, linear

from bench.objectives._checks import whole
from bench.objectives._protocol import Objective, Theta

IMAGES, PIXELS = 1797, 64


def check(objective: Objective, *sizes: str) -> None:
    """Raise ``ValueError`` unless sizes are at least 1, ``batch`` is at most all images, and ``seed`` at least 0."""
    for name in sizes:
        whole(objective, name, 1)
    whole(objective, "seed", 0)
    batch = vars(objective)["batch"]
    if batch > IMAGES:
        raise ValueError(
            f"{type(objective).__name__} needs batch <= {IMAGES}, the number of images (got batch={batch}). "
            "Use batch=32."
        )


@functools.cache
def greys() -> Tensor:
    """Return all images as grey levels from 0 to 1, ``[1797, 64]``, float64."""
    from sklearn.datasets import load_digits  # more than a second to import, and only needed here

    return torch.from_numpy(load_digits().data / 16)


def bits() -> Tensor:
    """Return all images as bits, 1 where a pixel exceeds half of its range, ``[1797, 64]``, float64."""
    return (greys() > 0.5).double()


def network(x: Tensor, weights: Theta) -> Tensor:
    """Return the outputs of one hidden layer of leaky rectifiers, ``[..., outputs]`` from ``[..., inputs]``."""
    hidden_weight, hidden_bias, weight, bias = weights.values()
    return linear(leaky_relu(linear(x, hidden_weight, hidden_bias), 0.3), weight, bias)


def initial(
    inputs: int, hidden: int, outputs: int, generator: Generator, dtype: torch.dtype, device: torch.device | str
) -> Theta:
    """Return the weights of a network, uniform within 1/sqrt(inputs) of each layer."""
    first = layer(inputs, hidden, generator, dtype, device)
    return {f"hidden_{name}": t for name, t in first.items()} | layer(hidden, outputs, generator, dtype, device)


def layer(inputs: int, outputs: int, generator: Generator, dtype: torch.dtype, device: torch.device | str) -> Theta:
    """Return ``weight``, ``[outputs, inputs]``, and ``bias``, ``[outputs]``, uniform within 1/sqrt(inputs).

    Drawn in float64 on the CPU and rounded to float32 before they are converted: every dtype and device has the same
    point, the decoder's too.
    """

    def tensor(*shape: int) -> Tensor:
        u = torch.rand(shape, generator=generator, dtype=torch.float64)
        return (1 / math.sqrt(inputs) * (2 * u - 1)).float().to(device, dtype)

    return {"weight": tensor(outputs, inputs), "bias": tensor(outputs)}
