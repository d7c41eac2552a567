import csv as csv_reader
import io

from bench.records.text import in_csv
from bench.report.prepared import prepared
from bench.report.table_csv import columns, csv
from tests.report.records import study


def rows_of(records):
    return list(csv_reader.DictReader(io.StringIO(csv(prepared(records)))))


def test_csv_has_every_run_and_skip_at_full_precision():
    records = study()
    rows = rows_of(records)
    moments_lines = [r for r in records if r["kind"] == "moments"]
    assert len(rows) == len(moments_lines)
    for row, record in zip(rows, moments_lines, strict=True):
        assert row["outcome"] == record["outcome"]
        if record["outcome"] == "measured" and row["variance"] not in ("", "0.0"):
            assert float(row["variance"]) == record["summary"]["variance"]
            assert float(row["f_evals"]) == record["f_evals"]
    assert {"seconds", "peak_bytes", "cost_forward_passes", "variance_times_cost_unit", "f_evals"} <= set(rows[0])
    assert rows[0]["replicates"] == "10240"


def test_every_cell_is_written_as_pandas_writes_it():
    table = prepared(study())
    odd = ["a,b", 'a "b"', "a\nb", "a\rb", "", " a", "=a", "ä"]
    numbers = [-0.0, 0.0, float("nan"), float("inf"), -1e-300, 1e16, 0.1, 5e-324]
    assert len(table) >= len(odd)
    table.loc[table.index[: len(odd)], "reason"] = odd
    table.loc[table.index[: len(numbers)], "snr"] = numbers
    table.loc[table.index[0], "seed"] = 2**52 + 1
    plain = columns(table)
    texts = plain.select_dtypes(exclude=["number", "bool"]).columns
    plain[texts] = plain[texts].map(in_csv)
    assert csv(table) == plain.astype(object).to_csv(index=False, lineterminator="\n")
    assert csv(table[:0]) == columns(table[:0]).to_csv(index=False, lineterminator="\n")
