"""Gradients to partial sums, on the device where the gradients are."""
