"""The number of elements in the largest tensor of one row (estimate), for objectives that do not declare it."""

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution
from torch.overrides import TorchFunctionMode

from estimators import Integrand, draw, rows

FEW = 2
"""Rows of the smaller of two trial calls; the larger one has twice as many."""


class _Sizes(TorchFunctionMode):
    """A context that notes the number of elements of every tensor that a function of torch returns."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = list[int]()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for t in out if isinstance(out, tuple | list) else (out,):
            if isinstance(t, Tensor):
                while torch._C._functorch.is_functorch_wrapped_tensor(t):
                    t = torch._C._functorch.get_unwrapped(t)  # vmap hides an axis
                # An expanded view holds no more than its storage.
                self.sizes.append(min(t.numel(), t.untyped_storage().nbytes() // t.element_size()))
        return out


def largest_of_a_row(q: Distribution, integrand: Callable[[Distribution], Integrand], held: Iterable[Tensor]) -> int:
    """Return the number of elements in the largest tensor of one row (estimate), rounded up to a power of two.

    Two trial calls draw one sample x for each row, and compute f(x) and log q(x). One call has 2 rows, the other 4. A
    tensor that has the same size in both calls, such as the data, does not count.

    Args:
        q: the distribution of x.
        integrand: maps q to f.
        held: tensors for which every row has a gradient of its own. They count, whatever their size in the calls.
    """
    few, more = (_sizes(q, integrand, count) for count in (FEW, 2 * FEW))
    if len(few) == len(more):
        grown = [(b - a) // FEW for a, b in zip(few, more, strict=True)]
    else:  # f takes another path for more rows
        grown = [size // (2 * FEW) for size in more]
    largest = max(1, *grown, *(t.numel() for t in held))
    return 1 << (largest - 1).bit_length()


def _sizes(q: Distribution, integrand: Callable[[Distribution], Integrand], count: int) -> list[int]:
    r, generator, noted = rows(q, count), Generator().manual_seed(0), _Sizes()
    with torch.no_grad(), noted:
        x = draw(r, 1, generator)
        integrand(r)(x)
        with contextlib.suppress(NotImplementedError):  # a sampler without a density
            r.log_prob(x)
    return noted.sizes
