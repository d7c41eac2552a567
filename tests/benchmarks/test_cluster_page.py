"""The table and the model on the page about clusters are those of the measured file."""

from tests.benchmarks import cluster


def test_the_page_has_the_measured_numbers():
    words = cluster.text(cluster.read())
    assert cluster.BEGIN + words + cluster.END in cluster.PAGE.read_text(encoding="utf-8")


def test_the_model_follows_from_the_rows():
    row = {"start_seconds": "2", "seconds_per_cell": "0.01", "coordinator_cpu_seconds_per_cell": "0.0036"}
    words = cluster.text([{"executor": "one", **row, "bytes_per_record": "2000", "memory_per_record": "3000"}])
    assert "| one | 2.0 s | 10.0 ms | 100 |" in words
    assert "it takes at most 278 records per second" in words
    assert "and 1.0 hours, the work of the coordinator" in words
    assert "`records.jsonl`: 2.0 GB" in words
    assert "memory of the coordinator: 3.0 GB" in words
