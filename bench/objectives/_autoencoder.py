"""What the variational autoencoders share: their sizes, and networks of one hidden layer."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn.functional import leaky_relu, linear

from bench.objectives._checks import whole
from bench.objectives._images import SIDES, count
from bench.objectives._protocol import Objective, Theta


def pixels(objective: Objective) -> int:
    """Return how many pixels an image has, without reading one."""
    return int(SIDES[vars(objective)["data"]] ** 2)


def check(objective: Objective, *sizes: str) -> None:
    """Raise ``ValueError`` unless sizes are at least 1, ``seed`` at least 0, and there are data for the ``batch``."""
    for name in sizes:
        whole(objective, name, 1)
    whole(objective, "seed", 0)
    if objective.particles is not None:
        whole(objective, "particles", 1)
    data, batch = vars(objective)["data"], vars(objective)["batch"]
    if data not in SIDES:
        raise ValueError(
            f"{type(objective).__name__} knows the data {', '.join(SIDES)} (got data={data!r}). Use data='digits'."
        )
    most = count(data)
    if batch > most:
        raise ValueError(
            f"{type(objective).__name__} needs batch <= {most}, the number of images (got batch={batch}). Use batch=32."
        )


def copies(t: Tensor, particles: int | None, event: int = 1) -> Tensor:
    """Return t with an axis of particles, all alike, before its last ``event`` ones; t itself without particles."""
    return t if particles is None else t.unsqueeze(-event - 1).expand(*t.shape[:-event], particles, *t.shape[-event:])


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
