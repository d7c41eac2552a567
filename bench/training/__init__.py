"""Training runs: what an estimator's variance does to learning."""
