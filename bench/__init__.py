"""stochgrad-bench: measures the bias, variance and cost of Monte Carlo gradient estimators."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench import objectives
    from bench.advice import Advice, advise
    from bench.api import Measurement, measure, measure_gradients
    from bench.expectation import Expectation
    from bench.study import Study, load, run

__all__ = [
    "Advice", "Expectation", "Measurement", "Study", "advise", "load", "measure", "measure_gradients", "objectives",
    "run",
]  # fmt: skip

_HOME = {
    "Advice": "bench.advice",
    "advise": "bench.advice",
    "Expectation": "bench.expectation",
    "Measurement": "bench.api",
    "measure": "bench.api",
    "measure_gradients": "bench.api",
    "load": "bench.study",
    "objectives": "bench.objectives",
    "run": "bench.study",
    "Study": "bench.study",
}


def __getattr__(name: str) -> Any:
    """Import a public name on demand, so the command line answers ``--help`` without loading torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'bench' has no attribute {name!r}")
    module = importlib.import_module(_HOME[name])
    return module if name == "objectives" else getattr(module, name)


def __dir__() -> list[str]:
    """Return the names of the package, with the public ones that are imported on demand: for ``dir`` and completion."""
    return sorted({*globals(), *__all__})
