"""Seeds: the random stream of every draw (batch of gradients), from the root seed and the owner of the noise."""

import hashlib

from bench.records.identity import canonical


def draw_seed(root: int, stage: str, subject: object, draw: int) -> int:
    """Return the 63-bit seed of a draw, made from the root seed, the stage, the subject and the number of the draw.

    A draw is a batch of replicates. The stage is a word such as "measure" or "pilot". The subject is the owner of the
    noise: an objective, or an estimator with an objective.
    """
    return numbered_seed(noise_stream(root, stage, subject), draw)


def noise_stream(root: int, stage: str, subject: object) -> int:
    """Return 64 bits that the seeds of all draws of a stage share; they take the longest to compute.

    A draw is a batch of replicates. ``root`` is the root seed, ``stage`` a word such as "measure", and ``subject`` the
    owner of the noise: an objective, or an estimator with an objective.
    """
    return int.from_bytes(hashlib.sha256(canonical([root, stage, subject]).encode()).digest()[:8], "big")


def numbered_seed(stream: int, draw: int) -> int:
    """Return the 63-bit seed of a draw, given the 64 bits of its noise stream and its number.

    A draw is a batch of replicates. torch's CPU generator uses only the low 32 bits of a seed. If these bits were a
    hash, two draws could have equal bits by chance. Instead the bits count the draws, from an offset given by the
    stream, and a one-to-one mixing (the finalizer of MurmurHash3) spreads the counts. No two draws of a stage have
    equal low bits.
    """
    low = (stream + draw) % 2**32
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        low = (low ^ low >> shift) * factor % 2**32
    return stream >> 33 << 32 | low ^ low >> 16
