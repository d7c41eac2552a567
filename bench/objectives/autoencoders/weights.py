"""Files of weights: how to read, check, load and write them, and the digests that stand for them in records."""

import functools
import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.objectives._protocol import Problem, Theta
from bench.records import files

TRAINED = Path(__file__).with_name("trained")
"""Folder of the weights that come with this package, one file for each autoencoder."""

Weights = dict[str, Theta]
"""Named tensors, under the keys "theta" and "extra"."""


def digest_of_file(path: Path) -> str:
    """Return the digest of the weights in a file. A file is read again only if it has changed.

    Raises:
        ValueError: the file cannot be read, or holds no weights.
    """
    if not path.is_file():
        raise _no_file(path)
    state = path.stat()
    return _digest_of(path.resolve(), state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=64)
def _digest_of(path: Path, _changed: int, _size: int) -> str:
    return digest(_read(path))


def digest(weights: Weights) -> str:
    """Return the digest that identifies weights, 16 hexadecimal digits.

    ``weights`` are named tensors under the keys "theta" and "extra", as in the ``Problem`` of an autoencoder.
    """
    hashed = hashlib.sha256()
    for part in ("theta", "extra"):
        for name, t in weights[part].items():
            hashed.update(f"{part}.{name}{list(t.shape)}".encode())
            hashed.update(t.detach().cpu().contiguous().numpy().tobytes())
    return hashed.hexdigest()[:16]


def of(problem: Problem) -> Weights:
    """Return a copy of a problem's weights on the CPU: the named tensors of its fields ``theta`` and ``extra``.

    The keys of the result are the names of the fields, "theta" and "extra".
    """
    parts = {"theta": problem.theta, "extra": problem.extra}
    return {part: {name: t.detach().cpu().clone() for name, t in tensors.items()} for part, tensors in parts.items()}


def save(problem: Problem, folder: Path) -> Path:
    """Write a problem's weights into a file in ``folder``, named by the weights' digest, and return the file's path."""
    weights = of(problem)
    path = folder / f"{digest(weights)}.pt"
    content = io.BytesIO()
    torch.save(weights, content)
    files.write(path, content.getvalue())
    return path


def load_into(problem: Problem, path: Path, owner: str) -> None:
    """Copy the weights in a file into a problem. The tensors of the problem keep dtype and device.

    Args:
        problem: the problem whose tensors ``theta`` and ``extra`` are overwritten.
        path: the file of weights.
        owner: name of the objective's class, for error messages.

    Raises:
        ValueError: the file cannot be read, or its weights have other shapes.
    """
    weights, mine = _read(path), of(problem)
    shapes, wanted = _shapes(weights), _shapes(mine)
    if shapes != wanted:
        different = next(name for name in {**wanted, **shapes} if shapes.get(name) != wanted.get(name))
        raise ValueError(
            f"{path} holds the weights of another architecture: {different} is {shapes.get(different, 'missing')} in "
            f"the file and {wanted.get(different, 'missing')} in {owner}. Give it the parameters of the training run."
        )
    with torch.no_grad():
        for part, tensors in (("theta", problem.theta), ("extra", problem.extra)):
            for name, t in tensors.items():
                t.copy_(weights[part][name])


def _no_file(path: Path) -> ValueError:
    return ValueError(
        f"There is no file of weights {str(path)!r}. Use at=initial or make one with `bench train --keep-weights`."
    )


def _shapes(weights: Weights) -> dict[str, list[int]]:
    return {f"{part}.{name}": list(t.shape) for part in weights for name, t in weights[part].items()}


def _read(path: Path) -> Weights:
    """Return the weights in a file, without running code that it holds, or raise ``ValueError``."""
    if not path.is_file():
        raise _no_file(path)
    try:
        with zipfile.ZipFile(path) as file:  # torch does not compress, so nothing can grow when it is unpacked
            if any(part.compress_type != zipfile.ZIP_STORED for part in file.infolist()):
                raise zipfile.BadZipFile
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path} cannot be read safely as a file of weights: {type(error).__name__}.") from None
    parts = found.values() if isinstance(found, dict) and set(found) == {"theta", "extra"} else [None]
    if not all(isinstance(part, dict) and all(isinstance(t, Tensor) for t in part.values()) for part in parts):
        raise ValueError(
            f"{path} holds no weights of an autoencoder. Make a file of weights with `bench train --keep-weights`."
        )
    weights: Weights = found
    return weights
