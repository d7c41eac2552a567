"""From a cell to its records: gradients, their sums, their statistics and their cost."""
