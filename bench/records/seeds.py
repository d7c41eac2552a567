"""Seeds: the random stream of every draw, from the root seed and the owner of the noise."""

import hashlib

from bench.records.identity import canonical


def draw_seed(root: int, stage: str, subject: object, draw: int) -> int:
    """Return the 63-bit seed of a draw, from root seed, stage, subject (owner of the noise) and draw number."""
    return numbered_seed(noise_stream(root, stage, subject), draw)


def noise_stream(root: int, stage: str, subject: object) -> int:
    """Return 64 bits that the seeds of all draws of a stage have in common; computing them is most of the work."""
    return int.from_bytes(hashlib.sha256(canonical([root, stage, subject]).encode()).digest()[:8], "big")


def numbered_seed(stream: int, draw: int) -> int:
    """Return the 63-bit seed of a draw.

    torch's CPU generator uses only the low 32 bits of a seed, so few that two hashes may agree by chance. Therefore the
    low bits are not a hash: they count the draws, from an offset that the stream gives, and a one-to-one mixing (the
    finalizer of MurmurHash3) spreads the counts. No two draws of a stage share their low bits.
    """
    low = (stream + draw) % 2**32
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        low = (low ^ low >> shift) * factor % 2**32
    return stream >> 33 << 32 | low ^ low >> 16
