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
    """Return the 63-bit seed of the draw with the number ``draw``, from the 64 bits of its ``noise_stream``.

    A draw is a batch of replicates. torch's CPU generator uses only the low 32 bits of a seed. If these bits were a
    hash, two draws could have equal bits by chance. Instead, the low bits count the draws, starting at a number that
    depends on the stream. A one-to-one mixing (the finalizer of MurmurHash3) then spreads the counts. So no two draws
    of one stream have equal low bits.
    """
    low = (stream + draw) % 2**32
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        low = (low ^ low >> shift) * factor % 2**32
    return stream >> 33 << 32 | low ^ low >> 16
