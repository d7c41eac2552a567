"""Seeds: the random stream of every draw (batch of gradients), from the root seed and the owner of the noise."""

import hashlib

from bench.records.identity import canonical


def draw_seed(root: int, stage: str, subject: object, draw: int) -> int:
    """Return the 63-bit seed of the noise of one draw, a batch of replicates.

    Args:
        root: the root seed.
        stage: what the noise is for, such as "measure" or "pilot".
        subject: what the noise belongs to, as a value that JSON can hold: the identity of an objective, if its
            estimators share their noise, else the identities of an estimator and its objective.
        draw: the number of the draw, from 0.
    """
    return numbered_seed(noise_stream(root, stage, subject), draw)


def noise_stream(root: int, stage: str, subject: object) -> int:
    """Return 64 bits from which ``numbered_seed`` makes the seeds of all draws (batches of replicates) of a stage.

    The bits are computed once for all draws, because they take longer to compute than the rest of a seed.

    Args:
        root: the root seed.
        stage: what the noise is for, such as "measure" or "pilot".
        subject: what the noise belongs to, as a value that JSON can hold: the identity of an objective, if its
            estimators share their noise, else the identities of an estimator and its objective.
    """
    return int.from_bytes(hashlib.sha256(canonical([root, stage, subject]).encode()).digest()[:8], "big")


def numbered_seed(stream: int, draw: int) -> int:
    """Return the 63-bit seed of the draw (a batch of replicates) with the number ``draw``.

    ``stream`` are the 64 bits that ``noise_stream`` has returned. No two of the first 2^32 draws of a stream have seeds
    with equal low 32 bits, the only bits that torch's CPU generator uses. These bits are the number of the draw, added
    to a number of the stream and spread by a one-to-one mixing, the finalizer of MurmurHash3.
    """
    low = (stream + draw) % 2**32
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        low = (low ^ low >> shift) * factor % 2**32
    return stream >> 33 << 32 | low ^ low >> 16
