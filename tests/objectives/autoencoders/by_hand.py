"""Images, networks and likelihoods in numpy, against which the autoencoders are tested."""

import numpy as np
from sklearn.datasets import load_digits


def network(x, weights):
    """Return the outputs of one hidden layer, in numpy."""
    w1, b1, w2, b2 = (t.detach().numpy() for t in weights.values())
    hidden = x @ w1.T + b1
    return np.where(hidden > 0, hidden, 0.3 * hidden) @ w2.T + b2


def log_bernoulli(x, logits):
    return np.where(x > 0, -np.logaddexp(0, -logits), -np.logaddexp(0, logits))


def greys(count):
    return load_digits().images[:count].reshape(count, 64) / 16


def bits(count):
    return (greys(count) > 0.5).astype(float)
