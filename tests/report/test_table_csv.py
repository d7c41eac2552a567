import csv as csv_reader
import io

from bench.report.prepared import prepared
from bench.report.table_csv import csv
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
