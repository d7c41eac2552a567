"""A cell to its record lines: gradients, their sums, their statistics, their cost."""
