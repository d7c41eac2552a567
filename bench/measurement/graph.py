"""Which tensors a result depends on."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


def gradients_reached(outputs: Iterable[Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the gradient of the sum of all outputs with respect to each of the ``tensors``, by name.

    Tensors that autograd's graph of the outputs does not reach are left out.
    """
    ends = [t.sum() for t in outputs if t.requires_grad]
    trained = {name: t for name, t in tensors.items() if t.requires_grad}
    if not ends or not trained:
        return {}
    found = torch.autograd.grad(ends, list(trained.values()), allow_unused=True, retain_graph=True)
    return {name: g for name, g in zip(trained, found, strict=True) if g is not None}
