"""Runs a study in a test."""

from bench.execution.run import run_study


def run(spec, folder, progress, workers=1, **how):
    """Measure what the folder lacks, and return the records of all cells of the spec."""
    return run_study(spec, folder, progress, workers, **how).records
