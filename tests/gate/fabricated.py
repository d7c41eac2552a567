"""Entries and cases made up, and suites of real cells with twins of an estimator that differ in a fault."""

from dataclasses import dataclass, replace
from typing import Any

from bench.execution.progress import Silent
from bench.gate.baseline import Baseline, Entry, assemble, entry_of
from bench.gate.findings import Case, Sample
from bench.gate.measure import measure_for_baseline
from bench.gate.select import Picked, Selection
from bench.gate.stages import Options, Report, check
from bench.planning.cells import Cell
from bench.planning.selectors import Selector
from bench.planning.settings import Settings
from bench.records.identity import digest, fields_of
from estimators import Estimator


def entry(name: str = "one", **given: Any) -> Entry:
    """Return an entry of a plain cell: variance 2, cv² 2, no heavy tail, unbiased."""
    values: dict[str, Any] = {
        "estimator": name,
        "objective": "objective",
        "cell": digest(name),
        "unbiased": True,
        "deterministic": False,
        "fingerprint": "f",
        "replicates": 100_000,
        "size": 10,
        "status": "OK",
        "variance": 2.0,
        "variance_low": 1.9,
        "variance_high": 2.1,
        "cv2": 2.0,
        "skewness": 3.0,
        "kurtosis": 15.0,
        "rho": 0.5,
        "khat": 0.1,
        "float_floor": 1e-12,
        "truncated_at": 9.0,
        "truncated_mean": 1.9,
        "truncated_cv2": 1.5,
        "bias_norm": 0.01,
        "bias_squared": -1e-6,
        "bias_bound": 0.02,
        "p_bias": 0.5,
    }
    return Entry(**(values | given))


def sample(base: Entry, replicates: int, bias: str = "INCONCLUSIVE", **given: Any) -> Sample:
    """Return a run of a cell that says what its baseline says but for what is given."""
    return Sample(base.model_copy(update={"replicates": replicates, **given}), 7, bias)


def grown(base: Entry, factor: float) -> dict[str, Any]:
    """Return the statistics of a run with all squared norms times a factor, the truncated ones too."""
    return {"variance": factor * base.variance, "truncated_mean": factor * (base.truncated_mean or 0)}


def case(base: Entry, first: dict[str, Any], second: dict[str, Any] | None = None, bias: str = "INCONCLUSIVE") -> Case:
    """Return the case of a cell whose runs differ from the baseline in what is given."""
    return Case(
        base.cell,
        base.label,
        base,
        first=sample(base, 10_000, bias, **first),
        second=None if second is None else sample(base, 40_000, bias, **second),
    )


@dataclass(frozen=True)
class Suite:
    """A baseline of real cells, to be checked with the same or with faulty estimators."""

    baseline: Baseline
    cells: tuple[Cell, ...]

    def check(self, *cells: Cell, options: Options | None = None) -> Report:
        """Return the report on cells of the same identities, the suite's own by default."""
        chosen = {cell.id: cell for cell in cells or self.cells}
        pairs = [
            (entry, Picked(chosen[entry.cell], Selector("estimator"), Selector("objective")))
            for entry in self.baseline.cells
            if entry.cell in chosen
        ]
        return check(self.baseline, Selection(pairs, [], []), options or Options(), Silent())


def suite(*cells: Cell, replicates: int, seed: int = 0, dtype: str = "float32") -> Suite:
    """Measure cells and return them as a suite."""
    settings = Settings(replicates, seed, dtype)
    lines = [measure_for_baseline(cell, settings, lambda _done, _total: None, adaptive=False) for cell in cells]
    assert all(line["outcome"] == "measured" for line in lines)
    entries = [entry_of(line, line["estimator"], line["objective"]) for line in lines]
    return Suite(assemble(settings, entries), cells)


def replace_cells(made: Suite, *entries: Entry) -> Suite:
    """Return a suite with these entries in its baseline instead of its own."""
    return replace(made, baseline=assemble(made.baseline.setting, entries))


def twin(estimator: Estimator, call: Any) -> Estimator:
    """Return an estimator of the same identity that does something else."""
    parent = type(estimator)
    body = {"__call__": call, "__module__": __name__, "__qualname__": parent.__qualname__}
    cls = dataclass(frozen=True)(type(parent.__name__, (parent,), body))
    return cls(**fields_of(estimator))
