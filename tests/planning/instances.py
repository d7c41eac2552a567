"""Instances of selectors."""

from bench.planning.instances import expand
from bench.planning.selectors import parse


def one(text, kind="estimator"):
    """Return the one instance of a selector."""
    (instance,) = expand(parse(text), kind)
    return instance
