"""Small files in the formats of the large data sets, in folders like a user's."""

import gzip
import struct

import numpy as np
from scipy.io import savemat


def pictures(count, seed=0):
    """Return noise that is brighter at the top and on the right, ``[count, 28, 28]`` bytes: a rotation shows."""
    noise = np.random.default_rng(seed).integers(0, 100, (count, 28, 28))
    noise[:, :14, 14:] += 150
    return noise.astype(np.uint8)


def idx(images):
    """Return the bytes of a file of images."""
    return struct.pack(">4I", 2051, *images.shape) + images.tobytes()


def write_idx(folder, train, test, *, packed=True):
    """Write a pair of files in the format of MNIST."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, images in (("train", train), ("t10k", test)):
        path = folder / f"{part}-images-idx3-ubyte{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(idx(images), mtime=0) if packed else idx(images))


def write_chardata(path, train, test):
    """Write Omniglot in the format of Burda et al.: a column per image, with its columns in turn, from 0 to 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = [images.swapaxes(1, 2).reshape(len(images), 784).T / 255 for images in (train, test)]
    savemat(path, {"data": columns[0], "testdata": columns[1]}, do_compression=True)
