"""The rows of a study for other programs: as CSV, as one JSON document, or as Parquet."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from bench.records.lines import LineKind, plain
from bench.report import table_csv, training
from bench.report.prepared import prepared

if TYPE_CHECKING:
    import pandas as pd

Records = Sequence[Mapping[str, Any]]


class Format(StrEnum):
    """The format in which the rows of a study are exported: CSV, JSON or Parquet."""

    CSV = "csv"
    PARQUET = "parquet"
    JSON = "json"


class Unavailable(Exception):
    """A package that the wanted format needs is not installed or too old. The message is one sentence."""


def exported(records: Records, form: Format, *, checkpoints: bool = False) -> bytes:
    """Return the rows of a study in a format.

    CSV is the content of ``table.csv`` or ``training.csv``. JSON is a list of objects. JSON and Parquet have the
    columns of the CSV, with whole numbers of 64 bits; a number that is missing, infinite or not a number is null.

    Args:
        records: the records of the study.
        form: the format.
        checkpoints: True for a row for each checkpoint of each training run, False for a row for each measurement of an
            estimator on an objective.

    Raises:
        Unavailable: Parquet is wanted, and pyarrow is not installed.
    """
    held = [record for record in records if (record["kind"] == LineKind.TRAINING) == checkpoints]
    if form == Format.CSV:
        return (training.data(held) if checkpoints else table_csv.csv(prepared(held))).encode()
    frame = rows(held, checkpoints=checkpoints)
    if form == Format.PARQUET:
        return _parquet(frame)
    found = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return f"{json.dumps(plain(found), ensure_ascii=False, allow_nan=False)}\n".encode()


def rows(records: Records, *, checkpoints: bool = False) -> pd.DataFrame:
    """Return the rows of a study as a data frame with the columns of ``table.csv`` or ``training.csv``.

    Args:
        records: the records of the study.
        checkpoints: True for a row for each checkpoint of each training run, False for a row for each measurement of an
            estimator on an objective.
    """
    held = [record for record in records if (record["kind"] == LineKind.TRAINING) == checkpoints]
    return training.columns(held) if checkpoints else table_csv.columns(prepared(held))


def _parquet(frame: pd.DataFrame) -> bytes:
    numbers = frame.select_dtypes("float").columns
    frame[numbers] = frame[numbers].replace([float("inf"), -float("inf")], float("nan"))
    target = io.BytesIO()
    try:
        frame.to_parquet(target, engine="pyarrow", index=False)
    except ImportError:
        advice = "Install it with pip install 'stochgrad-bench[parquet]', or choose csv or json"
        raise Unavailable(f"Parquet needs pyarrow, which is not installed or too old. {advice}.") from None
    return target.getvalue()
