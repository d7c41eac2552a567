"""Records: flat JSON lines, their identity, their provenance. No torch."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import json
import math
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

SCHEMA = 1
"""Version of the record's keys; a reader refuses a newer one."""

Record = dict[str, Any]


class Damaged(Exception):
    """A store cannot be read: a broken line, or a newer schema. The message is one sentence."""


def canonical(value: object) -> str:
    """Return canonical JSON: sorted keys, no spaces, no NaN. Equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: object) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def fields_of(instance: Any) -> dict[str, Any]:
    """Return every field of a dataclass of plain values, in order."""
    return {f.name: getattr(instance, f.name) for f in dataclasses.fields(instance) if f.init}


def changed_fields(instance: Any) -> dict[str, Any]:
    """Return the fields that differ from their defaults; a released default never changes, so they are the identity."""
    given = fields_of(instance)
    defaults = {f.name: f.default for f in dataclasses.fields(instance)}
    return {k: v for k, v in given.items() if v != defaults[k] or type(v) is not type(defaults[k])}


def identity(instance: Any) -> dict[str, Any]:
    """Return what an estimator or an objective is: its class name and the fields that differ from their defaults.

    A file that a field names is known by its content.
    """
    return {"class": type(instance).__name__, **changed_fields(instance), **getattr(instance, "contents", {})}


def cell_id(estimator: Any, objective: Any) -> str:
    """Return the identity of a cell, 16 hexadecimal digits."""
    return digest({"estimator": identity(estimator), "objective": identity(objective)})


NOISE = 3
"""Which replicate has which noise; one more whenever that changes, so that no study has some cells of each."""


def code_digest(*instances: Any) -> str:
    """Return a digest of the source files of the instances' classes, and of which replicate has which noise.

    What differs in it is measured again, not looked up.
    """
    texts = []
    for instance in instances:
        try:
            texts.append(inspect.getsource(sys.modules[type(instance).__module__]))
        except (OSError, TypeError, KeyError):
            texts.append("")  # defined in a console, where there is no file
    return digest([*texts, NOISE])


def run_id(cell: str, *, dtype: str, device: str, seed: int, replicates: int, common_noise: bool = True) -> str:
    """Return the identity of one run of a cell, 16 hexadecimal digits. ``replicates`` as planned: whole draws."""
    key: list[object] = [cell, dtype, device, seed, replicates]
    return digest(key if common_noise else [*key, "own noise"])


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


def dumps(record: Record) -> str:
    """Return one JSON line, without its newline. Arrays become lists, infinities and NaN become null."""
    return json.dumps(plain(record), separators=(",", ":"), allow_nan=False)


def plain(value: Any) -> Any:
    """Return the value with arrays as lists and non-finite numbers as None."""
    match value:
        case dict():
            return {str(k): plain(v) for k, v in value.items()}
        case list() | tuple():
            return [plain(v) for v in value]
        case np.ndarray():
            return plain(value.tolist())
        case np.generic():
            return plain(value.item())
        case float():
            return value if math.isfinite(value) else None
        case _:
            return value


@functools.cache
def environment() -> dict[str, Any]:
    """Return what the numbers were made with: versions, machine, commit of the working folder where there is one."""
    return {
        "python": platform.python_version(),
        "torch": version("torch"),
        "numpy": version("numpy"),
        "stochgrad_bench": version("stochgrad-bench"),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cpu_capability": _cpu_capability(),
        "cores": os.cpu_count(),
        "commit": _commit(),
    }


def version(distribution: str) -> str | None:
    """Return the installed version of a distribution, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), None)


def _cpu_capability() -> str | None:
    torch = sys.modules.get("torch")  # known only where torch is already loaded; a reader of records needs none
    return str(torch.backends.cpu.get_cpu_capability()) if torch else None


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
