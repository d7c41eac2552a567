"""The command ``bench doctor``."""

import os
from json import dumps
from pathlib import Path
from typing import Any

import click

from bench.cli.options import json_option
from bench.cli.terminal import echo, echo_json
from bench.planning.catalogue import catalogue


def findings() -> dict[str, Any]:
    """Return the facts that ``bench doctor`` prints, by name, in the order of printing.

    The facts are versions of packages, processors, memory and GPUs.
    """
    import importlib.metadata

    import psutil
    import torch

    from bench.records.environment import cores, environment, version

    made_with = environment()
    owners = importlib.metadata.packages_distributions().get("bench", [])
    rivals = sorted(set(owners) - {"stochgrad-bench"})  # others that install a package bench, such as frappe-bench
    memory = psutil.virtual_memory()
    libraries = ("numpy", "scipy", "pandas", "matplotlib", "click", "pydantic", "rich")
    return {
        "stochgrad-bench": made_with["stochgrad_bench"],
        "package bench": str(Path(__file__).parents[1]),
        "other packages that provide bench": ", ".join(rivals) or "none",
        "catalogue": f"{len(catalogue('estimator'))} estimators, {len(catalogue('objective'))} objectives",
        "python": made_with["python"],
        "torch": made_with["torch"],
        **{library: version(library) for library in libraries},
        "CUDA": _cuda(torch),
        "cpu": made_with["cpu"],
        "cpu capability": made_with["cpu_capability"],
        "cores": cores(),
        "torch threads": torch.get_num_threads(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "not set"),
        "memory": f"{memory.total / 2**30:.1f} GiB, {memory.available / 2**30:.1f} GiB available",
    }


def _cuda(torch: Any) -> str:
    if torch.version.cuda is None:
        return "this torch is built without CUDA"
    if not torch.cuda.is_available():
        return f"{torch.version.cuda}, and no device was found"
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"{torch.version.cuda}: {', '.join(devices)}"


@click.command(name="doctor")
@json_option
def command(json: bool) -> None:
    """Show the versions and the hardware in use."""
    found = findings()
    if json:
        echo_json(dumps(found))
        return
    size = max(map(len, found))
    for key, value in found.items():
        echo(f"{key.ljust(size)}  {value}")
