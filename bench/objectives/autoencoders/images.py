"""The images that autoencoders learn: scikit-learn's digits, and data sets that users have as files.

The environment variable ``BENCH_DATA_DIR`` names the folder of these files; ``--data-dir`` sets it. Nothing is
downloaded. Messages name a file by its place in that folder, so no record contains a path on the user's machine.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import math
import os
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.objectives.datasets import table

VARIABLE = "BENCH_DATA_DIR"
"""Environment variable that names the data folder."""
SIDES = {"digits": 8, "mnist": 28, "fashion-mnist": 28, "omniglot": 28}
"""Side of a square image in pixels, by name of the data set."""
DIGITS, DIGITS_HELD_OUT = 1797, 297
"""Number of images in the data set "digits", and how many of them are held out."""
MOST_HELD_OUT, FEWEST, MOST_IMAGES = 2000, 16, 200_000
"""Largest number of images that are held out of a user's files; fewest and most images that a file may hold."""

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Images:
    """Grey images: first the images to train on, then the held-out images, which are in no minibatch.

    Args:
        levels: grey levels, whole numbers from 0 (black) to ``white``: ``[images, pixels]``, bytes.
        white: the level of a white pixel.
        held_out: number of held-out images.
        digest: digest of the content, 16 hexadecimal characters; empty for the data set "digits".
    """

    levels: Tensor
    white: int
    held_out: int
    digest: str = ""

    @property
    def trained(self) -> int:
        """Number of images to train on."""
        return len(self.levels) - self.held_out

    def to(self, device: torch.device | str) -> Images:
        """Return the images with their grey levels on ``device``."""
        return replace(self, levels=self.levels.to(device))

    def greys(self, which: slice | Tensor = slice(None)) -> Tensor:
        """Return the images that ``which`` selects (all by default) as grey levels, ``[images, pixels]``, float64.

        The levels go from 0 (black) to 1 (white).
        """
        return self.levels[which].double() / self.white

    def bits(self, which: slice | Tensor = slice(None)) -> Tensor:
        """Return the images that ``which`` selects (all by default) as bits, ``[images, pixels]``, float64.

        A bit is 1 if the pixel exceeds half of its range, else 0.
        """
        return (self.greys(which) > 0.5).double()


def images(data: str) -> Images:
    """Return the images of the data set named ``data``. A file is read again only if it has changed.

    Raises:
        ValueError: a file is missing or malformed.
    """
    if data == "digits":
        return _digits()
    paths = [_path(name) for name in FILES[data]]
    return _read(data, *((path, path.stat().st_mtime_ns, path.stat().st_size) for path in paths))


def count(data: str) -> int:
    """Return the number of images in the data set named ``data``; for "digits", no image is loaded.

    Raises:
        ValueError: a file is missing or malformed.
    """
    return DIGITS if data == "digits" else len(images(data).levels)


@functools.cache
def _digits() -> Images:
    levels = table("digits.csv.gz", header=False)[:, :-1]
    return Images(torch.from_numpy(levels.astype(np.uint8)), white=16, held_out=DIGITS_HELD_OUT)


@functools.lru_cache(maxsize=4)
def _read(data: str, *files: tuple[Path, int, int]) -> Images:
    train, test = _chardata(files[0][0]) if data == "omniglot" else [_idx(path) for path, *_ in files]
    for kind, found in (("train", train), ("test", test)):
        if len(found) < FEWEST:
            raise ValueError(f"data={data} has {len(found)} images to {kind} on; at least {FEWEST} are needed.")
    # Spread over the whole file: in MNIST's test images, different parts come from different writers.
    chosen = np.linspace(0, len(test) - 1, min(MOST_HELD_OUT, len(test))).round().astype(int)
    levels = np.concatenate([train, test[chosen]])
    digest = hashlib.sha256(f"{train.shape}".encode() + levels.tobytes()).hexdigest()[:16]
    return Images(torch.from_numpy(levels), white=255, held_out=len(chosen), digest=digest)


# The folder -----------------------------------------------------------------------------------------------------------


def _path(names: tuple[str, ...]) -> Path:
    """Return the path of the first name that is a file in the data folder; messages give the first name."""
    if not (given := os.environ.get(VARIABLE)):
        raise ValueError(f"{names[0]} cannot be found: no data folder is set. Set it with --data-dir or {VARIABLE}.")
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise ValueError(f"There is no data folder {given!r}. Give the folder that holds {names[0]}.")
    for name in names:
        if (path := folder / name).is_file():
            return path
    raise ValueError(
        f"There is no {names[0].rpartition('/')[2]} in the data folder {given!r}. "
        f"Put it there as {names[0]}, or give the folder that holds it."
    )


def _places(folders: tuple[str, ...], name: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}{end}" for folder in folders for end in (".gz", ""))


FILES: dict[str, tuple[tuple[str, ...], ...]] = {
    data: tuple(_places((data, f"{other}/raw"), f"{part}-images-idx3-ubyte") for part in ("train", "t10k"))
    for data, other in (("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST"))  # torchvision's names
} | {"omniglot": (("omniglot/chardata.mat", "OMNIGLOT/chardata.mat"),)}
"""By data set, the names that each of its files may have in the data folder, the usual name first."""


# Formats --------------------------------------------------------------------------------------------------------------


def _said(path: Path) -> str:
    """Return a file's name as messages give it: with its folder, without the rest of the path."""
    return f"{path.parent.name}/{path.name}"


def _idx(path: Path) -> Bytes:
    """Return the images of a file in the IDX format of LeCun, Cortes & Burges, ``[images, 784]``."""
    name = _said(path)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:  # no more of it than is looked at
            content = file.read(16 + 784 * MOST_IMAGES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{name} cannot be unpacked ({type(error).__name__}). Copy it again.") from None
    if len(content) < 16:
        raise ValueError(f"{name} has {len(content)} bytes, fewer than the header of an image file. Copy it again.")
    magic, count, height, width = struct.unpack(">4I", content[:16])
    if magic != 2051:
        raise ValueError(
            f"{name} begins with the magic number {magic}; an image file begins with 2051. "
            "Use the file of images in the IDX format (a file of labels begins with 2049)."
        )
    if (height, width) != (28, 28):
        raise ValueError(f"{name} holds images of {height} x {width} pixels; they must be 28 x 28.")
    if count > MOST_IMAGES:
        raise ValueError(f"{name} holds {count:,} images; at most {MOST_IMAGES:,} are read.")
    if len(content) != 16 + count * 784:
        expected = f"{count:,} images of 28 x 28 take {16 + count * 784:,}"
        raise ValueError(f"{name} has {len(content):,} bytes; {expected}. Copy it again.")
    return np.frombuffer(content, np.uint8, offset=16).reshape(count, 784)


def _chardata(path: Path) -> tuple[Bytes, Bytes]:
    """Return Omniglot's training and test images as cut to 28 x 28 by Burda et al., ``[images, 784]`` each."""
    from scipy.io import loadmat, whosmat  # slow to import

    name = _said(path)
    try:
        sizes = [math.prod(shape) for key, shape, _ in whosmat(path) if key in ("data", "testdata")]
        if max(sizes, default=0) > 784 * MOST_IMAGES:
            raise ValueError("too large")
        held: dict[str, Any] = loadmat(path, variable_names=["data", "testdata"])
    except Exception as error:  # a damaged file can make its reader raise anything
        raise ValueError(f"{name} cannot be read as a MATLAB file ({type(error).__name__}). Copy it again.") from None
    return _characters(held, "data", name), _characters(held, "testdata", name)


def _characters(held: dict[str, Any], key: str, name: str) -> Bytes:
    found = held.get(key)
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.shape[0] != 784 or found.dtype.kind not in "fu":
        there = f"{key} of shape {list(found.shape)}" if isinstance(found, np.ndarray) else f"no {key}"
        raise ValueError(f"{name} holds {there}; {key} must be images of 28 x 28 as numbers, [784, images].")
    grey = found.astype(np.float64)
    if not (grey.min(initial=0) >= 0 and grey.max(initial=0) <= 1):
        raise ValueError(f"{name} holds grey levels of {key} outside the range from 0 to 1.")
    upright = grey.T.reshape(-1, 28, 28).swapaxes(1, 2)  # MATLAB's order: columns first
    return np.ascontiguousarray(np.rint(255 * upright).astype(np.uint8).reshape(-1, 784))
