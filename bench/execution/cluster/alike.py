"""What has to be alike on all machines of a cluster, so that each computes the same bits; and what is not."""

import functools
import hashlib
import os
import pickle
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.planning.selectors import Named
from bench.records.code import ROOT, code_digest
from bench.records.environment import version

VARIABLE = "BENCH_DATA_DIR"
"""Environment variable for the folder of images, which workers get from the coordinator."""
SHOWN = 3
"""Workers that a message names; it only counts the others."""
Facts = dict[str, str]


@dataclass(frozen=True)
class Setup:
    """What a worker needs to know of the coordinator (the process of the command) before it measures.

    Args:
        facts: versions of the software, which have to be equal on the worker (``facts_here``).
        files: the SHA-256 of every file of the user that a selector names, by its absolute path.
        folder: the working folder, where relative paths start.
        data: the folder of images, or None.
        preload: selectors of the classes to load first, each with "estimator" or "objective".
        patience: seconds without progress after which the worker ends its measuring process (a process of its own for
            measurements).
        comparison: a pickled ``Comparison``, which compares the measuring process with the coordinator.
    """

    facts: Facts
    files: Facts
    folder: str
    data: str | None
    preload: Named
    patience: float
    comparison: bytes


@functools.cache
def facts_here() -> Facts:
    """Return what the bits of a measurement depend on, such as the versions of the software, by name.

    Facts that cannot be known without importing torch are left out.
    """
    packages = ("torch", "numpy", "scipy", "dask", "distributed")
    return {
        "Python": platform.python_version(),
        **{name: version(name) or "none" for name in packages},
        "stochgrad-bench's code": _digest_of_code(),
        "platform": f"{platform.system()} {platform.machine()}",
        "threads": "1",
    }


def arithmetic_here() -> Facts:
    """Return facts, by name, on which the bits of a measurement depend. torch is needed to know them.

    The facts are torch's CPU capability and the digest of a short computation. The digest is needed because libraries
    choose their code by the model of the processor, and the capability does not name the model.
    """
    import torch

    return {"torch's CPU capability": torch.backends.cpu.get_cpu_capability(), "arithmetic": _arithmetic()}


def differing(here: Facts, wanted: Facts) -> list[str]:
    """Return the facts that have other values in ``here`` than in ``wanted``, each as a part of a sentence."""
    return [f"{name} is {here.get(name)}, not {fact}" for name, fact in wanted.items() if here.get(name) != fact]


def _digest_of_code() -> str:
    """Return a digest of the files of ``bench`` and ``estimators``, as they are installed on this machine."""
    sha = hashlib.sha256()
    for package in ("bench", "estimators"):
        for path in sorted((ROOT / package).rglob("*.py")):
            sha.update(f"{path.relative_to(ROOT)}\0".encode())
            sha.update(path.read_bytes())
    return sha.hexdigest()[:16]


def _arithmetic() -> str:
    """Return a digest of a short computation."""
    import torch

    from bench.measurement.threads import single_thread

    sha = hashlib.sha256()
    with single_thread(), torch.no_grad():
        for dtype in (torch.float32, torch.float64):
            x = torch.rand(64, 257, generator=torch.Generator().manual_seed(0), dtype=dtype) + 0.5
            for t in (x @ x.T, x.exp(), x.log(), x.tanh(), x.sin(), x.lgamma(), x.sum(0), x.std(1), x.softmax(1)):
                sha.update(t.numpy().tobytes())
    return sha.hexdigest()[:16]


def digest_of_file(path: str) -> str:
    """Return the SHA-256 of a file; "none" if the file does not exist or cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return "none"


def file_differences(files: Facts) -> list[str]:
    """Return which files are missing on this machine or have another content, each as a part of a sentence.

    ``files`` has the digests that the files should have, by path.
    """
    held = {path: digest_of_file(path) for path in files}
    return [
        f"{path} {'is missing' if held[path] == 'none' else 'has another content'}"
        for path, digest in files.items()
        if held[path] != digest
    ]


@dataclass(frozen=True)
class Comparison:
    """Work for a worker of a cluster: to find out how the worker's process differs from the coordinator.

    Args:
        facts: what the coordinator (the process of the command) gets from ``arithmetic_here``; the worker has to get
            the same.
        own: pickled estimators and objectives, each with its label and the digest of its code (``code_of``).
    """

    facts: Facts
    own: bytes

    def record(self, _progress: object = None, _pool: object = None) -> list[str]:
        """Return how this process differs from the coordinator, each difference as a part of a sentence.

        The coordinator is the process of the command. The arguments are not used.
        """
        if found := differing(arithmetic_here(), self.facts):
            return found
        each = pickle.loads(self.own)
        return [
            f"the code of {label}, or a file that it uses, differs" for label, x, code in each if code_of(x) != code
        ]


def code_of(instance: Any) -> str:
    """Return digests, as one text, of the code of an estimator or objective and of the files that its fields name.

    If a file cannot be read, the text is the error message.
    """
    try:
        return code_digest(instance) + "".join(map(str, getattr(instance, "contents", {}).values()))
    except (OSError, ValueError) as error:  # a file that a field names cannot be read
        return str(error)


def data_folder() -> str | None:
    """Return the absolute path of the folder of images, which are the data of some objectives.

    The environment variable BENCH_DATA_DIR names the folder. The result is None if the variable is not set.
    """
    named = os.environ.get(VARIABLE)
    return named and str(Path(named).resolve())


def set_data_folder(folder: str | None) -> None:
    """Set the environment variable BENCH_DATA_DIR to a folder; None removes the variable.

    In this folder, the process and its children look for images, the data of some objectives.
    """
    if folder is None:
        os.environ.pop(VARIABLE, None)
    else:
        os.environ[VARIABLE] = folder


def sentence(found: Mapping[str, Sequence[str]]) -> str:
    """Return the text that tells the user which workers differ from this machine, and what to do.

    ``found`` has the differences of each such worker, by its address.
    """
    each = [f"On {address}, {_joined(differences)}." for address, differences in found.items()]
    rest = f" And {len(each) - SHOWN} more workers differ." if len(each) > SHOWN else ""
    hints = [
        " Start workers with --nthreads 1." if _any(found, "threads is") else "",
        " Put your files where every worker finds them under one path, as on a shared file system."
        if _any(found, "is missing", "has another content", "cannot be")
        else "",
    ]
    return f"The workers must be like this machine, or numbers would differ. {' '.join(each[:SHOWN])}{rest}" + "".join(
        hints
    )


def _any(found: Mapping[str, Sequence[str]], *words: str) -> bool:
    return any(word in text for texts in found.values() for text in texts for word in words)


def _joined(parts: Iterable[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last
