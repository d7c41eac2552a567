"""Networks of the autoencoders: initial weights and outputs."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor
from torch.nn.functional import leaky_relu, linear

from bench.objectives._protocol import Theta


def copies(t: Tensor, particles: int | None, event: int = 1) -> Tensor:
    """Return copies of t along a new axis before its last ``event`` axes.

    The new axis has length ``particles``, and takes no memory. If ``particles`` is None, t itself is returned.
    """
    return t if particles is None else t.unsqueeze(-event - 1).expand(*t.shape[:-event], particles, *t.shape[-event:])


def network(x: Tensor, weights: Theta) -> Tensor:
    """Return a network's outputs, ``[..., outputs]`` from ``[..., inputs]``.

    The network has one hidden layer of leaky rectifiers (slope 0.3) or, if ``weights`` has only the tensors of the last
    layer, it is linear.

    Args:
        x: inputs, ``[..., inputs]``.
        weights: the tensors that ``initial`` returned, in the order in which it returned them.
    """
    *hidden, weight, bias = weights.values()
    if hidden:
        x = leaky_relu(linear(x, *hidden), 0.3)
    return linear(x, weight, bias)


def initial(widths: Sequence[int], generator: Generator, dtype: torch.dtype, device: torch.device | str) -> Theta:
    """Return a network's initial weights: uniform in each layer, within 1/sqrt(inputs) of 0.

    Weights are drawn in float64 on the CPU, rounded to float32 and then converted. So they are equal for every dtype
    and device.

    Args:
        widths: number of inputs, of hidden units if there is a hidden layer, and of outputs.
        generator: a generator on the CPU.
        dtype: dtype of the weights.
        device: device of the weights.

    Returns:
        The tensors by name. A hidden layer has ``hidden_weight``, ``[hidden, inputs]``, and ``hidden_bias``,
        ``[hidden]``. The last layer has ``weight``, ``[outputs, units]``, and ``bias``, ``[outputs]``; its units are
        the hidden units or, if there is no hidden layer, the inputs.
    """

    def tensor(inputs: int, *shape: int) -> Tensor:
        u = torch.rand(shape, generator=generator, dtype=torch.float64)
        return (1 / math.sqrt(inputs) * (2 * u - 1)).float().to(device, dtype)

    found, prefixes = dict[str, Tensor](), ("hidden_", "") if len(widths) == 3 else ("",)
    for prefix, (inputs, outputs) in zip(prefixes, itertools.pairwise(widths), strict=True):
        found[f"{prefix}weight"] = tensor(inputs, outputs, inputs)
        found[f"{prefix}bias"] = tensor(inputs, outputs)
    return found
