"""Execution: where the work runs and in what order; a study folder, worker processes and the loop over tasks."""
