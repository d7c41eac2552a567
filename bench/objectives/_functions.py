"""Where derivatives written by hand, which make fewer passes over the data than torch's, may be used."""

import torch


def transformed() -> bool:
    """Return whether a transform of torch.func (``grad``, ``vmap``, ``jvp``, ...) is active.

    Inside a transform, f is written in torch's own operations, which every nesting of transforms differentiates right.
    """
    return torch._C._are_functorch_transforms_active()
