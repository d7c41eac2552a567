"""Training runs: how an estimator's variance affects learning."""
