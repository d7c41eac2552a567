"""The product's time on one row, by stage and by torch operation."""

from __future__ import annotations

import cProfile
import pstats

import numpy as np
from torch.autograd.profiler_util import EventList
from torch.profiler import ProfilerActivity, profile

from bench.measurement.threads import single_thread
from tests.benchmarks.product import Product
from tests.benchmarks.workloads import Row

SUMS, INSIDE = "partial sums of a block", ("engine.py", "digested")
"""A stage, and the function that it calls for gradients, whose time belongs to other stages."""
STAGES = {
    "noise, f and gradients at q's parameters": ("engine.py", "own_gradients"),
    "pull-back to theta": ("engine.py", "__call__"),
    SUMS: ("blocks.py", "draws_partial"),
    "merging the blocks": ("accumulate.py", "add"),
    "intervals, tests, verdicts": ("summarise.py", "summarise"),
}
"""File and function of each stage."""


def text(row: Row, replicates: int | None = None) -> str:
    """Return the profile of a row as Markdown."""
    product = Product(row, replicates)
    with single_thread():
        product.whole()
        stages = _stages(product)
        with profile(activities=[ProfilerActivity.CPU]) as torch_profile:
            product.whole()
    lines = [f"## {row.id}: {row.estimator!r} on {row.objective!r}", "", f"{product.replicates:,} replicates.", ""]
    lines += ["| stage | share of the time |", "| --- | --- |", *(f"| {name} | {x:.0%} |" for name, x in stages), ""]
    lines += ["| torch operation | calls per draw | share of the time in operations |", "| --- | --- | --- |"]
    events: EventList = torch_profile.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    for event in sorted(events, key=lambda e: -e.self_cpu_time_total)[:12]:
        calls = event.count / len(product.engine.sizes)
        lines.append(f"| `{event.key}` | {calls:.1f} | {event.self_cpu_time_total / total:.1%} |")
    return "\n".join([*lines, ""])


def _stages(product: Product) -> list[tuple[str, float]]:
    """Return the share of each stage, from the running times of five functions."""
    profiler = cProfile.Profile()
    profiler.runcall(product.whole)
    timed = pstats.Stats(profiler).stats  # type: ignore[attr-defined]

    def seconds(file: str, function: str) -> float:
        return sum(times[3] for (path, _, name), times in timed.items() if path.endswith(file) and name == function)

    spent = {stage: seconds(*place) for stage, place in STAGES.items()}
    spent[SUMS] -= seconds(*INSIDE)
    whole = float(np.max([times[3] for times in timed.values()]))
    shares = [(stage, took / whole) for stage, took in spent.items()]
    return [*shares, ("everything else", 1 - sum(share for _, share in shares))]
