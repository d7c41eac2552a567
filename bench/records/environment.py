"""The environment of a measurement: versions, machine and commit."""

import functools
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any


def cores() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> list[str]:
    """Return the GPUs that this process may use, each as ``CUDA_VISIBLE_DEVICES`` names it.

    The list is empty if torch is not loaded.
    """
    torch = sys.modules.get("torch")
    count = int(torch.cuda.device_count()) if torch else 0
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [part.strip() for part in named.split(",")][:count] if named else [str(number) for number in range(count)]


@functools.cache
def environment() -> dict[str, Any]:
    """Return facts about this machine and its software: versions of packages, processor, commit and others, by name.

    The names are keys such as "torch", "cpu" and "commit". A fact that cannot be found is None.
    """
    return {
        "python": platform.python_version(),
        "torch": version("torch"),
        "numpy": version("numpy"),
        "stochgrad_bench": version("stochgrad-bench"),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cpu_capability": _cpu_capability(),
        "cores": os.cpu_count(),
        "commit": commit_of(Path(__file__).parent),
    }


def version(distribution: str) -> str | None:
    """Return the version of an installed package, such as ``2.5.1``; None if it is not installed.

    ``distribution`` is the name by which pip knows the package.
    """
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def commit_of(folder: Path) -> str | None:
    """Return the commit of the repository that holds a folder, 12 hexadecimal digits; None if no repository does."""
    command = ["git", "-C", str(folder), "rev-parse", "--short=12", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def _cpu_name() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), None)


def _cpu_capability() -> str | None:
    torch = sys.modules.get("torch")  # reading records must not import torch
    return str(torch.backends.cpu.get_cpu_capability()) if torch else None
