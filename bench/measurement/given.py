"""Gradients that were made elsewhere: checked, and measured by the sums and the statistics of every other run."""

import hashlib
import inspect
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.measurement.draws import FIRST_DRAW, sizes_of
from bench.measurement.source import Source, Vector
from bench.measurement.summaries import OnProgress, ignore
from bench.planning.selectors import UsageError
from bench.planning.settings import SMALLEST_DRAW
from bench.records.environment import environment
from bench.records.identity import canonical, digest, run_id
from bench.records.lines import GIVEN, SCHEMA, LineKind, Outcome, Record
from bench.records.seeds import draw_seed
from bench.records.text import printable
from bench.stats import Accumulator, summarise

Rows = NDArray[Any]
Make = Callable[[int, int], Any]
"""A function from a number of rows and a seed to that many independent gradients, ``[rows, size]``."""
TENSOR = "theta"
"""The name of the one tensor that given gradients have."""
SMALLEST = 1e-72
"""The smallest variance that is measured: the fourth power of its squares is near the end of float64."""
DIFFERENT = 16
"""Two draws are the same gradients if their first 64 are equal and at least this many of them differ from the first."""


@dataclass(frozen=True)
class Given:
    """Gradients that were made elsewhere, with what is known about them.

    Args:
        name: what the gradients are called in tables.
        gradients: an array ``[replicates, size]``, or a function that makes independent gradients, ``[rows, size]``,
            from a number of rows and a seed.
        exact: the exact gradient ``[size]``; None if it is unknown.
        problem: what the objective is called in tables. Gradients of one objective are compared with each other.
        replicates: how many gradients to make, if ``gradients`` is a function.
        seed: root of the seeds with which such a function is called.
        evaluations: number of evaluations of f that one gradient took. The report multiplies it by the variance, to
            compare efficiencies.
        unbiased: whether the gradients are declared unbiased.
    """

    name: str
    gradients: Rows | Make
    exact: Rows | None = None
    problem: str = "given"
    replicates: int = 10_000
    seed: int = 0
    evaluations: float = 1.0
    unbiased: bool = False

    def __post_init__(self) -> None:
        """Raise ``UsageError`` if a name is no text, or the evaluations or ``unbiased`` are not what they should be."""
        for what, value in (("name", self.name), ("problem", self.problem)):
            if not isinstance(value, str) or not value.strip():
                raise UsageError(f"{what} is the text that tables show (got {value!r}). Use a name such as 'mine'.")
        if not isinstance(self.evaluations, Real) or not 0 < self.evaluations < math.inf:
            raise UsageError(f"evaluations is a number above 0 (got {self.evaluations!r}). Use 1 if it is unknown.")
        if not isinstance(self.unbiased, bool | np.bool_):
            raise UsageError(f"unbiased is a declaration (got {self.unbiased!r}). Use True or False.")


def read(path: Path) -> Rows:
    """Return the array in a file of ``numpy.save``, mapped into memory: its rows are read when they are needed.

    Raises:
        UsageError: the file does not exist or cannot be read, or does not hold one array of numbers.
    """
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UsageError(f"There is no file {path}. Write the gradients with numpy.save.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (ValueError, EOFError) as error:
        if "Python objects" in str(error) or "Object arrays" in str(error):
            raise UsageError(
                f"{path} holds pickled Python objects, which can run code and are not loaded. Save one array of "
                "numbers with numpy.save."
            ) from None
        if "pickle" in str(error):
            raise UsageError(
                f"{path} is no file of numpy.save: it is text, pickled Python objects or another format, and these "
                "are not loaded. Write the gradients with numpy.save."
            ) from None
        raise UsageError(f"{path} is not a whole file of numpy.save. Write the gradients with numpy.save.") from None
    if not isinstance(found, np.ndarray):
        raise UsageError(f"{path} holds several arrays. Save one array [replicates, size] with numpy.save.")
    return found


def measure_given(given: Given, progress: OnProgress = ignore) -> Record:
    """Measure gradients that were made elsewhere, and return their moments record.

    ``progress`` is called with the number of replicates done and the total.

    Raises:
        UsageError: the gradients or the exact gradient have the wrong shape or dtype; a number is NaN or infinite; or
            the standard deviation of the gradients is below 1e-36, so small that its powers are lost in float64.
    """
    begin, source = time.perf_counter(), _source(given)
    exact = None if given.exact is None else _exact(given.exact, source.size)
    centre = source.draw_gradients(0).double().mean(0).numpy() if exact is None else exact
    total, dtype = sum(source.sizes), source.dtype
    accumulator = Accumulator(source.groups, replicates=total, centre=centre, exact=exact)
    fingerprint, done = hashlib.sha256(canonical([given.seed, dtype]).encode()), 0
    for partial, digests in source.partials(range(len(source.sizes)), centre, exact):
        accumulator.add(partial)
        fingerprint.update(digests.encode())
        done += partial.replicates
        progress(done, total)
    if accumulator.nonfinite:
        first = "" if callable(given.gradients) else _first_bad(source)
        raise UsageError(
            f"Some of the {total:,} gradients in {given.name} are not finite: NaN, infinite, or too large to square"
            f"{first}. Nothing is dropped, because that would be a bias: mend the code that made them."
        )
    sums = accumulator.sums()
    variance = float(sums.w.mean)
    if 0 < variance < SMALLEST or (variance == 0 and np.ptp(source.draw_gradients(0).numpy(), axis=0).any()):
        raise UsageError(
            f"The gradients in {given.name} vary by less than {SMALLEST**0.5:.0e}, and the powers that the statistics "
            "take of them are lost in float64. Multiply them, and the exact gradient, by a power of ten."
        )
    summary = summarise(sums, exact=exact, dtype=dtype)
    return {
        **_head(given, source, exact, total),
        "n": None,
        "size": source.size,
        "groups": source.groups,
        "shapes": {TENSOR: [source.size]},
        "blocks": source.blocks,
        "f_evals": given.evaluations,
        "grad_evals": 0.0,
        **{f"adapt_{name}": 0 for name in ("steps", "seconds", "f_evals")},
        "adapt_settled": None,
        "state_digest": None,
        "wall_seconds": time.perf_counter() - begin,
        "fingerprint": fingerprint.hexdigest(),
        "exact_value": None,
        "exact": exact,
        "reference_error": None,
        "mean": sums.mean,
        "summary": summary.to_json(),
        "sums": sums.to_json(),
    }


def _head(given: Given, source: "_Rows", exact: Vector | None, total: int) -> Record:
    """Return the keys that every record of a cell has. The name stands for the estimator, the problem for f and q."""
    name, problem = printable(given.name), printable(given.problem)
    contents = {} if exact is None else {"exact": hashlib.sha256(exact.tobytes()).hexdigest()[:16]}
    cell = digest({"gradients": name, "problem": problem, **contents})
    return {
        "schema": SCHEMA,
        "kind": LineKind.MOMENTS,
        "run": run_id(cell, dtype=source.dtype, device="cpu", seed=given.seed, replicates=total, common_noise=False),
        "cell": cell,
        "code": "",
        "estimator": name,
        "estimator_name": name,
        "estimator_params": {},
        "objective": problem,
        "objective_name": problem,
        "objective_params": {},
        "objective_contents": contents,
        "family": GIVEN,
        "dim": source.size,
        "shared": [],
        "unbiased": given.unbiased,
        "deterministic": False,
        "dtype": source.dtype,
        "device": "cpu",
        "seed": given.seed,
        "common_noise": False,
        "replicates": total,
        "outcome": Outcome.MEASURED,
        "reason": None,
        "environment": environment(),
    }


class _Rows(Source):
    """Given gradients in draws: the function ``take`` returns the rows of a draw, ``[rows, size]``."""

    def __init__(self, name: str, take: Callable[[int], Rows], size: int, sizes: list[int], dtype: str) -> None:
        super().__init__({TENSOR: size}, sizes, torch.device("cpu"))
        self.name, self.take, self.dtype = name, take, dtype
        self.beginnings: dict[bytes, int] = {}

    def parts(self, draw: int) -> list[Tensor]:
        """Return the gradients of a draw (batch), ``[rows, size]``, in a list.

        Raises:
            UsageError: an earlier draw began with the same gradients.
        """
        rows = np.ascontiguousarray(self.take(draw), dtype=self.dtype)
        begin = rows[:SMALLEST_DRAW]
        if (begin != begin[0]).any(1).sum() >= DIFFERENT:
            earlier = self.beginnings.setdefault(hashlib.sha256(begin.tobytes()).digest(), draw)
            if earlier != draw:
                raise UsageError(
                    f"{self.name} has the same gradients twice: {SMALLEST_DRAW} in a row, in draws {earlier} and "
                    f"{draw}. Gradients must be independent: a function must use the seed that it gets, and an array "
                    "must not repeat its rows."
                )
        return [torch.from_numpy(rows.copy() if not rows.flags.writeable else rows)]


def _source(given: Given) -> _Rows:
    """Return the gradients in the draws (batches) that a study of an objective with one number per row would have."""
    if not callable(given.gradients):
        array = _checked(given.gradients, given.name)
        sizes = draw_sizes(*array.shape)
        ends = np.cumsum(sizes)
        return _Rows(
            given.name, lambda k: array[ends[k] - sizes[k] : ends[k]], array.shape[1], sizes, _dtype(array.dtype)
        )
    make, name = given.gradients, given.name
    _refuse_signature(make, name)

    def made(rows: int, number: int) -> Rows:
        seed = draw_seed(given.seed, "given", [given.problem], number) % 2**32
        found = _checked(make(rows, seed), name, least=0)
        if len(found) != rows:
            raise UsageError(f"{name} was asked for {rows} gradients and returned {len(found)}: return one per row.")
        return found

    first = made(SMALLEST_DRAW, 0)
    size, dtype = first.shape[1], _dtype(first.dtype)

    def take(draw: int) -> Rows:
        found = made(sizes[draw], draw)
        if found.shape[1] != size:
            raise UsageError(
                f"{name} returned {found.shape[1]} coordinates after {size}: every gradient has equally many."
            )
        return found

    sizes = _whole_draws(given.replicates, size)
    return _Rows(name, take, size, sizes, dtype)


def _refuse_signature(make: Make, name: str) -> None:
    """Raise ``UsageError`` if a function cannot be called with a number of rows and a seed."""
    try:
        inspect.signature(make).bind(SMALLEST_DRAW, 0)
    except TypeError as error:
        raise UsageError(
            f"{name} cannot be called with a number of rows and a seed ({error}). Write gradients(rows, seed)."
        ) from None
    except ValueError:
        return  # a function in C may show no signature


def _first_bad(source: _Rows) -> str:
    """Return which row, counted from 0, is the first that is not finite, for a message; empty if none is."""
    begin = 0
    for draw, size in enumerate(source.sizes):
        bad = ~np.isfinite(source.take(draw)).all(1)
        if bad.any():
            return f" (the first is row {begin + bad.argmax()}, counted from 0)"
        begin += size
    return ""


def _whole_draws(rows: int, size: int) -> list[int]:
    """Return the sizes of a study's draws (batches) with at least ``rows`` rows, if a row takes ``size`` numbers."""
    return sizes_of(SimpleNamespace(row_elements=size), rows, "cpu")  # type: ignore[arg-type]


def draw_sizes(rows: int, size: int) -> list[int]:
    """Return the sizes of the draws (batches) that ``rows`` gradients of ``size`` coordinates are cut into.

    The draws are as large as in a study of ``rows`` replicates. Gradients at the end that do not fill such a draw are
    cut into smaller ones.
    """
    sizes = _whole_draws(rows, size)
    if sum(sizes) == rows:
        return sizes
    sizes.pop()
    left, unit = rows - sum(sizes), min([FIRST_DRAW, *sizes])
    while left >= 2 * unit:
        sizes.append(unit)
        left -= unit
    if left < SMALLEST_DRAW and sizes:  # too few for a block: the last draw shares its rows with them
        last = sizes.pop()
        sizes += [last - unit] if last > unit else []
        left += unit
    return [*sizes, left]


def _checked(found: Any, name: str, *, least: int = SMALLEST_DRAW) -> Rows:
    """Return given gradients as an array ``[rows, size]`` of real numbers."""
    array = _numbers(found, f"{name} holds", "gradients")
    if array.ndim != 2:
        use = {0: "many of them", 1: "g[:, None] for gradients of one number"}.get(array.ndim, "g.reshape(len(g), -1)")
        raise UsageError(
            f"{name} has shape {list(array.shape)}, and gradients are [replicates, size]: a flat gradient in each row. "
            f"Use {use}."
        )
    if array.shape[1] == 0:
        raise UsageError(f"{name} has shape {list(array.shape)}: its gradients have no coordinate.")
    if array.shape[0] < least:
        count = f"{len(array)} gradient{'' if len(array) == 1 else 's'}"
        raise UsageError(f"{name} holds {count}, and their variance needs at least {least}, one in each row.")
    return array


def _exact(found: Any, size: int) -> Vector:
    """Return a given exact gradient as an array ``[size]``."""
    array = _numbers(found, "The exact gradient holds", "gradients")
    if array.shape != (size,):
        raise UsageError(f"The exact gradient has shape {list(array.shape)}, and the gradients need [{size}].")
    if not np.isfinite(array).all():
        raise UsageError("The exact gradient is not finite: it holds NaN or an infinity.")
    return np.array(array, dtype=np.float64)


def _numbers(found: Any, holds: str, what: str) -> Rows:
    """Return real numbers as an array, which may be mapped into memory."""
    if isinstance(found, Tensor):
        found = found.detach().cpu()
        found = (found.float() if found.dtype == torch.bfloat16 else found).numpy()
    if np.ma.is_masked(found):
        raise UsageError(f"{holds} masked values: nothing is dropped, because that would be a bias. Give all {what}.")
    try:
        array = found if isinstance(found, np.ndarray) else np.asarray(found)
    except (TypeError, RuntimeError) as error:
        raise UsageError(f"{holds} no array of numbers ({str(error).rstrip('.')}).") from None
    except ValueError:
        raise UsageError(f"{holds} rows of different lengths: {what} are one array of numbers.") from None
    if array.dtype.kind not in "fiu":
        kind = "complex numbers" if array.dtype.kind == "c" else f"values of dtype {array.dtype}"
        raise UsageError(f"{holds} {kind}: {what} are real numbers, such as float32 or float64.")
    return array


def _dtype(dtype: np.dtype[Any]) -> str:
    """Return the dtype in which gradients are measured: float32 if their own has no more digits, else float64."""
    return "float32" if dtype.kind == "f" and dtype.itemsize <= 4 else "float64"
