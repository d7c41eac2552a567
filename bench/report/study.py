"""The report of a study folder: its tables, and every figure for which the records have data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.records import files
from bench.records.lines import LineKind
from bench.report import curves, figures, tables, training
from bench.report.cost import priced
from bench.report.frame import frame
from bench.report.ranks import ranked

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

Records = Sequence[Mapping[str, Any]]


def write(folder: Path, records: Records, cost: str = "evaluations", *, drawn: bool = True) -> list[Path]:
    """Write ``table.md``, ``table.csv``, ``table.tex`` and ``figures/*.svg``, ``*.png``; return the paths written.

    A study of training gets ``training.md`` and ``training.csv`` instead of the three tables; a study with both kinds
    of records gets all five files. Equal records give equal bytes. A figure is drawn only if its records have changed.
    A figure that has no data is not written, and its file from an earlier report is removed.

    Args:
        folder: the study folder; made if it does not exist.
        records: all or some of the records in ``records.jsonl``; failed ones alone are enough.
        cost: the unit in which an estimate is paid for, "evaluations" or "seconds".
        drawn: whether to draw the figures; if not, the figures of an earlier report stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    title, trained = folder.resolve().name, _trained(records)
    texts, images = dict[str, str](), list[Iterable[tuple[str, bytes | None]]]()
    if not trained or len(trained) < len(records):
        table = prepared(records, cost)
        texts = {
            "table.md": tables.markdown(table, title),
            "table.csv": tables.csv(table),
            "table.tex": tables.latex(table),
        }
        images.append(figures.images(table, folder / "figures"))
    if trained:
        texts |= {"training.md": training.markdown(trained, title), "training.csv": training.data(trained)}
        images.append(figures.training_images(curves.problems(trained), trained, folder / "figures"))
    for name, text in texts.items():
        files.write(folder / name, text)
    written = [folder / name for name in texts]
    for name, image in chain.from_iterable(images if drawn else ()):
        path = folder / "figures" / name
        if image is None:
            path.unlink(missing_ok=True)
        else:
            if not path.exists() or path.read_bytes() != image:
                files.write(path, image)
            written.append(path)
    return written


def print_table(
    records: Records, console: Console, cost: str = "evaluations", *, named: bool = False, brief: bool = False
) -> None:
    """Print a study's tables. A console narrower than 100 characters gets fewer columns, and a pipe gets plain text.

    Args:
        records: all records of the study.
        console: where to print.
        cost: the unit in which an estimate is paid for, "evaluations" or "seconds".
        named: whether to print which estimators and objectives do not fit together, with the reason, in up to 8 lines;
            otherwise only the number of such pairs is printed.
        brief: whether a study of three or more objectives is printed as one table, with a row for each objective.
    """
    trained = _trained(records)
    if not trained or len(trained) < len(records):
        tables.show(prepared(records, cost), console, named=named, brief=brief)
    if trained:
        training.show(trained, console)


def is_one_table(records: Records) -> bool:
    """Return whether ``print_table``, asked to be brief, prints these records as one table with a row per objective.

    It does if the study has three or more objectives.
    """
    return tables.has_several(frame(records))


def _trained(records: Records) -> Records:
    return [record for record in records if record["kind"] == LineKind.TRAINING]


def prepared(records: Records, cost: str = "evaluations") -> pd.DataFrame:
    """Return the frame that tables and figures read: a row per measurement, with its price and its rank interval.

    ``cost`` is the unit of the price of an estimate, "evaluations" or "seconds".
    """
    return ranked(priced(frame(records), cost), records)
