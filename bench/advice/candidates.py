"""The candidates of advice: estimators with values of n and of a few other fields, and why the others are not tried."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import product
from typing import Any

from bench.objectives import Objective
from bench.planning.cells import mismatch
from bench.planning.instances import expand
from bench.planning.loading import load
from bench.planning.selectors import Selector, full_label
from estimators import Estimator, catalogue, command_line_name

VARIED: Mapping[str, tuple[Any, ...]] = {
    "temperature": (0.1, 0.5, 1.0),
    "baseline": (0.0, "moving-average"),
    "noise": ("iid", "antithetic"),
    "credit": ("whole", "downstream"),
}
"""Values that are tried for fields besides n whose default is one of them. All other fields keep their defaults."""


def counts(most: int) -> list[int]:
    """Return the numbers of samples n that are tried: the powers of two up to ``most``."""
    return [1 << k for k in range(most.bit_length()) if 1 << k <= most]


def grid(cls: type[Estimator], most: int, fixed: Mapping[str, Any]) -> Iterator[Estimator]:
    """Yield the candidates of one estimator class: instances with all combinations of values of some fields.

    n has the values 1, 2, 4 ... up to ``most``. A few other fields, such as the temperature, have the values that the
    table ``VARIED`` lists. A field in ``fixed``, by name, has only the value given there; all others keep their
    defaults. Combinations that the class refuses are left out: ``RLOO``, for example, needs n ≥ 2.
    """
    known = {f.name: f.default for f in fields(cls) if f.init}  # type: ignore[arg-type]
    values = {name: choices for name, choices in VARIED.items() if known.get(name) in choices}
    values |= {"n": tuple(counts(most))} if "n" in known else {}
    values |= {name: (value,) for name, value in fixed.items()}
    for combination in product(*values.values()):
        try:
            yield cls(**dict(zip(values, combination, strict=True)))
        except ValueError:  # a refusal, or what a class of one's own raises in its place
            continue


def of_catalogue(most: int) -> list[Estimator]:
    """Return the candidates of all estimators in the catalogue.

    A candidate is an estimator with fixed fields. n is 1, 2, 4 ... up to ``most``. A few other fields, such as the
    temperature, have every value that the table ``VARIED`` lists.
    """
    return [estimator for cls in catalogue().values() for estimator in grid(cls, most, {})]


def of_selectors(selectors: Iterable[Selector], most: int) -> list[Estimator]:
    """Return the candidates that selectors (names on the command line) stand for, each once.

    A selector with parameters, such as ``rloo:n=4,8``, stands for the estimators that it spells. A selector without
    parameters, such as ``rloo``, stands for many: n is 1, 2, 4 ... up to ``most``, and a few other fields, such as the
    temperature, have every value that the table ``VARIED`` lists.

    Raises:
        UsageError: unknown name, parameter or value.
    """
    found: list[Estimator] = []
    for selector in selectors:
        given = expand(selector, "estimator")
        if selector.params:
            found += given
        else:
            found += list(grid(load(selector, "estimator"), most, {})) or given
    return list({full_label(estimator): estimator for estimator in found}.values())


def variant(estimator: Estimator) -> tuple[type, tuple[tuple[str, Any], ...]]:
    """Return the class of an estimator and all its fields except n.

    Two estimators have equal variants if they differ only in n.
    """
    named = ((f.name, getattr(estimator, f.name)) for f in fields(estimator) if f.name != "n")  # type: ignore[arg-type]
    return type(estimator), tuple(named)


def by_importance(estimators: Sequence[Estimator]) -> list[Estimator]:
    """Return the candidates in the order in which to prepare them: the most important first.

    There may be too little time for all. Each candidate has a level, and the lowest level comes first. The level is the
    number of fields besides n that differ from their defaults, plus a number for n. This number is 0 for the smallest n
    of the class, 1 for half the largest n, and 2 for every other n. Within a level, estimators that learn come last.
    """
    order: dict[type, list[tuple[Any, ...]]] = {}
    for estimator in estimators:
        plain = sum(getattr(estimator, f.name) != f.default for f in fields(estimator) if f.name != "n")  # type: ignore[arg-type]
        order.setdefault(type(estimator), []).append((plain, getattr(estimator, "n", 1), estimator))
    ranked = []
    for group in order.values():
        smallest, largest = min(n for _, n, _ in group), max(n for _, n, _ in group)
        for plain, n, estimator in group:
            rank = 0 if n == smallest else 1 if 2 * n == largest else 2
            ranked.append((plain + rank, estimator.needs_state, rank, estimator))
    return [entry[-1] for entry in sorted(ranked, key=lambda entry: entry[:-1])]


def screened(
    estimators: Iterable[Estimator], objectives: Sequence[Objective]
) -> tuple[list[Estimator], dict[str, str]]:
    """Return the estimators that fit all objectives, and the reason why the others do not, by command-line name.

    Only declared facts decide, and nothing is measured. A name is left out of the reasons if one of its instances fits.
    """
    fitting, reasons = list[Estimator](), dict[str, str]()
    for estimator in estimators:
        reason = next((found for o in objectives if (found := mismatch(estimator, o))), None)
        if reason is None:
            fitting.append(estimator)
        else:
            reasons.setdefault(command_line_name(type(estimator)), reason)
    served = {command_line_name(type(estimator)) for estimator in fitting}
    return fitting, {name: reason for name, reason in reasons.items() if name not in served}
