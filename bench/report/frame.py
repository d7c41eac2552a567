"""Records as one data frame: a row per run, with its moments and timing, and only numbers that the data support."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.records.labels import labelled
from bench.records.lines import LineKind, Outcome
from bench.records.text import listed
from bench.stats.summary import FOUND, HEAVY, BiasVerdict, Flag, renamed

if TYPE_CHECKING:
    import pandas as pd

IDENTITY = (
    "run", "cell", "estimator", "estimator_name", "estimator_params", "objective", "objective_name",
    "objective_params", "family", "dtype", "device", "outcome", "reason",
)  # fmt: skip
FACTS = (
    "dim", "size", "unbiased", "deterministic", "common_noise", "seed", "replicates", "n", "f_evals", "grad_evals",
    "adapt_steps", "adapt_seconds", "adapt_f_evals", "adapt_settled", "wall_seconds", "precision", "precision_reached",
)  # fmt: skip
SUMMARY = (
    "variance", "variance_low", "variance_high", "se_log", "cv2", "khat", "tolerance", "exact_norm", "bias_squared",
    "bias_low", "bias_norm", "bias_bound", "relative_bias_bound", "bias_per_sd_bound", "p_bias",
    "replicates_needed", "mse", "mse_low", "mse_high", "snr", "snr_low", "snr_high", "cosine", "cosine_low",
    "cosine_high", "alignment", "scale", "scale_low", "scale_high", "angle", "angle_low", "angle_high", "p_direction",
    "direction", "truncated_at", "truncated_mean", "status", "flags", "verdict",
)  # fmt: skip
TIMING = (
    "seconds", "seconds_low", "seconds_high", "latency_seconds", "latency_seconds_low", "latency_seconds_high",
    "cost", "cost_low", "cost_high", "noisy", "peak_bytes",
)  # fmt: skip
WORDS = (
    "estimator", "estimator_name", "objective", "objective_name", "family", "dtype", "device", "outcome", "reason",
    "status", "verdict", "direction", "flags", "files", "shared",
)  # fmt: skip
WHOLE = ("dim", "seed", "replicates")
"""Columns of whole numbers, which every record has and which can be too large for a float."""

NEEDS_FINITE_VARIANCE = (
    "variance", "variance_high", "se_log", "mse", "mse_low", "mse_high", "snr", "snr_low", "snr_high", "scale",
    "scale_low", "scale_high", "angle", "angle_low", "angle_high", "p_direction",
)  # fmt: skip

ROUNDINGS = 1000
"""Noise counts as rounding if its standard deviation is below this number times the exact gradient's rounding error."""
UNBIASED = (BiasVerdict.UNBIASED_WITHIN_TOL, BiasVerdict.EXACT, BiasVerdict.EXACT_WITHIN_TOL)
OPEN = (BiasVerdict.INCONCLUSIVE, BiasVerdict.NO_REFERENCE, BiasVerdict.DEGENERATE, BiasVerdict.UNRELIABLE)
CONSTANT = (BiasVerdict.EXACT, BiasVerdict.EXACT_WITHIN_TOL, BiasVerdict.DETERMINISTIC_BIASED)


def frame(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return a data frame with one row per run, in the order of the records.

    A run is one measurement of an estimator on an objective.

    The columns are the keys of the records and of their ``summary``, and in addition:

    - ``estimator``, ``objective``: labels with n and every field that differs among the records, such as ``rloo:n=4``;
    - ``problem``: the objective's label, followed by those settings that the study varies, such as the dtype or the
      seed. Runs are compared only if they have equal values in this column;
    - ``parameters``: the part of the ``estimator`` label that differs from the other labels with the same name, such as
      ``n=4``;
    - ``heavy``: whether only a lower limit of the variance is known. Numbers that need a finite variance are then NaN;
    - ``fair``: whether the run may compete as unbiased: the data show that it is unbiased, or it is declared unbiased
      and no bias was found. An estimator without noise counts as unbiased if its relative error is at most the number
      in the column ``tolerance``;
    - ``biased``: whether a bias was found;
    - ``exact``: whether the run is unbiased, and its only noise is rounding. Noise counts as rounding if its standard
      deviation is below 1000 times the rounding error of the exact gradient. The variance of an exact run is not
      compared with other variances;
    - ``learned``: whether the estimator's state was learned at the point of measurement, and then frozen;
    - ``evals``: evaluations of f plus evaluations of its gradient, per estimate;
    - ``shared``: a note on the tensors in theta that not only q but also f uses; empty if there are none.

    ``records`` may be of any kind, such as "moments" or "timing". A row is made of the run's moments record, which has
    its bias and variance, and of its timing record, if there is one. Of several moments records, the last one counts.
    """
    import pandas as pd

    # A cell whose pilot failed has no moments line: its pilot stands in.
    moments = {
        r["run"]: r
        for r in labelled(records)
        if r["kind"] == LineKind.MOMENTS or (r["kind"] == LineKind.PILOT and r["outcome"] != Outcome.MEASURED)
    }
    timing = {r["run"]: r for r in records if r["kind"] == LineKind.TIMING and r["outcome"] == Outcome.MEASURED}
    held = list(moments.values())
    summaries = [renamed(record.get("summary") or {}) for record in held]
    timed = [timing.get(record["run"], {}) if record["outcome"] == Outcome.MEASURED else {} for record in held]
    columns = _columns(IDENTITY, held) | {"files": [*map(files, held)], "shared": [*map(shared_note, held)]}
    columns |= _columns(FACTS, held) | _columns(SUMMARY, summaries) | _columns(TIMING, timed)
    # n of others may be anything
    columns["n"] = [n if isinstance(n, int) and abs(n) < 2**53 else None for n in columns["n"]]
    columns["flags"] = [" ".join(flags or ()) for flags in columns["flags"]]
    for key in FACTS + SUMMARY + TIMING:
        if key not in WORDS + WHOLE:
            columns[key] = np.array(columns[key], dtype=np.float64)  # NaN in place of None
    table = pd.DataFrame(columns)
    table[list(WORDS)] = table[list(WORDS)].fillna("").astype(str)
    table["evals"] = table["f_evals"] + table["grad_evals"]
    table["parameters"] = _parameters(table)
    measured = table["outcome"] == Outcome.MEASURED
    table["learned"] = measured & (table["adapt_steps"] > 0)
    table["heavy"] = measured & table["status"].isin(HEAVY)
    table.loc[table["heavy"], list(NEEDS_FINITE_VARIANCE)] = float("nan")
    table.loc[table["heavy"], "direction"] = ""
    # A deterministic estimator varies by rounding alone, which is no variance.
    table.loc[measured & table["verdict"].isin(CONSTANT), ["variance", "variance_low", "variance_high"]] = 0.0
    table["biased"] = measured & table["verdict"].isin(FOUND)
    declared = (table["unbiased"] == 1) & table["verdict"].isin(OPEN)
    table["fair"] = measured & (table["verdict"].isin(UNBIASED) | declared)
    rounding = table["verdict"].isin(CONSTANT) | table["flags"].str.contains(Flag.AT_FLOAT_RESOLUTION)
    digits = ROUNDINGS * table["dtype"].map({"float32": 2.0**-23, "float64": 2.0**-52}).astype(float)
    rounding |= table["variance"] < (digits * table["exact_norm"]) ** 2
    table["exact"] = measured & table["verdict"].isin(UNBIASED) & rounding
    table["problem"] = _problems(table)
    return table


def _columns(keys: Sequence[str], sources: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the values of each key in all sources, None where a source has no such key."""
    take = itemgetter(*keys)

    def row(source: Mapping[str, Any]) -> tuple[Any, ...]:
        try:
            found: tuple[Any, ...] = take(source)  # several times as fast as one key after the other
        except KeyError:
            return tuple(map(source.get, keys))
        return found

    values = zip(*map(row, sources), strict=True) if sources else [np.empty(0, dtype=object)] * len(keys)
    return dict(zip(keys, values, strict=True))


def files(record: Mapping[str, Any]) -> str:
    """Return a text with a digest of each file that a record's objective reads: ``data 1a2b3c4d``; empty if none.

    Here ``data`` is the field of the objective that names the file.
    """
    held = record.get("objective_contents") or {}  # early records lack it
    return ", ".join(f"{field} {digest[:8]}" for field, digest in held.items())


def shared_note(record: Mapping[str, Any]) -> str:
    """Return a note that names the tensors of theta that not only q but also f uses; empty if there are none.

    ``record`` is a measurement. The note says that only the gradient through q was measured.
    """
    names = record.get("shared") or ()  # early records lack it
    return (
        f"f uses {listed(names)} of theta too, as constants: the gradient through q alone is measured" if names else ""
    )


def each(table: pd.DataFrame) -> list[Any]:
    """Return the rows of a frame, one per run, as named tuples, like those of ``table.itertuples()``.

    pandas' own method takes texts out of a column one by one, and is five times as slow.
    """
    row = namedtuple("row", ["Index", *table.columns])  # type: ignore[misc]
    return list(map(row._make, zip(table.index.tolist(), *(table[name].tolist() for name in table), strict=True)))


def _parameters(table: pd.DataFrame) -> list[str]:
    """Return the parameters that differ among the labels with each row's estimator name: ``n=4``."""
    pairs = [*zip(table["estimator_name"].tolist(), table["estimator"].tolist(), strict=True)]
    labels: dict[str, list[set[str]]] = {}
    for name, label in dict.fromkeys(pairs):
        labels.setdefault(name, []).append(set(_tokens(label)))
    shared = {name: set.intersection(*found) for name, found in labels.items()}
    own = {
        (name, label): ",".join(token for token in _tokens(label) if token not in shared[name])
        for name, label in dict.fromkeys(pairs)
    }
    return [own[pair] for pair in pairs]


def _tokens(label: str) -> list[str]:
    return label.partition(":")[2].split(",")


def _problems(table: pd.DataFrame) -> pd.Series[str]:
    """Name the problem of each row: rows of one problem have equal objective, dtype, device and seed."""
    import pandas as pd

    runs = table[table["outcome"] != Outcome.SKIPPED]
    varying = [key for key in ("dtype", "device", "seed", "common_noise") if runs[key].nunique() > 1]
    same = ["cell", "dtype", "device", "seed", "common_noise"]
    lengths = table[table["outcome"] == Outcome.MEASURED].groupby(same)["replicates"].nunique()
    repeated = {cell for cell, *_ in lengths[lengths > 1].index}
    objectives = set(table.loc[table["cell"].isin(repeated), "objective"])
    contents = runs.groupby("objective")["files"].nunique()
    if not varying and not objectives and (contents <= 1).all():
        return table["objective"].astype(object)
    names = []
    for row in each(table[["objective", "outcome", "replicates", "files", *varying]]):
        parts = [setting_text(key, getattr(row, key)) for key in varying]
        parts += [f"R={row.replicates:,.0f}"] if row.objective in objectives else []
        parts += [row.files] if row.files and contents.get(row.objective, 1) > 1 else []
        named = parts and row.outcome != Outcome.SKIPPED
        names.append(f"{row.objective} ({', '.join(parts)})" if named else row.objective)
    return pd.Series(names, index=table.index, dtype=object)


def setting_text(key: str, value: Any) -> str:
    """Return a setting of a measurement as text, such as ``float64`` or ``seed 3``.

    ``key`` is the setting's key in the record, and ``value`` its value there. For the key ``common_noise``, True
    becomes ``common noise``, and False ``own noise``.
    """
    if key == "seed":
        return f"seed {value}"
    if key == "common_noise":
        return "common noise" if value else "own noise"
    return str(value)
