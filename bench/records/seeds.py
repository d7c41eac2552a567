"""Seeds: the random stream of every draw, from the root seed and what the noise belongs to."""

from __future__ import annotations

import hashlib

from bench.records.identity import canonical


def draw_seed(root: int, stage: str, subject: object, draw: int) -> int:
    """Return the 63-bit seed of a draw, from root seed, stage, whose noise it is, and draw number."""
    return numbered_seed(noise_stream(root, stage, subject), draw)


def noise_stream(root: int, stage: str, subject: object) -> int:
    """Return what the seeds of all draws of a stage are made of, 64 bits: making it is most of the work."""
    return int.from_bytes(hashlib.sha256(canonical([root, stage, subject]).encode()).digest()[:8], "big")


def numbered_seed(stream: int, draw: int) -> int:
    """Return the 63-bit seed of a draw.

    torch's CPU generator takes only the low 32 bits of a seed, few enough for two hashes to meet by chance. So the low
    bits count the draws, from a hash of the rest and through a one-to-one mixing (the finalizer of MurmurHash3): no
    two draws of a stage share them.
    """
    low = (stream + draw) % 2**32
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        low = (low ^ low >> shift) * factor % 2**32
    return stream >> 33 << 32 | low ^ low >> 16
