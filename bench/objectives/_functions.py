"""Where derivatives written by hand, which make fewer passes over the data than torch's, may be used."""

import torch


def transformed() -> bool:
    """Return whether a transform of torch.func (``grad``, ``vmap``, ``jvp``, ...) is active.

    If one is active, f must use torch's own operations, not derivatives written by hand. Torch differentiates its own
    operations correctly under any nesting of transforms.
    """
    return torch._C._are_functorch_transforms_active()
