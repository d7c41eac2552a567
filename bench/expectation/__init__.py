"""Your own expectation, from two functions and a point; every other fact about it is derived."""

from bench.expectation.expectation import Expectation

__all__ = ["Expectation"]
