"""What an installation is made of: versions, device, threads, memory, and whether the package ``bench`` is this one."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path
from typing import Any

from bench import names, record


def findings() -> dict[str, Any]:
    """Return what ``bench doctor`` shows: words to values, in the order of interest."""
    import psutil
    import torch

    environment = record.environment()
    memory = psutil.virtual_memory()
    libraries = ("numpy", "scipy", "pandas", "matplotlib", "click", "pydantic", "rich")
    return {
        "stochgrad-bench": environment["stochgrad_bench"],
        "package bench": str(Path(__file__).parent),
        "also called bench": ", ".join(_others()) or "nothing",
        "catalogue": f"{len(names.catalogue('estimator'))} estimators, {len(names.catalogue('objective'))} objectives",
        "python": environment["python"],
        "torch": environment["torch"],
        **{library: record.version(library) for library in libraries},
        "CUDA": _cuda(torch),
        "cpu": environment["cpu"],
        "cpu capability": environment["cpu_capability"],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch threads": torch.get_num_threads(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "not set"),
        "memory": f"{memory.total / 2**30:.1f} GiB, {memory.available / 2**30:.1f} GiB available",
    }


def _others() -> list[str]:
    """Return the other distributions that install a package ``bench``, as frappe-bench does."""
    owners = importlib.metadata.packages_distributions().get("bench", [])
    return sorted(set(owners) - {"stochgrad-bench"})


def _cuda(torch: Any) -> str:
    if torch.version.cuda is None:
        return "this torch is built without CUDA"
    if not torch.cuda.is_available():
        return f"{torch.version.cuda}, and no device was found"
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"{torch.version.cuda}: {', '.join(devices)}"
