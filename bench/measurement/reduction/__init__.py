"""From gradients to partial sums, on the device that holds the gradients."""
