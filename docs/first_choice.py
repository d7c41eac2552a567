"""Measures what to start with on each kind of q: ``python docs/first_choice.py``, from the repository's root.

Writes ``results/advice/first-choice.csv``: advice on several problems of each kind, once among the estimators without a
state, and once among all. `docs/generate.py` makes the table in ``README.md`` from it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from bench import advise
from bench.advice.candidates import of_catalogue
from bench.planning.instances import expand
from bench.planning.selectors import parse
from estimators import Estimator

FILE = Path(__file__).parents[1] / "results" / "advice" / "first-choice.csv"
BUDGET, PER_GRADIENT = "3e5-evals", 16
CONTINUOUS = ("gaussian-cosine", "gaussian-exponential", "logistic-regression", "gaussian-vae")
KINDS: tuple[tuple[str, bool, tuple[str, ...]], ...] = (
    ("Normal, f has a gradient", True, CONTINUOUS),
    ("Normal, only values of f", False, CONTINUOUS),
    ("Bernoulli", True, ("bernoulli-quadratic:dim=50,target=0.45", "qubo:dim=30", "bernoulli-vae")),
    ("OneHotCategorical", True, ("categorical-linear-quadratic:dim=8", "categorical-polynomial", "categorical-vae")),
    ("Poisson", True, ("poisson-quadratic", "poisson-negative-binomial")),
    ("Gamma", True, ("gamma-quadratic",)),
    ("Beta", True, ("beta-moment",)),
    ("Subset", True, ("subset-quadratic",)),
)
"""Kinds of q: name, whether df/dx may be used, and problems."""


def candidates(slopes: bool, states: bool) -> list[Estimator]:
    """Return the candidates of the catalogue, with or without those that need df/dx or a state."""
    return [
        estimator
        for estimator in of_catalogue(PER_GRADIENT)
        if (slopes or not estimator.needs_df) and (states or not estimator.needs_state)
    ]


def rows() -> Iterator[dict[str, object]]:
    """Yield one row for each kind and problem."""
    for kind, slopes, problems in KINDS:
        for name in problems:
            (problem,) = expand(parse(name), "objective")
            simple, whole = (
                advise(problem, BUDGET, estimators=candidates(slopes, states), per_gradient=PER_GRADIENT, timing=False)
                for states in (False, True)
            )
            work = whole.best.variance[0] * (whole.best.f_evals + whole.best.grad_evals) * (1 + whole.best.learns)
            plain = simple.best.variance[0] * (simple.best.f_evals + simple.best.grad_evals)
            yield {
                "kind": kind,
                "problem": name,
                "start": simple.best.label,
                "then": whole.best.label,
                "ratio": round(plain / work, 3) if work else 1.0,
                "candidates": whole.candidates,
            }


def main() -> None:
    """Write the file."""
    found = []
    for row in rows():
        found.append(row)
        print(*row.values(), flush=True)
    FILE.parent.mkdir(exist_ok=True)
    with FILE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(found[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)


if __name__ == "__main__":
    main()
