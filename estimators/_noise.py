"""Noise with an explicit generator: uniform, normal, Gumbel and logistic."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Generator, Size, Tensor

from estimators._transforms import reusable, vmapped


def random(make: Callable[..., Tensor], shape: Size, like: Tensor, generator: Generator | None) -> Tensor:
    """Return ``make(shape)``, random numbers from ``generator``, in the dtype and on the device of ``like``.

    ``make`` is a function such as ``torch.rand``. If ``generator`` is None, ``make`` is called without a generator, and
    torch's global generator draws. (torch.compile requires this for shapes that vary.)
    """
    size = shape or ((),)  # numbers, which torch reads twice as fast as a torch.Size
    if generator is None:
        return make(*size, dtype=like.dtype, device=like.device)
    return make(*size, generator=generator, dtype=like.dtype, device=like.device)


def uniform(shape: Size, like: Tensor, generator: Generator | None) -> Tensor:
    """Return uniforms on the open interval (0, 1), of the given shape, in the dtype and on the device of ``like``.

    torch draws multiples of a step, 2^-24 (float32) or 2^-53 (float64), in [0, 1). Half a step is added to each uniform
    u, so that log u and log(1 - u) are finite. If ``generator`` is None, torch's global generator draws.
    """
    u = random(torch.rand, shape, like, generator)
    step = torch.finfo(like.dtype).eps / 2
    clamp = torch.clamp if vmapped() else torch.clamp_  # torch has no batching rule for the second
    return _writable(clamp(u.add_(step / 2), max=1 - step), like)


def _writable(noise: Tensor, like: Tensor) -> Tensor:
    """Return noise that can be changed in place: under vmap one copy for each row of ``like``."""
    return noise + like.detach().new_zeros(()) if vmapped() else noise


def normal(shape: Size, like: Tensor, generator: Generator | None) -> Tensor:
    """Return standard normals of the given shape, in the dtype and on the device of ``like``.

    If ``generator`` is None, torch's global generator draws.
    """
    return _writable(random(torch.randn, shape, like, generator), like)


def gumbel(shape: Size, like: Tensor, generator: Generator | None) -> Tensor:
    """Return standard Gumbels of the given shape, all finite, in the dtype and on the device of ``like``.

    If ``generator`` is None, torch's global generator draws.
    """
    u = uniform(shape, like, generator)
    return gumbel_from(u, out=reusable(u))


def gumbel_from(u: Tensor, out: Tensor | None = None) -> Tensor:
    """Return the Gumbels ``-log(-log u)`` made from uniforms u, of the shape of u; written into ``out`` if given."""
    return torch.log(u, out=out).neg_().log_().neg_()


def logistic(shape: Size, like: Tensor, generator: Generator | None) -> Tensor:
    """Return standard logistics of the given shape, all finite, in the dtype and on the device of ``like``.

    If ``generator`` is None, torch's global generator draws.
    """
    return uniform(shape, like, generator).logit_()


@contextlib.contextmanager
def torch_seeded(generator: Generator | None) -> Iterator[None]:
    """Inside the block, let torch's global generator draw numbers that depend on ``generator`` alone.

    At the start of the block, torch's global generator is seeded with a number from ``generator``; at the end, it gets
    its old state back. If ``generator`` is None, nothing is changed.
    """
    if generator is None:
        yield
        return
    seed = torch.randint(2**62, (), generator=generator, device=generator.device).item()
    device = generator.device
    cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if cuda else []), torch.cuda.device(device if cuda else -1):
        seed_one = torch.cuda.manual_seed if cuda else torch.default_generator.manual_seed  # not every device
        seed_one(int(seed))
        yield
